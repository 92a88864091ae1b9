"""Predictions for 1k, 10k, 100k stored ECGs: memory must not grow with the ECGs, which lie in a memory-mapped store.

`OMP_NUM_THREADS=1 python -m benchmarks.predicting 1000 10000 100000`. Networks and recordings are the toy ones of the
tests (12 x 500 samples, 12 kB each), every arm included; the recordings repeat. "ECG MB" is what they would take in
memory. "CPU ms" is user and system time per record; "peak MB" is anonymous memory above the start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.conftest import Peak
from benchmarks.scaling import alone, cpu_seconds
from cardionets import arms, predict, represent, store
from cardionets.config import Study
from tests import toy_study

COHORT, AT_ONCE = "qph", 4000


def fit(folder: Path) -> None:
    """Weights of every arm, on sixty people per centre."""
    study = toy_study.build(folder)
    for stage in (represent.pretrain_ecg, represent.pretrain_cmr, represent.align):
        stage(study)
    arms.fit_phenotypes(study)
    arms.fit_screening(study)


def grow(folder: Path, count: int) -> None:
    """A store of ``count`` recordings without cines, made of the toy ones."""
    study = Study(folder)
    toy_study.build(folder / "fresh")
    found = store.Store.open(Study(folder / "fresh").path("store", COHORT))
    records = found.records.assign(sax_row=-1, lax_row=-1)
    starts = range(0, count, AT_ONCE)

    def rows(start: int) -> np.ndarray:
        return np.arange(start, min(start + AT_ONCE, count))

    def tables() -> Iterator[pd.DataFrame]:
        for row in map(rows, starts):
            names = pd.Series(row).astype(str)
            some = records.iloc[row % len(records)].reset_index(drop=True)
            yield some.assign(record="r-" + names, person="p-" + names, row=row)

    parts = (
        (name, start, getattr(found, name)[rows(start) % len(records)]) for name in ("ecg", "beat") for start in starts
    )
    target, none = study.path("store", COHORT), pd.DataFrame({"step": []})
    store.write(target, found.grid, {"centre": COHORT}, tables(), none, parts)


def measure(folder: Path, count: int) -> None:
    """Predict the whole store; one line."""
    study = Study(folder)
    start, cpu = time.perf_counter(), cpu_seconds()
    with Peak() as peak:
        predict.predict(study, COHORT)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    size = (study.path("store", COHORT) / "ecg.npy").stat().st_size / 1e6
    print(f"{count:>8} {seconds:>9.1f} {1000 * cpu / count:>9.2f} {size:>10.0f} {peak.mb:>8.0f}", flush=True)


def main() -> None:
    """All sizes in turn, each in a process of its own."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.predicting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("records", type=int, nargs="+")
    args = top.parse_args()
    print(f"{'records':>8} {'seconds':>9} {'CPU ms':>9} {'ECG MB':>10} {'peak MB':>8}")
    for count in args.records:
        with tempfile.TemporaryDirectory() as folder:
            alone(fit, Path(folder) / "study")
            alone(grow, Path(folder) / "study", count)
            alone(measure, Path(folder) / "study", count)


if __name__ == "__main__":
    main()
