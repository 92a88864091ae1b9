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
    noise_uv: float = Field(default=0.0, ge=0)
    views: tuple[str, ...] = VIEWS  # one view alone is an ablation
    train: TrainSettings


class Aligner(nn.Module):
    """ECG encoder with projections to both views and a head for the CMR components."""

    def __init__(self, settings: AlignSettings, ecg: EcgSettings, cmr_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = EcgEncoder(ecg)
        self.of_ecg = nn.ModuleDict({v: nn.Linear(ecg.features, settings.contrast_dim) for v in settings.views})
        self.of_cmr = nn.ModuleDict({v: nn.Linear(cmr_dim, settings.contrast_dim) for v in settings.views})
        self.distil = nn.Linear(ecg.features, settings.components)
        self.distil.apply(initialise)
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
        weight = head.get_buffer("weight") / head.get_buffer("scale")[:, None]  # (features, k)
        bias = head.get_buffer("bias") - head.get_buffer("centre") @ weight
        known = bias.isfinite()
        self.distil.weight.copy_(torch.where(known, weight, 0.0).T)
        self.distil.bias.copy_(bias.nan_to_num(0.0))


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
    distil = masked_error(model.distil(embedding) * trust.sqrt(), target) / trust.mean()
    loss = settings.contrast_weight * contrast + settings.distil_weight * distil
    return {"loss": loss, "contrast": contrast, "hits": hits, "distil": distil}
