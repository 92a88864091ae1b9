"""ECG vision transformer over (lead, time) patches, pre-trained as a masked auto-encoder of visible tokens only.

Recipe: He et al. 2022 (arXiv 2111.06377) on ECG patches as in ST-MEM (arXiv 2402.09450). Two targets are added to the
hidden patches, both computed from the ECG itself, so no label is used: the median beat in mV and the RR statistics.
They tie the pooled embedding to amplitude, intervals and rhythm, which reconstruction alone leaves in single tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from cardionets.config import Settings
from cardionets.device import Draw
from cardionets.models.layers import Transformer, initialise, keep_visible, put_tokens, sine_positions, take_tokens
from cardionets.train import Batch, TrainSettings

LEADS = 12
RR_FEATURES = 3  # rate, rr_cv, rr_rmssd_ms


class EcgSettings(Settings):
    """Sizes of the ECG encoder."""

    samples: int = Field(gt=0)  # input length after the crop: shorter than the record, so that patches fall anywhere
    patch_leads: int = Field(gt=0)  # leads per token: all 12 is cheapest and sees every projection of a wave at once
    patch_samples: int = Field(gt=0)  # time per token, about 0.2 s: one wave of the beat
    dim: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    scale_uv: float = Field(default=500.0, gt=0)  # one fixed number for everybody: absolute voltage carries LV mass
    normalise: Literal["fixed", "record"] = "fixed"  # "record" is the ablation that destroys amplitude

    @model_validator(mode="after")
    def _fits(self) -> EcgSettings:
        if LEADS % self.patch_leads or self.samples % self.patch_samples:
            raise ValueError("patch_leads must divide 12 and patch_samples must divide samples")
        if self.dim % self.heads or self.dim % 2:
            raise ValueError("dim must be even and a multiple of heads")
        return self

    @property
    def rows(self) -> int:
        """Lead groups per instant."""
        return LEADS // self.patch_leads

    @property
    def columns(self) -> int:
        """Instants per record."""
        return self.samples // self.patch_samples


class EcgMaeSettings(Settings):
    """Masked pre-training of the ECG encoder."""

    encoder: EcgSettings
    decoder_dim: int = Field(gt=0)  # narrow: what the decoder cannot do, the encoder must
    decoder_depth: int = Field(gt=0)
    decoder_heads: int = Field(gt=0)
    mask: float = Field(gt=0, lt=1)  # share of tokens hidden
    noise_uv: float = Field(default=0.0, ge=0)  # white noise added in training: other amplifiers are noisier
    patch_weight: float = Field(default=1.0, ge=0)
    beat_weight: float = Field(default=1.0, ge=0)
    rr_weight: float = Field(default=0.3, ge=0)
    train: TrainSettings


class EcgEncoder(nn.Module):
    """ViT over ECG patches: (b, 12, samples) uV -> tokens (b, n, dim) -> embedding (b, dim)."""

    def __init__(self, settings: EcgSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(settings.patch_leads * settings.patch_samples, settings.dim)
        self.lead_position = nn.Parameter(torch.zeros(settings.rows, 1, settings.dim))
        self.register_buffer("time_position", sine_positions(settings.columns, settings.dim), persistent=False)
        self.trunk = Transformer(settings.dim, settings.depth, settings.heads, settings.mlp_ratio)
        self.apply(initialise)

    def scaled(self, signal: Tensor) -> Tensor:
        """uV -> network units (b, 12, samples); the "record" normalisation forgets amplitude on purpose."""
        x = signal.float()
        if self.settings.normalise == "record":
            return (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True).clamp_min(1e-3)
        return x / self.settings.scale_uv

    def patches(self, x: Tensor) -> Tensor:
        """(b, 12, samples) -> (b, n, values); tokens run over time within a lead group."""
        p, q = self.settings.patch_leads, self.settings.patch_samples
        return rearrange(x, "b (l p) (t q) -> b (l t) (p q)", p=p, q=q)

    def tokens(self, patches: Tensor) -> Tensor:
        """Embedded patches with their positions, (b, n, values) -> (b, n, dim)."""
        position = (self.lead_position + self.get_buffer("time_position")).flatten(0, 1)  # (n, dim)
        tokens: Tensor = self.embed(patches) + position
        return tokens

    def encode(self, signal: Tensor, visible: Tensor | None = None) -> Tensor:
        """Encoded tokens of ``signal`` (b, 12, samples) uV, or only those at ``visible`` (b, k) -> (b, k, dim)."""
        tokens = self.tokens(self.patches(self.scaled(signal)))
        encoded: Tensor = self.trunk(tokens if visible is None else take_tokens(tokens, visible))
        return encoded

    def forward(self, signal: Tensor) -> Tensor:
        """Embedding (b, dim): the mean of all encoded tokens."""
        return self.encode(signal).mean(1)


class EcgMae(nn.Module):
    """Encoder of visible patches, narrow decoder of the hidden ones, linear heads for the beat and the rhythm."""

    def __init__(self, settings: EcgMaeSettings, beat_samples: int) -> None:
        super().__init__()
        self.settings = settings
        s, narrow = settings.encoder, settings.decoder_dim
        self.encoder = EcgEncoder(s)
        self.narrow = nn.Linear(s.dim, narrow)
        self.hidden = nn.Parameter(torch.zeros(narrow))
        self.decoder_lead = nn.Parameter(torch.zeros(s.rows, 1, narrow))
        self.register_buffer("decoder_time", sine_positions(s.columns, narrow), persistent=False)
        self.decoder = Transformer(narrow, settings.decoder_depth, settings.decoder_heads)
        self.patch_head = nn.Linear(narrow, s.patch_leads * s.patch_samples)
        self.beat_head = nn.Linear(s.dim, LEADS * beat_samples)
        self.rr_head = nn.Linear(s.dim, RR_FEATURES)
        for module in (self.narrow, self.decoder, self.patch_head, self.beat_head, self.rr_head):
            module.apply(initialise)

    def reconstruct(self, encoded: Tensor, visible: Tensor) -> Tensor:
        """Visible tokens (b, k, dim) at ``visible`` (b, k) -> all patches (b, n, values)."""
        s = self.settings.encoder
        tokens = put_tokens(self.narrow(encoded), visible, self.hidden, s.rows * s.columns)
        position = (self.decoder_lead + self.get_buffer("decoder_time")).flatten(0, 1)
        patches: Tensor = self.patch_head(self.decoder(tokens + position))
        return patches


def ecg_mae_loss(model: EcgMae, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Errors of hidden patches, of the standardised median beat and of the RR statistics.

    ``batch``: ecg (b, 12, T) uV, beat (b, 12, B) and rr (b, 3) as z-scores of training people, NaN where unknown.
    """
    settings, encoder = model.settings, model.encoder
    signal = augment(batch["ecg"], encoder.settings.samples, settings.noise_uv, draw)
    count = encoder.settings.rows * encoder.settings.columns
    noise = draw.uniform(len(signal), count)
    visible, hidden = keep_visible(noise, max(1, round(count * (1 - settings.mask))))
    encoded = encoder.encode(signal, visible)  # (b, k, dim)
    target = encoder.patches(encoder.scaled(signal))
    patch = (model.reconstruct(encoded, visible) - target).square().mean(-1)  # (b, n)
    pooled = encoded.mean(1)
    losses = {
        "patch": (patch * hidden).sum() / hidden.sum(),
        "beat": masked_error(model.beat_head(pooled), batch["beat"].flatten(1)),
        "rr": masked_error(model.rr_head(pooled), batch["rr"]),
    }
    weight = {"patch": settings.patch_weight, "beat": settings.beat_weight, "rr": settings.rr_weight}
    return {"loss": torch.stack([weight[k] * v for k, v in losses.items()]).sum(), **losses}


def masked_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the targets that are known, shapes (b, k); 0 when none is."""
    known = target.isfinite()
    error = F.mse_loss(predicted, torch.where(known, target, 0.0), reduction="none")
    return (error * known).sum() / known.sum().clamp_min(1)


def augment(signal: Tensor, samples: int, noise_uv: float, draw: Draw) -> Tensor:
    """Each record's own random crop (b, 12, T) -> (b, 12, samples) and white noise, batched on the device."""
    slack = signal.shape[-1] - samples
    start = draw.integers(0, slack + 1, len(signal), 1, 1)
    index = (start + torch.arange(samples, device=signal.device)).expand(-1, LEADS, -1)
    cropped = signal.gather(2, index).float()
    return cropped + noise_uv * draw.normal(*cropped.shape) if noise_uv else cropped


def crops(signal: Tensor, samples: int, count: int) -> list[Tensor]:
    """``count`` evenly spaced crops of (b, 12, T), each (b, 12, samples): first to last, or the middle one."""
    slack = signal.shape[-1] - samples
    starts = [slack // 2] if count == 1 else [round(i * slack / (count - 1)) for i in range(count)]
    return [signal[..., s : s + samples] for s in starts]
