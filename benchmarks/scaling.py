"""Time and memory of preparing 1,000, 10,000 and 100,000 simulated records, and two workers against one.

    python -m benchmarks.scaling 1000 10000
    python -m benchmarks.scaling --workers 2 1000

ECG alone (the layout of MIMIC-IV-ECG). Each size runs in a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.conftest import ROOT, Peak
from cardionets import prepare
from cardionets.config import Study
from cardionets.simulate.write import write_centre


def one(people: int, workers: int, folder: Path) -> None:
    """Write ``people`` and time what reads them; one line."""
    for name in ("params.yaml", "cohorts.yaml", "presets"):
        (folder / name).symlink_to(ROOT / name)
    study = Study(folder)
    write_centre("mimic", people, 1, folder / "data", workers=2)
    start = time.perf_counter()
    with Peak() as peak:
        prepare.prepare(study, "mimic", workers)
    seconds = time.perf_counter() - start
    count = len(prepare.make_plan(study, "mimic").table)
    print(
        f"{count:>8} {workers:>7} {seconds:>9.1f} {1000 * seconds * workers / count:>9.2f} {peak.mb:>8.0f}", flush=True
    )


def main() -> None:
    """All sizes in turn."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    top.add_argument("people", type=int, nargs="+")
    top.add_argument("--workers", type=int, default=1)
    args = top.parse_args()
    print(f"{'records':>8} {'workers':>7} {'seconds':>9} {'core ms':>9} {'peak MB':>8}")
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
