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
from cardionets.models import waves
from cardionets.models.layers import (
    Transformer,
    hidden_tokens,
    initialise,
    keep_visible,
    put_tokens,
    sine_positions,
    take_tokens,
)
from cardionets.train import Batch, TrainSettings

LEADS = 12
RR_FEATURES = waves.RHYTHM_COUNT  # rate, rr_cv, log of 1 + rr_rmssd_ms


class EcgSettings(Settings):
    """Sizes of the ECG encoder."""

    samples: int = Field(gt=0)  # input length after the crop: shorter than the record, so that patches fall anywhere
    patch_leads: int = Field(gt=0)  # leads per token: all 12 is cheapest and sees every projection of a wave at once
    patch_samples: int = Field(gt=0)  # time per token, about 0.2 s: one wave of the beat
    beat_samples: int = Field(default=0, ge=0)  # length of the median beat read as a second input; 0 = record alone
    beat_patch: int = Field(default=20, gt=0)  # time per beat token: waves are aligned there, so finer cuts pay
    measurements: bool = False  # what an electrocardiograph would print of beat and rhythm, beside the transformer
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
        if self.beat_samples % self.beat_patch:
            raise ValueError("beat_patch must divide beat_samples")
        if self.measurements and (not self.beat_samples or self.normalise != "fixed"):
            raise ValueError("measurements need beat_samples and normalise: fixed")
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

    @property
    def record_tokens(self) -> int:
        """Tokens of the record."""
        return self.rows * self.columns

    @property
    def beat_tokens(self) -> int:
        """Tokens of the median beat."""
        return self.rows * (self.beat_samples // self.beat_patch)

    @property
    def features(self) -> int:
        """Length of the embedding: one mean per kind of token, then the measurements."""
        return self.dim * (2 if self.beat_samples else 1) + (waves.COUNT if self.measurements else 0)


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


class Patches(nn.Module):
    """One kind of token: patches of (lead, time), embedded with their positions."""

    def __init__(self, leads: int, samples: int, length: int, dim: int) -> None:
        super().__init__()
        self.leads, self.samples = leads, samples
        self.embed = nn.Linear(leads * samples, dim)
        self.lead_position = nn.Parameter(torch.zeros(LEADS // leads, 1, dim))
        self.register_buffer("time_position", sine_positions(length // samples, dim), persistent=False)

    def cut(self, x: Tensor) -> Tensor:
        """(b, 12, length) -> (b, n, values); tokens run over time within a lead group."""
        return rearrange(x, "b (l p) (t q) -> b (l t) (p q)", p=self.leads, q=self.samples)

    def position(self) -> Tensor:
        """Position of every token, (n, dim)."""
        return (self.lead_position + self.get_buffer("time_position")).flatten(0, 1)

    def forward(self, patches: Tensor, at: Tensor | None = None) -> Tensor:
        """(b, n, values) -> (b, n, dim), or the tokens at ``at`` (b, k) only."""
        position = self.position()
        if at is not None:
            patches, position = take_tokens(patches, at), position[at]
        tokens: Tensor = self.embed(patches) + position
        return tokens


class EcgEncoder(nn.Module):
    """ViT over an ECG and, where settings ask for it, its median beat: uV -> tokens (b, n, dim) -> embedding."""

    def __init__(self, settings: EcgSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.record = Patches(s.patch_leads, s.patch_samples, s.samples, s.dim)
        self.beat = Patches(s.patch_leads, s.beat_patch, s.beat_samples, s.dim) if s.beat_samples else None
        self.trunk = Transformer(s.dim, s.depth, s.heads, s.mlp_ratio)
        self.measurements = waves.Measurements(s.beat_samples) if s.measurements else None
        self.apply(initialise)

    def scaled(self, signal: Tensor) -> Tensor:
        """uV -> network units, (b, 12, n); the "record" normalisation forgets amplitude on purpose."""
        x = signal.float()
        if self.settings.normalise == "record":
            return (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True).clamp_min(1e-3)
        return x / self.settings.scale_uv

    def patches(self, signal: Tensor, beat: Tensor) -> list[Tensor]:
        """Record (b, 12, samples) uV and beat (b, 12, B) uV -> patches (b, n, values) of each kind."""
        cut = [self.record.cut(self.scaled(signal))]
        return cut if self.beat is None else [*cut, self.beat.cut(self.scaled(beat))]

    def tokens(self, patches: list[Tensor], visible: tuple[Tensor | None, Tensor | None] = (None, None)) -> Tensor:
        """Embedded patches of all kinds, record first, (b, n, dim); of each kind all, or those ``visible`` (b, k)."""
        record = self.record(patches[0], visible[0])
        return record if self.beat is None else torch.cat([record, self.beat(patches[1], visible[1])], dim=1)

    def pool(self, encoded: Tensor, record: int, signal: Tensor, beat: Tensor) -> Tensor:
        """Encoded tokens (b, n, dim), the record's ``record`` ones first, and what they came from -> (b, features)."""
        if self.beat is None:
            return encoded.mean(1)
        parts = [encoded[:, :record].mean(1), encoded[:, record:].mean(1)]
        return torch.cat(parts if self.measurements is None else [*parts, self.measurements(signal, beat)], dim=1)

    def set_statistics(self, signal: Tensor, beat: Tensor) -> None:
        """Let the measurements know training people's records (n, 12, T) and beats (n, 12, B), uV."""
        if self.measurements is not None:
            self.measurements.set_statistics(signal, beat)

    def forward(self, signal: Tensor, beat: Tensor) -> Tensor:
        """Embedding (b, features) of record (b, 12, samples) and median beat (b, 12, B), both in uV."""
        encoded = self.trunk(self.tokens(self.patches(signal, beat)))
        return self.pool(encoded, self.settings.record_tokens, signal, beat)


class EcgMae(nn.Module):
    """Encoder of visible patches, narrow decoder of the hidden ones, linear heads for the beat and the rhythm."""

    def __init__(self, settings: EcgMaeSettings, beat_samples: int) -> None:
        super().__init__()
        self.settings = settings
        s, narrow = settings.encoder, settings.decoder_dim
        self.encoder = EcgEncoder(s)
        self.narrow = nn.Linear(s.dim, narrow)
        self.hidden = nn.Parameter(torch.zeros(narrow))
        self.position = nn.Parameter(0.02 * torch.randn(s.record_tokens + s.beat_tokens, narrow))
        self.decoder = Transformer(narrow, settings.decoder_depth, settings.decoder_heads)
        self.record_head = nn.Linear(narrow, s.patch_leads * s.patch_samples)
        self.beat_patch_head = nn.Linear(narrow, s.patch_leads * s.beat_patch) if s.beat_samples else None
        self.beat_head = nn.Linear(s.features, LEADS * beat_samples)
        self.rr_head = nn.Linear(s.features, RR_FEATURES)
        self.register_buffer("beat_mean", torch.zeros(LEADS, beat_samples))
        self.register_buffer("beat_sd", torch.ones(LEADS, beat_samples))
        self.register_buffer("rr_mean", torch.zeros(RR_FEATURES))
        self.register_buffer("rr_sd", torch.ones(RR_FEATURES))
        for module in (self.narrow, self.decoder, self.record_head, self.beat_head, self.rr_head):
            module.apply(initialise)
        if s.measurements:
            self._start_rhythm()

    @torch.no_grad()
    def _start_rhythm(self) -> None:
        """The rhythm head begins at what was measured of the rhythm, the last of the measurements."""
        self.rr_head.weight.zero_()
        self.rr_head.weight[:, -RR_FEATURES:] = torch.eye(RR_FEATURES)

    def set_statistics(self, sample: Batch) -> None:
        """Mean and SD of training people's beats (n, 12, B) uV and RR statistics (n, 3), and of all measurements.

        The beat is standardised per lead and instant, which is linear in voltage but lets the P wave weigh as much as
        the QRS complex.
        """
        rr = sample["rr"][sample["rr"].isfinite().all(1)]
        for name, values, least in (("beat", sample["beat"].float(), 10.0), ("rr", rr, 1e-3)):
            self.get_buffer(f"{name}_mean").copy_(values.mean(0))
            self.get_buffer(f"{name}_sd").copy_(values.std(0).clamp_min(least))
        self.encoder.set_statistics(sample["ecg"], sample["beat"])

    def standardised(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Targets: the beat (b, 12 * B) and the RR statistics (b, 3) as z-scores of training people."""
        beat = (batch["beat"].float() - self.get_buffer("beat_mean")) / self.get_buffer("beat_sd")
        rr = (batch["rr"] - self.get_buffer("rr_mean")) / self.get_buffer("rr_sd")
        return beat.flatten(1), rr

    def choose(self, count: int, draw: Draw) -> tuple[Tensor, Tensor, int]:
        """Visible tokens (b, k), ascending, the hidden mask (b, n), and how many visible ones are the record's."""
        s, share = self.settings.encoder, 1 - self.settings.mask
        kept = max(1, round(s.record_tokens * share))
        visible, hidden = keep_visible(draw.uniform(count, s.record_tokens), kept)
        if not s.beat_samples:
            return visible, hidden, kept
        also, covered = keep_visible(draw.uniform(count, s.beat_tokens), max(1, round(s.beat_tokens * share)))
        return torch.cat([visible, also + s.record_tokens], 1), torch.cat([hidden, covered], 1), kept

    def by_kind(self, x: Tensor) -> list[Tensor]:
        """What is said of all tokens (b, n, ...), record and beat apart."""
        record = self.settings.encoder.record_tokens
        return [x] if self.beat_patch_head is None else [x[:, :record], x[:, record:]]

    def reconstruct(self, encoded: Tensor, visible: Tensor, hidden: list[Tensor]) -> list[Tensor]:
        """Encoded tokens (b, k, dim) at ``visible`` (b, k) -> patches (b, h, values) of each kind at ``hidden``."""
        tokens = put_tokens(self.narrow(encoded), visible, self.hidden, len(self.position))
        decoded = self.by_kind(self.decoder(tokens + self.position))
        heads = [self.record_head] if self.beat_patch_head is None else [self.record_head, self.beat_patch_head]
        return [head(take_tokens(part, at)) for head, part, at in zip(heads, decoded, hidden)]


def ecg_mae_loss(model: EcgMae, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Errors of hidden patches, of the standardised median beat and of the RR statistics.

    ``batch``: ecg (b, 12, T) and beat (b, 12, B) in uV, rr (b, 3) with NaN where unknown.
    """
    settings, encoder = model.settings, model.encoder
    signal = augment(batch["ecg"], encoder.settings.samples, settings.noise_uv, draw)
    patches = encoder.patches(signal, batch["beat"])
    visible, mask, kept = model.choose(len(signal), draw)
    seen = visible[:, :kept], visible[:, kept:] - encoder.settings.record_tokens
    hidden = [hidden_tokens(part, at.shape[1]) for part, at in zip(model.by_kind(mask), seen)]
    encoded = encoder.trunk(encoder.tokens(patches, seen))  # (b, k, dim)
    rebuilt = zip(model.reconstruct(encoded, visible, hidden), patches, hidden)
    errors = [(made - take_tokens(real, at)).square().mean(-1) for made, real, at in rebuilt]
    pooled = encoder.pool(encoded, kept, signal, batch["beat"])
    beat_target, rr_target = model.standardised(batch)
    losses = {
        "patch": torch.cat(errors, 1).mean(),
        "beat": masked_error(model.beat_head(pooled), beat_target),
        "rr": masked_error(model.rr_head(pooled), rr_target),
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
