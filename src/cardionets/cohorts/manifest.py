"""Layout ``manifest``: a table with one row per ECG, paths relative to the cohort's folder; the guide is docs/site.md.

Columns carry the names of :data:`cardionets.schema.MANIFEST`, UK Biobank phenotype fields (``24100-2.0``,
``f.24100.2.0`` or ``p24100_i2``), or the site's own names mapped in ``cohorts.yaml`` under ``columns`` (our name:
theirs). Codes in one cell are joined by ";".
``coded``: 1 where the person's diagnoses are complete, ``ecg`` where the ECG's own findings are, 0 where neither is.
Diagnoses with their dates stand in a table of their own, named in ``cohorts.yaml`` under ``codes``.
"""

from __future__ import annotations

import difflib

import pandas as pd

from cardionets import phenotypes, schema
from cardionets.cohorts import Index, codes_of, make_index, read_table, rename
from cardionets.cohorts.ukb import canonical
from cardionets.config import Cohort, StudyError

_VOCABULARIES = ("icd10", "icd9", "snomed")
_FIELDS = {f"{item.field}-{instance}.0": item.name for item in phenotypes.PHENOTYPES for instance in (2, 3)}


def _renamed(table: pd.DataFrame, cohort: Cohort, source: str) -> tuple[pd.DataFrame, list[str]]:
    known = list(schema.MANIFEST.columns)
    faults = [
        f"cohorts.yaml: columns.{ours}: not a column of the contract; choose {', '.join(known[:18])} or a phenotype."
        for ours in cohort.columns
        if ours not in known
    ]
    faults += [
        f"cohorts.yaml: columns.{ours}: {cohort.manifest} has no column {theirs!r}; correct the name."
        for ours, theirs in cohort.columns.items()
        if theirs not in table
    ]
    fields = {name: _FIELDS[canonical(str(name))] for name in table if canonical(str(name)) in _FIELDS}
    ours, clashes = rename(table, fields | {theirs: ours for ours, theirs in cohort.columns.items()}, source)
    return ours, faults + clashes


def _typos(table: pd.DataFrame, source: str) -> tuple[list[str], list[str]]:
    """Unknown columns: those that look like a misspelt missing one are faults, the others are ignored by name."""
    known = list(schema.MANIFEST.columns)
    free = [name for name in known if name not in table]
    faults, ignored = [], []
    for column in (str(name) for name in table.columns if name not in known):
        near = difflib.get_close_matches(column.lower(), free, n=1, cutoff=0.75)
        if near:
            faults.append(
                f"{source}: {column}: unknown column, probably {near[0]}; correct the spelling or map it under columns."
            )
        else:
            ignored.append(column)
    return faults, ignored


def _coded(table: pd.DataFrame) -> pd.Series:
    """How each row is coded, one of :data:`cardionets.cohorts.CODED`, as its column says.

    Without the column a row is "full" where a code stands: an empty cell is never a "no".
    """
    if "coded" in table:
        said = table["coded"].astype("string").str.strip().str.lower()
        return said.map({"1": "full", "1.0": "full", "ecg": "ecg"}).astype(object).fillna("none")
    present = [name for name in _VOCABULARIES if name in table]
    return table[present].notna().any(axis=1).map({True: "full", False: "none"})


def _dated(cohort: Cohort, people: pd.Series) -> pd.DataFrame:
    """The table of dated diagnoses, one row per code, of the people of the manifest; an empty date is unknown."""
    source = f"cohort {cohort.label}"
    table = read_table(cohort.path / str(cohort.codes), source, ["person", "vocabulary", "code", "date"])
    words = table["vocabulary"].str.strip().str.lower()
    tests = {
        "vocabulary": (words.isin(_VOCABULARIES), f"must be one of {', '.join(_VOCABULARIES)}"),
        "date": (table["date"].isna() | schema.is_date(table["date"]), schema.DATE),
    }
    faults = [
        f"{source}: {cohort.codes}: {name}: {rule}; {(~good).sum()} rows do not "
        f"(first: {table[name][~good].iloc[0]!r}); correct them."
        for name, (good, rule) in tests.items()
        if not good.all()
    ]
    if faults:
        raise StudyError("\n".join(faults))
    return table.assign(vocabulary=words, record="")[table["person"].isin(people)]


def index(cohort: Cohort) -> Index:
    """One row per line of the manifest. Raises one ``StudyError`` with every missing, misspelt or malformed column."""
    source = f"{cohort.path.name}/{cohort.manifest}"
    table, faults = _renamed(read_table(cohort.path / cohort.manifest, f"cohort {cohort.label}"), cohort, source)
    typos, ignored = _typos(table, source)
    faults += typos + schema.faults(schema.MANIFEST, table, source)
    if faults:
        raise StudyError("\n".join(faults))
    table["coded"] = _coded(table)
    own = table["record"].where(table["coded"] == "ecg", "")  # what an ECG shows is said of that ECG alone
    present = [name for name in _VOCABULARIES if name in table]
    codes = [codes_of(table["person"], table[name], name, per_record=own) for name in present]
    codes += [_dated(cohort, table["person"])] if cohort.codes else []
    notes = (f"columns ignored: {', '.join(ignored)}",) if ignored else ()
    return make_index(table, pd.concat(codes, ignore_index=True) if codes else None, notes)
