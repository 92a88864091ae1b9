"""Layout ``ukb``: a UK Biobank application folder.

``ecg/<eid>_20205_<instance>_0.xml``, ``cmr/<eid>_20208_...zip`` (long axis), ``cmr/<eid>_20209_...zip`` (short axis),
``masks/<eid>_sax.nii.gz`` and ``_4ch.nii.gz`` where segmentations exist, ``main.csv`` with columns such as
``24100-2.0`` (the spellings ``f.24100.2.0`` and ``p24100_i2`` are understood), and the participants who withdrew in
``withdrawn*.csv``. ECG and CMR of one instance are from the same visit, field 53. Diagnoses: fields 41270 (ICD-10) and
41271 (ICD-9), first dates 41280, 41281.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cardionets import phenotypes
from cardionets.cohorts import Index, make_index, read_table, rename
from cardionets.config import Cohort, StudyError

_ECG = re.compile(r"(?P<eid>\d+)_20205_(?P<instance>\d)_\d+\.xml$", re.IGNORECASE)
_COLUMN = re.compile(r"^(?:f\.|p)?(?P<field>\d+)(?:[-._]i?(?P<instance>\d+))?(?:[._]a?(?P<item>\d+))?$")
_NAMED = {"31": "sex", "21003": "age", "50": "height_cm", "21002": "weight_kg", "53": "ecg_date"}
_SEX = {"0": "F", "1": "M", "female": "F", "male": "M", "0.0": "F", "1.0": "M"}
_DIAGNOSES = {"icd10": ("41270", "41280"), "icd9": ("41271", "41281")}


def canonical(column: str) -> str:
    """``f.24100.2.0`` and ``p24100_i2`` as ``24100-2.0``; any other name unchanged."""
    match = _COLUMN.match(column)
    return f"{match['field']}-{match['instance'] or 0}.{match['item'] or 0}" if match else column


def _main(cohort: Cohort) -> pd.DataFrame:
    source = f"cohort {cohort.label}"
    table = read_table(cohort.path / "main.csv", source)
    names = {name: "eid" if name == "f.eid" else canonical(str(name)) for name in table}
    table, faults = rename(table, names, f"{source}: main.csv")
    if faults:
        raise StudyError("\n".join(faults))
    needed = ["eid", "31-0.0", "21003-2.0", "53-2.0"]
    missing = [name for name in needed if name not in table]
    if missing:
        raise StudyError(
            f"{source}: main.csv: missing columns {', '.join(missing)}; extract these fields and add them."
        )
    if table["eid"].duplicated().any():
        raise StudyError(f"{source}: main.csv: eid: participants stand more than once; keep one row each.")
    return table.set_index("eid")


def _visits(cohort: Cohort) -> pd.DataFrame:
    rows = []
    for path in sorted((cohort.path / "ecg").glob("*.[xX][mM][lL]")):
        match = _ECG.search(path.name)
        if match:
            rows.append({"person": match["eid"], "instance": match["instance"], "ecg": f"ecg/{path.name}"})
    visits = pd.DataFrame(rows, columns=["person", "instance", "ecg"])
    visits["record"] = visits["ecg"].map(lambda name: Path(name).stem)
    return visits


def _files(visits: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    present = {f"{kind}/{path.name}" for kind in ("cmr", "masks") for path in (cohort.path / kind).glob("*")}
    stem = visits["person"] + "_"
    visit = "_" + visits["instance"] + "_0.zip"
    second = visits["instance"] == "2"
    paths = {
        "sax": "cmr/" + stem + "20209" + visit,
        "lax": "cmr/" + stem + "20208" + visit,
        "sax_mask": ("masks/" + stem + "sax.nii.gz").where(second, ""),
        "lax_mask": ("masks/" + stem + "4ch.nii.gz").where(second, ""),
    }
    return pd.DataFrame({view: path.where(path.isin(present), "") for view, path in paths.items()})


def _fields(visits: pd.DataFrame, main: pd.DataFrame) -> pd.DataFrame:
    named = _NAMED | {str(field): item.name for field, item in phenotypes.BY_FIELD.items()}
    parts = []
    for instance in visits["instance"].unique():
        group = visits[visits["instance"] == instance]
        rows = main.reindex(group["person"])
        columns = {name: f"{field}-{0 if field == '31' else instance}.0" for field, name in named.items()}
        values = {name: rows[column].to_numpy() for name, column in columns.items() if column in rows}
        parts.append(pd.DataFrame(values, index=group.index))
    return pd.concat(parts).reindex(visits.index) if parts else pd.DataFrame(index=visits.index)


def _codes(main: pd.DataFrame, vocabulary: str) -> pd.DataFrame:
    """One row per code; a cell may hold a whole list (as the research platform exports) in the order of its dates."""
    code_field, date_field = _DIAGNOSES[vocabulary]
    parts = []
    for column in (name for name in main.columns if re.fullmatch(rf"{code_field}-\d+\.\d+", name)):
        first = int(column.rpartition(".")[2])
        coded = main[column].dropna().str.findall(r"[0-9A-Za-z.]+").explode().dropna()
        item = first + coded.groupby(level=0).cumcount()
        for number in item.unique():
            some, when = coded[item == number], f"{date_field}-0.{number}"
            part = pd.DataFrame({"person": some.index, "code": some.to_numpy(), "vocabulary": vocabulary})
            part["date"] = main.loc[some.index, when].to_numpy() if when in main else None
            parts.append(part)
    return (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["person", "code", "vocabulary", "date"])
    )


def index(cohort: Cohort) -> Index:
    """One row per ECG file; without a row in ``main.csv`` its values are missing and its diseases unknown."""
    main, visits = _main(cohort), _visits(cohort)
    table = visits.join(_files(visits, cohort)).join(_fields(visits, main))
    known = table["person"].isin(main.index)
    table["sex"] = table["sex"].astype("string").str.strip().str.lower().map(_SEX) if "sex" in table else ""
    table["cmr_date"] = table.get("ecg_date")
    seen = main[main.index.isin(table["person"])]
    codes = pd.concat([_codes(seen, vocabulary) for vocabulary in _DIAGNOSES], ignore_index=True)
    table["coded"] = known.map({True: "full", False: "none"}) if len(codes) else "none"
    notes = [f"{int((~known).sum())} ECG files have no row in main.csv"] if (~known).any() else []
    return make_index(table, codes, tuple(notes))
