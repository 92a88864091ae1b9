"""Bare arrays: NPY, CSV, HDF5 (as CODE-15% has it) and MATLAB 5. They say little, so the cohort must declare the rest.

One recording of a file that holds many is named ``file.hdf5#17`` (row 17).
"""

from __future__ import annotations

import csv
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import Raw, corrupt, refuse_large
from cardionets.ecg import RecordError, lead_name

_SIGNAL_KEYS = ("tracings", "feats", "ecg", "signal", "val", "data", "p_signal")
_RATE_KEYS = ("curr_sample_rate", "sample_rate", "sampling_rate", "fs", "rate")
_MAX_LEADS = 32


def oriented(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """(T, lead) or (lead, T) -> (lead, T): the shorter side is the leads."""
    array = np.squeeze(array)
    if array.ndim != 2 or not 8 <= min(array.shape) <= _MAX_LEADS:
        raise corrupt(path, f"an array of shape {array.shape} is not one recording of 8 to {_MAX_LEADS} leads")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise corrupt(path, f"the samples are {array.dtype}, not real numbers")
    return array if array.shape[0] < array.shape[1] else array.T


def split_row(path: Path) -> tuple[Path, int | None]:
    """``file.hdf5#17`` -> (``file.hdf5``, 17); without a row, None."""
    name, mark, row = path.name.rpartition("#")
    return (path.with_name(name), int(row)) if mark and row.isdigit() else (path, None)


def _row(array: Any, row: int | None, path: Path) -> NDArray[Any]:
    # One record of (record, T, lead) read by itself, so that memory stays flat; its size is known before it is read
    refuse_large(path, prod(array.shape[-2:]))
    if len(array.shape) == 2 and row is None:
        return np.asarray(array[:])
    if len(array.shape) != 3 or row is None or row >= array.shape[0]:
        text = f"shape {tuple(array.shape)} holds several recordings; name one as {path.name}#ROW."
        raise RecordError("unreadable", f"{path.name}: {text}")
    return np.asarray(array[row])


def read_npy(path: Path) -> Raw:
    """An NPY file, never unpickled."""
    path, row = split_row(path)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Raw(oriented(_row(array, row, path), path))


def read_hdf5(path: Path) -> Raw:
    """The dataset called ``tracings`` (or ecg, signal, ...) of an HDF5 file, one record of it."""
    import h5py

    path, row = split_row(path)
    with h5py.File(path, "r") as file:
        key = next((k for k in _SIGNAL_KEYS if k in file and isinstance(file[k], h5py.Dataset)), None)
        if key is None:
            raise RecordError("unreadable", f"{path.name}: no dataset is called {', '.join(_SIGNAL_KEYS)}; rename it.")
        rate = next((float(np.squeeze(file[k][()])) for k in _RATE_KEYS if k in file and file[k].size == 1), None)
        return Raw(oriented(_row(file[key], row, path), path), rate=rate)


def read_mat(path: Path) -> Raw:
    """A MATLAB 5 file that is not a WFDB record: signal and, where stored, its rate; the unit is never stored."""
    from scipy.io import loadmat, whosmat

    for name, shape, _ in whosmat(path):
        refuse_large(path, prod(shape) if name in _SIGNAL_KEYS else 0)
    content = loadmat(path, variable_names=[*_SIGNAL_KEYS, *_RATE_KEYS])
    key = next((k for k in _SIGNAL_KEYS if k in content), None)
    if key is None:
        raise RecordError("unreadable", f"{path.name}: no variable is called {', '.join(_SIGNAL_KEYS)}; rename it.")
    rate = next((float(np.squeeze(content[k])) for k in _RATE_KEYS if k in content and content[k].size == 1), None)
    return Raw(oriented(content[key], path), rate=rate)


def read_csv(path: Path) -> Raw:
    """One column per lead, with or without a header line of lead names; other named columns are left out."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        sample = handle.readline()
        delimiter = max(",;\t", key=sample.count)
        head = [cell.strip() for cell in next(csv.reader([sample], delimiter=delimiter), [])]
        named = any(lead_name(cell) for cell in head)
        table = np.loadtxt(handle if named else [sample, *handle], delimiter=delimiter, ndmin=2, dtype=np.float64)
    if table.shape[1] != len(head):
        raise corrupt(path, f"{table.shape[1]} columns are stored under {len(head)} names")
    keep = [column for column, cell in enumerate(head) if not named or lead_name(cell)]
    return Raw(oriented(table[:, keep].T, path), tuple(head[column] for column in keep) if named else None)
