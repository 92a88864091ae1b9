"""Run all benchmarks and write reports/benchmarks/: ``python -m benchmarks [--size small] [-k name]``.

pytest-benchmark times every case over several rounds; a last, untimed round is watched for memory. The run is kept as
``benchmarks.json`` and the one before it as ``before.json``, so that a second run shows ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

from benchmarks import report

HERE = Path(__file__).parent
OUT = HERE.parent / "reports" / "benchmarks"


def main() -> int:
    """Time, then write table and plots."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description="Time the study on this machine.")
    top.add_argument("--size", choices=("small", "full"), default="full", help="small: seconds, for a first look")
    top.add_argument("-k", dest="only", default="", help="only cases whose name matches, as in pytest")
    top.add_argument("--out", type=Path, default=OUT, help="folder of the results (default reports/benchmarks)")
    args = top.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result, before = args.out / "benchmarks.json", args.out / "before.json"
    if result.is_file():
        result.replace(before)
    os.environ["BENCHMARK_SIZE"] = args.size
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = [str(HERE), "-q", "-o", "python_files=bench_*.py", "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["--benchmark-only", f"--benchmark-json={result}", "--benchmark-quiet", "-k", args.only]
    code = pytest.main(options)
    if result.is_file() and result.stat().st_size:
        print(report.write(result, before, HERE.parent / "logs", args.out))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
