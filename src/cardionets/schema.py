"""Schemas of the tables people and stages exchange: a centre's manifest and the store's records table.

Both are checked with pandera and report every fault at once, one sentence per column and rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pandas as pd
from pandera import errors
from pandera.pandas import Check, Column, DataFrameSchema

from cardionets import diseases, phenotypes
from cardionets.cohorts import dates
from cardionets.config import RANGES, StudyError
from cardionets.splits import SPLITS

ROWS: Final = ("sax_row", "lax_row", "sax_mask_row", "lax_mask_row")
FEATURES: Final = ("rate_bpm", "rr_cv", "rr_rmssd_ms", "qrs_ms")
NOISE: Final = ("baseline_uv", "mains_uv", "noise_uv")
COVARIATES: Final = ("age", "height_cm", "weight_kg")
SEXES: Final = ("F", "M")
DATE: Final = "must be a date, YYYY-MM-DD, alone or with a time of day without a zone"
_ISO: Final = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"


def _rule(test: Callable[[pd.Series], Any], error: str) -> Check:
    return Check(test, error=error, ignore_na=True)


def _between(name: str) -> Check:
    low, high, unit = RANGES[name]
    text = f"must be a number of {unit} between {low} and {high}"
    return _rule(lambda values: pd.to_numeric(values, errors="coerce").between(low, high), text)


def _text(*checks: Check, required: bool = True, blank: bool = True, unique: bool = False) -> Column:
    return Column(None, list(checks), nullable=blank, required=required, unique=unique)


def is_date(values: pd.Series) -> pd.Series:
    """Whether each text is a day, YYYY-MM-DD, alone or with a time of day: no order of day and month is guessed."""
    return values.str.fullmatch(_ISO).fillna(False).astype(bool) & dates(values).notna()


_DATE = _rule(is_date, DATE)
_CODED = _rule(lambda values: values.str.lower().isin(["0", "1", "0.0", "1.0", "ecg"]), "must be 0, 1 or ecg")
_SEX = _rule(lambda values: values.str.upper().isin(SEXES), "must be F or M, or empty where unknown")
_KIND = _rule(
    lambda values: values.str.lower().isin(["none", *diseases.SUBTYPES]), "must be dcm, hcm, rcm, none or empty"
)
_NUMBER = _rule(lambda values: pd.to_numeric(values, errors="coerce").notna(), "must be a number")

MANIFEST: Final = DataFrameSchema(
    {
        "record": _text(blank=False, unique=True),
        "person": _text(blank=False),
        "ecg": _text(blank=False),
        "ecg_date": _text(_DATE),
        "age": _text(_between("age")),
        "sex": _text(_SEX),
        "height_cm": _text(_between("height_cm"), required=False),
        "weight_kg": _text(_between("weight_kg"), required=False),
        "cmr_date": _text(_DATE, required=False),
        "sax": _text(required=False),
        "lax": _text(required=False),
        "sax_mask": _text(required=False),
        "lax_mask": _text(required=False),
        "icd10": _text(required=False),
        "icd9": _text(required=False),
        "snomed": _text(required=False),
        "coded": _text(_CODED, required=False),
        "subtype": _text(_KIND, required=False),
        "device": _text(required=False),
        **{name: _text(_NUMBER, required=False) for name in phenotypes.NAMES},
    }
)
"""A hospital's manifest, every cell as text; an empty cell is unknown."""


def _number(*checks: Check) -> Column:
    return Column(float, list(checks), nullable=True)


def _row() -> Column:
    return Column("int64", Check.ge(-1, error="must be a row number or -1"))


RECORDS: Final = DataFrameSchema(
    {
        "record": _text(blank=False, unique=True),
        "person": _text(blank=False),
        "centre": _text(blank=False),
        "split": _text(Check.isin(SPLITS, error="must be train, val or test"), blank=False),
        "row": Column("int64", Check.ge(0, error="must be a row number"), unique=True),
        **{name: _row() for name in ROWS},
        "interval_days": _number(),
        **{name: _number(_between(name)) for name in COVARIATES},
        "sex": _text(Check.isin(SEXES, error="must be F, M or missing", ignore_na=True)),
        **{name: _number(Check.ge(0, error="must not be negative", ignore_na=True)) for name in (*FEATURES, *NOISE)},
        **{name: _number() for name in phenotypes.NAMES},
        **{name: Column("boolean", nullable=True, required=False) for name in diseases.NAMES},
        "subtype": _text(Check.isin(list(diseases.SUBTYPES), error="must be dcm, hcm, rcm or missing", ignore_na=True)),
        "device": _text(required=False),
        r"^q_.+$": Column(bool, regex=True, required=False),
    }
)
"""The store's records table: one row per kept ECG."""


def _sentence(source: str, column: object, rule: object, cases: pd.DataFrame) -> str:
    if rule == "column_in_dataframe":
        missing = ", ".join(sorted(map(str, cases["failure_case"])))
        return f"{source}: missing columns {missing}; add them, or map them under columns."
    words = {"not_nullable": "must not be empty", "field_uniqueness": "must not stand twice"}
    text = words.get(str(rule), str(rule).replace("dtype(", "must have type ").rstrip(")").replace("'", ""))
    places = cases["index"].dropna()
    if not len(places):
        return f"{source}: {column}: {text} (found {cases['failure_case'].iloc[0]!r}); correct it."
    first = f"first: {cases['failure_case'].iloc[0]!r} in data row {int(places.iloc[0]) + 1}"
    return f"{source}: {column}: {text}; {places.nunique()} rows do not ({first}); correct them."


def faults(schema: DataFrameSchema, frame: pd.DataFrame, source: str) -> list[str]:
    """Every fault of ``frame`` as one sentence per column and rule; an empty list when there is none."""
    try:
        schema.validate(frame, lazy=True, inplace=True)  # no rule changes a value: no copy is needed
    except errors.SchemaErrors as error:
        cases = error.failure_cases
        cases["column"] = cases["column"].where(cases["check"] != "column_in_dataframe", "")
        groups = cases.groupby(["column", "check"], sort=True, dropna=False)
        return [_sentence(source, column, rule, group) for (column, rule), group in groups]
    return []


def validate(schema: DataFrameSchema, frame: pd.DataFrame, source: str) -> None:
    """Raise one ``StudyError`` with every fault of ``frame``."""
    found = faults(schema, frame.reset_index(drop=True), source)
    if found:
        raise StudyError("\n".join(found))
