"""Budget of a training run: settings, optimiser, learning rate of every step, and how batches are shared out."""

from __future__ import annotations

import math
from typing import Final

import torch
from pydantic import Field
from torch import nn

from cardionets.config import Settings, StudyError
from cardionets.device import Precision, world
from cardionets.models.layers import Transformer


class TrainSettings(Settings):
    """Budget and optimiser of one training run."""

    epochs: int = Field(ge=0)  # 0 keeps the start, as an ablation may want
    batch: int = Field(gt=0)  # rows per optimisation step, over all processes and accumulated pieces
    lr: float = Field(gt=0)  # peak learning rate at that batch
    warmup: float = Field(default=1.0, ge=0)  # epochs of linear rise: Adam's second moments are noise at the start
    min_lr: float = Field(default=0.0, ge=0)  # fraction of lr that the cosine ends at
    weight_decay: float = Field(default=0.05, ge=0)  # matrices only; biases, norms and embeddings of one axis are free
    betas: tuple[float, float] = (0.9, 0.95)  # as in masked auto-encoders: a shorter memory than 0.999
    clip: float = Field(default=1.0, ge=0)  # largest gradient norm; 0 = unbounded
    accumulate: int = Field(default=1, gt=0)  # pieces of a batch computed one after the other when memory is short
    ema: float = Field(default=0.0, ge=0, lt=1)  # decay of the weight average that is validated and kept; 0 = off
    precision: Precision = "auto"
    patience: int = Field(
        default=0, ge=0
    )  # epochs without a better validation loss before stopping; 0 = run to the end
    checkpoint_seconds: float = Field(default=10.0, ge=0)  # least time between two checkpoints
    recompute: bool = False  # activation checkpointing: a third more work for the activations of one block at a time
    compile: bool = False  # torch.compile of every transformer block; worth its minute on accelerators
    fused: bool = True  # the optimiser's step as one kernel


SPEED: Final = {"checkpoint_seconds", "accumulate", "recompute", "compile", "fused"}
"""Settings that change time and memory and results by rounding only: a checkpoint is continued whatever they are."""


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """Learning rate of ``step`` at ``steps`` per epoch: linear warm-up, then half a cosine down to ``min_lr``."""
    warm, total = settings.warmup * steps, settings.epochs * steps
    if step < warm:
        return settings.lr * (step + 1) / (warm + 1)
    cosine = (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm))) / 2
    return settings.lr * (settings.min_lr + (1 - settings.min_lr) * cosine)


def make_optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the weights that are trained; weight decay on matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=settings.fused)


def apply_speed(model: nn.Module, settings: TrainSettings) -> None:
    """Tell every transformer of ``model`` whether to recompute activations, and compile its blocks where asked."""
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recompute = settings.recompute
            for block in module.blocks:
                if settings.compile:
                    block.compile()


def share_out(rows: int, settings: TrainSettings, name: str) -> tuple[int, int]:
    """Batch and steps per epoch; a batch larger than the data shrinks to what can be shared out evenly."""
    parts = world() * settings.accumulate
    batch = min(settings.batch, rows - rows % parts)
    if batch == 0 or batch % parts:
        raise StudyError(
            f"{name}: train.batch: {settings.batch} of {rows} rows cannot be shared between {world()} processes x "
            f"{settings.accumulate} accumulated pieces; choose a multiple of {parts} and have at least as many rows."
        )
    return batch, rows // batch
