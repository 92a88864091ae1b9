"""A centre's own files as one index: a row per ECG, a row per diagnosis code, whatever the layout.

One function per layout (:mod:`ukb`, :mod:`mimic`, :mod:`manifest`, :mod:`wfdb_tree`); nothing here opens a signal or an
image.
"""

from __future__ import annotations

import mmap
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from cardionets import phenotypes
from cardionets.config import Cohort, StudyError

TEXT: Final = (
    "record",
    "person",
    "ecg",
    "sax",
    "lax",
    "sax_mask",
    "lax_mask",
    "coded",
    "subtype",
    "device",
    "excluded",
)
NUMBERS: Final = ("age", "height_cm", "weight_kg")
DATES: Final = ("ecg_date", "cmr_date")
CODE_COLUMNS: Final = ("person", "record", "vocabulary", "code", "date")
ROWS_AT_ONCE: Final = 20_000
"""Rows that are held as a table while a cohort is indexed and planned."""
_AS_WRITTEN: Final[dict[str, Any]] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
CODED: Final = ("none", "ecg", "full")
"""What the absence of a code means: nothing known; the ECG's own findings are absent; every disease is absent."""


@dataclass(frozen=True)
class Index:
    """What a centre has.

    ``records``: one row per ECG, columns ``TEXT`` (paths relative to the cohort's folder, "" = none; ``excluded`` is a
    reason or ""), ``sex`` ("F", "M" or NA), ``NUMBERS`` (years, cm, kg; NaN = unknown), those phenotypes that the
    centre has, in their units, and ``DATES`` (NaT = unknown). ``codes``: one row per diagnosis, ``CODE_COLUMNS``;
    ``record`` is "" where the code belongs to the person, and names the ECG where the code is that ECG's own report;
    vocabularies are "icd10", "icd9", "snomed" and "rhythm" (FIBRILLATION or OTHER: what the recorder calls the rhythm).
    ``notes``: what was ignored or assumed, for the check command.
    """

    records: pd.DataFrame
    codes: pd.DataFrame
    notes: tuple[str, ...] = ()


def make_index(records: pd.DataFrame, codes: pd.DataFrame | None = None, notes: tuple[str, ...] = ()) -> Index:
    """Complete both tables to the columns, order and types of :class:`Index`."""
    columns = {name: _text(records, name) for name in TEXT}
    columns["coded"] = columns["coded"].where(columns["coded"].isin(CODED), "none")
    sex = _text(records, "sex").str.upper()
    columns["sex"] = sex.where(sex.isin(["F", "M"]), None).astype("string")
    numbers = (*NUMBERS, *(name for name in phenotypes.NAMES if name in records))
    columns |= {name: pd.to_numeric(_column(records, name, np.nan), errors="coerce").astype(float) for name in numbers}
    columns |= {name: dates(_column(records, name, None)) for name in DATES}
    table = pd.DataFrame(columns).reset_index(drop=True)
    codes = pd.DataFrame(columns=list(CODE_COLUMNS)) if codes is None else codes
    coded = pd.DataFrame({name: _text(codes, name) for name in CODE_COLUMNS if name != "date"})
    coded["date"] = dates(_column(codes, "date", None))
    return Index(table, coded[list(CODE_COLUMNS)].reset_index(drop=True), notes)


def to_disk(parts: Iterator[pd.DataFrame], folder: Path | None = None) -> pa.Table:
    """The parts as one table in an unnamed file of ``folder`` (default: TMPDIR), read through the page cache."""
    first = pa.Table.from_pandas(next(parts), preserve_index=False)
    with tempfile.TemporaryFile(dir=folder) as file:
        with pa.ipc.new_file(file, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(pa.Table.from_pandas(part, first.schema, preserve_index=False))
        file.flush()
        return pa.ipc.open_file(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))).read_all()


def spilled(parts: Iterator[pd.DataFrame]) -> pd.DataFrame:
    """The parts as one table whose text stays on disk (:func:`to_disk`); it vanishes with the process."""
    table: pd.DataFrame = to_disk(parts).to_pandas(split_blocks=True)
    return table


def _column(frame: pd.DataFrame, name: str, default: object) -> pd.Series:
    return frame[name] if name in frame else pd.Series([default] * len(frame), index=frame.index, dtype=object)


def _text(frame: pd.DataFrame, name: str) -> pd.Series:
    values = _column(frame, name, "")
    if not isinstance(values.dtype, pd.StringDtype):
        values = values.astype(object).where(values.notna(), "").astype(str)
    return values.astype("str").fillna("").str.strip()


def dates(values: pd.Series) -> pd.Series:
    """Dates as ISO 8601 writes them, times with a zone as UTC; what is none becomes NaT, and no order is guessed."""
    found = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
    return found.dt.tz_localize(None).astype("datetime64[ns]")


def rename(table: pd.DataFrame, names: Mapping[Any, str], source: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with ``names`` (old: new), and a sentence for every name that two columns would bear.

    The first of them stays.
    """
    renamed = table.rename(columns=names)
    faults = []
    for name in renamed.columns[renamed.columns.duplicated()].unique():
        both = " and ".join(repr(str(column)) for column in table.columns[renamed.columns == name])
        faults.append(f"{source}: columns {both} mean the same, {name}; keep one of them.")
    return renamed.loc[:, ~renamed.columns.duplicated()], faults


def read_table(
    path: Path,
    source: str,
    columns: list[str] | None = None,
    keep: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """A CSV (or its ``.gz``) as text, every cell as written; ``columns`` must exist. Raises ``StudyError``.

    ``keep``: what is kept of some thousand rows that were read, so that a large table need not be held as a whole.
    """
    found = path if path.is_file() else path.with_name(path.name + ".gz")
    if not found.is_file():
        raise StudyError(f"{source}: {path.name}: the file is missing under {path.parent}; copy it there.")
    try:
        with pd.read_csv(found, chunksize=ROWS_AT_ONCE, encoding="utf-8-sig", **_AS_WRITTEN) as parts:
            table = pd.concat([_kept(part, columns, keep) for part in parts], ignore_index=True)
    except (ValueError, OSError, EOFError, OverflowError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(
            f"{source}: {path.name}: not a readable CSV file ({reason}); export it again as UTF-8."
        ) from None
    missing = [name for name in columns or [] if name not in table]
    if missing:
        text = f"{source}: {path.name}: missing columns {', '.join(missing)}; add them, or map them under columns."
        raise StudyError(f"{text} Found: {', '.join(map(str, table.columns[:20]))}.")
    return table


def _kept(
    part: pd.DataFrame, columns: list[str] | None, keep: Callable[[pd.DataFrame], pd.DataFrame] | None
) -> pd.DataFrame:
    return keep(part) if keep and set(columns or ()) <= set(part) else part


def index(cohort: Cohort, source: str = "cohorts.yaml") -> Index:
    """The index of one cohort, exclusions marked. Raises ``StudyError`` naming every fault of its tables."""
    from cardionets.cohorts import labels, manifest, mimic, ukb, wfdb_tree

    if not cohort.path.is_dir():
        raise StudyError(f"{source}: path: {cohort.path} is not a folder; correct the path of {cohort.label}.")
    layouts = {"ukb": ukb.index, "mimic": mimic.index, "manifest": manifest.index, "wfdb": wfdb_tree.index}
    found = layouts[cohort.layout](cohort)
    if found.records.empty:
        text = f"no ECG of layout {cohort.layout!r} was found under {cohort.path}; copy the files, or correct the path."
        raise StudyError(f"{source}: path: {text}")
    repeated = found.records["record"][found.records["record"].duplicated()].unique()
    if len(repeated):
        names = ", ".join(repeated[:5])
        raise StudyError(
            f"{source}: record: {len(repeated)} identifiers stand more than once ({names}); make them unique."
        )
    return labels.mark_excluded(found, cohort)


def codes_of(
    person: pd.Series,
    cells: pd.Series,
    vocabulary: str,
    date: pd.Series | None = None,
    per_record: pd.Series | None = None,
) -> pd.DataFrame:
    """Cells of codes joined by ";" as one row per code; ``per_record``: the ECG whose own report the codes are."""
    table = pd.DataFrame({"person": person, "code": cells.astype(object).where(cells.notna(), "").astype(str)})
    table["record"] = per_record if per_record is not None else ""
    table["date"] = date if date is not None else pd.NaT
    table["vocabulary"] = vocabulary
    table["code"] = table["code"].str.split(r"[;,\s]+", regex=True)
    table = table.explode("code")
    return table[table["code"].fillna("") != ""][list(CODE_COLUMNS)].reset_index(drop=True)
