"""The store: writing rows, reading one at random, gathering a training batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.conftest import Measure, sized
from cardionets import data, store
from cardionets.config import Study


@pytest.fixture(scope="module")
def signals(study: Study, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """ECGs (n, 12, T) as a store keeps them."""
    shape, dtype = store.layout(study.grid)["ecg"]
    path = tmp_path_factory.mktemp("array") / "ecg.npy"
    whole = (sized(100, 4000), *shape)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=whole)
    array[:] = np.random.default_rng(0).integers(-500, 500, (1, *shape))
    array.flush()
    return np.load(path, mmap_mode="r")


def test_write(study: Study, signals: np.ndarray, measure: Measure, tmp_path: Path) -> None:
    rows = np.array(signals[:64])
    array = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=rows.dtype, shape=rows.shape)

    def run() -> None:
        array[:] = rows
        array.flush()

    measure(run, per=len(rows), unit="record")


def test_random_read(signals: np.ndarray, measure: Measure) -> None:
    order = np.random.default_rng(1).permutation(len(signals))

    def run() -> None:
        for row in order:
            np.array(signals[row])

    measure(run, per=len(order), unit="record")


def test_training_batch(signals: np.ndarray, measure: Measure) -> None:
    table = data.Table(ecg=data.column(signals))
    rows = np.random.default_rng(2).permutation(len(signals))[:64]
    measure(lambda: table.take(rows), per=len(rows), unit="record")
