"""Alignment of the ECG encoder with frozen CMR encoders: contrast with both views, and distillation of what they see.

Contrast: symmetric InfoNCE ECG-short axis and ECG-four chamber, CMR frozen, as in the study's first version.
Distillation: the ECG regresses the CMR embeddings' whitened principal components (Hinton et al. 2015, arXiv 1503.02531,
on features). Neither uses a label, so one alignment serves every fraction of labelled people.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from cardionets.config import Settings
from cardionets.device import Draw
from cardionets.models.cmr_mae import VIEWS, info_nce
from cardionets.models.ecg_mae import EcgEncoder, EcgSettings, augment, masked_error
from cardionets.models.heads import LinearHead
from cardionets.models.layers import initialise
from cardionets.train import Batch, TrainSettings


class AlignSettings(Settings):
    """Alignment of ECG and CMR."""

    contrast_dim: int = Field(gt=0)  # shared space of the contrast
    temperature: float = Field(default=0.1, gt=0)  # as published
    components: int = Field(gt=0)  # CMR components the ECG is taught
    contrast_weight: float = Field(ge=0)
    distil_weight: float = Field(ge=0)
    hidden: int = Field(gt=0)  # width of the nonlinear part of the distillation head
    dropout: float = Field(default=0.5, ge=0, lt=1)  # strong: pairs are few, and most of a CMR is not in an ECG
    jitter: float = Field(default=0.3, ge=0)  # noise on the embedding while distilling, in its own SDs: the same reason
    noise_uv: float = Field(default=0.0, ge=0)
    views: tuple[str, ...] = VIEWS  # one view alone is an ablation
    train: TrainSettings


class Distiller(nn.Module):
    """ECG embedding (b, features) -> CMR components (b, k): a linear map plus a small network that starts at zero."""

    def __init__(self, features: int, settings: AlignSettings) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, settings.components)
        drop = nn.Dropout(settings.dropout)
        last = nn.Linear(settings.hidden, settings.components)
        self.deep = nn.Sequential(drop, nn.Linear(features, settings.hidden), nn.GELU(), drop, last)
        self.apply(initialise)
        nn.init.zeros_(last.weight)

    @torch.no_grad()
    def start_from(self, head: LinearHead) -> None:
        """Take over a linear head of raw embeddings; targets it could not fit start at zero."""
        weight, bias = head.get_buffer("weight"), head.get_buffer("bias")
        self.get_buffer("centre").copy_(head.get_buffer("centre"))
        self.get_buffer("scale").copy_(head.get_buffer("scale"))
        self.linear.weight.copy_(torch.where(bias.isfinite(), weight, 0.0).T)
        self.linear.bias.copy_(bias.nan_to_num(0.0))

    def forward(self, embedding: Tensor, noise: Tensor | None = None) -> Tensor:
        """Components (b, k); ``noise`` (b, features), in units of the embedding's scale, is added where given."""
        x = (embedding - self.get_buffer("centre")) / self.get_buffer("scale")
        x = x if noise is None else x + noise
        components: Tensor = self.linear(x) + self.deep(x)
        return components


class Aligner(nn.Module):
    """ECG encoder with projections to both views and a head for the CMR components."""

    def __init__(self, settings: AlignSettings, ecg: EcgSettings, cmr_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = EcgEncoder(ecg)
        self.of_ecg = nn.ModuleDict({v: nn.Linear(ecg.features, settings.contrast_dim) for v in settings.views})
        self.of_cmr = nn.ModuleDict({v: nn.Linear(cmr_dim, settings.contrast_dim) for v in settings.views})
        self.distil = Distiller(ecg.features, settings)
        self.register_buffer("trust", torch.ones(settings.components))

    def forward(self, signal: Tensor, beat: Tensor) -> Tensor:
        """What the ECG says of the CMR: its components as predicted, (b, components); the aligned representation."""
        components: Tensor = self.distil(self.encoder(signal, beat))
        return components

    @torch.no_grad()
    def start_from(self, head: LinearHead, explained: Tensor) -> None:
        """Begin at the closed-form solution on the frozen encoder (Kumar et al. 2022, arXiv 2202.10054).

        ``explained`` (k,): share of each component that this solution explains in validation pairs. Components that an
        ECG says nothing about would drown the others in noise, so each counts by that share.
        """
        self.get_buffer("trust").copy_(explained.nan_to_num(0.0).clamp_min(0.01))
        self.distil.start_from(head)


def align_loss(model: Aligner, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Contrast and distillation of a batch of pairs.

    ``batch``: ecg (b, 12, T) and beat (b, 12, B) in uV, frozen CMR embeddings sax and 4ch (b, d), components (b, k).
    """
    settings = model.settings
    signal = augment(batch["ecg"], model.encoder.settings.samples, settings.noise_uv, draw)
    embedding = model.encoder(signal, batch["beat"])
    contrasts = [
        info_nce(model.of_ecg[view](embedding), model.of_cmr[view](batch[view]), settings.temperature)
        for view in settings.views
    ]
    contrast = torch.stack([loss for loss, _ in contrasts]).mean()
    hits = torch.stack([hit for _, hit in contrasts]).mean()
    trust = model.get_buffer("trust")
    target = batch["components"] * trust.sqrt()
    noise = settings.jitter * draw.normal(*embedding.shape) if model.training else None
    distil = masked_error(model.distil(embedding, noise) * trust.sqrt(), target) / trust.mean()
    loss = settings.contrast_weight * contrast + settings.distil_weight * distil
    return {"loss": loss, "contrast": contrast, "hits": hits, "distil": distil}
