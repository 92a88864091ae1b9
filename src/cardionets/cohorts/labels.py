"""Diseases from diagnosis codes, with the time window against the ECG explicit, and the people to leave out.

Windows: ``any`` = a code at any time; ``prevalent`` = first code on or before the day of the ECG; ``incident`` = first
code after it, people who had the disease before being unknown (they are not at risk). A code without a date decides
``any`` only. What is about one ECG alone has no window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from cardionets.cohorts import Index
from cardionets.config import Cohort, StudyError
from cardionets.diseases import BY_NAME, SUBTYPES, Disease

VOCABULARIES: Final = ("icd10", "icd9", "snomed", "rhythm")


def normalise(code: str) -> str:
    """A code without dots and spaces, upper case: "i42.0 " -> "I420"."""
    return re.sub(r"[.\s]", "", code).upper()


def matches(code: str, listed: Iterable[str], vocabulary: str) -> bool:
    """True for a listed code or, in ICD, a subcode of one; SNOMED matches whole. "I4" and "AI42" are never "I42"."""
    bare = normalise(code)
    if vocabulary == "snomed":
        return bare in set(listed)
    return any(bare.startswith(entry) for entry in listed)


def hits(codes: pd.DataFrame, disease: Disease) -> pd.DataFrame:
    """The rows of an index's ``codes`` that mean ``disease``."""
    keep = np.zeros(len(codes), bool)
    for vocabulary in VOCABULARIES:
        inside = (codes["vocabulary"] == vocabulary).to_numpy()
        listed = getattr(disease, vocabulary)
        meant = {code for code in codes["code"][inside].unique() if matches(code, listed, vocabulary)}
        keep |= inside & codes["code"].isin(meant).to_numpy()
    return codes[keep]


def decides(vocabulary: pd.Series, code: pd.Series) -> np.ndarray:
    """Whether each code decides a disease of the study or a subtype; most codes decide nothing.

    What a recorder says of the rhythm always does: another rhythm means that the heart did not fibrillate.
    """
    keep = np.array(vocabulary == "rhythm", bool)
    listed = {name: {c for d in BY_NAME.values() for c in getattr(d, name)} for name in VOCABULARIES}
    listed["icd10"] |= {code for kind in SUBTYPES.values() for code in kind}
    for name, wanted in listed.items():
        inside = (vocabulary == name).to_numpy(bool)
        meant = {one for one in code[inside].dropna().unique() if matches(one, wanted, name)}
        keep |= inside & code.isin(meant).to_numpy()
    return keep


def _known_absent(coded: pd.Series, disease: Disease) -> np.ndarray:
    return np.asarray((coded == "full") | ((coded == "ecg") & disease.on_ecg))


def _read(index: Index) -> np.ndarray:
    """0 for every ECG whose rhythm was read, NaN for the others, (n,)."""
    stated = index.codes["record"][index.codes["vocabulary"] == "rhythm"]
    read = (index.records["coded"] == "ecg") | index.records["record"].isin(stated)
    return np.where(read, 0.0, np.nan)


def label(index: Index, disease: Disease, window: str) -> pd.Series:
    """Nullable boolean per record: True, False, or NA where the centre's coding cannot tell."""
    records, found = index.records, hits(index.codes, disease)
    own = records["record"].isin(found["record"][found["record"] != ""]).to_numpy()
    if disease.this_ecg:
        return pd.Series(np.where(own, 1.0, _read(index)), index=records.index).astype("boolean")
    of_person = found[found["record"] == ""]
    first = of_person.groupby("person")["date"].min().reindex(records["person"]).set_axis(records.index)
    ever = records["person"].isin(of_person["person"]).to_numpy()
    undated = records["person"].isin(of_person["person"][of_person["date"].isna()]).to_numpy()
    day = records["ecg_date"].dt.normalize()
    before, after = (first <= day).to_numpy(), (first > day).to_numpy()
    value = np.full(len(records), np.nan)
    value[_known_absent(records["coded"], disease)] = 0
    if window == "any":
        value[ever | own] = 1
    elif window == "prevalent":
        value[ever] = np.nan
        value[after & ~undated] = 0
        value[before | own] = 1
    elif window == "incident":
        value[ever] = np.nan
        value[after & ~undated & ~own] = 1
        value[own] = np.nan
    else:
        raise StudyError(f"params.yaml: endpoints.window: {window!r} is unknown; choose any, prevalent or incident.")
    return pd.Series(value, index=records.index).astype("boolean")


def disease_table(index: Index, names: Iterable[str], window: str) -> pd.DataFrame:
    """One nullable boolean column per disease, one row per record of ``index``."""
    return pd.DataFrame({name: label(index, BY_NAME[name], window) for name in names}, index=index.records.index)


def subtypes(index: Index) -> pd.Series:
    """Cardiomyopathy subtype per record: the centre's own, else from ICD-10 when all codes agree, else NA."""
    codes = index.codes[index.codes["vocabulary"] == "icd10"]
    kinds = {code: _subtype(code) for code in codes["code"].unique()}
    coded = pd.DataFrame({"person": codes["person"], "kind": codes["code"].map(kinds)}).dropna()
    given = index.records["subtype"].str.lower()
    own = given.where(given.isin(list(SUBTYPES)), None)
    derived = _agreed(coded).reindex(index.records["person"]).set_axis(own.index)
    return own.where(own.notna(), derived).astype("string")


def _agreed(coded: pd.DataFrame) -> pd.Series:
    unique = coded.drop_duplicates()
    return unique[~unique["person"].duplicated(keep=False)].set_index("person")["kind"]


def _subtype(code: str) -> str | None:
    return next((kind for kind, listed in SUBTYPES.items() if matches(code, listed, "icd10")), None)


def read_people(path: Path) -> set[str]:
    """Identifiers of people (or records) in a list: the first column of a text or CSV file; a header is harmless."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        text = f"cohorts.yaml: exclude: {path.name} does not exist under {path.parent}"
        raise StudyError(f"{text}; correct the name or delete the line.") from None
    except UnicodeError:
        raise StudyError(
            f"cohorts.yaml: exclude: {path.name} is not text; save it as UTF-8, one identifier per line."
        ) from None
    return {cell for line in lines if (cell := re.split(r"[,;\t]", line)[0].strip().strip('"'))}


def exclusion_lists(cohort: Cohort) -> list[tuple[str, Path]]:
    """Reason and file: the site's own list, then those of the withdrawn (UK Biobank)."""
    own = [("site exclusion list", cohort.path / cohort.exclude)] if cohort.exclude else []
    withdrawn = sorted(cohort.path.glob("withdrawn*.csv")) if cohort.layout == "ukb" else []
    return [*own, *(("withdrawn", path) for path in withdrawn)]


def mark_excluded(index: Index, cohort: Cohort) -> Index:
    """Write the reason into ``excluded`` for the people and records of :func:`exclusion_lists`."""
    records = index.records.copy(deep=False)
    for reason, path in exclusion_lists(cohort):
        named = read_people(path)
        out = records["person"].isin(named) | records["record"].isin(named)
        records["excluded"] = records["excluded"].mask(out, reason)
    return replace(index, records=records)
