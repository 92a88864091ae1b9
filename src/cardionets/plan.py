"""What a preset costs before it is paid: parameters, memory, FLOPs, hours and storage of every stage that trains.

The networks and their losses are the study's own, run once on fake tensors (shapes and dtypes without values, by
``torch._subclasses.FakeTensorMode``) at the batch of one process. FLOPs are counted by ``torch.utils.flop_counter``, a
multiplication and its addition as two; activations are what autograd keeps for the backward pass. Hours assume the
peak rate and the share of it that are given: they are an assumption, the rest is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from cardionets import phenotypes, store, train
from cardionets.arm_table import Task
from cardionets.arms import ArmSettings
from cardionets.config import Grid, Study
from cardionets.device import Draw, autocast
from cardionets.encoders import cmr_settings, ecg_settings
from cardionets.generator import sizes, tokenizer_settings
from cardionets.models.align import Aligner, AlignSettings, align_loss
from cardionets.models.cmr_mae import VIEWS, CmrMae, cmr_mae_loss
from cardionets.models.ecg_mae import RR_FEATURES, EcgMae, ecg_mae_loss
from cardionets.models.mar import Mar, MarSettings, mar_loss
from cardionets.models.segment import Segmenter, SegmentSettings, segment_loss
from cardionets.models.supervised import EcgNetwork, supervised_loss
from cardionets.models.tokenizer import Tokenizer, tokenizer_loss
from cardionets.progress import track
from cardionets.schedule import TrainSettings, apply_speed

STATE_BYTES: Final = 24  # per parameter: weight, gradient, two moments of Adam, average and best weights, 4 bytes each
Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # of one row of a batch


@dataclass(frozen=True)
class Work:
    """One stage that trains: how its network is made, its loss, the shape of a row, its budget, its rows."""

    stage: str
    build: Callable[[], nn.Module]
    loss: train.Loss
    row: Shapes
    budget: TrainSettings
    rows: int


@dataclass(frozen=True)
class Cost:
    """Of one training step at some batch: parameters, FLOPs forward and backward, bytes kept for the backward pass."""

    parameters: int
    flops: int
    activation_bytes: int


class _FakeDraw(Draw):
    """Random numbers without values; the one number that shapes follow from is its median."""

    def __init__(self) -> None:
        self.device, self._generator = torch.device("cpu"), torch.Generator()

    def number(self) -> float:
        return 0.5


ATTENTION: Final = {  # FLOPs of the fused kernel of the host, which the counter does not know
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def cost(work: Work, batch: int, bf16: bool = False) -> Cost:
    """One step of ``batch`` rows, on fake tensors; ``bf16`` as mixed precision would compute it."""
    device, kept = torch.device("cpu"), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FakeTensorMode():
        model = work.build().train()
        apply_speed(model, work.budget.model_copy(update={"compile": False}))
        rows = {name: torch.ones(batch, *shape, dtype=dtype) for name, (shape, dtype) in work.row.items()}
        own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), *rows.values())}
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                with autocast("bf16" if bf16 else "fp32", device):
                    loss = work.loss(model, rows, _FakeDraw())["loss"]
                activations = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
            loss.backward()  # type: ignore[no-untyped-call]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Cost(trained, counter.get_total_flops(), activations)


def works(study: Study) -> Iterator[Work]:
    """Every stage of the study that trains a network, with the numbers of people that its preset names."""
    grid, people = study.grid, study.preset["simulate"]
    share, roles = study.protocol.split.train, study.protocol.study
    pairs = round(share * people[roles.paired])
    both = pairs + round(share * people[roles.screening])
    yield from _encoders(study, grid, pairs, both)
    yield from _arms(study, pairs, both)
    yield from _generation(study, grid, pairs)


def _rows(grid: Grid) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    kinds = {"i": torch.int16, "u": torch.uint8}
    return {name: (shape, kinds[dtype.kind]) for name, (shape, dtype) in store.layout(grid).items()}


def _pick(grid: Grid, *names: str) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: _rows(grid)[name] for name in names}


def _encoders(study: Study, grid: Grid, pairs: int, both: int) -> Iterator[Work]:
    ecg, cmr, align = ecg_settings(study), cmr_settings(study), study.block("align", AlignSettings)
    signal, number = _pick(grid, "ecg", "beat"), torch.float32
    rr = {"rr": ((RR_FEATURES,), number)}
    seen = dict.fromkeys(VIEWS, ((cmr.encoder.features,), number)) | {"components": ((align.components,), number)}
    yield Work("pretrain_ecg", lambda: EcgMae(ecg, grid.beat_samples), ecg_mae_loss, signal | rr, ecg.train, both)
    yield Work("pretrain_cmr", lambda: CmrMae(cmr), cmr_mae_loss, _pick(grid, *VIEWS), cmr.train, pairs)
    yield Work(
        "align",
        lambda: Aligner(align, ecg.encoder, cmr.encoder.features),
        align_loss,
        signal | seen,
        align.train,
        pairs,
    )


def _arms(study: Study, pairs: int, both: int) -> Iterator[Work]:
    """Networks trained on labels, all fractions of labels as one sum of passes."""
    heads, encoder = study.block("heads", ArmSettings), ecg_settings(study).encoder
    align, names = study.block("align", AlignSettings), study.protocol.endpoints.diseases
    passes = sum(f ** (1 - heads.stretch) for f in study.protocol.endpoints.label_fractions)
    signal, count = _pick(study.grid, "ecg", "beat"), len(phenotypes.NAMES)
    tasks: Sequence[tuple[str, int, Task, AlignSettings | None, TrainSettings, int]] = (
        ("phenotypes, scratch", count, "phenotypes", None, heads.scratch, round(pairs * passes)),
        ("phenotypes, finetune", count, "phenotypes", align, heads.finetune, round(pairs * passes)),
        ("screening, scratch", len(names), "diseases", None, heads.scratch, both),
    )
    for stage, targets, task, aligned, budget, rows in tasks:
        build = partial(EcgNetwork, encoder, targets, task, aligned)
        yield Work(stage, build, supervised_loss, signal | {"y": ((targets,), torch.float32)}, budget, rows)


def _generation(study: Study, grid: Grid, pairs: int) -> Iterator[Work]:
    tokenizer, segment = tokenizer_settings(study), study.block("segmenter", SegmentSettings)
    mar, shape = study.block("generator", MarSettings), sizes(study)
    cines = _pick(grid, *VIEWS)
    drawn = {f"{kind}_{view}": cines[view] for kind in ("made", "mask") for view in VIEWS}
    token = ((shape.tokens, shape.channels), torch.float32)
    given = {"mean": token, "sd": token, "guess": token, "condition": ((shape.prefix, shape.dim), torch.float32)}
    build = partial(Mar, mar, shape.tokens, shape.channels, (shape.prefix, shape.dim))
    pose = {"pose": ((len(VIEWS), 3), torch.float32)}
    yield Work("tokenizer", lambda: Tokenizer(tokenizer), tokenizer_loss, cines | pose, tokenizer.train, pairs)
    yield Work("segmenter", lambda: Segmenter(segment, grid), segment_loss, cines | drawn, segment.train, pairs)
    yield Work("generator", build, mar_loss, given, mar.train, pairs)


def plan(study: Study, gpus: int, tflops: float, utilisation: float) -> pd.DataFrame:
    """One row per stage that trains: parameters, GB per accelerator, FLOPs, hours, GB on disk.

    ``tflops``: peak of one accelerator at its mixed precision, 1e12 per second; ``utilisation``: the share reached.
    """
    rows = []
    for work in track(list(works(study)), "plan"):
        each = max(1, math.ceil(min(work.budget.batch, work.rows) / gpus / work.budget.accumulate))
        step = cost(work, each, bf16=work.budget.precision != "fp32")
        total = step.flops / each * work.rows * work.budget.epochs
        gigabytes = (step.parameters * STATE_BYTES + step.activation_bytes) / 1e9
        hours = total / (gpus * tflops * 1e12 * utilisation) / 3600
        rows.append(
            {
                "stage": work.stage,
                "parameters_M": step.parameters / 1e6,
                "rows": work.rows,
                "rows_per_gpu": each,
                "activations_GB": step.activation_bytes / 1e9,
                "memory_GB": gigabytes,
                "FLOPs": float(total),
                "hours": hours,
                "weights_GB": step.parameters * 4 / 1e9,
                "checkpoint_GB": step.parameters * 20 / 1e9,
            }
        )
    return pd.DataFrame(rows)


def storage(study: Study) -> pd.DataFrame:
    """GB of every cohort's store: one ECG per person, and both cines where the cohort is not for screening alone."""
    size = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in store.layout(study.grid).items()}
    rows = []
    for name, people in study.preset["simulate"].items():
        kinds = ["ecg", "beat"] + ([] if name == study.protocol.study.screening else list(VIEWS))
        rows.append({"store": name, "people": people} | {kind: people * size[kind] / 1e9 for kind in kinds})
    table = pd.DataFrame(rows).fillna(0.0)
    return table.assign(GB=table.drop(columns=["store", "people"]).sum(axis=1))


def run(preset: str | None, gpus: int, tflops: float, utilisation: float) -> str:
    """The plan of a preset as text."""
    study = Study()
    if preset:
        study.protocol = study.protocol.model_copy(update={"preset": preset})
    trained, kept = plan(study, gpus, tflops, utilisation), storage(study)
    lines = [
        f"preset {study.protocol.preset}, {gpus} accelerators of {tflops:g} TFLOP/s at {utilisation:.0%} of their peak",
        trained.to_string(index=False, float_format="{:.3g}".format),
        f"together: {trained['FLOPs'].sum():.3g} FLOPs, {trained['hours'].sum():.3g} hours; "
        f"largest memory {trained['memory_GB'].max():.3g} GB per accelerator",
        "",
        kept.to_string(index=False, float_format="{:.3g}".format),
    ]
    return "\n".join(lines)
