"""The finder of beats against SIMULATED recordings whose beats are known, and recordings worked on together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import beats as judged
from benchmarks.conftest import ROOT
from cardionets import signals
from cardionets.beats import find_beats, median_beat, median_beats, r_peaks
from cardionets.config import Study
from cardionets.ecg import EcgRecord, decimate


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(ROOT)


@pytest.fixture(scope="module")
def cases() -> list[judged.Case]:
    return list(judged.simulated(6, 3, times=30))


def test_beats_of_every_rhythm_are_found(cases: list[judged.Case], study: Study) -> None:
    rows = judged.judge(cases, judged.stored(study))
    table = judged.summary(rows)
    assert set(table.index) > {"left bundle branch block", "ventricular ectopics", "ectopics above 100"}
    assert len(rows) > 0.9 * len(cases)
    assert table.loc["all", "sens %"] > 99.5 and table.loc["all", "PPV %"] > 99.5
    assert (table[["sens %", "PPV %"]].drop("left bundle branch block") > 98.5).all(axis=None), table
    assert table.loc["all", "wrong %"] < 3
    assert table.loc["all", "bpm p95"] < 3


def test_errors_of_a_finder_are_seen(cases: list[judged.Case], study: Study) -> None:
    find = judged.stored(study)
    every_other = judged.judge(cases[:20], lambda record: find(record)[::2])
    shifted = judged.judge(cases[:20], lambda record: find(record) + 0.3)
    assert 40 < judged.summary(every_other).loc["all", "sens %"] < 60
    assert judged.summary(shifted).loc["all", "PPV %"] < 20


def test_a_peak_serves_one_beat() -> None:
    assert judged.compare(np.array([1.0, 1.1]), np.array([1.05])) == (1, 1, 0)
    assert judged.compare(np.array([0.05, 2.0]), np.array([2.0, 3.0])) == (1, 0, 1)


def test_what_a_recording_gives_does_not_depend_on_the_others(cases: list[judged.Case], study: Study) -> None:
    records = [record for _, record, _ in cases[::12]]
    spoiled = EcgRecord(np.where(np.arange(5000) == 70, np.nan, records[0].signal).astype(np.float32), 500.0)
    longer = EcgRecord(np.tile(records[1].signal, 2), 500.0)
    records = [records[0], spoiled, longer, *records[1:], EcgRecord(records[2].signal[:, :4000], 500.0)]
    settings = study.grid, study.protocol.ecg, study.protocol.quality
    together = signals.bring(records, *settings)
    assert [found for found in together if isinstance(found, list)][:1] == [["nan"]]
    assert together[-1] == ["too_short"]
    for record, found in zip(records, together):
        (alone,) = signals.bring([record], *settings)
        assert isinstance(alone, signals.Signal) == isinstance(found, signals.Signal)
        if isinstance(alone, signals.Signal) and isinstance(found, signals.Signal):
            np.testing.assert_array_equal(alone.ecg, found.ecg)
            np.testing.assert_array_equal(alone.beat, found.beat)
            np.testing.assert_array_equal(alone.peaks, found.peaks)
            assert (alone.measured, alone.flags) == (found.measured, found.flags)
        else:
            assert alone == found


def test_beats_and_median_beats_of_many_are_those_of_each(cases: list[judged.Case]) -> None:
    x = np.stack([record.signal for _, record, _ in cases[:9]])
    slow, rate = decimate(x, 500.0)
    found = find_beats(slow, rate)
    for row, places in enumerate(found):
        np.testing.assert_array_equal(places, find_beats(slow[row : row + 1], rate)[0])
    for one, peaks, beat in zip(slow, found, median_beats(slow, found, rate)):
        np.testing.assert_array_equal(beat, median_beat(one, peaks, rate))
    assert median_beats(slow[:2], [found[0][:0], found[1]], rate)[0] is None


def test_beats_survive_unit_offset_drift_and_sign(cases: list[judged.Case]) -> None:
    time = np.arange(5000) / 500
    for _, record, _ in cases[:6]:
        peaks = r_peaks(record.signal, 500)
        drift = (800 * np.sin(2 * np.pi * 0.2 * time)).astype(np.float32)
        for other in (record.signal / 1000, record.signal + 5000, record.signal + drift, -record.signal):
            found = r_peaks(other, 500)
            assert len(found) == len(peaks)
            assert np.abs(found - peaks).max() <= 20  # 40 ms


def test_the_benchmark_reads_open_recordings(real: Path, study: Study) -> None:
    table = judged.against_wfdb(real / "cpsc2018_labelled", study, judged.stored(study))
    assert len(table) >= 4
    assert table["lacks of xqrs"].sum() <= 2 and table["beyond xqrs"].sum() <= 3
