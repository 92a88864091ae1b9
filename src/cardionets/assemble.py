"""From finished blocks to the store: last exclusions, rows, labels, split and flow of one cohort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cardionets import diseases, flow, phenotypes, schema, splits, store
from cardionets.cohorts import Index, labels
from cardionets.config import Cohort, SplitProtocol, Study, StudyError

CINES: Final = {"sax": "sax", "4ch": "lax"}
ACROSS: Final = "duplicate_across_people"
WITHIN: Final = "duplicate_of_same_person"
TOGETHER: Final = 64
"""Blocks whose tables are held at once: one row group of the records table."""
SAID: Final = ("person", "age", "sex", "excluded")
"""What the flow needs to know of everybody."""
VIEW: Final = tuple(f"{view}_{key}" for view in CINES for key in ("slot", "mask_slot", "reason", "mask_reason"))
ROWS: Final = tuple(store.ROW_OF.values())


def assemble(index: Index, table: pd.DataFrame, blocks: list[Path], study: Study, name: str, target: Path) -> None:
    """Make the store ``target`` of the cohort ``name``.

    ``index``: everything the centre has, with ``person_id`` and ``record_id``; ``table``: the rows of it that were
    read, in the order of ``blocks``, under their labels in the index. Raises StudyError when a block does not fit or no
    record can be used. There may be millions of rows: of everybody a few numbers are held, all else group by group.
    """
    cohort, protocol = study.cohort(name), study.protocol
    gist = _gist(index, table, blocks)
    gist["reason"] = gist["reason"].where(gist["reason"] != "", duplicates(gist)).astype("str")
    _require_some(gist, name)
    kept = _rows(gist[gist["reason"] == ""].drop(columns=["reason", "digest"]))
    kept["split"] = _split(table["person_id"].loc[kept.index], protocol.split) if cohort.is_split else "test"
    kept["split"] = kept["split"].astype("str")
    steps = _flow(index.records[list(SAID)], gist[["reason", "age", "sex"]], kept)
    del gist
    groups = _groups(index, table, blocks, kept)
    records = (records_table(lines, part, name, protocol.endpoints.window) for lines, part in groups)
    store.write(target, study.grid, _meta(cohort, study, name, index.notes), records, steps, _parts(blocks, kept))


def _together(index: Index, table: pd.DataFrame, blocks: list[Path]) -> Iterator[pd.DataFrame]:
    """What the centre and the files say of the records in some blocks, blocks after blocks, labelled as ``table``."""
    start = 0
    for first in range(0, len(blocks), TOGETHER):
        lines = _lines(blocks[first : first + TOGETHER])
        labels = table.index[start : start + len(lines)]
        start += len(lines)
        last = first + TOGETHER >= len(blocks)
        if len(labels) < len(lines) or (last and start != len(table)):
            text = f"{start} records or more in the blocks but {len(table)} in the plan; delete the folder."
            raise StudyError(f"store/.work: {text}")
        block = first + lines["block"].cat.codes.to_numpy(np.int32)
        yield _complete(lines, index.records.loc[labels]).assign(block=block).set_axis(labels)


def _gist(index: Index, table: pd.DataFrame, blocks: list[Path]) -> pd.DataFrame:
    """Of every record, labelled as ``table``, what exclusions, rows and the flow need: some hundred bytes."""
    parts = []
    for lines in _together(index, table, blocks):
        part = lines[["age", "block"]].copy()
        for column in ("sex", "reason", "digest", *(name for name in VIEW if name.endswith("reason"))):
            part[column] = lines[column].astype("str")
        for column in ("slot", *(name for name in VIEW if name.endswith("slot"))):
            part[column] = lines[column].fillna(-1).astype(np.int32)
        parts.append(part.assign(**{name: _true(lines[name]) for name in _flags(lines)}))
    gist = pd.concat(parts)
    gist = gist.assign(**{name: _true(gist[name]) for name in _flags(gist)})
    for view, path in CINES.items():
        gist[f"{view}_file"] = pd.factorize(table[path] + "|" + table[f"{path}_mask"])[0].astype(np.int32)
    return gist.assign(person_id=pd.factorize(table["person_id"])[0].astype(np.int32))


def _true(flag: pd.Series) -> pd.Series:
    return flag.astype("boolean").fillna(False).astype(bool)


def _split(people: pd.Series, protocol: SplitProtocol) -> NDArray[Any]:
    codes, unique = pd.factorize(people)
    return splits.assign(unique, protocol)[codes]


def _groups(
    index: Index, table: pd.DataFrame, blocks: list[Path], kept: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, Index]]:
    """The kept records, group by group, with their rows and split, and the same with their people's codes."""
    flags = _flags(kept)
    for lines in _together(index, table, blocks):
        mine = kept.loc[kept.index.intersection(lines.index), ["split", *ROWS[1:], *flags]]
        whole = lines.drop(columns=_flags(lines)).loc[mine.index].join(mine)
        codes = index.codes[index.codes["person"].isin(whole["person"])]
        yield whole, Index(whole, codes)


def _lines(blocks: list[Path]) -> pd.DataFrame:
    """The tables of all blocks as one; a column that a block lacks is missing there."""
    tables = [pq.ParquetFile(path / "table.parquet").read().to_pandas() for path in blocks]
    names = np.repeat([path.name for path in blocks], [len(table) for table in tables])
    whole: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return whole.assign(block=pd.Categorical(names))


def _complete(lines: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What was read beside what the centre says; the centre's table wins, the file fills its gaps."""
    said = ("file_age", "file_sex", "file_date", "file_device", "digest", *schema.FEATURES, *schema.NOISE)
    views = (f"{view}_{key}" for view in CINES for key in ("slot", "mask_slot", "reason", "mask_reason", "scanned"))
    lines = lines.reindex(columns=list(dict.fromkeys([*lines.columns, *said, *views])))
    both = pd.concat([table.reset_index(drop=True), lines], axis=1)
    unknown = [name for name in phenotypes.NAMES if name not in both]
    both = pd.concat([both, pd.DataFrame(np.nan, index=both.index, columns=unknown)], axis=1)
    both["age"] = both["age"].fillna(pd.to_numeric(both["file_age"]))
    both["sex"] = both["sex"].where(both["sex"].notna(), both["file_sex"])
    both["device"] = both["device"].where(both["device"].fillna("").ne(""), both["file_device"])
    both["ecg_date"] = both["ecg_date"].fillna(pd.to_datetime(both["file_date"]))
    for name in (name for name in phenotypes.NAMES if f"sax_measured_{name}" in both):
        both[name] = both[name].fillna(both[f"sax_measured_{name}"])
    return both


def duplicates(lines: pd.DataFrame) -> pd.Series:
    """Reason for records with exactly the same signal as another one, else "".

    Under two people nobody can tell whose it is: all copies go. Under one person the first copy stays.
    """
    read = lines[lines["reason"] == ""]
    people = read.groupby("digest")["person_id"].transform("nunique")
    again = read.duplicated(["digest", "person_id"])
    found = pd.Series("", index=lines.index, dtype=object)
    found[read.index[again]] = WITHIN
    found[read.index[people > 1]] = ACROSS
    return found


def _require_some(lines: pd.DataFrame, name: str) -> None:
    if (lines["reason"] == "").any():
        return
    counts = ", ".join(f"{reason} ({n})" for reason, n in lines["reason"].value_counts().head(4).items())
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
    for number in kept["block"].unique().tolist():
        mine = kept[kept["block"] == number]
        for name, column in store.ROW_OF.items():
            new = mine[mine[f"{name}_new"]] if f"{name}_new" in mine else mine
            if len(new):
                slots = new[f"{name}_slot" if f"{name}_slot" in new else "slot"].to_numpy(int)
                yield name, int(new[column].iloc[0]), np.load(blocks[number] / f"{name}.npy", "r")[slots]


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


def _flow(source: pd.DataFrame, read: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    # All three are labelled as the index; of what was read, age and sex include what the files said
    for column in ("age", "sex"):
        source[column] = read[column].reindex(source.index).where(source["excluded"] == "", source[column])
    reason = source["excluded"].where(source["excluded"] != "", read["reason"].reindex(source.index))
    used = kept.reindex(source.index[(reason == "").to_numpy()])
    cines = {"sax": used["sax_row"] >= 0, "4ch": used["lax_row"] >= 0}
    cines["sax and 4ch"] = cines["sax"] & cines["4ch"]
    bad = {view: used[f"{view}_reason"].fillna("") for view in CINES}
    bad |= {f"{view} mask": used[f"{view}_mask_reason"].fillna("") for view in CINES}
    flags = {name: used[name].fillna(False).astype(bool) for name in _flags(used)}
    return flow.table(source, reason, used["split"], cines, bad, flags)


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
