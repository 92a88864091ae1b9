"""Every benchmark runs at its smallest size; a second run is compared with the first. Nothing here is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import baselines
from cardionets import ecg
from cardionets.config import Study
from tests.conftest import ROOT


@pytest.mark.soak
@pytest.mark.parametrize("family", ["prepare", "store", "models", "step", "generator", "statistics", "pipeline"])
def test_every_benchmark_runs(family: str) -> None:
    options = ["-q", "-o", "python_files=bench_*.py", "-p", "no:cacheprovider", "--benchmark-disable", "-p", "no:xdist"]
    file = f"benchmarks/bench_{family}.py"
    environment = os.environ | {"BENCHMARK_SIZE": "small", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "pytest", file, *options]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def drifting(samples: int = 5000) -> np.ndarray:
    """Noise on a slow drift, (12, T)."""
    rng, time = np.random.default_rng(0), np.arange(samples) / 500
    return (300 * np.sin(0.5 * time + np.arange(12)[:, None]) + rng.normal(0, 20, (12, samples))).astype(np.float32)


def test_baselines_of_others_remove_a_baseline() -> None:
    signal = drifting(2000)
    for flat in (baselines.asymmetric_least_squares(signal), baselines.seasonal_decomposition(signal, 500)):
        inner = flat[:, 300:-300]
        assert signal.std() > 150 and inner.std() < 40
        assert np.abs(np.diff(inner - signal[:, 300:-300], 2, axis=1)).max() < 1  # what was taken away is smooth


@pytest.mark.soak
def test_the_filter_is_as_much_faster_as_promised() -> None:
    study, signal = Study(ROOT), drifting()
    ways: dict[str, Callable[[], object]] = {
        "filter": lambda: ecg.harmonise(signal, 500, study.grid, study.protocol.ecg),
        "least squares": lambda: baselines.asymmetric_least_squares(signal),
        "seasonal": lambda: baselines.seasonal_decomposition(signal, 500),
    }
    seconds = {}
    for name, way in ways.items():
        way()
        took = []
        for _ in range(15):
            start = time.process_time()
            way()
            took.append(time.process_time() - start)
        seconds[name] = min(took)
    assert 0.14 / seconds["filter"] > 50 and 0.037 / seconds["filter"] > 15, seconds
    assert seconds["least squares"] / seconds["filter"] > 50 and seconds["seasonal"] / seconds["filter"] > 15, seconds


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
    state = {"stage": "prepare", "cohort": "ukb", "state": "finished", "seconds": 12.5, "cpu_seconds": 20, "peak_mb": 9}
    (logs / "status.json").write_text(json.dumps(state))
    shown = report.write(run_file(tmp_path, 1.0), run_file(tmp_path, 2.0), tmp_path / "logs", tmp_path)
    table = pd.read_csv(tmp_path / "benchmarks.csv")
    assert table["median_ms"].tolist() == [100.0] and table["ratio_to_before"].tolist() == [0.5]
    assert pd.read_csv(tmp_path / "stages.csv")["seconds"].tolist() == [12.5]
    assert "random_read" in shown and (tmp_path / "store.png").stat().st_size > 1000
    page = (tmp_path / "index.md").read_text()
    assert "12.5" in page and "## What was promised" in page and "![store](store.png)" in page


def test_a_promise_is_kept_broken_or_open() -> None:
    from benchmarks import targets

    cases = pd.DataFrame({"case": ["random_read", "stage_overhead", "mae_step[all_tokens]"]})
    cases = cases.assign(median_ms=[0.012, 5000.0, 100.0])
    study = pd.DataFrame({"stage": ["prepare", "images"], "peak_mb": [400.0, 4100.0]})
    found = targets.promised(cases, study).set_index("what")["reached"]
    assert found["a record of a store, at random"] == "yes" and found["fixed cost of a stage"] == "no"
    assert found["largest process of the study"] == "no"
    kept = found.index[[2, 5, -2, -1]]
    assert found[kept[2]] == "yes", "the preparation held less than it may"
    assert (found.drop(kept) == "").all(), "what a run lacks is neither kept nor broken"


@pytest.mark.soak
def test_every_promise_rests_on_a_case_that_exists() -> None:
    """Names of cases as pytest collects them at full size."""
    from benchmarks import targets

    call = [sys.executable, "-m", "pytest", "benchmarks", "--collect-only", "-o", "python_files=bench_*.py"]
    environment = os.environ | {"BENCHMARK_SIZE": "full", "OMP_NUM_THREADS": "1"}
    listed = subprocess.run([*call, "-p", "no:xdist"], cwd=ROOT, env=environment, capture_output=True, text=True)
    names = [line.partition("::test_")[2] for line in listed.stdout.splitlines() if "::test_" in line]
    columns = {"median_ms": 1.0, "peak_MB": 1.0, "loading": 0.0, "times_reference": 30.0}
    found = targets.promised(pd.DataFrame([{"case": name} | columns for name in names]), pd.DataFrame())
    assert (found["reached"].iloc[:-2] != "").all(), found.to_string()


def test_a_signal_under_two_names_counts_once(tmp_path: Path) -> None:
    from benchmarks.reality import second_copies

    for folder, name, signal, said in (
        ("a", "one", b"x", "# Dx: 1"),
        ("b", "two", b"x", "# Dx: 1"),
        ("b", "three", b"x", "# Dx: 2"),
        ("b", "four", b"y", "# Dx: 1"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.hea").write_text(f"{name} 12 500 5000\n{said}\n")
        (tmp_path / folder / f"{name}.mat").write_bytes(signal)
    assert second_copies(tmp_path) == ["b/two"]
