"""Masked autoregressive generator: schedule, masking, sampling without neighbours, guidance, and what it learns."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cardionets.config import StudyError, check
from cardionets.data import Table, column
from cardionets.device import Draw
from cardionets.models.latent_flow import LatentFlow, flow_loss
from cardionets.models.mar import Mar, MarSettings, SampleSettings, mar_loss, mask_ratio, reveal_schedule, signal_share
from cardionets.train import fit

TOKENS, CHANNELS, PREFIX = 8, 3, (2, 5)
PEOPLE = 2000  # judged: so many that chance correlations are small whatever the seed
BASE = {
    **{"dim": 32, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "head_width": 32, "head_depth": 2},
    "sample": {"iterations": 3, "steps": 6},
    "train": {"epochs": 30, "batch": 32, "lr": 3e-3, "ema": 0.95, "checkpoint_seconds": 1000},
}


def build(**change: object) -> Mar:
    torch.manual_seed(0)
    return Mar(MarSettings.model_validate(BASE | change), TOKENS, CHANNELS, PREFIX).eval()


def awake(model: Mar) -> Mar:
    """The same network with a head whose layers no longer start at zero."""
    torch.nn.init.normal_(model.head.out.weight, std=0.3)
    for block in model.head.blocks:
        torch.nn.init.normal_(block.modulate.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    return model


def starts(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randn(n, *PREFIX, generator=generator)
    noise = torch.randn(n, TOKENS, CHANNELS, generator=generator)
    order = torch.stack([torch.randperm(TOKENS, generator=generator) for _ in range(n)])
    return condition, torch.randn(n, TOKENS, CHANNELS, generator=generator), noise, order


@given(st.integers(1, 300), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_every_token_is_revealed_once_few_first(tokens: int, iterations: int) -> None:
    ranges = reveal_schedule(tokens, iterations)
    assert len(ranges) == min(tokens, iterations)
    assert ranges[0][0] == 0 and ranges[-1][1] == tokens
    assert all(a < b for a, b in ranges) and all(a[1] == b[0] for a, b in pairwise(ranges))


def test_the_schedule_follows_the_cosine() -> None:
    counts = [b - a for a, b in reveal_schedule(64, 8)]
    assert counts[0] <= 2 and counts[-1] > 10 and counts == sorted(counts)


@given(st.floats(0, 0.999999), st.floats(0.05, 0.95))
@settings(max_examples=100, deadline=None)
def test_mask_ratios_stay_between_the_least_and_one(u: float, least: float) -> None:
    assert least - 1e-4 <= mask_ratio(u, least) <= 1


def test_mask_ratios_follow_the_truncated_normal() -> None:
    drawn = np.array([mask_ratio(u, 0.7) for u in np.linspace(0.0005, 0.9995, 1000)])
    z = np.random.default_rng(0).normal(1, 0.25, 400_000)
    kept = z[(z > 0.7) & (z < 1)]
    assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(kept, [0.1, 0.5, 0.9]), abs=0.003)


def test_hidden_tokens_are_not_seen() -> None:
    model = build()
    condition, guess, x, order = starts(3)
    visible, changed = order[:, :3], x.clone()
    hidden = order[:, 3:, None].expand(-1, -1, CHANNELS)
    changed.scatter_(1, hidden, 100.0)
    known = model.known(condition, guess)
    first, second = model.predict(x, visible, known), model.predict(changed, visible, known)
    assert torch.equal(first, second) and first.shape == (3, TOKENS, 32)
    shown = x.scatter(1, visible[..., None].expand(-1, -1, CHANNELS), 100.0)
    assert not torch.allclose(model.predict(shown, visible, known), first)


@pytest.mark.parametrize("head", ["flow", "diffusion"])
def test_a_sample_does_not_depend_on_its_batch(head: str) -> None:
    model = awake(build(head=head))
    condition, guess, noise, order = starts(5)
    together = model.sample(condition, guess, noise, order)
    alone = torch.cat([model.sample(*(x[i : i + 1] for x in (condition, guess, noise, order))) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-3)  # the diffusion head's first step multiplies rounding by 100
    assert torch.equal(together, model.sample(condition, guess, noise, order))


def test_guidance_leaves_the_model_alone_at_one_and_acts_above() -> None:
    model = awake(build())
    condition, guess, noise, order = starts(2)
    guided = {
        g: model.sample(condition, guess, noise, order, SampleSettings(iterations=3, steps=4, guidance=g))
        for g in (0, 1, 2)
    }
    plain = model.sample(condition, guess, noise, order, SampleSettings(iterations=3, steps=4))
    assert torch.equal(guided[1], plain) and not torch.allclose(guided[2], plain, atol=1e-3)
    other = model.sample(condition + 1, guess + 1, noise, order, SampleSettings(iterations=3, steps=4, guidance=0))
    assert torch.allclose(guided[0], other, atol=1e-5), "without the ECG, the ECG does not matter"


def test_diffusion_time_runs_from_noise_to_token() -> None:
    share = signal_share(torch.linspace(0, 1, 11))
    assert (share.diff() > 0).all() and share[0] < 0.001 and share[-1] > 0.999


def toy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are a linear function of the condition and one hidden number per row."""
    rng = np.random.default_rng(seed)
    condition = rng.normal(size=(n, *PREFIX)).astype(np.float32)
    mix = np.random.default_rng(9).normal(size=(PREFIX[1], TOKENS * CHANNELS)) / PREFIX[1] ** 0.5
    known = (condition.mean(1) * PREFIX[0] ** 0.5) @ mix
    x = 0.9 * known + 0.45 * rng.normal(size=(n, 1))
    return x.reshape(n, TOKENS, CHANNELS).astype(np.float32), condition


@pytest.mark.parametrize(("head", "least"), [("flow", 0.5), ("diffusion", 0.4), ("latent_flow", 0.4)])
def test_what_it_draws_follows_the_condition(head: str, least: float, tmp_path: Path) -> None:
    x, condition = toy(768, 0)
    table = Table(mean=column(x), sd=column(np.zeros_like(x)), condition=column(condition), guess=column(x * 0))
    truth, unseen = toy(PEOPLE, 5)
    _, guess, noise, order = starts(PEOPLE)
    if head == "latent_flow":
        older = whole()
        fit(older, table, flow_loss, older.settings.train, name="flow", folder=tmp_path, seed=1)
        made = older.sample(torch.from_numpy(unseen), guess * 0, noise, 8).numpy()
    else:
        model = build(head=head, sample={"iterations": 4, "steps": 6 if head == "flow" else 20})
        fit(model, table, mar_loss, model.settings.train, name="mar", folder=tmp_path, seed=1)
        made = model.sample(torch.from_numpy(unseen), guess * 0, noise, order).numpy()
    own, other = (
        np.mean([np.corrcoef(made[:, i, c], t[:, i, c])[0, 1] for i in range(TOKENS) for c in range(CHANNELS)])
        for t in (truth, np.roll(truth, 1, axis=0))
    )
    assert own > least and abs(other) < 0.12, "chance alone stays below: its SD is 0.022"
    assert made.std() == pytest.approx(truth.std(), rel=0.35)


def whole() -> LatentFlow:
    torch.manual_seed(0)
    return LatentFlow(MarSettings.model_validate(BASE), TOKENS, CHANNELS, PREFIX).eval()


def test_the_older_approach_sees_all_tokens_and_nobody_else() -> None:
    model = whole()
    torch.nn.init.normal_(model.out.weight, std=0.3)
    condition, guess, noise, _ = starts(4)
    together = model.sample(condition, guess, noise, 3)
    alone = torch.cat([model.sample(*(x[i : i + 1] for x in (condition, guess, noise)), 3) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-4)
    one = noise.clone()
    one[:, 0] += 1
    assert (model.sample(condition, guess, one, 3) - together)[:, 1:].abs().max() > 1e-3


def test_the_loss_reaches_every_weight() -> None:
    model = awake(build()).train()
    x, condition = toy(64, 0)
    batch = {
        "mean": torch.from_numpy(x),
        "sd": torch.full((64, TOKENS, CHANNELS), 0.1),
        "condition": torch.from_numpy(condition),
        "guess": torch.from_numpy(x),
    }
    mar_loss(model, batch, Draw(torch.device("cpu"), 3))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 30, "heads": 4},
        {"sample": {"iterations": 0, "steps": 4}},
        {"sample": {"iterations": 4, "steps": 4, "guidance": -1}},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="generator"):
        check(MarSettings, BASE | change, "presets/x.yaml: generator")


def test_the_head_with_what_is_kept_is_the_head() -> None:
    model = awake(build())
    x, z = torch.randn(7, CHANNELS), torch.randn(7, 32)
    head, now = model.head, torch.full((7,), 0.3)
    given, clock = head.modulation(head.condition(z), bias=True), head.modulation(head.clock(now[:1]), bias=False)
    kept = head.apply_modulation(x, [g + c for g, c in zip(given, clock)])
    torch.testing.assert_close(kept, head(x, z, now), rtol=1e-4, atol=1e-5)
