"""Cine tokenizer: a KL-regularised auto-encoder from one view's cine to a small grid of continuous tokens.

A group of ``time_stride`` frames becomes the channels of one image, so that a token holds the motion of its place over
the group (at demonstration size the whole cycle). Each token starts as the principal components of its patch, which
costs seconds; convolutions learn the rest. The stride (2, 8, 8) and the 16 channels of the published generator
(arXiv 2505.03426) are the paper preset. KL regularisation: Kingma & Welling 2014 (arXiv 1312.6114), with the small
weight of latent diffusion (arXiv 2112.10752).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from cardionets.config import Settings
from cardionets.device import Draw
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.pose import Pose, placed
from cardionets.train import Batch, TrainSettings

STEM = 4  # pixels per side that the convolutions' first layer folds into channels
FINE, COARSE, INSIDE = "v t i h j w k", "v t h w", "i j k"  # axes of tokens, of packed tokens, within one
Patch = tuple[int, int, int]
START_LOG_VARIANCE = -6.0  # of the tokens, whose means start with unit variance


class TokenizerSettings(Settings):
    """Sizes and budget of the cine tokenizer."""

    frames: int = Field(gt=1)  # frames of a cine
    size: int = Field(gt=7)  # pixels of a side
    time_stride: int = Field(gt=0)  # frames per token
    plane_stride: int = Field(gt=3)  # pixels per token and side: 4, 8 or 16
    channels: int = Field(default=16, gt=0)  # values per token, as published
    width: int = Field(gt=0)  # feature maps at the finest level; doubled at each halving
    blocks: int = Field(default=1, gt=0)  # residual blocks per level
    kl_weight: float = Field(default=1e-4, ge=0)  # keeps the latents near a unit normal without blurring the picture
    motion_weight: float = Field(default=1.0, ge=0)  # weight of frame-to-frame differences: the beat matters
    train: TrainSettings

    @model_validator(mode="after")
    def _fits(self) -> TokenizerSettings:
        if self.frames % self.time_stride or self.size % self.plane_stride:
            raise ValueError("time_stride must divide frames and plane_stride must divide size")
        if self.plane_stride & (self.plane_stride - 1) or self.plane_stride < STEM:
            raise ValueError("plane_stride must be 4, 8 or 16")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens over time, rows and columns of one view."""
        side = self.size // self.plane_stride
        return self.frames // self.time_stride, side, side

    @property
    def levels(self) -> int:
        """Halvings after the stem."""
        return int(math.log2(self.plane_stride // STEM))


class Residual(nn.Module):
    """Two 3 x 3 convolutions with group norm, residual: (b, c, H, W) -> (b, c, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's correction."""
        y: Tensor = x + self.body(x)
        return y


class TimeMix(nn.Module):
    """Circular convolution over the cardiac cycle at each place, (b, t, c, H, W) -> same; the cycle has no ends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, 3, padding=1, padding_mode="circular")
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Exchange between neighbouring frame groups; nothing to do when one group holds the cycle."""
        b, t, _, h, _ = x.shape
        if t == 1:
            return x
        mixed = self.mix(rearrange(x, "b t c h w -> (b h w) c t"))
        y: Tensor = x + rearrange(mixed, "(b h w) c t -> b t c h w", b=b, h=h)
        return y


class ViewTokenizer(nn.Module):
    """Encoder and decoder of one view: principal components of the patches, corrected by convolutions.

    The linear path is set by :meth:`learn` and then stays; the convolutions see beyond the patch and start at zero. A
    fixed start bears a higher learning rate: 26.0 dB after as much work as took the freely trained path to 25.6.
    """

    def __init__(self, s: TokenizerSettings) -> None:
        super().__init__()
        self.settings = s
        self.patch = s.time_stride * s.plane_stride**2  # values that one token stands for
        self.to_token, self.to_patch = nn.Linear(self.patch, s.channels), nn.Linear(s.channels, self.patch)
        for path in (self.to_token, self.to_patch):
            path.requires_grad_(False)
        widths = [s.width * 2**level for level in range(s.levels + 1)]
        values = s.time_stride * STEM**2
        down: list[nn.Module] = [nn.Conv2d(values, widths[0], 1)]
        up: list[nn.Module] = [nn.Conv2d(s.channels, widths[-1], 3, padding=1)]
        for here, deeper in zip(widths, [*widths[1:], None]):
            down += [Residual(here) for _ in range(s.blocks)]
            down += [nn.Conv2d(here, deeper, 2, stride=2)] if deeper else []
        for here, finer in zip(widths[::-1], [*widths[-2::-1], None]):
            up += [Residual(here) for _ in range(s.blocks)]
            up += [nn.ConvTranspose2d(here, finer, 2, stride=2)] if finer else []
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.mix_in, self.mix_out = TimeMix(widths[-1]), TimeMix(s.channels)
        self.to_latent = zeroed(nn.Conv2d(widths[-1], 2 * s.channels, 1))
        self.to_pixels = zeroed(nn.Conv2d(widths[0], values, 1))
        with torch.no_grad():
            assert self.to_latent.bias is not None
            self.to_latent.bias[s.channels :] = START_LOG_VARIANCE

    def cut(self, x: Tensor) -> Tensor:
        """Cine (b, frame, H, W) -> the patch of every token (b, n, values)."""
        k, p = self.settings.time_stride, self.settings.plane_stride
        return rearrange(x, "b (t k) (h p) (w q) -> b (t h w) (k p q)", k=k, p=p, q=p)

    def join(self, patches: Tensor) -> Tensor:
        """Inverse of :meth:`cut`."""
        (_, h, w), k, p = self.settings.grid, self.settings.time_stride, self.settings.plane_stride
        return rearrange(patches, "b (t h w) (k p q) -> b (t k) (h p) (w q)", h=h, w=w, k=k, p=p, q=p)

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Set the linear path to the whitened principal components of the patches of scaled cines (n, frame, H, W)."""
        patches = self.cut(x).flatten(0, 1)
        mean = patches.mean(0)
        centred = patches - mean
        power, directions = torch.linalg.eigh(centred.T @ centred / len(patches))
        count = self.settings.channels
        sd, basis = power[-count:].clamp_min(1e-8).sqrt(), directions[:, -count:]  # (c,), (values, c)
        self.to_token.weight.copy_((basis / sd).T)
        self.to_token.bias.copy_(-(mean @ basis) / sd)
        self.to_patch.weight.copy_(basis * sd)
        self.to_patch.bias.copy_(mean)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cine (b, frame, H, W) -> mean and log variance of its tokens, each (b, n, channels)."""
        t = self.settings.grid[0]
        folded = rearrange(x, "b (t k) (h p) (w q) -> (b t) (k p q) h w", t=t, p=STEM, q=STEM)
        features = rearrange(self.down(folded), "(b t) c h w -> b t c h w", t=t)
        latent = self.to_latent(self.mix_in(features).flatten(0, 1))
        correction, log_variance = rearrange(latent, "(b t) c h w -> b (t h w) c", t=t).chunk(2, dim=-1)
        return self.to_token(self.cut(x)) + correction, log_variance.clamp(-12, 4)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n, channels) -> scaled cine (b, frame, H, W)."""
        t, h, w = self.settings.grid
        latent = self.mix_out(rearrange(tokens, "b (t h w) c -> b t c h w", t=t, h=h, w=w)).flatten(0, 1)
        pixels = self.to_pixels(self.up(latent))
        correction = rearrange(pixels, "(b t) (k p q) h w -> b (t k) (h p) (w q)", t=t, p=STEM, q=STEM)
        cine: Tensor = self.join(self.to_patch(tokens)) + correction
        return cine


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias of zero, so that what it adds starts as nothing."""
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Tokenizer(nn.Module):
    """One auto-encoder per view, and the pose in which both see the heart (:class:`Pose`).

    Tokens of both views follow each other in one sequence of unit scale. Cines are in canonical pose throughout.
    """

    def __init__(self, settings: TokenizerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pose = Pose(settings.size)
        self.views = nn.ModuleDict({view: ViewTokenizer(settings) for view in VIEWS})
        self.register_buffer("shift", torch.zeros(len(VIEWS), 1, settings.channels))
        self.register_buffer("scale", torch.ones(len(VIEWS), 1, settings.channels))

    @property
    def tokens_per_view(self) -> int:
        """Tokens of one cine."""
        return math.prod(self.settings.grid)

    def pack(self, tokens: Tensor, patch: Patch) -> Tensor:
        """Neighbouring tokens (b, 2 * n, c) of each view as one, (b, 2 * n / patch, c * patch)."""
        sides = self._sides(patch)
        packed: Tensor = rearrange(tokens, f"b ({FINE}) c -> b ({COARSE}) ({INSIDE} c)", v=len(VIEWS), **sides)
        return packed

    def unpack(self, packed: Tensor, patch: Patch) -> Tensor:
        """Inverse of :meth:`pack`."""
        sides = self._sides(patch)
        tokens: Tensor = rearrange(packed, f"b ({COARSE}) ({INSIDE} c) -> b ({FINE}) c", v=len(VIEWS), **sides)
        return tokens

    def _sides(self, patch: Patch) -> dict[str, int]:
        coarse = [side // part for side, part in zip(self.settings.grid, patch)]
        return dict(zip("thw", coarse)) | dict(zip("ijk", patch))

    @staticmethod
    def scaled(cine: Tensor) -> Tensor:
        """uint8 -> [-1, 1]."""
        return cine.float() / 127.5 - 1

    @staticmethod
    def to_uint8(x: Tensor) -> Tensor:
        """[-1, 1] -> uint8, rounded."""
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def view(self, view: str) -> ViewTokenizer:
        """The auto-encoder of one view."""
        module = self.views[view]
        assert isinstance(module, ViewTokenizer)
        return module

    @torch.no_grad()
    def posterior(self, cines: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """uint8 cines (b, frame, H, W) of both views -> standardised mean and SD, each (b, 2 * n, channels)."""
        means, deviations = [], []
        for number, view in enumerate(VIEWS):
            mean, log_variance = self.view(view).encode(self.scaled(cines[view]))
            scale = self.get_buffer("scale")[number]
            means.append((mean - self.get_buffer("shift")[number]) / scale)
            deviations.append((0.5 * log_variance).exp() / scale)
        return torch.cat(means, 1), torch.cat(deviations, 1)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> dict[str, Tensor]:
        """Standardised tokens (b, 2 * n, channels) -> uint8 cines (b, frame, H, W) of both views."""
        cines = {}
        for number, (view, part) in enumerate(zip(VIEWS, tokens.chunk(len(VIEWS), dim=1))):
            raw = part * self.get_buffer("scale")[number] + self.get_buffer("shift")[number]
            cines[view] = self.to_uint8(self.view(view).decode(raw))
        return cines

    def learn(self, cines: dict[str, Tensor]) -> None:
        """Start from the principal components of these (training) uint8 cines (n, frame, H, W), in canonical pose."""
        for view in VIEWS:
            self.view(view).learn(self.scaled(cines[view]))

    @torch.no_grad()
    def set_scale(self, cines: dict[str, Tensor]) -> None:
        """Standardise tokens by the mean and SD of these (training) cines, per view and channel."""
        for number, view in enumerate(VIEWS):
            mean, _ = self.view(view).encode(self.scaled(cines[view]))
            self.get_buffer("shift")[number] = mean.mean((0, 1))
            self.get_buffer("scale")[number] = mean.std((0, 1)).clamp_min(1e-4)


def tokenizer_loss(model: Tokenizer, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Absolute error of pixels and of frame differences, and the KL divergence; ``batch``: sax, 4ch (uint8), pose."""
    s, cines = model.settings, placed(batch, batch["pose"])
    parts: dict[str, Tensor] = {}
    for view in VIEWS:
        x = model.scaled(cines[view])
        mean, log_variance = model.view(view).encode(x)
        rebuilt = model.view(view).decode(mean + (0.5 * log_variance).exp() * draw.normal(*mean.shape))
        motion = F.l1_loss(
            rebuilt.roll(-1, 1) - rebuilt, x.roll(-1, 1) - x
        )  # cyclic: the last frame leads to the first
        parts[view] = F.l1_loss(rebuilt, x) + s.motion_weight * motion
        parts[f"kl_{view}"] = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    loss = sum(parts[view] + s.kl_weight * parts[f"kl_{view}"] for view in VIEWS)
    return {"loss": torch.as_tensor(loss), **parts}
