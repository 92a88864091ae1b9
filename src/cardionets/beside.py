"""Work beside this process: the networks load on the second core while the first reads and draws."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from typing import Any


@contextmanager
def beside(module: str) -> Iterator[Executor]:
    """A process of its own that imports ``module`` at once; a thread where torch is loaded here already."""
    if "torch" in sys.modules:
        pool: Executor = ThreadPoolExecutor(1)
    else:
        pool = ProcessPoolExecutor(1, get_context("spawn"), _alone)
    with pool:
        pool.submit(import_module, module)
        yield pool


def _alone() -> None:
    """One thread: one recording is too little for two, which wait for each other longer than they work."""
    os.environ["OMP_NUM_THREADS"] = "1"


def call(module: str, name: str, *args: Any) -> Any:
    """Call a function by name, so that only the process beside this one imports its module."""
    return getattr(import_module(module), name)(*args)
