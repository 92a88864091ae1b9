"""Layout ``mimic``: MIMIC-IV-ECG (``record_list.csv``, ``files/``) beside the hospital tables of MIMIC-IV (``hosp/``).

Age on the day of the ECG is ``anchor_age`` plus the years since ``anchor_year``; dates are shifted per patient by the
source, which keeps intervals. A patient who was never admitted has unknown diseases. The rhythm of an ECG is what the
recorder's statements in ``machine_measurements.csv`` call it, where they do so without doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from cardionets.cohorts import CODE_COLUMNS, ROWS_AT_ONCE, Index, dates, labels, make_index, read_table, spilled
from cardionets.config import Cohort, StudyError

_TABLES = {
    "record_list.csv": ["subject_id", "study_id", "path"],
    "hosp/patients.csv": ["subject_id", "gender", "anchor_age", "anchor_year"],
    "hosp/diagnoses_icd.csv": ["subject_id", "hadm_id", "icd_code", "icd_version"],
    "hosp/admissions.csv": ["subject_id", "hadm_id", "admittime"],
}
_STATEMENTS: Final = "machine_measurements.csv"
_FIBRILLATION: Final = r"\batrial (?:fib|flutter)"
_HEDGED: Final = r"possible|probable|consider|suspect|rule out|\bno |\bor "
_DOUBT: Final = rf"(?:{_HEDGED})[^;]*{_FIBRILLATION}|undetermined|unclassified"
_NAMED: Final = r"\bsinus\b|\brhythm\b|tachycardia|bradycardia|\bpaced\b|pacemaker"


def _tables(cohort: Cohort) -> list[pd.DataFrame]:
    """The four tables: of the hospital's, the people who have an ECG, and the codes that decide anything."""
    tables, faults, people = list[pd.DataFrame](), list[str](), set[str]()

    def keep(part: pd.DataFrame) -> pd.DataFrame:
        part = part[[name for name in (*columns, "ecg_time") if name in part]]
        part = part[_among(part["subject_id"], people)] if tables else part
        return part[labels.decides("icd" + part["icd_version"], part["icd_code"])] if "icd_code" in part else part

    for name, columns in _TABLES.items():
        try:
            tables.append(read_table(cohort.path / name, f"cohort {cohort.label}", columns, keep))
            people = people or set(tables[0]["subject_id"].unique())
        except StudyError as fault:
            faults.append(str(fault))
    if faults:
        raise StudyError("\n".join(faults))
    return tables


def _among(values: pd.Series, known: set[str]) -> list[bool]:
    """``values.isin(known)`` without another conversion of ``known`` for every part of a table."""
    return [value in known for value in values.to_numpy(object)]


def _codes(diagnoses: pd.DataFrame, admissions: pd.DataFrame) -> pd.DataFrame:
    when = dates(admissions.set_index("hadm_id")["admittime"])
    when = when[~when.index.duplicated()]
    return pd.DataFrame(
        {
            "person": diagnoses["subject_id"],
            "record": "",
            "vocabulary": "icd" + diagnoses["icd_version"],
            "code": diagnoses["icd_code"],
            "date": diagnoses["hadm_id"].map(when).dt.normalize(),
        }
    )


def _said(part: pd.DataFrame) -> pd.DataFrame:
    """FIBRILLATION or OTHER for each ECG by its statements ``report_0`` ...; those without a clear one are left out."""
    text = pd.Series("", index=part.index, dtype="str")
    for name in (name for name in part if re.fullmatch(r"report_\d+", str(name))):
        text = text + part[name].fillna("").str.lower() + "; "
    doubt, fibrillates, named = (text.str.contains(pattern) for pattern in (_DOUBT, _FIBRILLATION, _NAMED))
    code = np.select([doubt, fibrillates, named], ["", "FIBRILLATION", "OTHER"], "")
    found: pd.DataFrame = part[["subject_id", "study_id"]].assign(code=code)[code != ""]
    return found


def _rhythms(cohort: Cohort) -> pd.DataFrame:
    """The statements' rhythms as codes of the ECGs; none where the table of statements is absent."""
    path = cohort.path / _STATEMENTS
    if not any(p.is_file() for p in (path, path.with_name(path.name + ".gz"))):
        return pd.DataFrame(columns=list(CODE_COLUMNS))
    said = read_table(path, f"cohort {cohort.label}", ["subject_id", "study_id"], _said)
    codes = said.rename(columns={"subject_id": "person", "study_id": "record"})
    return codes.assign(vocabulary="rhythm", date=None)[list(CODE_COLUMNS)]


def index(cohort: Cohort) -> Index:
    """One row per line of ``record_list.csv``; codes carry the day of the admission they were given in.

    Codes that decide no disease of the study are left behind: MIMIC-IV has millions.
    """
    listed, patients, diagnoses, admissions = _tables(cohort)
    codes, admitted = _codes(diagnoses, admissions), set(admissions["subject_id"].unique())
    del diagnoses, admissions
    coded = make_index(pd.DataFrame(), pd.concat([codes, _rhythms(cohort)], ignore_index=True)).codes
    del codes
    return Index(spilled(_records(listed, patients, admitted)), coded)


def _records(listed: pd.DataFrame, patients: pd.DataFrame, admitted: set[str]) -> Iterator[pd.DataFrame]:
    """The index's rows of the listed ECGs, some thousand at a time."""
    patients = patients.drop_duplicates("subject_id").set_index("subject_id")
    anchors = patients[["anchor_age", "anchor_year"]].apply(pd.to_numeric, errors="coerce")
    for start in range(0, max(1, len(listed)), ROWS_AT_ONCE):
        part = listed.iloc[start : start + ROWS_AT_ONCE].reset_index(drop=True)
        when = dates(part["ecg_time"] if "ecg_time" in part else pd.Series([None] * len(part)))
        anchor = anchors.reindex(part["subject_id"].to_numpy()).reset_index(drop=True)
        table = pd.DataFrame({"record": part["study_id"], "person": part["subject_id"], "ecg_date": when})
        table["ecg"] = part["path"].str.removesuffix(".hea") + ".hea"
        table["age"] = anchor["anchor_age"] + when.dt.year - anchor["anchor_year"]
        table["sex"] = part["subject_id"].map(patients["gender"])
        table["coded"] = np.where(_among(part["subject_id"], admitted), "full", "none")
        yield make_index(table).records
