"""Rows of a store as training batches: gathered on the host from memory maps, everything else batched on the device.

No sample is touched alone in Python: a batch is one fancy-indexed read per array; scaling, cropping and noise happen in
the loss, on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cardionets import diseases, phenotypes
from cardionets.config import StudyError
from cardionets.store import Store

Array = NDArray[Any]
Rows = NDArray[np.int64]
RR: tuple[str, ...] = ("rate_bpm", "rr_cv", "rr_rmssd_ms")
VIEW_ROW = {"sax": "sax_row", "4ch": "lax_row"}


@dataclass(frozen=True)
class Column:
    """Rows ``index`` of one array, one after the other of several: (n, ...) without copying anything."""

    arrays: tuple[Array, ...]
    indices: tuple[Rows, ...]

    def __len__(self) -> int:
        return sum(map(len, self.indices))

    def take(self, rows: Rows) -> Array:
        """Gather rows (k,) -> (k, ...)."""
        if len(self.arrays) == 1:
            return np.asarray(self.arrays[0][self.indices[0][rows]])
        ends = np.cumsum([len(i) for i in self.indices])
        source = np.searchsorted(ends, rows, side="right")
        out = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for number, (array, index) in enumerate(zip(self.arrays, self.indices)):
            mine = source == number
            out[mine] = array[index[rows[mine] - (ends[number] - len(index))]]
        return out

    def pick(self, rows: Rows) -> Column:
        """The column of some of these rows, still without copying."""
        ends = np.cumsum([len(i) for i in self.indices])
        source = np.searchsorted(ends, rows, side="right")
        if np.any(np.diff(source) < 0):
            raise StudyError("training data: rows of several stores must be picked in ascending order.")
        parts = [index[rows[source == n] - (ends[n] - len(index))] for n, index in enumerate(self.indices)]
        return Column(self.arrays, tuple(parts))


def column(array: Array, index: Rows | None = None) -> Column:
    """A column over one array, all rows or those of ``index``."""
    return Column((array,), (np.arange(len(array)) if index is None else np.asarray(index, np.int64),))


def stack(columns: Sequence[Column]) -> Column:
    """Columns of equal row shape, one after the other."""
    return Column(sum((c.arrays for c in columns), ()), sum((c.indices for c in columns), ()))


class Table:
    """Named columns of equal length: the training data of :func:`cardionets.train.fit`."""

    def __init__(self, **columns: Column) -> None:
        lengths = {name: len(c) for name, c in columns.items()}
        if len(set(lengths.values())) > 1:
            raise StudyError(f"training data: columns of different length {lengths}; build them from the same records.")
        self.columns = columns
        self.length = next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self.length

    def take(self, rows: Rows) -> dict[str, Tensor]:
        """Host tensors of these rows."""
        return {name: torch.from_numpy(c.take(rows)) for name, c in self.columns.items()}


def rr_features(records: pd.DataFrame) -> NDArray[np.float32]:
    """RR statistics (n, 3): rate (1/min), coefficient of variation, log of 1 + RMSSD (ms); NaN where unknown."""
    rr = records[list(RR)].to_numpy(np.float32, copy=True)
    rr[:, 2] = np.log1p(rr[:, 2])
    return rr


def ecg_table(parts: Sequence[tuple[Store, pd.DataFrame]]) -> Table:
    """ecg (n, 12, T) and beat (n, 12, B), int16 uV, and rr (n, 3) of the given records of several stores."""
    ecg, beat, rr = [], [], []
    for store, records in parts:
        rows = records["row"].to_numpy(np.int64)
        ecg.append(column(store.ecg, rows))
        beat.append(column(store.beat, rows))
        rr.append(rr_features(records))
    return Table(ecg=stack(ecg), beat=stack(beat), rr=column(np.concatenate(rr)))


def cine_columns(store: Store, records: pd.DataFrame) -> dict[str, Column]:
    """sax and 4ch cines, uint8 (n, frame, H, W), of records that have both."""
    arrays = {"sax": store.sax, "4ch": store.lax}
    return {view: column(arrays[view], records[VIEW_ROW[view]].to_numpy(np.int64)) for view in arrays}


def with_cines(records: pd.DataFrame) -> pd.DataFrame:
    """Records that have both views."""
    return records[(records["sax_row"] >= 0) & (records["lax_row"] >= 0)]


def one_per_person(records: pd.DataFrame) -> pd.DataFrame:
    """The first record of each person, so that people with many ECGs count once."""
    return records.drop_duplicates("person")


def pairs(records: pd.DataFrame, split: str) -> pd.DataFrame:
    """One record with both cines of every person of a split; may be empty."""
    return one_per_person(with_cines(records[records["split"] == split]))


def pairs_of(store: Store, split: str) -> pd.DataFrame:
    """:func:`pairs` of a store. Raises StudyError when there is none."""
    found = pairs(store.records, split)
    if found.empty:
        raise StudyError(f"store/{store.path.name}: no {split} person has an ECG with both cines; check its flow.csv.")
    return found


def targets(records: pd.DataFrame) -> NDArray[np.float64]:
    """The 82 phenotypes (n, 82), NaN = missing."""
    return records[list(phenotypes.NAMES)].to_numpy(np.float64)


def labels(records: pd.DataFrame, names: Sequence[str] = diseases.NAMES) -> NDArray[np.float64]:
    """Diseases, or subtypes of cardiomyopathy among those who have a known one, (n, k) as 0, 1, NaN = unknown."""
    return np.column_stack([_label(records, name) for name in names])


def _label(records: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name in diseases.SUBTYPES:
        return diseases.is_subtype(records["subtype"], name)
    known = pd.to_numeric(records.reindex(columns=[name])[name], errors="coerce")
    return np.asarray(known.astype("Float64").to_numpy(np.float64, na_value=np.nan))
