"""The harmonised store of one cohort: flat memory-mapped arrays and one records table, the same for every centre.

``ecg.npy`` int16 (n, 12, T) uV and ``beat.npy`` int16 (n, 12, B) uV; ``sax.npy`` and ``4ch.npy`` uint8 (m, frame, H, W)
with ``sax_mask.npy`` and ``4ch_mask.npy`` where masks exist; ``records.parquet`` (:data:`cardionets.schema.RECORDS`),
``flow.csv`` (why records were left out) and ``store.json`` (version, grid, leads, units). Written once, aside, then
renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cardionets import diseases, phenotypes, schema, splits
from cardionets.config import AFTER_S, BEFORE_S, Grid, StudyError, check
from cardionets.ecg import LEADS
from cardionets.files import atomic_path

VERSION: Final = 1
ARRAYS: Final = ("ecg", "beat", "sax", "4ch", "sax_mask", "4ch_mask")
ROW_OF: Final = {
    "ecg": "row",
    "beat": "row",
    "sax": "sax_row",
    "4ch": "lax_row",
    "sax_mask": "sax_mask_row",
    "4ch_mask": "lax_mask_row",
}
"""The column of the records table that points into each array."""

Array = NDArray[Any]


def layout(grid: Grid) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape of one row and dtype of every array."""
    cine = (grid.frames, grid.size, grid.size)
    int16, uint8 = np.dtype("<i2"), np.dtype("u1")
    signals = {"ecg": ((12, grid.samples), int16), "beat": ((12, grid.beat_samples), int16)}
    return signals | dict.fromkeys(ARRAYS[2:], (cine, uint8))


def write(
    target: Path,
    grid: Grid,
    meta: Mapping[str, Any],
    records: pd.DataFrame | Iterable[pd.DataFrame],
    flow: pd.DataFrame,
    parts: Iterable[tuple[str, int, Array]],
) -> None:
    """Write a whole store at once, or nothing.

    ``records`` points into the arrays as :data:`ROW_OF` says; it may come in parts, each a row group of the file.
    ``parts`` yields (array name, first row, rows) in any order, once per row. Raises StudyError for a table against the
    schema and for rows that no part filled.
    """
    with atomic_path(target, lasting=True) as aside:
        aside.mkdir()
        source = f"store/{target.name}/records.parquet"
        tally = _write_records(aside, [records] if isinstance(records, pd.DataFrame) else records, source)
        sizes = tally.sizes
        filled = _fill(aside, grid, sizes, parts)
        if filled != sizes:
            raise StudyError(
                f"store/{target.name}: rows written {filled} differ from rows named {sizes}; prepare it again."
            )
        flow.to_csv(aside / "flow.csv", index=False, lineterminator="\n")
        text = json.dumps(_describe(grid, tally) | dict(meta), indent=1, ensure_ascii=False)
        (aside / "store.json").write_text(text + "\n", encoding="utf-8")


class _Tally:
    """What must be known of all records together: a few bytes of each."""

    def __init__(self) -> None:
        self.sizes = dict.fromkeys(ARRAYS, 0)
        self._seen: list[pd.DataFrame] = []

    def add(self, records: pd.DataFrame) -> None:
        """Count some more records."""
        for name, column in ROW_OF.items():
            self.sizes[name] = max(self.sizes[name], int(records[column].max()) + 1 if len(records) else 0)
        names = [pd.util.hash_array(records[name].to_numpy(object), categorize=False) for name in ("record", "person")]
        split = pd.Categorical(records["split"], categories=splits.SPLITS)
        self._seen.append(pd.DataFrame({"record": names[0], "person": names[1], "split": split}))

    @cached_property
    def seen(self) -> pd.DataFrame:
        """Record and person as 64-bit hashes, and the split."""
        return pd.concat(self._seen, ignore_index=True)


def _write_records(folder: Path, records: Iterable[pd.DataFrame], source: str) -> _Tally:
    """Check and write the records table, a row group at a time; StudyError names the faults of all of it."""
    tally, faults, writer = _Tally(), list[str](), None
    for some in records:
        faults += schema.faults(schema.RECORDS, some.reset_index(drop=True), source)
        tally.add(some)
        table = pa.Table.from_pandas(some, schema=writer.schema if writer else None, preserve_index=False)
        writer = writer or pq.ParquetWriter(folder / "records.parquet", table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    if tally.seen["record"].duplicated().any() and not faults:
        faults.append(f"{source}: record: must not stand twice; prepare it again.")
    if faults:
        raise StudyError("\n".join(dict.fromkeys(faults)))
    splits.require_disjoint(tally.seen, source)
    return tally


def _fill(folder: Path, grid: Grid, sizes: dict[str, int], parts: Iterable[tuple[str, int, Array]]) -> dict[str, int]:
    files, starts, filled = {}, dict[str, int](), dict.fromkeys(ARRAYS, 0)
    with ExitStack() as stack:
        for name, (shape, dtype) in layout(grid).items():
            files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
            head = {"descr": dtype.str, "fortran_order": False, "shape": (sizes[name], *shape)}
            np.lib.format.write_array_header_1_0(files[name], head)
            starts[name] = files[name].tell()
        for name, first, rows in parts:
            files[name].seek(starts[name] + first * rows[0].nbytes)
            files[name].write(np.ascontiguousarray(rows).data)
            filled[name] += len(rows)
    return filled


def _describe(grid: Grid, tally: _Tally) -> dict[str, Any]:
    counts = {"records": len(tally.seen), "persons": int(tally.seen["person"].nunique())}
    counts |= {name: tally.sizes[name] for name in ARRAYS[2:]}
    counts |= {name: int((tally.seen["split"] == name).sum()) for name in splits.SPLITS}
    return {
        "version": VERSION,
        "leads": list(LEADS),
        "unit": "uV",
        "grid": grid.model_dump(),
        "beat": {"before_s": BEFORE_S, "after_s": AFTER_S, "samples": grid.beat_samples},
        "code_lists": diseases.CODE_LIST_VERSION,
        "counts": counts,
    }


@dataclass(frozen=True)
class Store:
    """A cohort's store, opened for reading; arrays are memory-mapped and come with the meaning ``store.json`` gives.

    ``hide_test``: labels (phenotypes, diseases, subtype) of test people read as missing, for every stage before
    validation.
    """

    path: Path
    meta: dict[str, Any]
    grid: Grid
    hide_test: bool = False

    @classmethod
    def open(cls, path: Path | str, grid: Grid | None = None, hide_test: bool = False) -> Store:
        """Open and check a store.

        Raises StudyError when it is absent, of another version, unit or lead order, or not on ``grid`` where given.
        """
        path = Path(path)
        meta = _read_meta(path)
        found = check(Grid, meta.get("grid"), f"{path.name}/store.json: grid")
        if grid is not None and grid != found:
            wanted, there = (" ".join(f"{k}={v}" for k, v in g.model_dump().items()) for g in (grid, found))
            text = f"{path.name}/store.json: grid: the store has {there} but the preset asks for {wanted}"
            raise StudyError(f"{text}; run `dvc repro prepare@{path.name}`.")
        return cls(path, meta, found, hide_test)

    @cached_property
    def records(self) -> pd.DataFrame:
        """The records table, one row per ECG in the order of ``ecg``."""
        table = pd.read_parquet(self.path / "records.parquet")
        if self.hide_test:
            names = [*phenotypes.NAMES, *(n for n in diseases.NAMES if n in table), "subtype"]
            table[names] = table[names].mask(table["split"] == "test")
        return table

    @cached_property
    def flow(self) -> pd.DataFrame:
        """Steps and reasons of the flow diagram; see :mod:`cardionets.flow`."""
        return pd.read_csv(self.path / "flow.csv", keep_default_na=False)

    @cached_property
    def ecg(self) -> Array:
        """ECG, int16 (n, 12, T) uV."""
        return self._array("ecg")

    @cached_property
    def beat(self) -> Array:
        """Median beats, int16 (n, 12, B) uV."""
        return self._array("beat")

    @cached_property
    def sax(self) -> Array:
        """Mid-ventricular short-axis cines, uint8 (m, frame, H, W)."""
        return self._array("sax")

    @cached_property
    def lax(self) -> Array:
        """Four-chamber cines, uint8 (m, frame, H, W)."""
        return self._array("4ch")

    @cached_property
    def sax_mask(self) -> Array:
        """Masks of some short-axis cines, uint8 (k, frame, H, W)."""
        return self._array("sax_mask")

    @cached_property
    def lax_mask(self) -> Array:
        """Masks of some four-chamber cines, uint8 (k, frame, H, W)."""
        return self._array("4ch_mask")

    def _array(self, name: str) -> Array:
        path = self.path / f"{name}.npy"
        shape, dtype = layout(self.grid)[name]
        remedy = f"run `dvc repro prepare@{self.path.name}`."
        try:
            array: Array = np.load(path, None if _empty(path) else "r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise StudyError(f"{self.path.name}/{path.name}: missing or cut short; {remedy}") from None
        if array.shape[1:] != shape or array.dtype != dtype:
            text = f"{array.dtype} {array.shape[1:]} per row, but store.json says {dtype} {shape}"
            raise StudyError(f"{self.path.name}/{path.name}: {text}; {remedy}")
        return array

    def validate(self) -> None:
        """Check table, arrays and splits against each other. Raises one StudyError with every fault."""
        source = f"{self.path.name}/records.parquet"
        faults = schema.faults(schema.RECORDS, self.records, source)
        for name, column in ROW_OF.items():
            rows = self.records[column]
            length = len(getattr(self, name.replace("4ch", "lax")))
            used = rows[rows >= 0]
            if used.nunique() != length or (len(used) and used.max() >= length):
                faults.append(
                    f"{source}: {column}: names {used.nunique()} rows but {name}.npy has {length}; prepare again."
                )
        overlap = splits.person_overlap(self.records)
        if overlap:
            faults.append(f"{source}: split: {overlap} persons are in more than one split; prepare again.")
        if faults:
            raise StudyError("\n".join(faults))


def _empty(path: Path) -> bool:
    with path.open("rb") as handle:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(read(handle)[0][0] == 0)


def _read_meta(path: Path) -> dict[str, Any]:
    source, remedy = f"{path.name}/store.json", f"run `dvc repro prepare@{path.name}`."
    try:
        meta = json.loads((path / "store.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{source}: there is no store at {path}; {remedy}") from None
    except ValueError:
        raise StudyError(f"{source}: not valid JSON; {remedy}") from None
    expected = {"version": VERSION, "unit": "uV", "leads": list(LEADS)}
    faults = [
        f"{source}: {name}: found {meta.get(name)!r}, this software reads {value!r}; {remedy}"
        for name, value in expected.items()
        if meta.get(name) != value
    ]
    if faults:
        raise StudyError("\n".join(faults))
    return dict(meta)
