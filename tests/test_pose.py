"""Canonical pose: what was turned and shifted lies alike again, masks follow, and size is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cardionets.models.cmr_mae import VIEWS
from cardionets.models.pose import Pose, move, placed, placed_masks

SIZE, FRAMES = 32, 4


def hearts(n: int, turn: float = 0.0, shift: float = 0.0) -> tuple[dict[str, Tensor], Tensor]:
    """Beating ellipses with a dark spot, as uint8 cines of both views, and how each was turned and shifted."""
    generator = torch.Generator().manual_seed(5)
    across = torch.arange(SIZE) - (SIZE - 1) / 2
    beat = 1 + 0.15 * torch.cos(2 * math.pi * torch.arange(FRAMES) / FRAMES)
    y, x = across[:, None] / 6, across / 9
    body = torch.sigmoid(4 * (beat[:, None, None] - (x**2 + y**2).sqrt()))
    spot = torch.exp(-((across[:, None] - 1) ** 2 + (across + 5) ** 2) / 6)
    cine = (230 * body * (1 - 0.8 * spot)).expand(n, FRAMES, SIZE, SIZE)
    pose = (torch.rand(n, 3, generator=generator) * 2 - 1) * torch.tensor([turn, shift, shift])
    moved = move(cine, pose).round().to(torch.uint8)
    return dict.fromkeys(VIEWS, moved), pose


def scatter(cines: Tensor) -> float:
    """SD over people, mean over pixels."""
    return float(cines.float().std(0).mean())


def test_what_was_turned_and_shifted_lies_alike_again() -> None:
    cines, _ = hearts(48, turn=math.radians(15), shift=0.12)
    pose = Pose(SIZE)
    pose.learn(cines)
    again = placed(cines, pose.find(cines))
    for view in VIEWS:
        assert scatter(again[view]) < 0.45 * scatter(cines[view])
        assert again[view].dtype == torch.uint8 and again[view].shape == cines[view].shape


def test_the_pose_found_undoes_a_known_one() -> None:
    straight, _ = hearts(8)
    pose = Pose(SIZE)
    pose.learn(straight)
    turned = {view: move(cine, torch.tensor([[0.2, 0.1, -0.06]]).expand(8, 3)) for view, cine in straight.items()}
    found = pose.find(turned)[0, 0]
    assert float(found[0]) == pytest.approx(-0.2, abs=0.12)
    back = move(turned["sax"], pose.find(turned)[:, 0])
    assert (back - straight["sax"]).abs().mean() < 0.6 * (turned["sax"] - straight["sax"]).abs().mean()


def test_size_is_left_alone_and_masks_follow() -> None:
    cines, _ = hearts(6, turn=0.3, shift=0.1)
    masks = {view: (cine > 100).to(torch.uint8) * 3 for view, cine in cines.items()}
    pose = Pose(SIZE)
    pose.learn(cines)
    found = pose.find(cines)
    moved, drawn = placed(cines, found), placed_masks(masks, found)
    for view in VIEWS:
        assert set(drawn[view].unique().tolist()) <= {0, 3}
        area, before = (x.sum((1, 2, 3)).float() for x in (drawn[view], masks[view]))
        assert (area / before - 1).abs().max() < 0.05
        assert ((moved[view] > 100) == (drawn[view] == 3)).float().mean() > 0.97


def test_a_cine_keeps_its_pose_in_any_company() -> None:
    cines, _ = hearts(9, turn=0.2, shift=0.1)
    pose = Pose(SIZE)
    pose.learn(cines)
    alone = torch.cat([pose.find({view: cine[i : i + 1] for view, cine in cines.items()}) for i in range(9)])
    assert torch.allclose(alone, pose.find(cines), atol=1e-4)


def test_a_blank_cine_is_no_accident() -> None:
    pose = Pose(SIZE)
    pose.learn(hearts(4)[0])
    blank = dict.fromkeys(VIEWS, torch.full((2, FRAMES, SIZE, SIZE), 7, dtype=torch.uint8))
    assert pose.find(blank).isfinite().all() and (placed(blank, pose.find(blank))["sax"] == 7).all()
