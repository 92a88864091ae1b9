"""How right the finder of beats is: SIMULATED recordings, whose beats are known, and the open ones against wfdb.

`nice python -m benchmarks.beats [--people 220] [--seed 7] [--real ../shared/real]`. The simulated: sound recordings of
all five centres, and, picked from many more people, those with bundle branch blocks, ectopic beats, fibrillation and
sinus rhythm above 100 per minute. A beat is found when a peak lies within 0.12 s of the middle of its QRS; one whose
middle lies within 0.1 s of an end counts neither way. Printed per group: sensitivity, positive predictivity, share of
recordings with any error, and the error of heart rate and of the variation of RR (median, 95th percentile, worst).
The open recordings have no annotations; two detectors of wfdb on lead II, and the printed rates of carts, stand in.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.conftest import ROOT
from cardionets.beats import rr_features
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Study, StudyError
from cardionets.ecg import LEADS, EcgRecord, harmonise
from cardionets.signals import Signal, bring
from cardionets.simulate import rhythm
from cardionets.simulate.centres import CENTRES, Centre
from cardionets.simulate.device import digitise
from cardionets.simulate.ecg import synthesise
from cardionets.simulate.plan import make_plan, stream

SECONDS, REACH_S, EDGE_S = 10.0, 0.12, 0.1
VENTRICULAR_S = 0.148
"""Typical length of an ectopic QRS."""
Finder = Callable[[EcgRecord], np.ndarray | None]
"""Times of the beats of a recording in s; None where it is left out."""
Case = tuple[str, EcgRecord, np.ndarray]
"""Group, recording, and times in s of the middles of all QRS (beat,)."""


def stored(study: Study) -> Finder:
    """The beats behind what the store holds."""

    def find(record: EcgRecord) -> np.ndarray | None:
        (found,) = bring([record], study.grid, study.protocol.ecg, study.protocol.quality)
        return found.peaks / study.grid.rate if isinstance(found, Signal) else None

    return find


def _picked(hearts: pd.DataFrame, kind: np.ndarray) -> dict[str, np.ndarray]:
    sinus = (hearts["rhythm"] != "af").to_numpy()
    fast = (hearts["rate_bpm"] > 100).to_numpy()
    return {
        "left bundle branch block": (hearts["conduction"] == "lbbb").to_numpy(),
        "right bundle branch block": (hearts["conduction"] == "rbbb").to_numpy(),
        "ventricular ectopics": (kind == rhythm.PREMATURE_VENTRICULAR).any(1),
        "atrial ectopics": (kind == rhythm.PREMATURE_ATRIAL).any(1),
        "fibrillation, 100 and slower": ~sinus & ~fast,
        "fibrillation above 100": ~sinus & fast,
        "sinus above 100": sinus & fast,
        "ectopics above 100": fast & (kind != rhythm.NORMAL).any(1),
    }


def simulated(people: int, seed: int, times: int = 8) -> Iterator[Case]:
    """Recordings of ``people`` per centre, and those picked from ``times`` as many."""
    for centre in CENTRES.values():
        plan = make_plan(centre, people * times, seed)
        hearts = plan.signal_hearts()
        sound = (plan.records["fault"] == "none").to_numpy()
        numbers = np.arange(len(hearts))
        beats = rhythm.draw(hearts, SECONDS, [stream(seed, centre.index, "ecg", n) for n in numbers])
        groups = {"as they come": numbers < people}
        groups |= {name: chosen & (numbers >= people) for name, chosen in _picked(hearts, beats.kind).items()}
        length = np.where(beats.kind == rhythm.PREMATURE_VENTRICULAR, VENTRICULAR_S, hearts[["qrs_ms"]] / 1000)
        middle = beats.time + length / 2
        for group, chosen in groups.items():
            rows = np.flatnonzero(chosen & sound)[:people]
            for start in range(0, len(rows), 32):
                some = rows[start : start + 32]
                for row, signal in zip(some, _signals(seed, centre, hearts, some)):
                    yield group, EcgRecord(signal, centre.devices[0].rate_hz), middle[row]


def _signals(seed: int, centre: Centre, hearts: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    device = centre.devices[0]
    streams = [[stream(seed, centre.index, use, n) for n in rows.tolist()] for use in ("ecg", "device")]
    counts = digitise(synthesise(hearts.iloc[rows], device.rate_hz, SECONDS, streams[0]), device, streams[1])
    return counts * np.float32(device.lsb_uv)


def compare(true: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Beats found, missed and invented, of times in s (beat,) each; a peak serves one beat."""
    apart = np.abs(true[:, None] - found)
    hit, used = np.zeros(len(true), bool), np.zeros(len(found), bool)
    for place in np.argsort(apart, axis=None):
        beat, peak = np.unravel_index(place, apart.shape)
        if apart[beat, peak] > REACH_S:
            break
        if not hit[beat] and not used[peak]:
            hit[beat] = used[peak] = True
    inside = (true > EDGE_S) & (true < SECONDS - EDGE_S)
    return int((hit & inside).sum()), int((~hit & inside).sum()), int((~used).sum())


def judge(cases: list[Case], finder: Finder) -> pd.DataFrame:
    """One row per simulated recording that is not left out."""
    rows = []
    for group, record, true in cases:
        found = finder(record)
        if found is None:
            continue
        hit, missed, extra = compare(true, found)
        told, truth = rr_features(found, 1.0), rr_features(true[(true > EDGE_S) & (true < SECONDS - EDGE_S)], 1.0)
        errors = {name: abs(told[name] - truth[name]) for name in ("rate_bpm", "rr_cv", "rr_rmssd_ms")}
        rows.append({"group": group, "hit": hit, "missed": missed, "extra": extra, **errors})
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per group and one of all, in percent and per minute."""
    groups = [*rows.groupby("group", sort=False), ("all", rows)]
    return pd.DataFrame([{"group": name, **_line(part)} for name, part in groups]).set_index("group")


def _line(part: pd.DataFrame) -> dict[str, float]:
    hit, missed, extra = (int(part[name].sum()) for name in ("hit", "missed", "extra"))
    bpm = part["rate_bpm"].fillna(999)
    return {
        "n": len(part),
        "beats": hit + missed,
        "sens %": 100 * hit / (hit + missed),
        "PPV %": 100 * hit / (hit + extra),
        "wrong %": 100 * ((part["missed"] + part["extra"]) > 0).mean(),
        "bpm median": bpm.median(),
        "bpm p95": bpm.quantile(0.95),
        "bpm worst": bpm.max(),
        "cv p95": part["rr_cv"].fillna(9).quantile(0.95),
    }


def against_wfdb(folder: Path, study: Study, finder: Finder) -> pd.DataFrame:
    """Per open recording: beats of ours, of xqrs and gqrs, how many of theirs we lack and how many of ours they do."""
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".hea", ".xml", ".scp", ".SCP")):
        try:
            record = read_ecg(path)
            mine = finder(record)
        except StudyError:
            continue
        if mine is not None:
            signal = harmonise(record.signal, record.rate, study.grid, study.protocol.ecg)
            row = {"name": path.relative_to(folder).as_posix(), "ours": len(mine)}
            for who, theirs in _theirs(signal[LEADS.index("II")].astype(float), float(study.grid.rate)).items():
                _, missed, extra = compare(theirs, mine)
                row |= {who: len(theirs), f"lacks of {who}": missed, f"beyond {who}": extra}
            rows.append(row)
    return pd.DataFrame(rows).set_index("name")


def _theirs(lead: np.ndarray, rate: float) -> dict[str, np.ndarray]:
    """Times in s of wfdb's detectors on one lead; gqrs expects a QRS of about 1 mV."""
    from wfdb.processing import gqrs_detect, xqrs_detect

    usual = np.rint(1000 * lead / np.quantile(np.abs(lead), 0.99)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            "xqrs": xqrs_detect(lead, rate, verbose=False),
            "gqrs": gqrs_detect(fs=rate, d_sig=usual, adc_gain=1000, adc_zero=0),
        }
    return {who: np.asarray(peaks) / rate for who, peaks in found.items()}


def main() -> None:
    """Both tables."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.beats", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--people", type=int, default=220)
    top.add_argument("--seed", type=int, default=7)
    top.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "real")
    args = top.parse_args()
    study = Study(ROOT)
    cases = list(simulated(args.people, args.seed))
    print("SIMULATED\n" + summary(judge(cases, stored(study))).round(2).to_string())
    if args.real.is_dir():
        table = against_wfdb(args.real, study, stored(study))
        print("\nopen recordings\n" + table.to_string() + "\n" + table.sum().to_string())


if __name__ == "__main__":
    main()
