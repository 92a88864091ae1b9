"""Progress with time left, as plain lines that read well in a terminal, a log and an executed notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def track(items: Iterable[Item], label: str, total: int | None = None, every: float = 5.0) -> Iterator[Item]:
    """Yield ``items``; every ``every`` seconds print how many are done, the rate and the time left."""
    total = total if total is not None else len(items) if isinstance(items, Sized) else None
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            print(_line(label, done, total, now - start), flush=True)
    elapsed = time.monotonic() - start
    if elapsed >= every:
        print(f"{label}: {done:,} done in {clock(elapsed)}", flush=True)
    sys.stdout.flush()


def _line(label: str, done: int, total: int | None, elapsed: float) -> str:
    rate = done / max(elapsed, 1e-9)
    if total is None:
        return f"{label}: {done:,} done, {rate:,.1f}/s, {clock(elapsed)} gone"
    left = (total - done) / rate
    return f"{label}: {done:,}/{total:,} ({done / total:.0%}), {rate:,.1f}/s, {clock(left)} left"
