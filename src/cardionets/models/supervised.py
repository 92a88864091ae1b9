"""The ECG encoder trained on labels: from scratch (the arm to beat) or fine-tuned from aligned weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cardionets.arm_table import Task
from cardionets.device import Draw
from cardionets.models.align import Aligner, AlignSettings, Distiller
from cardionets.models.ecg_mae import EcgEncoder, EcgSettings, augment, masked_error
from cardionets.models.heads import LinearHead
from cardionets.train import Batch


class EcgNetwork(nn.Module):
    """Encoder, CMR components where it was aligned, one linear layer: record and beat (b, 12, .) uV -> (b, k).

    Phenotypes are predicted as z-scores of the training people and returned in their units; diseases as logits and
    returned as probabilities.
    """

    def __init__(self, settings: EcgSettings, targets: int, task: Task, align: AlignSettings | None = None) -> None:
        super().__init__()
        self.task = task
        self.encoder = EcgEncoder(settings)
        self.between: nn.Module = Distiller(settings.features, align) if align else nn.Identity()
        self.head = nn.Linear(align.components if align else settings.features, targets)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(targets))
        self.register_buffer("sd", torch.ones(targets))

    def set_statistics(self, sample: Batch) -> None:
        """Mean and SD of training people's labels (n, k) and measurements; the prevalence is the first guess."""
        self.encoder.set_statistics(sample["ecg"], sample["beat"])
        y = sample["y"]
        mean = y.nanmean(0)
        if self.task == "diseases":
            with torch.no_grad():
                self.head.bias.copy_(torch.logit(mean.nan_to_num(0.5), eps=1e-3))
            return
        sd = (y - mean).square().nanmean(0).sqrt()
        self.get_buffer("mean").copy_(mean)  # NaN, and so the prediction, where nobody has a value
        self.get_buffer("sd").copy_(torch.where(sd > 1e-9 * (1 + mean.abs()), sd, 0.0))

    @torch.no_grad()
    def start_from(self, aligner: Aligner, head: LinearHead) -> None:
        """Begin at a frozen arm: the encoder, its CMR components, and that arm's own head (arXiv 2202.10054)."""
        self.encoder.load_state_dict(aligner.encoder.state_dict())
        self.between = aligner.distil
        sd, mean = self.get_buffer("sd"), self.get_buffer("mean")
        weight = head.get_buffer("weight") / head.get_buffer("scale")[:, None]  # (components, k)
        bias = head.get_buffer("bias") - head.get_buffer("centre") @ weight
        safe = torch.where(sd > 0, sd, 1.0)
        self.head.weight.copy_((weight / safe).T.nan_to_num(0.0))
        self.head.bias.copy_(((bias - mean) / safe).nan_to_num(0.0))

    def raw(self, signal: Tensor, beat: Tensor) -> Tensor:
        """z-scores or logits (b, k)."""
        raw: Tensor = self.head(self.between(self.encoder(signal, beat)))
        return raw

    def forward(self, signal: Tensor, beat: Tensor) -> Tensor:
        """Phenotypes in their units, or probabilities, (b, k)."""
        raw = self.raw(signal, beat)
        return raw.sigmoid() if self.task == "diseases" else raw * self.get_buffer("sd") + self.get_buffer("mean")


def supervised_loss(model: EcgNetwork, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Squared error of z-scores or cross entropy, over known values; ``batch``: ecg, beat, y (b, k) with NaN."""
    signal = augment(batch["ecg"], model.encoder.settings.samples, 0.0, draw)
    raw, y = model.raw(signal, batch["beat"]), batch["y"]
    if model.task == "phenotypes":
        sd = model.get_buffer("sd")
        return {"loss": masked_error(raw, torch.where(sd > 0, (y - model.get_buffer("mean")) / sd, torch.nan))}
    known = y.isfinite()
    error = F.binary_cross_entropy_with_logits(raw, y.nan_to_num(0.0), reduction="none")
    return {"loss": (error * known).sum() / known.sum().clamp_min(1)}
