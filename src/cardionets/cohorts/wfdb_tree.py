"""Layout ``wfdb``: WFDB headers whose comment lines carry age, sex and SNOMED CT codes (PhysioNet / CinC style).

Such trees name no person: every record counts as one person, and the gate on identical signals looks across all of
them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cardionets.cohorts import Index, codes_of, make_index
from cardionets.config import Cohort, StudyError

_SEX = {"f": "F", "female": "F", "m": "M", "male": "M"}


def comments(header: Path) -> dict[str, str]:
    """Comment lines ``# Key: value`` (with or without the blank) as a mapping with lower-case keys."""
    found = {}
    with header.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            match = re.match(r"#\s*([A-Za-z][\w ]*?)\s*:\s*(.*)", line)
            if match:
                found[match[1].lower()] = match[2].strip()
    return found


def segments(header: Path) -> set[Path]:
    """Headers of the segments that a master header (record line ``name/N ...``) joins; of any other header none."""
    with header.open(encoding="utf-8", errors="replace") as handle:
        words = (line.split() for line in handle if line.strip() and not line.startswith("#"))
        if "/" not in next(words, [""])[0]:
            return set()
        return {header.parent / f"{name}.hea" for name, *_ in words}


def _age(text: str) -> float:
    match = re.match(r"\d+(\.\d+)?", text)
    return float(match[0]) if match and 0 < float(match[0]) <= 120 else float("nan")


def headers(cohort: Cohort) -> list[Path]:
    """Headers below the cohort's folder that match its ``include`` patterns, sorted."""
    patterns = cohort.include or ("**/*.hea",)
    found = {path for pattern in patterns for path in cohort.path.glob(pattern) if path.suffix == ".hea"}
    if not found:
        wanted = ", ".join(patterns)
        text = f"cohorts.yaml: include: no .hea file matches {wanted} under {cohort.path}; correct the patterns."
        raise StudyError(text)
    return sorted(found)


def index(cohort: Cohort) -> Index:
    """One row per header that is no segment of another.

    ``coded`` is "ecg" where a ``Dx`` line exists: it decides what an ECG shows, nothing else.
    """
    found, rows = headers(cohort), []
    parts = set(found) & set().union(*map(segments, found))
    for path in (path for path in found if path not in parts):
        said = comments(path)
        name = path.relative_to(cohort.path).with_suffix("").as_posix()
        row: dict[str, object] = {"record": name, "person": name, "ecg": path.relative_to(cohort.path).as_posix()}
        row |= {"age": _age(said.get("age", "")), "sex": _SEX.get(said.get("sex", "").lower(), "")}
        row |= {"coded": "ecg" if "dx" in said else "none", "dx": said.get("dx", "")}
        rows.append(row)
    if not rows:
        text = "every header is listed as a segment of another; correct the record lines of the master headers."
        raise StudyError(f"cohorts.yaml: include: {cohort.path}: {text}")
    table = pd.DataFrame(rows)
    codes = codes_of(table["person"], table["dx"], "snomed", per_record=table["record"])
    notes = (f"{len(parts)} WFDB headers are segments and are read with their master header",) if parts else ()
    return make_index(table, codes, notes)
