"""Work beside this process: the networks load on the second core while the first reads and draws."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context


@contextmanager
def beside(module: str) -> Iterator[Executor]:
    """A process of its own that imports ``module`` at once; a thread where torch is loaded here already."""
    loaded = "torch" in sys.modules
    with ThreadPoolExecutor(1) if loaded else ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(import_module, module)
        yield pool
