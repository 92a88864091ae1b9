"""Embed cohorts with trained encoders: ECGs and cines in, one vector per record out."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets import data, weights
from cardionets.config import Study
from cardionets.device import pick_device
from cardionets.encoders import (
    EMBED_ROWS,
    Floats,
    ecg_settings,
    embed_ecgs,
    in_blocks,
    load_align,
    load_cmr,
    load_ecg,
)
from cardionets.files import atomic_path
from cardionets.models.cmr_mae import VIEWS, CmrMae
from cardionets.progress import track
from cardionets.store import Store


def open_store(study: Study, cohort: str) -> Store:
    """The store of a cohort on the study's grid, with test people's labels hidden."""
    return Store.open(study.path("store", cohort), study.grid, hide_test=True)


def stamp(study: Study, store: Store, names: Sequence[str]) -> str:
    """Sixteen hex digits that change with the weights ``names`` or the store: the key of what is kept of both."""
    cards = [weights.read_card(study.path("weights", name)).sha256 for name in names]
    about = (store.path / "store.json").read_text(encoding="utf-8")
    written = str((store.path / "ecg.npy").stat().st_mtime_ns)
    return hashlib.sha256("".join([*cards, about, written]).encode()).hexdigest()[:16]


def embed_cines(model: CmrMae, store: Store) -> dict[str, Floats]:
    """Frozen CMR embeddings of every cine of a store: view -> (m, dim)."""
    size = model.settings.encoder.size
    arrays = {"sax": store.sax, "4ch": store.lax}
    return {view: _embed_view(model, view, array, size) for view, array in arrays.items()}


def embed_cines_once(study: Study, store: Store) -> dict[str, Floats]:
    """:func:`embed_cines` by ``weights/cmr_mae``, kept under ``logs/embeddings`` until weights or cines change."""
    path = study.path("logs", "embeddings", f"cines-{stamp(study, store, ['cmr_mae'])}.npz")
    kept = read_arrays(path, VIEWS)
    if kept is None:
        kept = embed_cines(load_cmr(study), store)
        write_arrays(path, kept)
    return kept


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float32]] | None:
    """Arrays that :func:`write_arrays` kept; None where they are absent or torn."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_arrays(path: Path, kept: Mapping[str, NDArray[np.float32]]) -> None:
    """Write arrays for :func:`read_arrays`; the stages of two centres may do this at the same time."""
    with atomic_path(path) as aside, aside.open("wb") as handle:
        np.savez(handle, **kept)  # type: ignore[arg-type]


@torch.inference_mode()
def _embed_view(model: CmrMae, view: str, array: NDArray[Any], size: int) -> Floats:
    margin, device = (array.shape[-1] - size) // 2, pick_device()
    cut = slice(margin, margin + size)
    parts = [
        model.encoders[view](torch.from_numpy(array[rows][..., cut, cut]).to(device)).float().cpu()
        for rows in track(list(in_blocks(len(array))), f"embed {view} cines")
    ]
    empty = torch.zeros(0, model.settings.encoder.features)
    return np.asarray(torch.cat([empty, *parts]).numpy())


def embed(study: Study, cohort: str) -> dict[str, Floats]:
    """Frozen embeddings of every record of a cohort: mae (n, f), aligned (n, k) and cmr (n, 2 d), NaN without images.

    Memory-mapped arrays, written block by block; kept under ``logs/embeddings`` until the weights or the store change.
    """
    store = open_store(study, cohort)
    key = stamp(study, store, ("ecg_mae", "cmr_mae", "align"))
    folder = study.path("logs", "embeddings", cohort)
    kept = _kept(folder, key)
    if kept is None:
        with atomic_path(folder, lasting=True) as aside:
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
        blocks = (embed_ecgs(encoder, store, samples, rows=rows) for rows in in_blocks(count))
        _write_rows(folder / f"{name}.npy", track(blocks, f"embed ECGs, {name}", total=-(-count // EMBED_ROWS)), count)
    seen, count = embed_cines_once(study, store), len(store.records)
    parts = (views_of(store.records.iloc[rows], seen).values() for rows in in_blocks(count))
    _write_rows(folder / "cmr.npy", (np.concatenate(list(part), axis=1) for part in parts), count)


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
        out[view] = np.full((len(rows), embedding.shape[1]), np.nan, np.float32)
        out[view][rows >= 0] = embedding[rows[rows >= 0]]
    return out
