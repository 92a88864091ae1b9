"""Time and memory of preparing 1,000, 10,000 and 100,000 simulated records, and two workers against one.

    python -m benchmarks.scaling 1000 10000 100000
    python -m benchmarks.scaling --workers 2 1000

ECG alone (the layout of MIMIC-IV-ECG). Beyond 500 people, the simulated ones stand in for others: their recordings are
copied with another sample noise of 1 uV, which takes a tenth of the time of simulating them. Each size runs in a
process of its own, so that its peak is its own. "CPU ms" is user and system time per record of all processes; "peak MB"
is anonymous memory above the start, without the page cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.conftest import ROOT, Peak
from cardionets import prepare
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Study, StudyError
from cardionets.ecg import LEADS
from cardionets.simulate.ecg_files import write_wfdb
from cardionets.simulate.write import write_centre

SIMULATED = 500
TABLES = ("patients", "admissions", "diagnoses_icd")


def cpu_seconds() -> float:
    """User and system time of this process and of those it started."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def multiply(folder: Path, times: int) -> None:
    """Make ``times`` people of every one of a tree of MIMIC-IV-ECG: other identifiers, other noise."""
    rng, names = np.random.default_rng(0), ("record_list.csv", *(f"hosp/{n}.csv" for n in TABLES))
    tables = {name: pd.read_csv(folder / name, dtype=str) for name in names}
    for row in tables["record_list.csv"].itertuples():
        with suppress(StudyError):  # a simulated centre has damaged files too
            record = read_ecg(folder / f"{row.path}.hea")
            for copy in range(1, times):
                noise = rng.integers(-1, 2, record.signal.shape, dtype=np.int8)
                counts = np.rint(record.signal).astype(np.int16) + noise
                write_wfdb(folder / f"{row.path}_{copy}.hea", counts, record.rate, 1.0, LEADS)
    for name, table in tables.items():
        parts = [table]
        for copy in range(1, times):
            other = table.assign(subject_id=table["subject_id"] + f"_{copy}")
            for column in {"study_id", "path", "hadm_id"} & set(table):
                other[column] = table[column] + f"_{copy}"
            parts.append(other)
        pd.concat(parts).to_csv(folder / name, index=False)


def one(people: int, workers: int, folder: Path) -> None:
    """Write ``people`` and time what reads them; one line."""
    for name in ("params.yaml", "cohorts.yaml", "presets"):
        (folder / name).symlink_to(ROOT / name)
    study = Study(folder)
    write_centre("mimic", min(people, SIMULATED), 1, folder / "data", workers=2)
    multiply(folder / "data" / "mimic", max(1, people // SIMULATED))
    start, cpu = time.perf_counter(), cpu_seconds()
    with Peak() as peak:
        prepare.prepare(study, "mimic", workers)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    count = len(prepare.make_plan(study, "mimic").table)
    print(f"{count:>8} {workers:>7} {seconds:>9.1f} {1000 * cpu / count:>9.2f} {peak.mb:>8.0f}", flush=True)


def main() -> None:
    """All sizes in turn."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    top.add_argument("people", type=int, nargs="+")
    top.add_argument("--workers", type=int, default=1)
    args = top.parse_args()
    print(f"{'records':>8} {'workers':>7} {'seconds':>9} {'CPU ms':>9} {'peak MB':>8}")
    for people in args.people:
        folder = Path(tempfile.mkdtemp())
        process = multiprocessing.get_context("spawn").Process(target=one, args=(people, args.workers, folder))
        process.start()
        process.join()
        shutil.rmtree(folder)
        if process.exitcode:
            raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
