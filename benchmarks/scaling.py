"""Preparation of 1k, 10k, 100k SIMULATED records: time must grow linearly, memory must not grow.

`OMP_NUM_THREADS=1 python -m benchmarks.scaling 1000 10000 [--workers 2] [--once]`: the sizes are people, MIMIC-IV-ECG
has 1.5 recordings of each. Beyond 500 people, everybody stands for many: other identifiers, another gain in the header
beside the same samples, so that no two recordings are alike and the disk holds 90 MB of samples at most (they come from
the page cache). Each size runs in a process of its own, so that its peak is its own. "CPU ms" is user and system time
per record of all processes; "peak MB" is anonymous memory of the first process above its start, without the page cache.

`--once`: a recording is decoded and measured once and its result stands for its copies, in a store of 5 s at 100 Hz.
What is left is the cost of tables, blocks and store, which is what may grow with a cohort.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from joblib.externals.loky import get_reusable_executor

from benchmarks.conftest import ROOT, Peak
from cardionets import prepare
from cardionets.config import Study
from cardionets.simulate.write import write_centre

SIMULATED = 500
TABLES = ("patients", "admissions", "diagnoses_icd")
MARK = "x"
"""Between an identifier and the number of its copy."""


def cpu_seconds() -> float:
    """User and system time of this process and of those it started."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def multiply(folder: Path, times: int) -> None:
    """Make ``times`` people of every one of a tree of MIMIC-IV-ECG: other identifiers and gains, the same samples."""
    names = ("record_list.csv", *(f"hosp/{n}.csv" for n in TABLES))
    tables = {name: pd.read_csv(folder / name, dtype=str) for name in names}
    for path in tables["record_list.csv"]["path"]:
        text = (folder / f"{path}.hea").read_text()
        for copy in range(1, times):
            (folder / f"{path}{MARK}{copy}.hea").write_text(text.replace("200(0)/mV", f"{200 - 0.2 * copy:.1f}(0)/mV"))
    for name, table in tables.items():
        for copy in range(1, times):
            other = table.assign(subject_id=table["subject_id"] + f"{MARK}{copy}")
            for column in {"study_id", "path", "hadm_id"} & set(table):
                other[column] = table[column] + f"{MARK}{copy}"
            other.to_csv(folder / name, index=False, header=False, mode="a")


def write(people: int, folder: Path, once: bool) -> None:
    """Settings and files of ``people``."""
    for name in ("params.yaml", "cohorts.yaml"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "presets", folder / "presets")
    if once:
        for preset in (folder / "presets").iterdir():
            preset.write_text(
                preset.read_text().replace("rate: 250 ", "rate: 100 ").replace("seconds: 10\n", "seconds: 5\n")
            )
    write_centre("mimic", min(people, SIMULATED), 1, folder / "data", workers=1)
    multiply(folder / "data" / "mimic", max(1, people // SIMULATED))


def remembered(read: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """``prepare._one`` that measures a recording once; a copy gets the same result under another fingerprint."""
    known: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def one(entry: Any, block: prepare.Block, rows: Any) -> dict[str, Any]:
        name = entry.ecg.partition(MARK)[0].removesuffix(".hea")
        if name not in known:
            line = read(entry, block, rows)
            known[name] = line, {array: rows.arrays[array][-1] for array in ("ecg", "beat") if line["slot"] >= 0}
            return line
        line, arrays = known[name]
        if not arrays:
            return line
        (slot,) = {rows.add(array, row) for array, row in arrays.items()}
        return line | {"slot": slot, "digest": f"{line['digest']}{entry.ecg}"[-24:]}

    return one


def measure(people: int, workers: int, folder: Path, once: bool) -> None:
    """Time what reads the files; one line."""
    study = Study(folder)
    if once:
        prepare._one = remembered(prepare._one)
    start, cpu = time.perf_counter(), cpu_seconds()
    with Peak() as peak:
        prepare.prepare(study, "mimic", workers)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    get_reusable_executor().shutdown()  # idle workers would hold this process for five minutes
    count = prepare.make_plan(study, "mimic").listing.count
    print(f"{count:>8} {workers:>7} {seconds:>9.1f} {1000 * cpu / count:>9.2f} {peak.mb:>8.0f}", flush=True)


def alone(call: Callable[..., None], *args: object) -> None:
    """Run in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=call, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def main() -> None:
    """All sizes in turn."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("people", type=int, nargs="+")
    top.add_argument("--workers", type=int, default=1)
    top.add_argument("--once", action="store_true", help="decode every recording once: the cost of tables and store")
    args = top.parse_args()
    print(f"{'records':>8} {'workers':>7} {'seconds':>9} {'CPU ms':>9} {'peak MB':>8}")
    for people in args.people:
        with tempfile.TemporaryDirectory() as folder:
            alone(write, people, Path(folder), args.once)
            alone(measure, people, args.workers, Path(folder), args.once)


if __name__ == "__main__":
    main()
