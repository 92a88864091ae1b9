"""The generator at equal width, depth and tokens: both heads, steps, iterations, against the reference sampler.

The reference is masked autoregressive sampling as published: 64 iterations, a diffusion head of 100 steps.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.conftest import Measure, sized
from cardionets.models.mar import Mar, MarSettings, SampleSettings

TOKENS, CHANNELS, PREFIX = 100, 64, (20, 128)
CASES = {
    "reference_diffusion_64x100": ("diffusion", 64, 100),
    "diffusion_16x100": ("diffusion", 16, 100),
    "diffusion_8x20": ("diffusion", 8, 20),
    "flow_16x6": ("flow", 16, 6),
    "flow_8x6": ("flow", 8, 6),
    "flow_4x6": ("flow", 4, 6),
    "flow_4x4": ("flow", 4, 4),
}


def network(head: str) -> Mar:
    """13.5 million parameters."""
    torch.manual_seed(0)
    size = {"dim": 384, "encoder_depth": 3, "decoder_depth": 3, "heads": 6, "head_width": 384, "head_depth": 3}
    budget = {"epochs": 1, "batch": 1, "lr": 1e-3}
    settings = size | {"head": head, "sample": {"iterations": 1, "steps": 1}, "train": budget}
    return Mar(MarSettings.model_validate(settings), TOKENS, CHANNELS, PREFIX).eval()


@pytest.mark.parametrize("case", CASES)
def test_generator(case: str, measure: Measure) -> None:
    head, iterations, steps = CASES[case]
    if sized(1, 0):
        iterations, steps = min(iterations, 2), min(steps, 2)
    model, batch = network(head), 1
    noise, order = torch.randn(batch, TOKENS, CHANNELS), torch.randperm(TOKENS)[None].expand(batch, -1)
    condition, how = torch.randn(batch, *PREFIX), SampleSettings(iterations=iterations, steps=steps)
    measure(lambda: model.sample(condition, noise, order, how), per=batch, unit="person", rounds=3)
