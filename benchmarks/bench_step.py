"""Where the time of one training step goes: torch's profiler, operators gathered by kind.

The step is the one of :mod:`cardionets.train`: rows are gathered from a memory-mapped store, then loss, backward pass
and optimiser. Weights and loss are those of a preset. Of `paper` the batch is two, what a workstation holds, so that
the optimiser, whose work does not depend on it, weighs more than on a server; of `demo` it is the demonstration's own,
where networks are small and loading weighs most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.conftest import ROOT, sized
from cardionets import data, plan
from cardionets.config import Study
from cardionets.device import Draw
from cardionets.schedule import apply_speed, make_optimiser

KINDS: Final = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "convolution"),
    "attention": ("scaled_dot_product",),
    "optimiser": ("_fused_adam", "_foreach", "lerp_", "addcdiv", "sqrt"),
    "norms": ("layer_norm", "group_norm", "rms_norm"),
    "activations": ("gelu", "silu", "softmax", "sigmoid", "tanh"),
    "copies and gathers": ("copy_", "cat", "gather", "index", "scatter", "clone", "contiguous", "fill_", "zero_"),
}
"""Part of an operator's name, without ``aten::``, that decides its kind; the first that fits."""
LOADING: Final = "loading"
STAGES: Final = (("paper", "pretrain_ecg"), ("paper", "generator"), ("demo", "pretrain_ecg"), ("demo", "tokenizer"))
STEPS: Final = {"paper": sized(3, 1), "demo": 3}  # that are profiled: a short one alone may be interrupted


def kind(name: str) -> str:
    """The kind of an operator."""
    bare = name.removeprefix("aten::")
    return next((label for label, parts in KINDS.items() if any(part in bare for part in parts)), "other")


def settings(preset: str, folder: Path) -> Study:
    """Settings of a preset, or of the smallest one for a first look."""
    text = (ROOT / "params.yaml").read_text().replace("preset: demo", f"preset: {preset if sized(0, 1) else 'tiny'}")
    (folder / "params.yaml").write_text(text)
    for name in ("cohorts.yaml", "presets"):
        (folder / name).symlink_to(ROOT / name)
    return Study(folder)


def stored(row: plan.Shapes, folder: Path, rows: int) -> data.Table:
    """A memory-mapped array per column of a batch, of any value."""
    columns = {}
    for name, (shape, dtype) in row.items():
        own = torch.empty(0, dtype=dtype).numpy().dtype
        array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=own, shape=(rows, *shape))
        array[:] = np.random.default_rng(0).integers(0, 5, (1, *shape))
        array.flush()
        columns[name] = data.column(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return data.Table(**columns)


Shares = dict[str, float]


def shares(work: plan.Work, table: data.Table, batch: int, steps: int) -> tuple[float, Shares, Shares]:
    """Milliseconds of a step, the share of every kind and that of the five largest operators."""
    model, draw = work.build().train(), Draw(torch.device("cpu"), 1)
    apply_speed(model, work.budget.model_copy(update={"compile": False}))
    optimiser, order = make_optimiser(model, work.budget), np.random.default_rng(1).permutation(len(table))

    def step() -> None:
        with record_function(LOADING):
            rows = table.take(np.sort(order[:batch]))
        work.loss(model, rows, draw)["loss"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    loading = sum(event.cpu_time_total for event in events if event.key == LOADING)
    kinds = {LOADING: loading / total}
    for event in (event for event in events if event.key != LOADING):
        kinds[kind(event.key)] = kinds.get(kind(event.key), 0.0) + event.self_cpu_time_total / total
    largest = sorted(events, key=lambda event: -event.self_cpu_time_total)[:5]
    return total / 1000 / steps, kinds, {event.key: event.self_cpu_time_total / total for event in largest}


@pytest.mark.parametrize(("preset", "stage"), STAGES)
def test_step_by_kind(preset: str, stage: str, benchmark: Any, tmp_path: Path) -> None:
    (work,) = (work for work in plan.works(settings(preset, tmp_path)) if work.stage == stage)
    batch, steps = 2 if preset == "paper" else work.budget.batch, STEPS[preset]
    table = stored(work.row, tmp_path, 8 * batch)
    given = (work, table, batch, steps)
    milliseconds, kinds, largest = benchmark.pedantic(shares, given, rounds=1, iterations=1)
    assert kinds[LOADING] < 1 and sum(kinds.values()) > 0.95
    benchmark.extra_info.update(
        per=1, unit=f"{1 + steps} steps", step_ms=milliseconds, kinds=kinds, largest=largest, batch=batch
    )
