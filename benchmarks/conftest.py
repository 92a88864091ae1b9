"""What every benchmark shares: its size, one thread, a watch on memory, a small study with centres and stores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from threadpoolctl import threadpool_limits

from cardionets.config import Study

ROOT = Path(__file__).parents[1]
SMALL = os.environ.get("BENCHMARK_SIZE", "small") == "small"


def sized(small: int, full: int) -> int:
    """The number of this run's size."""
    return small if SMALL else full


class Peak:
    """Most anonymous memory (MB) above the start while the block runs, seen every 2 ms."""

    def __enter__(self) -> Peak:
        self._done, self.start = threading.Event(), self._now()
        self.most = self.start
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.most = max(self.most, self._now())

    @property
    def mb(self) -> float:
        """MB above the start."""
        return (self.most - self.start) / 1e6

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        memory = psutil.Process().memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))  # mapped files are the page cache's, not ours


Measure = Callable[..., Any]


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """``measure(call, per=n, unit="record")``: rounds of ``call``; figures are divided by ``per`` of ``unit``."""

    def run(call: Callable[[], Any], *, per: int = 1, unit: str = "run", rounds: int = 5, warm: int = 1) -> Any:
        few = 1 if SMALL else rounds
        found = benchmark.pedantic(call, rounds=few, iterations=1, warmup_rounds=0 if SMALL else warm)
        if not benchmark.disabled:
            with Peak() as peak:
                call()
            benchmark.extra_info.update(per=per, unit=unit, peak_mb=peak.mb)
        return found

    return run


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Settings of the demonstration in a folder of its own, where centres and stores may be written."""
    root = tmp_path_factory.mktemp("study")
    for name in ("params.yaml", "cohorts.yaml", "presets"):
        (root / name).symlink_to(ROOT / name)
    return Study(root)
