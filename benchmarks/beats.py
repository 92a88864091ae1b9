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
from cardionets.beats import r_peaks, rr_features
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Study, StudyError
from cardionets.ecg import LEADS, harmonise
from cardionets.simulate import rhythm
from cardionets.simulate.centres import CENTRES
from cardionets.simulate.device import digitise
from cardionets.simulate.ecg import synthesise
from cardionets.simulate.plan import make_plan, stream

SECONDS, REACH_S, EDGE_S = 10.0, 0.12, 0.1
VENTRICULAR_S = 0.148
"""Typical length of an ectopic QRS."""
Finder = Callable[[np.ndarray, float], np.ndarray]
Case = tuple[str, np.ndarray, np.ndarray]
"""Group, signal on the grid (12, T) uV, and times in s of the middles of all QRS (beat,)."""


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


def simulated(study: Study, people: int, seed: int, times: int = 8) -> Iterator[Case]:
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
                for row, signal in zip(some, _signals(study, plan.seed, centre, hearts, some)):
                    yield group, signal, middle[row]


def _signals(study: Study, seed: int, centre: object, hearts: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    device = centre.devices[0]
    streams = [[stream(seed, centre.index, use, n) for n in rows.tolist()] for use in ("ecg", "device")]
    counts = digitise(synthesise(hearts.iloc[rows], device.rate_hz, SECONDS, streams[0]), device, streams[1])
    return harmonise(counts * np.float32(device.lsb_uv), device.rate_hz, study.grid, study.protocol.ecg)


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


def judge(cases: list[Case], finder: Finder, rate: float) -> pd.DataFrame:
    """One row per simulated recording."""
    rows = []
    for group, signal, true in cases:
        peaks = finder(signal, rate)
        hit, missed, extra = compare(true, peaks / rate)
        seen = true[(true > EDGE_S) & (true < SECONDS - EDGE_S)]
        told, truth = rr_features(peaks, rate), rr_features(seen, 1.0)
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


def opened(folder: Path, study: Study) -> Iterator[tuple[str, np.ndarray]]:
    """Name and signal on the grid of every open recording that is long enough and has a unit."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".hea", ".xml", ".scp", ".SCP")):
        try:
            record = read_ecg(path)
            yield path.relative_to(folder).as_posix(), harmonise(
                record.signal, record.rate, study.grid, study.protocol.ecg
            )
        except StudyError:
            continue


def against_wfdb(folder: Path, study: Study, finder: Finder) -> pd.DataFrame:
    """Per open recording: beats of ours, of xqrs and gqrs, and how many of theirs we lack and they lack of ours."""
    from wfdb.processing import gqrs_detect, xqrs_detect

    rows, rate = [], float(study.grid.rate)
    for name, signal in opened(folder, study):
        lead, mine = signal[LEADS.index("II")].astype(float), finder(signal, rate) / rate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = {
                "xqrs": xqrs_detect(lead, rate, verbose=False),
                "gqrs": gqrs_detect(lead, fs=rate, d_sig=lead.astype(int), adc_gain=1000, adc_zero=0),
            }
        row = {"name": name, "ours": len(mine)}
        for who, peaks in theirs.items():
            _, missed, extra = compare(np.asarray(peaks) / rate, mine)
            row |= {who: len(peaks), f"lacks of {who}": missed, f"beyond {who}": extra}
        rows.append(row)
    return pd.DataFrame(rows).set_index("name")


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
    cases = list(simulated(study, args.people, args.seed))
    print("SIMULATED\n" + summary(judge(cases, r_peaks, study.grid.rate)).round(2).to_string())
    if args.real.is_dir():
        table = against_wfdb(args.real, study, r_peaks)
        print("\nopen recordings\n" + table.to_string() + "\n" + table.sum().to_string())


if __name__ == "__main__":
    main()
