"""Every benchmark runs at its smallest size; a second run is compared with the first. Nothing here is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT


@pytest.mark.soak
@pytest.mark.parametrize("family", ["prepare", "store", "models", "generator", "statistics", "pipeline"])
def test_every_benchmark_runs(family: str) -> None:
    options = ["-q", "-o", "python_files=bench_*.py", "-p", "no:cacheprovider", "--benchmark-disable", "-p", "no:xdist"]
    file = f"benchmarks/bench_{family}.py"
    environment = os.environ | {"BENCHMARK_SIZE": "small", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "pytest", file, *options]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def run_file(folder: Path, median: float) -> Path:
    case = {"fullname": "benchmarks/bench_store.py::test_random_read", "name": "test_random_read"}
    case |= {"extra_info": {"per": 10, "unit": "record", "peak_mb": 1.0}}
    case |= {"stats": {"median": median, "iqr": 0.1, "rounds": 3}}
    path = folder / f"{median}.json"
    path.write_text(json.dumps({"benchmarks": [case]}))
    return path


def test_a_second_run_is_compared_with_the_first(tmp_path: Path) -> None:
    from benchmarks import report

    logs = tmp_path / "logs" / "ukb" / "prepare"
    logs.mkdir(parents=True)
    state = {"stage": "prepare", "cohort": "ukb", "state": "finished", "seconds": 12.5}
    (logs / "status.json").write_text(json.dumps(state))
    shown = report.write(run_file(tmp_path, 1.0), run_file(tmp_path, 2.0), tmp_path / "logs", tmp_path)
    table = pd.read_csv(tmp_path / "benchmarks.csv")
    assert table["median_ms"].tolist() == [100.0] and table["ratio_to_before"].tolist() == [0.5]
    assert pd.read_csv(tmp_path / "stages.csv")["seconds"].tolist() == [12.5]
    assert "random_read" in shown and (tmp_path / "store.png").stat().st_size > 1000
    assert "12.5" in (tmp_path / "index.md").read_text()
