"""Two workers against one, beside what two unrelated processes reach on this machine; rounds in turn, ratios of each.

The second core of a virtual machine is rarely a whole one, and whatever else runs takes its share: a ratio means
something only beside the same machine's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from cardionets import prepare


def _burn(turns: int) -> int:
    """A plain Python loop."""
    total = 0
    for number in range(turns):
        total += number * number % 7
    return total


def _read(blocks: list[tuple[prepare.Block, Path]]) -> int:
    return sum(prepare.run_block(block, target) for block, target in blocks)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _both(pools: list[Pool], call: Callable[..., int], halves: list[object]) -> None:
    for waiting in [pool.apply_async(call, (half,)) for pool, half in zip(pools, halves)]:
        waiting.get()


def compare(plan: prepare.Plan, folder: Path, rounds: int) -> dict[str, np.ndarray]:
    """Time of one process over the time of two, (round,): loop, blocks, and blocks handed out by the prepare stage."""
    count = min(12, len(plan.blocks))
    work = [(prepare._slice(plan, number), folder / f"block-{number}") for number in range(count)]
    turns, found = 4_000_000, list[list[float]]()
    with get_context("spawn").Pool(1) as first, get_context("spawn").Pool(1) as second:
        pools = [first, second]
        handed = Parallel(n_jobs=2)
        for number in range(rounds + 1):  # the first round starts the processes
            loop = _seconds(lambda: first.apply(_burn, (turns,)))
            loops = _seconds(lambda: _both(pools, _burn, [turns // 2, turns // 2]))
            alone = _seconds(lambda: first.apply(_read, (work,)))
            apart = _seconds(lambda: _both(pools, _read, [work[::2], work[1::2]]))
            workers = _seconds(lambda: handed(delayed(prepare.run_block)(*some) for some in work))
            if number:
                found.append([loop / loops, alone / apart, alone / workers])
    return dict(zip(("a Python loop", "blocks in two processes", "blocks by two workers"), np.array(found).T))
