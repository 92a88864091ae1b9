"""CMR encoders, one per view: a ViT that reads a cine's frames as channels, pre-trained by masking and contrast.

Frames as channels follow the study's first version (50 frames = 50 channels of a 2-D network); masking follows He et
al. 2022 (arXiv 2111.06377); the contrast pulls the short-axis and four-chamber cines of one heart together (van den
Oord et al. 2018, arXiv 1807.03748), which keeps what both views share: the heart, not the scanner.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from cardionets.config import Settings
from cardionets.device import Draw, gather_rows, rank, world
from cardionets.models.layers import (
    Transformer,
    hidden_tokens,
    initialise,
    keep_visible,
    put_tokens,
    sine_positions_2d,
    take_tokens,
)
from cardionets.train import Batch, TrainSettings

VIEWS = ("sax", "4ch")


class CmrSettings(Settings):
    """Sizes of one view's encoder."""

    frames: int = Field(gt=1)  # frames of a cine, the network's input channels
    size: int = Field(gt=7)  # pixels after the crop
    patch: int = Field(gt=0)  # pixels: about a wall's thickness, so that a token sees the wall move through it
    dim: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    wide: int = Field(default=0, ge=0)  # fixed principal components of the coarse cine: shape and size, at no cost

    @model_validator(mode="after")
    def _fits(self) -> CmrSettings:
        if self.size % self.patch:
            raise ValueError("patch must divide size")
        if self.dim % self.heads or self.dim % 4:
            raise ValueError("dim must be a multiple of heads and of 4")
        return self

    @property
    def side(self) -> int:
        """Patches along one edge."""
        return self.size // self.patch

    @property
    def features(self) -> int:
        """Length of the embedding: the mean token, then the linear components."""
        return self.dim + self.wide


class CmrMaeSettings(Settings):
    """Pre-training of both CMR encoders."""

    encoder: CmrSettings
    decoder_dim: int = Field(gt=0)
    decoder_depth: int = Field(gt=0)
    decoder_heads: int = Field(gt=0)
    mask: float = Field(gt=0, lt=1)
    contrast_dim: int = Field(gt=0)
    contrast_weight: float = Field(ge=0)  # 0 = masked pre-training alone
    temperature: float = Field(default=0.1, gt=0)  # as in the study's alignment
    gain: float = Field(default=0.0, ge=0, lt=1)  # random brightness: coils and windows differ between scanners
    shift: int = Field(default=0, ge=0)  # random displacement in pixels: planning differs between operators
    train: TrainSettings


class CmrEncoder(nn.Module):
    """ViT over one view: (b, frame, H, W) uint8 -> tokens (b, n, dim) -> embedding (b, features)."""

    def __init__(self, settings: CmrSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(settings.frames * settings.patch**2, settings.dim)
        self.register_buffer(
            "position", sine_positions_2d(settings.side, settings.side, settings.dim), persistent=False
        )
        self.trunk = Transformer(settings.dim, settings.depth, settings.heads, settings.mlp_ratio)
        self.apply(initialise)
        if settings.wide:
            coarse = (settings.frames // 2) * (settings.size // 2) ** 2
            self.register_buffer("wide_mean", torch.zeros(coarse))
            self.register_buffer("wide_directions", torch.zeros(coarse, settings.wide))

    def coarse(self, x: Tensor) -> Tensor:
        """Scaled cine at half the resolution in time and space, (b, frame, H, W) -> (b, values)."""
        x = x[:, :-1:2] + x[:, 1::2]  # faster than pooling in three dimensions
        x = x[:, :, :-1:2] + x[:, :, 1::2]
        return ((x[..., :-1:2] + x[..., 1::2]) / 8).flatten(1)

    def learn_wide(self, cine: Tensor) -> None:
        """Take the principal components of training cines (n, frame, H, W), each with SD 1."""
        if not self.settings.wide:
            return
        x = torch.cat([self.coarse(self.scaled(part)) for part in torch.split(cine, 256)])
        mean = x.mean(0)
        count = min(self.settings.wide, *x.shape)
        _, power, directions = torch.svd_lowrank(x - mean, q=count, niter=4)
        self.get_buffer("wide_mean").copy_(mean)
        self.get_buffer("wide_directions")[:, :count] = directions / (power / len(x) ** 0.5).clamp_min(1e-6)

    @staticmethod
    def scaled(cine: Tensor) -> Tensor:
        """uint8 -> about [-1, 1]."""
        return cine.float() / 127.5 - 1

    def patches(self, x: Tensor) -> Tensor:
        """(b, frame, H, W) -> (b, n, frame * patch * patch), row by row."""
        p = self.settings.patch
        return rearrange(x, "b f (h p) (w q) -> b (h w) (f p q)", p=p, q=p)

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> Tensor:
        """Patches (b, n, values) -> encoded tokens (b, n, dim), or those at ``visible`` (b, k) only."""
        position = self.get_buffer("position")
        if visible is not None:
            patches, position = take_tokens(patches, visible), position[visible]
        encoded: Tensor = self.trunk(self.embed(patches) + position)
        return encoded

    def forward(self, cine: Tensor) -> Tensor:
        """uint8 cine (b, frame, H, W) -> embedding (b, features): the mean token, then the linear components."""
        x = self.scaled(cine)
        return self.pool(self.encode(self.patches(x)), x)

    def pool(self, encoded: Tensor, x: Tensor) -> Tensor:
        """Encoded tokens (b, n, dim) and the scaled cine they came from -> embedding (b, features)."""
        token = encoded.mean(1)
        if not self.settings.wide:
            return token
        wide = (self.coarse(x) - self.get_buffer("wide_mean")) @ self.get_buffer("wide_directions")
        return torch.cat([token, wide], dim=1)


class CmrMae(nn.Module):
    """Per view an encoder, a narrow decoder and a projection for the contrast."""

    def __init__(self, settings: CmrMaeSettings) -> None:
        super().__init__()
        self.settings = settings
        s, narrow = settings.encoder, settings.decoder_dim
        self.encoders = nn.ModuleDict({view: CmrEncoder(s) for view in VIEWS})
        self.narrow = nn.ModuleDict({view: nn.Linear(s.dim, narrow) for view in VIEWS})
        self.decoders = nn.ModuleDict(
            {view: Transformer(narrow, settings.decoder_depth, settings.decoder_heads) for view in VIEWS}
        )
        self.heads = nn.ModuleDict({view: nn.Linear(narrow, s.frames * s.patch**2) for view in VIEWS})
        self.project = nn.ModuleDict({view: nn.Linear(s.features, settings.contrast_dim) for view in VIEWS})
        self.hidden = nn.Parameter(torch.zeros(narrow))
        self.register_buffer("decoder_position", sine_positions_2d(s.side, s.side, narrow), persistent=False)

    def learn_wide(self, batch: Batch) -> None:
        """Give each view its linear components from training cines."""
        size = self.settings.encoder.size
        for view in VIEWS:
            encoder, margin = self.encoders[view], (batch[view].shape[-1] - size) // 2
            assert isinstance(encoder, CmrEncoder)
            encoder.learn_wide(batch[view][..., margin : margin + size, margin : margin + size])

    def view_loss(self, view: str, cine: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Error of one view's hidden patches, and its projected embedding (b, contrast_dim)."""
        s = self.settings
        encoder = self.encoders[view]
        assert isinstance(encoder, CmrEncoder)
        count = s.encoder.side**2
        visible, mask = keep_visible(draw.uniform(len(cine), count), max(1, round(count * (1 - s.mask))))
        patches, hidden = encoder.patches(cine), hidden_tokens(mask, visible.shape[1])
        encoded = encoder.encode(patches, visible)  # (b, k, dim)
        tokens = put_tokens(self.narrow[view](encoded), visible, self.hidden, count)
        decoded = self.decoders[view](tokens + self.get_buffer("decoder_position"))
        rebuilt = self.heads[view](take_tokens(decoded, hidden))  # (b, h, values)
        error = F.mse_loss(rebuilt, take_tokens(patches, hidden))
        return error, self.project[view](encoder.pool(encoded, cine))


def cmr_mae_loss(model: CmrMae, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Masked reconstruction of both views and their contrast; ``batch``: sax and 4ch, uint8 (b, frame, H, W)."""
    s = model.settings
    errors, projected = {}, []
    for view in VIEWS:
        cine = augment_cine(batch[view], s.encoder.size, s.shift, s.gain, draw)
        errors[view], z = model.view_loss(view, cine, draw)
        projected.append(z)
    contrast, hits = info_nce(projected[0], projected[1], s.temperature)
    loss = errors["sax"] + errors["4ch"] + s.contrast_weight * contrast
    return {"loss": loss, **errors, "contrast": contrast, "hits": hits}


def info_nce(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Symmetric InfoNCE of paired rows (n, d) and the share of rows whose partner ranks first.

    Every process contrasts its own rows with the rows of all processes.
    """
    a, b = F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)
    every_a, every_b = gather_rows(a), gather_rows(b)
    label = torch.arange(len(a), device=a.device) + (rank() * len(a) if world() > 1 else 0)
    forth, back = a @ every_b.T / temperature, b @ every_a.T / temperature  # (n, world * n)
    hits = (forth.argmax(1) == label).float().mean()
    return (F.cross_entropy(forth, label) + F.cross_entropy(back, label)) / 2, hits


def augment_cine(x: Tensor, size: int, shift: int, gain: float, draw: Draw) -> Tensor:
    """Random displacement and brightness of uint8 cines (b, frame, H, W), scaled -> (b, frame, size, size).

    A record larger than ``size`` is cropped about its centre; displacement repeats the border. Bytes are moved, and
    scale and brightness are one multiplication: a batch of cines is larger than any cache.
    """
    margin = (x.shape[-1] - size) // 2
    x = x[..., margin : margin + size, margin : margin + size]
    if shift:
        offset = draw.integers(-shift, shift + 1, len(x), 2)
        steps = torch.arange(size, device=x.device)
        down = (steps + offset[:, :1]).clamp(0, size - 1)[:, :, None]  # (b, H, 1)
        across = (steps + offset[:, 1:]).clamp(0, size - 1)[:, None, :]
        place = (down * size + across).flatten(1)[:, None].expand(-1, x.shape[1], -1)  # (b, frame, H * W)
        x = x.flatten(2).gather(2, place).reshape(x.shape)
    scale = torch.ones(len(x), 1, 1, 1, device=x.device)
    if gain:
        scale = 1 + gain * (2 * draw.uniform(len(x), 1, 1, 1) - 1)
    return (x * (scale / 127.5)).sub_(1)
