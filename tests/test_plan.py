"""The plan's counts against measured small runs: parameters, FLOPs by the profiler, bytes by the allocator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from cardionets import plan
from cardionets.__main__ import main
from cardionets.config import Study
from cardionets.device import Draw

BATCH = 16


def values(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A batch of one column, of any value."""
    return torch.rand(BATCH, *shape) if dtype.is_floating_point else torch.randint(0, 5, (BATCH, *shape), dtype=dtype)


class _Median(Draw):
    """Real numbers, but the mask ratio that the plan assumes."""

    def number(self) -> float:
        return 0.5


def measured(work: plan.Work) -> plan.Cost:
    """Of one step on the host: FLOPs as the profiler sees them, bytes that the allocator holds after the loss."""
    model = work.build().train()
    rows = {name: values(*column) for name, column in work.row.items()}
    activity = [ProfilerActivity.CPU]
    with profile(activities=activity, profile_memory=True) as forward:
        loss = work.loss(model, rows, _Median(torch.device("cpu"), 1))["loss"]
    held = sum(event.self_cpu_memory_usage for event in forward.events())
    del loss
    with profile(activities=activity, with_flops=True) as both, sdpa_kernel(SDPBackend.MATH):
        work.loss(model, rows, _Median(torch.device("cpu"), 1))["loss"].backward()
    flops = sum(event.flops or 0 for event in both.key_averages())
    return plan.Cost(sum(p.numel() for p in model.parameters()), flops, held)


@pytest.mark.parametrize("stage", ["pretrain_ecg", "pretrain_cmr", "align", "generator", "phenotypes, scratch"])
def test_counts_are_those_of_a_measured_step(stage: str, tiny_root: Path) -> None:
    (work,) = (w for w in plan.works(Study()) if w.stage == stage)
    planned, real = plan.cost(work, BATCH), measured(work)
    assert planned.parameters == real.parameters
    assert planned.flops == pytest.approx(real.flops, rel=0.2)
    assert planned.activation_bytes == pytest.approx(real.activation_bytes, rel=0.2)


def test_every_stage_is_counted_with_the_rows_that_its_loss_asks_for(tiny_root: Path) -> None:
    for work in plan.works(Study()):
        counted = plan.cost(work, 2)
        assert counted.parameters == sum(p.numel() for p in work.build().parameters() if p.requires_grad)
        assert counted.flops > 1e5 and counted.activation_bytes > 1e3, work.stage


def test_mixed_precision_keeps_less_and_recomputing_less_still(tiny_root: Path) -> None:
    (work,) = (w for w in plan.works(Study()) if w.stage == "generator")
    full, half = plan.cost(work, BATCH), plan.cost(work, BATCH, bf16=True)
    assert half.activation_bytes < full.activation_bytes and half.flops == full.flops
    again = plan.Work(**vars(work) | {"budget": work.budget.model_copy(update={"recompute": True})})
    assert plan.cost(again, BATCH).activation_bytes < full.activation_bytes


def test_the_command_prints_stages_and_stores(
    tiny_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(plan.works(Study()))
    assert len({work.stage for work in every}) == len(every) == 9
    monkeypatch.setattr(plan, "works", lambda study: every[-1:])
    assert main(["plan", "--preset", "tiny", "--gpus", "2"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("generator", "together:", "mimic"))
