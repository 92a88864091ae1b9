"""What a centre has, in the order of the store, on disk: a cohort of any size is planned in a few bytes per record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cardionets import phenotypes, splits
from cardionets.cohorts import ROWS_AT_ONCE, Index, labels, to_disk


@dataclass(frozen=True)
class Listing:
    """An index (:class:`cardionets.cohorts.Index`) in files without a name, which vanish with the process.

    ``records``: as in the index, with ``person_id`` and ``record_id``; the first ``count`` rows are those that nobody
    excluded, ordered by these pseudonyms. ``person``: number of every row's person, (row,), rising over these rows.
    ``codes``: as in the index, ordered by ``coded``, the number of the person (code,). ``measured``: whether the
    centre has phenotypes.
    """

    records: pa.Table
    codes: pa.Table
    count: int
    person: NDArray[np.int32]
    coded: NDArray[np.int32]
    measured: bool
    notes: tuple[str, ...]

    def rows(self, start: int, stop: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Some records, labelled by their place."""
        part = self.records.slice(start, stop - start).select(columns or self.records.column_names)
        table: pd.DataFrame = part.to_pandas()
        return table.set_axis(pd.RangeIndex(start, start + len(table)))

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """The records that nobody excluded, some thousand at a time."""
        for start in range(0, self.count, ROWS_AT_ONCE):
            yield self.rows(start, min(start + ROWS_AT_ONCE, self.count), columns)

    def codes_of(self, start: int, stop: int) -> pd.DataFrame:
        """The codes of the people of some records that nobody excluded."""
        first, last = np.searchsorted(self.coded, [self.person[start], self.person[stop - 1] + 1])
        codes: pd.DataFrame = self.codes.slice(first, last - first).to_pandas()
        return codes


def make_listing(index: Index, centre: str, salt: str, folder: Path) -> Listing:
    """Give everybody a pseudonym, order the records by it and lay them into ``folder``; codes without use stay behind.

    ``folder`` is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = index.records
    ids = {kind: _numbers(records[kind], kind, centre, salt) for kind in ("person", "record")}
    excluded = (records["excluded"] != "").to_numpy(bool)
    order = np.lexsort((ids["record"], ids["person"], excluded))
    person = pd.factorize(ids["person"][order])[0].astype(np.int32)
    codes, coded = _codes(index, person[np.argsort(order)])
    return Listing(
        to_disk(_in_order(records, order, ids), folder),
        to_disk(
            (codes.iloc[start : start + ROWS_AT_ONCE] for start in range(0, max(1, len(codes)), ROWS_AT_ONCE)), folder
        ),
        int((~excluded).sum()),
        person,
        coded,
        bool(records[[name for name in phenotypes.NAMES if name in records]].notna().any(axis=None)),
        index.notes,
    )


def _numbers(raw: pd.Series, kind: str, centre: str, salt: str) -> NDArray[np.uint64]:
    """Pseudonyms of all rows as the numbers they write in hexadecimal digits, which sort alike."""
    parts = (raw.iloc[start : start + ROWS_AT_ONCE].to_numpy(object) for start in range(0, len(raw), ROWS_AT_ONCE))
    named = (splits.pseudonyms(part, kind, centre, salt) for part in parts)
    return np.concatenate([np.array([int(name, 16) for name in names], np.uint64) for names in named])


def _in_order(records: pd.DataFrame, order: NDArray[Any], ids: dict[str, NDArray[np.uint64]]) -> Iterator[pd.DataFrame]:
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        names = {
            f"{kind}_id": [f"{number:0{splits.PSEUDONYM_DIGITS}x}" for number in numbers[rows].tolist()]
            for kind, numbers in ids.items()
        }
        yield records.iloc[rows].assign(**{name: pd.array(values, dtype="str") for name, values in names.items()})


def _codes(index: Index, person: NDArray[np.int32]) -> tuple[pd.DataFrame, NDArray[np.int32]]:
    # Codes that decide something and whose person has a record, ordered by the number of the person
    codes = index.codes[labels.decides(index.codes["vocabulary"], index.codes["code"])]
    numbers = dict[str, int]()
    for start in range(0, len(person), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        numbers.update(zip(index.records["person"].iloc[some].to_numpy(object), person[some].tolist()))
    parts = (codes["person"].iloc[start : start + ROWS_AT_ONCE] for start in range(0, len(codes), ROWS_AT_ONCE))
    found = (np.array([numbers.get(name, -1) for name in part.to_numpy(object)], np.int32) for part in parts)
    coded = np.concatenate([np.empty(0, np.int32), *found])
    order = np.argsort(coded, kind="stable")[np.count_nonzero(coded < 0) :]
    return codes.iloc[order], coded[order]
