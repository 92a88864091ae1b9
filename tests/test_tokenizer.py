"""Tokenizer: strides, packing, principal components as the start, cyclic time, and what training adds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cardionets.config import StudyError, check
from cardionets.data import Table, column
from cardionets.device import Draw
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.tokenizer import Tokenizer, TokenizerSettings, tokenizer_loss
from cardionets.train import fit

TRAIN = {"epochs": 12, "batch": 16, "lr": 3e-3, "checkpoint_seconds": 1000}
BASE = {"frames": 4, "size": 16, "time_stride": 4, "plane_stride": 8, "channels": 4, "width": 8, "train": TRAIN}


def build(**change: object) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TokenizerSettings.model_validate(BASE | change))


def hearts(n: int = 48, size: int = 16, frames: int = 4) -> dict[str, Tensor]:
    """Discs whose radius and place vary between people and whose radius beats."""
    generator = torch.Generator().manual_seed(3)
    radius, row, column_ = torch.rand(3, n, generator=generator)
    phase = torch.cos(2 * math.pi * torch.arange(frames) / frames)
    beat = (3 + 2 * radius)[:, None] * (1 + 0.2 * phase)  # (n, frame)
    y, x = (
        (torch.arange(size)[:, None] - 7 - row[:, None, None] * 2),
        torch.arange(size) - 7 - column_[:, None, None] * 2,
    )
    distance = (y**2 + x**2).sqrt()[:, None]  # (n, 1, H, W)
    cine = (255 * torch.sigmoid(2 * (beat[..., None, None] - distance))).to(torch.uint8)
    return {"sax": cine, "4ch": cine.flip(-1)}


def still(n: int) -> Tensor:
    """The pose of cines that lie as they should."""
    return torch.zeros(n, 2, 3)


def error(model: Tokenizer, cines: dict[str, Tensor]) -> float:
    made = model.decode(model.posterior(cines)[0])
    return float(sum(((made[v].float() - cines[v].float()) ** 2).mean() for v in VIEWS))


@pytest.mark.parametrize(("time_stride", "plane_stride"), [(4, 8), (2, 8), (1, 4), (2, 16)])
def test_every_stride_gives_its_grid_and_comes_back(time_stride: int, plane_stride: int) -> None:
    model = build(time_stride=time_stride, plane_stride=plane_stride)
    mean, sd = model.posterior(hearts(3))
    tokens = (4 // time_stride) * (16 // plane_stride) ** 2
    assert model.tokens_per_view == tokens
    assert mean.shape == sd.shape == (3, 2 * tokens, 4) and (sd > 0).all()
    made = model.decode(mean)
    assert {v: (c.shape, c.dtype) for v, c in made.items()} == dict.fromkeys(VIEWS, ((3, 4, 16, 16), torch.uint8))


@given(st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
@settings(max_examples=12, deadline=None)
def test_packing_is_undone_and_keeps_views_apart(i: int, j: int, k: int) -> None:
    model = build(time_stride=2, plane_stride=4)  # grid (2, 4, 4)
    tokens = torch.arange(2 * 32 * 4.0).reshape(1, 64, 4)
    packed = model.pack(tokens, (i, j, k))
    assert packed.shape == (1, 64 // (i * j * k), 4 * i * j * k)
    assert torch.equal(model.unpack(packed, (i, j, k)), tokens)
    half = packed.shape[1] // 2
    assert set(packed[:, :half].flatten().tolist()) == set(tokens[:, :32].flatten().tolist())


def test_a_packed_token_holds_neighbours() -> None:
    model = build(time_stride=4, plane_stride=4, channels=1)  # grid (1, 4, 4)
    packed = model.pack(torch.arange(32.0).reshape(1, 32, 1), (1, 2, 2))
    assert packed[0, 0].tolist() == [0, 1, 4, 5] and packed[0, 4].tolist() == [16, 17, 20, 21]


def test_it_starts_as_the_best_linear_code() -> None:
    model, cines = build(), hearts()
    model.learn(cines)
    patches = model.view("sax").cut(model.scaled(cines["sax"])).flatten(0, 1)
    centred = patches - patches.mean(0)
    left = torch.linalg.svdvals(centred)[4:].square().sum() / centred.numel()  # Eckart and Young
    with torch.no_grad():
        code, _ = model.view("sax").encode(model.scaled(cines["sax"]))
        found = (model.view("sax").decode(code) - model.scaled(cines["sax"])).square().mean()
    assert float(found) == pytest.approx(float(left), rel=1e-3)
    assert torch.allclose(code.flatten(0, 1).std(0), torch.ones(4), atol=0.02)


def test_training_improves_on_the_linear_code(tmp_path: Path) -> None:
    model, cines = build(width=16), hearts(96)
    model.learn(cines)
    before = error(model, cines)
    table = Table(**{view: column(cine.numpy()) for view, cine in cines.items()}, pose=column(still(96).numpy()))
    fit(model, table, tokenizer_loss, model.settings.train, name="tokenizer", folder=tmp_path, seed=0)
    assert error(model, cines) < 0.8 * before


def test_tokens_have_unit_scale_after_set_scale() -> None:
    model, cines = build(), hearts()
    model.set_scale(cines)
    mean, _ = model.posterior(cines)
    for part in mean.chunk(2, dim=1):
        assert torch.allclose(part.mean((0, 1)), torch.zeros(4), atol=1e-4)
        assert torch.allclose(part.std((0, 1)), torch.ones(4), atol=1e-3)


def test_a_cycle_that_starts_later_gives_the_same_tokens_later() -> None:
    model = build(time_stride=1, plane_stride=8)
    for view in VIEWS:
        torch.nn.init.normal_(model.view(view).mix_in.mix.weight, std=0.1)
        torch.nn.init.normal_(model.view(view).to_latent.weight, std=0.1)
    cines = hearts(2)
    mean, _ = model.posterior(cines)
    later, _ = model.posterior({view: cine.roll(1, 1) for view, cine in cines.items()})
    tokens, shifted = (x.reshape(2, 2, 4, 4, 4) for x in (mean, later))  # (b, view, t, place, c)
    assert torch.allclose(shifted, tokens.roll(1, 2), atol=1e-5)
    assert not torch.allclose(shifted, tokens, atol=1e-3)


def test_the_loss_is_finite_and_reaches_every_weight() -> None:
    model = build(time_stride=2)
    losses = tokenizer_loss(model, hearts(4) | {"pose": still(4)}, Draw(torch.device("cpu"), 1))
    losses["loss"].backward()
    assert set(losses) == {"loss", "sax", "kl_sax", "4ch", "kl_4ch"}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad} == {
        "to_token",
        "to_patch",
    }


@pytest.mark.parametrize("change", [{"time_stride": 3}, {"plane_stride": 12}, {"plane_stride": 32}, {"width": 0}])
def test_contradicting_sizes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(StudyError, match=r"presets/x.yaml: tokenizer"):
        check(TokenizerSettings, BASE | change, "presets/x.yaml: tokenizer")
