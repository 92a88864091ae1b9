"""Load trained encoders and embed cohorts with them: ECGs and cines in, one vector per record out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cardionets import data, weights
from cardionets.config import Settings, Study, StudyError
from cardionets.device import pick_device
from cardionets.files import atomic_path
from cardionets.models.align import Aligner, AlignSettings
from cardionets.models.cmr_mae import CmrMae, CmrMaeSettings
from cardionets.models.ecg_mae import EcgMae, EcgMaeSettings, crops
from cardionets.progress import track
from cardionets.store import Store, beat_samples

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
EMBED_ROWS = 256
Model = TypeVar("Model", bound=nn.Module)


def open_store(study: Study, cohort: str) -> Store:
    """The store of a cohort on the study's grid, with test people's labels hidden."""
    return Store.open(study.path("store", cohort), study.grid, hide_test=True)


def ecg_settings(study: Study) -> EcgMaeSettings:
    """Block ``ecg_mae``, checked against the grid."""
    settings = study.block("ecg_mae", EcgMaeSettings)
    source = f"presets/{study.protocol.preset}.yaml: ecg_mae.encoder"
    if settings.encoder.samples > study.grid.samples:
        raise StudyError(
            f"{source}.samples: {settings.encoder.samples} exceeds the grid's {study.grid.samples}; lower it."
        )
    if settings.encoder.beat_samples not in (0, beat_samples(study.grid)):
        raise StudyError(f"{source}.beat_samples: must be 0 or the grid's {beat_samples(study.grid)}; correct it.")
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
    return _load(study, "ecg_mae", settings, EcgMae(settings, beat_samples(study.grid)))


def load_cmr(study: Study) -> CmrMae:
    """The pre-trained CMR models of ``weights/cmr_mae``."""
    settings = cmr_settings(study)
    return _load(study, "cmr_mae", settings, CmrMae(settings))


def load_align(study: Study) -> Aligner:
    """The aligned ECG encoder of ``weights/align``."""
    settings = study.block("align", AlignSettings)
    return _load(
        study, "align", settings, Aligner(settings, ecg_settings(study).encoder, cmr_settings(study).encoder.features)
    )


def _load(study: Study, name: str, settings: Settings, model: Model) -> Model:
    tensors, _ = weights.load(study.path("weights", name), weights.contract(study), config_of(settings))
    weights.fill(model, tensors, name)
    return model.to(pick_device()).eval()


def _batches(count: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, EMBED_ROWS):
        yield np.arange(start, min(start + EMBED_ROWS, count))


def embed_cines(model: CmrMae, store: Store) -> dict[str, Floats]:
    """Frozen CMR embeddings of every cine of a store: view -> (m, dim)."""
    size = model.settings.encoder.size
    arrays = {"sax": store.sax, "4ch": store.lax}
    return {view: _embed_view(model, view, array, size) for view, array in arrays.items()}


@torch.inference_mode()
def _embed_view(model: CmrMae, view: str, array: NDArray[Any], size: int) -> Floats:
    margin, device = (array.shape[-1] - size) // 2, pick_device()
    cut = slice(margin, margin + size)
    parts = [
        model.encoders[view](torch.from_numpy(array[rows][..., cut, cut]).to(device)).float().cpu()
        for rows in track(list(_batches(len(array))), f"embed {view} cines")
    ]
    empty = torch.zeros(0, model.settings.encoder.features)
    return np.asarray(torch.cat([empty, *parts]).numpy())


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
    for some in _batches(len(wanted)):
        signal, beat = (torch.from_numpy(np.asarray(a[wanted[some]])).to(device) for a in (store.ecg, store.beat))
        views = [encoder(crop, beat) for crop in crops(signal, samples, test_crops)]
        parts.append(torch.stack(views).mean(0).float().cpu())
    return np.asarray(torch.cat(parts).numpy())


def embed(study: Study, cohort: str) -> dict[str, Floats]:
    """Frozen embeddings of every record of a cohort: mae (n, f), aligned (n, k) and cmr (n, 2 d), NaN without images.

    Memory-mapped arrays, written block by block; kept under ``logs/embeddings`` until the weights or the store change.
    """
    store = open_store(study, cohort)
    cards = [weights.read_card(study.path("weights", name)).sha256 for name in ("ecg_mae", "cmr_mae", "align")]
    stamp = (store.path / "store.json").read_text() + str((store.path / "ecg.npy").stat().st_mtime_ns)
    key = hashlib.sha256("".join([*cards, stamp]).encode()).hexdigest()
    folder = study.path("logs", "embeddings", cohort)
    kept = _kept(folder, key)
    if kept is None:
        with atomic_path(folder) as aside:
            aside.mkdir()
            _embed(study, store, aside)
            (aside / key).touch()
        kept = _kept(folder, key)
    assert kept is not None
    return kept


def _kept(folder: Path, key: str) -> dict[str, Floats] | None:
    """Embeddings of these weights and this store as memory maps; None where they are absent or torn."""
    if not (folder / key).is_file():
        return None
    try:
        return {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in ("mae", "aligned", "cmr")}
    except (OSError, ValueError, EOFError):
        return None


def _embed(study: Study, store: Store, folder: Path) -> None:
    samples, count = ecg_settings(study).encoder.samples, len(store.ecg)
    for name, encoder in (("mae", load_ecg(study).encoder), ("aligned", load_align(study))):
        blocks = (embed_ecgs(encoder, store, samples, rows=rows) for rows in _batches(count))
        _write_rows(folder / f"{name}.npy", track(blocks, f"embed ECGs, {name}", total=-(-count // EMBED_ROWS)), count)
    cmr = np.concatenate(list(views_of(store.records, embed_cines(load_cmr(study), store)).values()), axis=1)
    np.save(folder / "cmr.npy", cmr)


def _write_rows(path: Path, blocks: Iterable[Floats], count: int) -> None:
    """Blocks of rows, one after the other, as one float32 array of ``count`` rows."""
    done, array = 0, None
    for block in blocks:
        if array is None:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, block.shape[1]))
        array[done : done + len(block)] = block
        done += len(block)
    if array is not None:
        array.flush()


def views_of(records: pd.DataFrame, seen: Mapping[str, Floats]) -> dict[str, Floats]:
    """Embedding of each view for every record, (n, d); NaN where the view is absent."""
    out = {}
    for view, embedding in seen.items():
        rows = records[data.VIEW_ROW[view]].to_numpy(np.int64)
        padded = np.concatenate([embedding, np.full((1, embedding.shape[1]), np.nan, np.float32)])
        out[view] = padded[np.where(rows >= 0, rows, -1)]
    return out
