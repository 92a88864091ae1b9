"""Trained encoders as they were released, with their settings checked; imports torch and little else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cardionets import weights
from cardionets.config import Settings, Study, StudyError
from cardionets.device import pick_device
from cardionets.models.align import Aligner, AlignSettings
from cardionets.models.cmr_mae import CmrMae, CmrMaeSettings
from cardionets.models.ecg_mae import EcgMae, EcgMaeSettings, crops

if TYPE_CHECKING:
    from cardionets.store import Store

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
EMBED_ROWS = 256
Model = TypeVar("Model", bound=nn.Module)


def ecg_settings(study: Study) -> EcgMaeSettings:
    """Block ``ecg_mae``, checked against the grid."""
    settings = study.block("ecg_mae", EcgMaeSettings)
    source = f"presets/{study.protocol.preset}.yaml: ecg_mae.encoder"
    if settings.encoder.samples > study.grid.samples:
        raise StudyError(
            f"{source}.samples: {settings.encoder.samples} exceeds the grid's {study.grid.samples}; lower it."
        )
    if settings.encoder.beat_samples not in (0, study.grid.beat_samples):
        raise StudyError(f"{source}.beat_samples: must be 0 or the grid's {study.grid.beat_samples}; correct it.")
    return settings


def cmr_settings(study: Study) -> CmrMaeSettings:
    """Block ``cmr_mae``, checked against the grid."""
    settings, grid = study.block("cmr_mae", CmrMaeSettings), study.grid
    if settings.encoder.frames != grid.frames or settings.encoder.size > grid.size:
        source = f"presets/{study.protocol.preset}.yaml: cmr_mae.encoder"
        raise StudyError(f"{source}: frames must be {grid.frames} and size at most {grid.size}, as in the grid block.")
    return settings


def config_of(settings: Settings) -> dict[str, Any]:
    """Architecture for the card: the settings without the training budget."""
    return settings.model_dump(mode="json", exclude={"train"})


def load_ecg(study: Study) -> EcgMae:
    """The pre-trained ECG model of ``weights/ecg_mae``."""
    settings = ecg_settings(study)
    return restore(study, "ecg_mae", settings, EcgMae(settings, study.grid.beat_samples))


def load_cmr(study: Study) -> CmrMae:
    """The pre-trained CMR models of ``weights/cmr_mae``."""
    settings = cmr_settings(study)
    return restore(study, "cmr_mae", settings, CmrMae(settings))


def load_align(study: Study) -> Aligner:
    """The aligned ECG encoder of ``weights/align``."""
    settings = study.block("align", AlignSettings)
    return restore(
        study, "align", settings, Aligner(settings, ecg_settings(study).encoder, cmr_settings(study).encoder.features)
    )


def restore(study: Study, name: str, settings: Settings, model: Model) -> Model:
    """``model`` with the tensors of ``weights/<name>``, ready to say something; other settings are refused."""
    tensors, _ = weights.load(study.path("weights", name), weights.contract(study), config_of(settings))
    weights.fill(model, tensors, name)
    return model.to(pick_device()).eval()


def in_blocks(count: int, rows: int = EMBED_ROWS) -> Iterator[Rows]:
    """Numbers 0 to count - 1, so many ``rows`` at a time."""
    for start in range(0, count, rows):
        yield np.arange(start, min(start + rows, count))


@torch.inference_mode()
def embed_ecgs(
    encoder: Callable[[Tensor, Tensor], Tensor],
    store: Store,
    samples: int,
    test_crops: int = 1,
    rows: Rows | None = None,
) -> Floats:
    """What ``encoder`` says of the ECGs of a store, all or those at ``rows``, averaged over crops: (n, features)."""
    device = pick_device()
    wanted = np.arange(len(store.ecg)) if rows is None else rows
    parts = []
    for some in in_blocks(len(wanted)):
        signal, beat = (torch.from_numpy(np.asarray(a[wanted[some]])).to(device) for a in (store.ecg, store.beat))
        views = [encoder(crop, beat) for crop in crops(signal, samples, test_crops)]
        parts.append(torch.stack(views).mean(0).float().cpu())
    return np.asarray(torch.cat(parts).numpy())
