"""From finished blocks to the store: last exclusions, rows, labels, split and flow of one cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from cardionets import diseases, flow, phenotypes, schema, splits, store
from cardionets.cohorts import Index, labels
from cardionets.config import Cohort, SplitProtocol, Study, StudyError
from cardionets.listing import Listing

CINES: Final = {"sax": "sax", "4ch": "lax"}
ACROSS: Final = "duplicate_across_people"
WITHIN: Final = "duplicate_of_same_person"
TOGETHER: Final = 64
"""Blocks whose tables are held at once: one row group of the records table."""
LINES: Final = "lines.arrow"
"""The file of a finished block that says what was learnt of its records."""
VIEW: Final = tuple(f"{view}_{key}" for view in CINES for key in ("slot", "mask_slot", "reason", "mask_reason"))
SLOTS: Final = tuple(name for name in VIEW if name.endswith("slot"))
FILES: Final = tuple(f"{path}{mask}" for path in CINES.values() for mask in ("", "_mask"))
ROWS: Final = tuple(store.ROW_OF.values())


def assemble(listing: Listing, blocks: list[Path], study: Study, name: str, target: Path) -> None:
    """Make the store ``target`` of the cohort ``name``.

    ``listing``: everything the centre has; its first rows were read, in the order of ``blocks``. Raises StudyError when
    a block does not fit or no record can be used. There may be millions of rows: of everybody a few numbers are held,
    all else group by group.
    """
    cohort, protocol = study.cohort(name), study.protocol
    gist = _gist(listing, blocks)
    for reason, found in duplicates(gist).items():
        gist["reason"] = gist["reason"].cat.add_categories([reason])
        gist.loc[found, "reason"] = reason
    _require_some(gist, name)
    kept = _rows(gist[gist["reason"] == ""].drop(columns=["reason", "digest", "age", "sex"]))
    kept["split"] = _split(listing, kept, protocol.split) if cohort.is_split else "test"
    kept["split"] = kept["split"].astype("category")
    steps = _flow(listing, gist[["reason", "age", "sex"]], kept)
    del gist
    groups = _groups(listing, blocks, kept)
    records = (records_table(lines, part, name, protocol.endpoints.window) for lines, part in groups)
    store.write(target, study.grid, _meta(cohort, study, name, listing.notes), records, steps, _parts(blocks, kept))


def _together(listing: Listing, blocks: list[Path], columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """What the centre and the files say of the records in some blocks, blocks after blocks, labelled by place."""
    start = 0
    for first in range(0, len(blocks), TOGETHER):
        lines = read_lines(blocks[first : first + TOGETHER])
        stop = start + len(lines)
        last = first + TOGETHER >= len(blocks)
        if stop > listing.count or (last and stop != listing.count):
            text = f"{stop} records or more in the blocks but {listing.count} in the plan; delete the folder."
            raise StudyError(f"store/.work: {text}")
        lines["block"] += first
        yield _complete(lines, listing.rows(start, stop, columns))
        start = stop


class _Words:
    """Numbers that stand for the few words of a column, part after part."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"": 0}

    def numbers(self, words: pd.Series) -> NDArray[np.int16]:
        """A number per word, -1 for none."""
        codes, unique = pd.factorize(words.astype("str"))
        numbers = [self.known.setdefault(word, len(self.known)) for word in unique]
        return np.array([*numbers, -1], np.int16)[codes]


def _gist(listing: Listing, blocks: list[Path]) -> pd.DataFrame:
    """Of every record what exclusions, rows and the flow need: some dozen bytes."""
    words = {name: _Words() for name in ("sex", "reason", *(name for name in VIEW if name.endswith("reason")))}
    parts = []
    for lines in _together(listing, blocks, ("age", "sex", "device", "ecg_date", *FILES)):
        part: dict[str, Any] = {name: said.numbers(lines[name]) for name, said in words.items()}
        part |= {name: lines[name].fillna(-1).astype(np.int32) for name in ("slot", *SLOTS)}
        part |= {name: _true(lines[name]) for name in _flags(lines)}
        part |= {f"{view}_file": _hashed(lines[path] + "|" + lines[f"{path}_mask"]) for view, path in CINES.items()}
        part |= {"age": lines["age"], "block": lines["block"].astype(np.int32), "digest": _hashed(lines["digest"])}
        parts.append(pd.DataFrame(part, index=lines.index))
    gist = pd.concat(parts)
    gist = gist.assign(**{name: _true(gist[name]) for name in _flags(gist)})
    kinds = {
        name: pd.Categorical.from_codes(gist[name].to_numpy(np.int16), pd.Index(list(said.known)))
        for name, said in words.items()
    }
    return gist.assign(**kinds, person_id=listing.person[: len(gist)])


def _hashed(text: pd.Series) -> NDArray[np.uint64]:
    return pd.util.hash_array(text.to_numpy(object), categorize=False)


def _true(flag: pd.Series) -> pd.Series:
    return flag.astype("boolean").fillna(False).astype(bool)


def _split(listing: Listing, kept: pd.DataFrame, protocol: SplitProtocol) -> NDArray[Any]:
    names = (splits.assign(part["person_id"], protocol) for part in listing.parts(["person_id"]))
    return np.concatenate([some.astype("U5") for some in names])[kept.index]


def _groups(listing: Listing, blocks: list[Path], kept: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Index]]:
    """The kept records, group by group, with their rows and split, and the same with their people's codes."""
    columns = ["split", *ROWS[1:], *_flags(kept)]
    for lines in _together(listing, blocks):
        start, stop = lines.index[0], lines.index[-1] + 1
        first, last = np.searchsorted(kept.index, [start, stop])
        mine = kept.iloc[first:last][columns].astype({"split": "str"})
        whole = lines.drop(columns=_flags(lines)).loc[mine.index].join(mine)
        yield whole, Index(whole, listing.codes_of(start, stop))


def save_lines(lines: list[dict[str, Any]], folder: Path) -> None:
    """What one block learnt of its records; a column without any value has no type."""
    table = pa.Table.from_pandas(pd.DataFrame(lines), preserve_index=False).replace_schema_metadata()
    for place, name in enumerate(table.column_names):
        if table.column(place).null_count == len(table):
            table = table.set_column(place, name, pa.nulls(len(table)))
    feather.write_feather(table, folder / LINES, compression="uncompressed")


def read_lines(blocks: list[Path]) -> pd.DataFrame:
    """The tables of some blocks as one, ``block`` counted from 0; a column that a block lacks is missing there."""
    tables = [feather.read_table(path / LINES, memory_map=False) for path in blocks]
    whole: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    return whole.assign(block=np.repeat(np.arange(len(blocks)), [len(table) for table in tables]))


def _complete(lines: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What was read beside what the centre says; the centre's table wins, the file fills its gaps."""
    said = ("file_age", "file_sex", "file_date", "file_device", "digest", *schema.FEATURES, *schema.NOISE)
    views = (f"{view}_{key}" for view in CINES for key in ("slot", "mask_slot", "reason", "mask_reason", "scanned"))
    lines = lines.reindex(columns=list(dict.fromkeys([*lines.columns, *said, *views])))
    both = pd.concat([table, lines.set_axis(table.index)], axis=1)
    unknown = [name for name in phenotypes.NAMES if name not in both]
    both = pd.concat([both, pd.DataFrame(np.nan, index=both.index, columns=unknown)], axis=1)
    both["age"] = both["age"].fillna(pd.to_numeric(both["file_age"]))
    both["sex"] = both["sex"].where(both["sex"].notna(), both["file_sex"])
    both["device"] = both["device"].where(both["device"].fillna("").ne(""), both["file_device"])
    both["ecg_date"] = both["ecg_date"].fillna(pd.to_datetime(both["file_date"]))
    for name in (name for name in phenotypes.NAMES if f"sax_measured_{name}" in both):
        both[name] = both[name].fillna(both[f"sax_measured_{name}"].astype(float))
    return both


def duplicates(lines: pd.DataFrame) -> dict[str, pd.Index]:
    """Labels, by reason, of records with exactly the same signal as another one.

    Under two people nobody can tell whose it is: all copies go. Under one person the first copy stays.
    """
    read = lines.loc[lines["reason"] == "", ["digest", "person_id"]]
    read = read[read.duplicated("digest", keep=False)]
    across = read.groupby("digest")["person_id"].transform("nunique") > 1
    again = read.duplicated() & ~across
    return {WITHIN: read.index[again], ACROSS: read.index[across]}


def _require_some(lines: pd.DataFrame, name: str) -> None:
    if (lines["reason"] == "").any():
        return
    commonest = lines["reason"].astype("str").value_counts().head(4)
    counts = ", ".join(f"{reason} ({n})" for reason, n in commonest.items())
    raise StudyError(f"store/{name}: not one record can be used: {counts}; run `python -m cardionets check {name}`.")


def _rows(kept: pd.DataFrame) -> pd.DataFrame:
    """Final rows of every array; records of one person that name the same cine share its row."""
    kept = kept.assign(row=np.arange(len(kept)))
    for name, column in list(store.ROW_OF.items())[2:]:
        has = kept[f"{name}_slot"] >= 0
        kept[column] = -1
        kept.loc[has, column] = pd.factorize(kept[f"{name.removesuffix('_mask')}_file"][has])[0]
        kept[f"{name}_new"] = has & ~kept[column].where(has).duplicated()
    return kept


def _parts(blocks: list[Path], kept: pd.DataFrame) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """Parts for :func:`cardionets.store.write`: what a block adds to an array is one run of consecutive rows."""
    places = {name: np.arange(len(kept)) for name in store.ARRAYS}
    places |= {name: np.flatnonzero(kept[f"{name}_new"]) for name in store.ARRAYS if f"{name}_new" in kept}
    for name, column in store.ROW_OF.items():
        new, block = places[name], kept["block"].to_numpy()[places[name]]
        slots = kept[f"{name}_slot" if f"{name}_slot" in kept else "slot"].to_numpy()[new]
        rows = kept[column].to_numpy()
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        for start, stop in pairwise([*starts.tolist(), len(new)]):
            array = np.load(blocks[block[start]] / f"{name}.npy")
            some = slots[start:stop]
            yield name, int(rows[new[start]]), array if some.tolist() == list(range(len(array))) else array[some]


def records_table(kept: pd.DataFrame, index: Index, centre: str, window: str) -> pd.DataFrame:
    """The records table (:data:`cardionets.schema.RECORDS`) of the kept records, in their order."""
    table = pd.DataFrame({"record": kept["record_id"], "person": kept["person_id"], "centre": centre})
    table["split"] = kept["split"]
    rows = ["row", *schema.ROWS]
    table[rows] = kept[rows].astype("int64")
    table["interval_days"] = _interval(kept)
    numbers = [*schema.COVARIATES, *schema.FEATURES, *schema.NOISE]
    values = kept[[*numbers, *phenotypes.NAMES]].astype(float)
    quality = kept[_flags(kept)].astype("boolean").fillna(False).astype(bool)
    labelled = labels.disease_table(index, diseases.NAMES, window)
    sex = kept["sex"].astype("string")
    kind = labels.subtypes(index).rename("subtype")
    device = index.records["device"].astype("string")
    device = device.mask(device == "")
    return pd.concat([table, values, sex, labelled, kind, device, quality], axis=1)


def _flags(kept: pd.DataFrame) -> list[str]:
    return sorted(str(name) for name in kept if str(name).startswith("q_"))


def _interval(kept: pd.DataFrame) -> pd.Series:
    """Days from the ECG to the CMR: the centre's date, else the one in the images; NaN without CMR or without dates."""
    scanned = pd.to_datetime(kept["sax_scanned"]).fillna(pd.to_datetime(kept["4ch_scanned"]))
    when = kept["cmr_date"].fillna(scanned).dt.normalize()
    days: pd.Series = (when - kept["ecg_date"].dt.normalize()).dt.days.astype(float)
    imaged = (kept[["sax_row", "lax_row"]] >= 0).any(axis=1) | kept[list(phenotypes.NAMES)].notna().any(axis=1)
    return days.where(imaged)


def _flow(listing: Listing, read: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    # Of what was read, age and sex include what the files said; whom somebody excluded comes after it
    rest = listing.rows(len(read), listing.records.num_rows, ["age", "sex", "excluded"])
    rest = rest.rename(columns={"excluded": "reason"})
    source = pd.concat([part.astype({"sex": "str", "reason": "str"}) for part in (read, rest)])
    reason = source.pop("reason")
    cines = {"sax": kept["sax_row"] >= 0, "4ch": kept["lax_row"] >= 0}
    cines["sax and 4ch"] = cines["sax"] & cines["4ch"]
    bad = {view: kept[f"{view}_reason"].astype("str").fillna("") for view in CINES}
    bad |= {f"{view} mask": kept[f"{view}_mask_reason"].astype("str").fillna("") for view in CINES}
    flags = {name: kept[name] for name in _flags(kept)}
    return flow.table(source.assign(person=listing.person), reason, kept["split"], cines, bad, flags)


def _meta(cohort: Cohort, study: Study, name: str, notes: tuple[str, ...]) -> dict[str, Any]:
    protocol = study.protocol
    return {
        "centre": name,
        "label": cohort.label,
        "role": cohort.role,
        "layout": cohort.layout,
        "simulated": cohort.simulated,
        "window": protocol.endpoints.window,
        "filters": protocol.ecg.model_dump(mode="json"),
        "quality": protocol.quality.model_dump(mode="json"),
        "declared": cohort.ecg.model_dump(mode="json"),
        "notes": list(notes),
    }
