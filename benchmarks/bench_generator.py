"""The generator at equal width, depth and tokens: both heads, steps, iterations, against the reference sampler.

The reference is masked autoregressive sampling as published (arXiv 2406.11838): 64 iterations, a diffusion head of 100
ancestral steps, nothing kept from step to step. Ours has as many parameters; ``times_reference`` is how much faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import Measure, sized
from cardionets.models.layers import take_tokens
from cardionets.models.mar import Mar, MarSettings, SampleSettings, reveal_schedule, signal_share

TOKENS, CHANNELS, PREFIX = 100, 64, (20, 128)
REFERENCE = (64, 100)  # iterations, steps
TARGET = 25  # times faster than the reference
CASES = {
    "diffusion_64x100": ("diffusion", 64, 100),
    "diffusion_16x100": ("diffusion", 16, 100),
    "diffusion_8x20": ("diffusion", 8, 20),
    "flow_16x6": ("flow", 16, 6),
    "flow_8x6": ("flow", 8, 6),
    "flow_4x6": ("flow", 4, 6),
    "flow_4x4": ("flow", 4, 4),
}


def network(head: str) -> Mar:
    """15.6 million parameters."""
    torch.manual_seed(0)
    size = {"dim": 384, "encoder_depth": 3, "decoder_depth": 3, "heads": 6, "head_width": 512, "head_depth": 3}
    budget = {"epochs": 1, "batch": 1, "lr": 1e-3}
    settings = size | {"head": head, "sample": {"iterations": 1, "steps": 1}, "train": budget}
    return Mar(MarSettings.model_validate(settings), TOKENS, CHANNELS, PREFIX).eval()


def inputs(batch: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Condition, guess, noise and order of revealing."""
    tokens = (batch, TOKENS, CHANNELS)
    order = torch.stack([torch.randperm(TOKENS) for _ in range(batch)])
    return torch.randn(batch, *PREFIX), torch.zeros(tokens), torch.randn(tokens), order


@torch.no_grad()
def reference(model: Mar, given: tuple[Tensor, Tensor, Tensor, Tensor], iterations: int, steps: int) -> Tensor:
    """The published sampler: every denoising step runs the whole head, with fresh noise."""
    condition, guess, noise, order = given
    known, x = model.known(condition, guess), torch.zeros_like(noise)
    for first, last in reveal_schedule(TOKENS, iterations):
        new = order[:, first:last]
        z = take_tokens(model.predict(x, order[:, :first], known), new).flatten(0, 1)
        token = take_tokens(noise, new).flatten(0, 1)
        for step in range(steps):
            now, then = (signal_share(torch.tensor(t / steps)) for t in (step, step + 1))
            error = model.head(token, z, torch.full((len(token),), step / steps))
            share, keep = now / then, 1 - now / then
            token = (token - keep / (1 - now).sqrt() * error) / share.sqrt()
            if step + 1 < steps:
                token = token + (keep * (1 - then) / (1 - now)).sqrt() * torch.randn_like(token)
        x = x.scatter(1, new[..., None].expand(-1, -1, CHANNELS), token.reshape(*new.shape, CHANNELS))
    return x


def shortened(iterations: int, steps: int) -> tuple[int, int]:
    """What a small run can afford."""
    return (min(iterations, 2), min(steps, 2)) if sized(1, 0) else (iterations, steps)


@pytest.mark.parametrize("case", CASES)
def test_generator(case: str, measure: Measure) -> None:
    head, *size = CASES[case]
    iterations, steps = shortened(*size)
    model, given, how = network(head), inputs(), SampleSettings(iterations=iterations, steps=steps)
    measure(lambda: model.sample(*given, how), per=1, unit="person", rounds=3)


@pytest.mark.parametrize(("batch", "iterations", "steps"), [(1, 4, 6), (1, 8, 6), (16, 8, 6)])
def test_against_reference(batch: int, iterations: int, steps: int, measure: Measure, benchmark: object) -> None:
    slow, given = network("diffusion"), inputs()
    taken = min(seconds(lambda: reference(slow, given, *shortened(*REFERENCE))) for _ in range(sized(1, 2)))
    ours, many = network("flow"), inputs(batch)
    how = SampleSettings(iterations=shortened(iterations, steps)[0], steps=shortened(iterations, steps)[1])
    measure(lambda: ours.sample(*many, how), per=batch, unit="person", rounds=3)
    each = min(seconds(lambda: ours.sample(*many, how)) for _ in range(sized(1, 3))) / batch
    benchmark.extra_info.update(reference_ms=1000 * taken, times_reference=taken / each)  # type: ignore[attr-defined]
    assert torch.isfinite(reference(slow, given, 2, 2)).all()
    if not sized(1, 0):
        assert taken / each > TARGET, f"{taken:.2f} s against {each:.3f} s"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
