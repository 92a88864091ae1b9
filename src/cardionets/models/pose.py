"""Canonical pose of a cine: turned and shifted in its plane until it lies on the mean training heart.

How a heart lies in the scanner's plane says nothing about the heart and cannot be read off an ECG; drawn cines are
therefore drawn, and judged against real ones, in one pose. The template is learnt from training people's images alone
by congealing (Learned-Miller 2006, IEEE TPAMI 28:236): align to the mean, take the mean again. Alignment is exhaustive
over angles and, by Fourier correlation, over shifts; it minimises the windowed squared difference of the time-mean
picture and of the motion. No segmentation is needed, and size is left alone, because it is what the study measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cardionets.models.cmr_mae import VIEWS

ANGLES: Final = tuple(range(-30, 31, 6))  # degrees
SHIFT: Final = 0.125  # largest shift as a share of the side
WINDOW: Final = 0.24  # SD of the window about the centre as a share of the side
ROUNDS: Final = 3  # of congealing
COARSE: Final = 2  # pixels per side that alignment sees as one; the parabola brings back the rest
BLOCK: Final = 64  # cines aligned at once
Cines = Mapping[str, Tensor]


def likeness(cine: Tensor) -> Tensor:
    """Time-mean picture and motion (SD over time) of cines (b, frame, H, W), standardised, (b, 2, H / 2, W / 2)."""
    x = cine.float()
    mean, square = x.mean(1), x.square().mean(1)
    both = F.avg_pool2d(torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt()], dim=1), COARSE)
    both = both - both.mean((2, 3), keepdim=True)
    return both / both.std((2, 3), keepdim=True).clamp_min(1e-3)


def move(images: Tensor, pose: Tensor, mode: str = "bilinear") -> Tensor:
    """Turn images (b, c, H, W) about their centre by pose[:, 0] (radians), then shift by pose[:, 1:] (x, y; share of
    half the side). What comes from outside repeats the edge.
    """
    cosine, sine = pose[:, 0].cos(), pose[:, 0].sin()
    dx, dy = pose[:, 1], pose[:, 2]
    # output place p shows the input at R (p - shift)
    rows = [cosine, -sine, -(cosine * dx - sine * dy), sine, cosine, -(sine * dx + cosine * dy)]
    theta = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    places = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), places, mode, "border", align_corners=False)


def placed(cines: Cines, pose: Tensor) -> dict[str, Tensor]:
    """uint8 cines (b, frame, H, W) of both views moved by their pose (b, view, 3)."""
    return {view: move(cines[view], pose[:, i]).round().to(torch.uint8) for i, view in enumerate(VIEWS)}


def placed_masks(masks: Cines, pose: Tensor) -> dict[str, Tensor]:
    """Labels uint8 (b, frame, H, W) of both views moved by the pose of their cines, by nearest neighbour."""
    return {view: move(masks[view], pose[:, i], "nearest").to(torch.uint8) for i, view in enumerate(VIEWS)}


class Pose(nn.Module):
    """The mean training heart of both views, and how any cine is brought onto it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size = size // COARSE
        across = (torch.arange(size) - (size - 1) / 2) / size
        window = torch.exp(-(across[:, None] ** 2 + across**2) / (2 * WINDOW**2))
        self.register_buffer("window", window * (window > window[size // 2, 0] * 0.5), persistent=False)
        for view in VIEWS:
            self.register_buffer(f"template_{view}", torch.zeros(2, size, size))

    @torch.no_grad()
    def learn(self, cines: Cines) -> None:
        """Learn the templates from (training) uint8 cines (n, frame, H, W) of both views."""
        for view in VIEWS:
            shown = likeness(cines[view])
            template = self.get_buffer(f"template_{view}")
            template.copy_(shown.mean(0))
            for _ in range(ROUNDS):
                poses = self._align(shown, template)
                poses = poses - poses.mean(0)  # the template itself must not drift
                template.copy_(move(shown, poses).mean(0))

    @torch.no_grad()
    def find(self, cines: Cines) -> Tensor:
        """Pose (b, view, 3) that brings uint8 cines (b, frame, H, W) onto the templates: angle, shift in x and y."""
        found = [self._align(likeness(cines[view]), self.get_buffer(f"template_{view}")) for view in VIEWS]
        return torch.stack(found, dim=1)

    def _align(self, shown: Tensor, template: Tensor) -> Tensor:
        return torch.cat([self._search(part, template) for part in torch.split(shown, BLOCK)])

    def _search(self, shown: Tensor, template: Tensor) -> Tensor:
        """Best angle on the list and best whole-pixel shift, each refined by a parabola."""
        angles = torch.tensor([math.radians(a) for a in ANGLES], device=shown.device)
        turned = torch.stack([move(shown, torch.stack([a, a * 0, a * 0]).expand(len(shown), 3)) for a in angles], 1)
        error = self._errors(turned, template)  # (b, angle, 2 r + 1, 2 r + 1)
        side = error.shape[-1]
        best = error.flatten(1).argmin(1)
        place = (best // side**2, best // side % side, best % side)
        refined = [self._parabola(error, place, axis) for axis in range(3)]
        step = angles[1] - angles[0]
        angle = angles[0] + refined[0] * step
        down, across = ((r - side // 2) * 2 / self.size for r in refined[1:])
        return torch.stack([angle, across, down], dim=1)

    def _errors(self, turned: Tensor, template: Tensor) -> Tensor:
        """Windowed squared difference to the template for every shift within reach: (b, a, 2, H, W) -> (b, a, s, s)."""
        reach = max(1, round(SHIFT * self.size))
        window = self.get_buffer("window")

        def correlate(image: Tensor, kernel: Tensor) -> Tensor:
            product = torch.fft.rfft2(image) * torch.fft.rfft2(kernel).conj()
            correlation: Tensor = torch.fft.irfft2(product, s=image.shape[-2:])
            return correlation

        # shifting the picture by +d aligns its place p with the template's place p + d
        error = correlate(turned.square().sum(-3), window) - 2 * correlate(turned, window * template).sum(-3)
        lag = torch.arange(reach, -reach - 1, -1, device=error.device) % self.size
        return error[..., lag[:, None], lag[None, :]]

    @staticmethod
    def _parabola(error: Tensor, place: tuple[Tensor, Tensor, Tensor], axis: int) -> Tensor:
        """Place along one axis of the lowest point of the parabola through three neighbours of the best."""
        rows, length = torch.arange(len(error), device=error.device), error.shape[axis + 1]

        def at(offset: int) -> Tensor:
            moved = [p + offset if i == axis else p for i, p in enumerate(place)]
            moved[axis] = moved[axis].clamp(0, length - 1)
            return error[rows, moved[0], moved[1], moved[2]]

        before, here, after = at(-1), at(0), at(1)
        bend = (before - 2 * here + after).clamp_min(1e-6)
        return place[axis] + ((before - after) / (2 * bend)).clamp(-0.5, 0.5)
