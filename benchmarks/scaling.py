"""Preparation of 1k, 10k, 100k SIMULATED records: time must grow linearly, memory must not grow.

`OMP_NUM_THREADS=1 python -m benchmarks.scaling [PEOPLE ...] [--workers 2] [--short] [--once] [--pairs 8]`: the sizes
are people, MIMIC-IV-ECG has 1.5 recordings of each. Beyond 500 people, everybody stands for many: other identifiers,
another gain in the header beside the same samples, so that no two recordings are alike and the disk holds 90 MB of
samples at most (they come from the page cache). Each size runs in processes of its own, so that its peak is its own.

"CPU ms" is user and system time per record of all processes, start included; "pace" the cost of a fixed piece of the
same work, measured beside every block; "at one pace" the CPU time had the machine been as fast as for the first size.
"peak MB" is anonymous memory of the first process above its start, without the page cache. With two sizes or more a
line is fitted to the CPU time at one pace: what a start costs, what a record costs, and how far sizes are from it.

`--short`: the store holds 5 s at 100 Hz, or 100,000 records would take 13 GB of disk. `--once`: besides, a recording is
decoded and measured once and its result stands for its copies: what is left is the cost of tables, blocks and store.
`--pairs N`: N rounds of one process and two, by turns, on 768 records; see `benchmarks.pairs`.

The whole table with nothing else on two cores: 1,000 and 10,000 records in about 2 minutes, `700 7000 68000 --short` in
about 12 with one worker; 100,000 records need 3 GB of scratch in TMPDIR.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from joblib.externals.loky import get_reusable_executor

from benchmarks import pace
from benchmarks.conftest import ROOT, Peak
from benchmarks.pairs import compare
from cardionets import prepare
from cardionets.config import Study
from cardionets.simulate.write import write_centre

SIMULATED = 500
TABLES = ("patients", "admissions", "diagnoses_icd")
RESULTS = "results.txt"
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


def write(people: int, folder: Path, short: bool) -> None:
    """Settings and files of ``people``."""
    for name in ("params.yaml", "cohorts.yaml"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "presets", folder / "presets")
    if short:
        for preset in (folder / "presets").iterdir():
            preset.write_text(
                preset.read_text().replace("rate: 250 ", "rate: 100 ").replace("seconds: 10\n", "seconds: 5\n")
            )
    write_centre("mimic", min(people, SIMULATED), 1, folder / "data", workers=1)
    multiply(folder / "data" / "mimic", max(1, people // SIMULATED))


def remembered(read: Callable[..., Iterable[dict[str, Any]]]) -> Callable[..., Iterator[dict[str, Any]]]:
    """``prepare._some`` that measures a recording once; a copy gets the same result under another fingerprint."""
    known: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def some(entries: list[Any], block: prepare.Block, rows: Any) -> Iterator[dict[str, Any]]:
        for entry in entries:
            name = entry.ecg.partition(MARK)[0].removesuffix(".hea")
            if name not in known:
                (line,) = read([entry], block, rows)
                known[name] = line, {array: rows.arrays[array][-1] for array in ("ecg", "beat") if line["slot"] >= 0}
                yield line
                continue
            line, arrays = known[name]
            slot = {rows.add(array, row) for array, row in arrays.items()}
            changed = {"slot": slot.pop(), "digest": f"{line['digest']}{entry.ecg}"[-24:]} if slot else {}
            yield line | changed

    return some


def measure(people: int, workers: int, folder: Path, once: bool) -> None:
    """Time what reads the files; one line, and the figures for :func:`fit`."""
    study = Study(folder)
    os.environ[pace.FILE] = str(folder / "pace.txt")
    if once:
        prepare._some = remembered(prepare._some)
    prepare.run_block = pace.run_block
    start, cpu = time.perf_counter(), cpu_seconds()
    with Peak() as peak, redirect_stdout(sys.stderr):
        prepare.prepare(study, "mimic", workers)
    seconds, pieces = time.perf_counter() - start, pace.read()
    cpu = cpu_seconds() - cpu - pieces.sum()
    get_reusable_executor().shutdown()  # idle workers would hold this process for five minutes
    count, piece = prepare.make_plan(study, "mimic").listing.count, 1000 * float(np.median(pieces)) / pace.PIECES
    with (folder.parent / RESULTS).open("a") as log:
        log.write(f"{count} {cpu} {piece}\n")
    first = float(np.loadtxt(folder.parent / RESULTS, ndmin=2)[0, 2])
    figures = f"{seconds:>9.1f} {1000 * cpu / count:>7.2f} {piece:>6.3f} {1000 * cpu / count * first / piece:>11.2f}"
    print(f"{count:>8} {workers:>7} {figures} {peak.mb:>8.0f}", flush=True)


def fit(results: Path) -> None:
    """Line through CPU seconds at one pace against records, every size of equal weight in relative terms."""
    count, cpu, piece = np.loadtxt(results, ndmin=2).T
    if len(count) < 2:
        return
    seconds = cpu * piece[0] / piece
    weighted = np.stack([1 / seconds, count / seconds], axis=1)
    (start, each), *_ = np.linalg.lstsq(weighted, np.ones(len(count)))
    off = ", ".join(f"{100 * (s / (start + each * n) - 1):+.1f} %" for n, s in zip(count, seconds))
    print(
        f"start {start:.1f} s, then {1000 * each:.2f} ms per record; the sizes are off that line by {off}", flush=True
    )


def pairs(people: int, folder: Path, rounds: int) -> None:
    """Two workers against one; see :mod:`benchmarks.pairs`."""
    write(people, folder, False)
    found = compare(prepare.make_plan(Study(folder), "mimic"), folder / "blocks", rounds)
    get_reusable_executor().shutdown()
    for name, ratios in found.items():
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"two processes over one, {name}: {middle:.2f} (quartiles {low:.2f} to {high:.2f}, {rounds} rounds)")


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
    top.add_argument("people", type=int, nargs="*", default=[700, 7000])
    top.add_argument("--workers", type=int, default=1)
    top.add_argument("--short", action="store_true", help="5 s at 100 Hz in the store: less disk")
    top.add_argument("--once", action="store_true", help="decode every recording once: the cost of tables and store")
    top.add_argument("--pairs", type=int, default=0, help="rounds of two workers against one")
    args = top.parse_args()
    print(f"{'records':>8} {'workers':>7} {'seconds':>9} {'CPU ms':>7} {'pace':>6} {'at one pace':>11} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for people in args.people:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                alone(write, people, Path(folder), args.short or args.once)
                alone(measure, people, args.workers, Path(folder), args.once)
        fit(Path(scratch) / RESULTS)
        if args.pairs:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                alone(pairs, SIMULATED + 50, Path(folder), args.pairs)


if __name__ == "__main__":
    main()
