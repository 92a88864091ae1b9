"""Memory and time to plan a hospital of any size: SYNTHETIC tables of a MIMIC-IV-ECG tree, without one signal.

`python -m benchmarks.planning [RECORDS ...] [--seed 1]`: per size, in a process of its own, the index is read and the
plan of the prepare stage made; printed are CPU seconds, the peak of anonymous memory above the start and, with
libraries and the page cache's files, the process's whole peak (`resource.getrusage`) and what it was at the start. As
in MIMIC-IV five recordings, three admissions and thirty codes a person; four statements of the recorder each. 800,000
records need 0.5 GB of TMPDIR. Every file is looked for and none is there.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.conftest import ROOT, Peak
from benchmarks.scaling import alone
from cardionets import prepare
from cardionets.config import Study

STATEMENTS = ("Sinus rhythm", "Atrial fibrillation", "Possible atrial flutter", "Left axis deviation")
CODES = ("I480", "I4891", "4280", "I509", "I2510", *(f"{letter}{n}" for letter in "EJKNRZ" for n in range(10, 15)))
"""One in seven decides something."""


def write(records: int, folder: Path, seed: int) -> None:
    """Settings and tables of ``records`` recordings."""
    rng = np.random.default_rng(seed)
    for name in ("params.yaml", "cohorts.yaml", "presets"):
        (folder / name).symlink_to(ROOT / name)
    tree = folder / "data" / "mimic"
    (tree / "hosp").mkdir(parents=True)
    people = 10_000_000 + np.arange(max(1, records // 5))
    person = rng.choice(people, records)
    study = 40_000_000 + np.arange(records)
    when = pd.Timestamp("2150-01-01") + pd.to_timedelta(rng.integers(0, 30 * 365 * 24 * 60, records), unit="min")
    start = [f"files/p{str(p)[:4]}/p{p}/s{s}/{s}" for p, s in zip(person, study)]
    listed = {"subject_id": person, "study_id": study, "file_name": study, "ecg_time": when, "path": start}
    pd.DataFrame(listed).to_csv(tree / "record_list.csv", index=False)
    said = {f"report_{i}": rng.choice(STATEMENTS, records) for i in range(4)}
    pd.DataFrame({"subject_id": person, "study_id": study, **said}).to_csv(
        tree / "machine_measurements.csv", index=False
    )
    _hospital(tree / "hosp", people, rng)


def _hospital(folder: Path, people: np.ndarray, rng: np.random.Generator) -> None:
    n, year = len(people), rng.integers(2140, 2180, len(people))
    patients = {"subject_id": people, "gender": rng.choice(["F", "M"], n), "anchor_age": rng.integers(20, 90, n)}
    pd.DataFrame({**patients, "anchor_year": year}).to_csv(folder / "patients.csv", index=False)
    stay, owner = 20_000_000 + np.arange(3 * n), np.repeat(people, 3)
    when = pd.Timestamp("2150-01-01") + pd.to_timedelta(rng.integers(0, 30 * 365, 3 * n), unit="D")
    admissions = {"subject_id": owner, "hadm_id": stay, "admittime": when}
    pd.DataFrame(admissions).to_csv(folder / "admissions.csv", index=False)
    row = np.repeat(np.arange(3 * n), 10)
    codes = {"subject_id": owner[row], "hadm_id": stay[row], "seq_num": 1, "icd_code": rng.choice(CODES, len(row))}
    version = np.where(np.char.isdigit(codes["icd_code"].astype(str)), 9, 10)
    pd.DataFrame({**codes, "icd_version": version}).to_csv(folder / "diagnoses_icd.csv", index=False)


def measure(folder: Path) -> None:
    """Plan; one line."""
    study, before = Study(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    with Peak() as held:
        count = prepare.make_plan(study, "mimic").listing.count
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = f"{seconds:>8.1f} {1e6 * seconds / count:>8.0f} {held.mb:>8.0f} {peak:>9.0f} {before:>9.0f}"
    print(f"{count:>8} {figures}", flush=True)


def main() -> None:
    """All sizes in turn."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.planning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("records", type=int, nargs="*", default=[10_000, 100_000])
    top.add_argument("--seed", type=int, default=1)
    args = top.parse_args()
    print(f"{'records':>8} {'CPU s':>8} {'us each':>8} {'peak MB':>8} {'of all':>9} {'at start':>9}")
    for records in args.records:
        with tempfile.TemporaryDirectory() as folder:
            alone(write, records, Path(folder), args.seed)
            alone(measure, Path(folder))


if __name__ == "__main__":
    main()
