"""What a centre's tables say about a heart: measured phenotypes and coded diagnoses, with the errors real tables have.

Measurement. Each primary phenotype is multiplied by a log-normal error; derived ones (SV, EF, CO, global means,
distensibility) are recomputed afterwards, so the identities of the true table hold in the measured one. A share of the
error is common to all phenotypes of a view: a contour drawn a little too wide enlarges EDV and ESV and thins the wall.
Published coefficients of variation are those of the DIFFERENCE of two scans; one scan has 1 / sqrt(2) of it:
 - left ventricle EDV 2.9-4.9 %, ESV 4.4-9.2 %, mass 2.8-4.8 %: Grothues et al., Am J Cardiol 2002;90:29;
 - right ventricle EDV 6 %, ESV 14 %: Grothues et al., Am Heart J 2004;147:218;
 - circumferential strain by feature tracking 20 % global, 38 % segmental: Morton et al., JCMR 2012;14:43. One automatic
   tracker repeats itself better than two readings by hand: the smaller segmental values here are our choice;
 - atria, aorta and wall thickness: our choice, in the range between the two.

Diagnoses. Codes come with dates, some before the ECG and some after; some true cases carry no code, some codes are
false, and common codes of other diseases (some of them neighbours in the code list) surround them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes
from cardionets.phenotypes import LONG_AXIS_SEGMENTS, SEGMENTS


@dataclass(frozen=True, slots=True)
class Error:
    """Error of one phenotype: coefficient of variation of one scan, the view it is contoured in, and its direction."""

    cv: float
    view: str
    sign: int = 1


SHARED: Final = 0.5
"""Share of the variance of a measurement error that all phenotypes of a view have in common."""

VIEWS: Final = ("ventricles", "left_atrium", "right_atrium", "ascending", "descending", "thickness", "tracking")


def _errors() -> dict[str, Error]:
    errors = {
        "lv_edv": Error(0.028, "ventricles"),
        "lv_esv": Error(0.048, "ventricles"),
        "lv_mass": Error(0.030, "ventricles", -1),
        "rv_edv": Error(0.044, "ventricles"),
        "rv_esv": Error(0.080, "ventricles"),
        "la_max": Error(0.055, "left_atrium"),
        "la_min": Error(0.080, "left_atrium"),
        "ra_max": Error(0.060, "right_atrium"),
        "ra_min": Error(0.085, "right_atrium"),
        "aao_max": Error(0.020, "ascending"),
        "aao_min": Error(0.022, "ascending"),
        "dao_max": Error(0.020, "descending"),
        "dao_min": Error(0.022, "descending"),
    }
    for i in range(1, SEGMENTS + 1):
        errors[f"wt_{i}"] = Error(0.060, "thickness")
        errors[f"ecc_{i}"] = Error(0.110, "tracking")
        errors[f"err_{i}"] = Error(0.160, "tracking")
    for i in range(1, LONG_AXIS_SEGMENTS + 1):
        errors[f"ell_{i}"] = Error(0.130, "tracking")
    return errors


ERRORS: Final[dict[str, Error]] = _errors()
PULSE_PRESSURE_CV: Final = 0.08
"""Cuff blood pressure against the central pulse pressure that truly distends the aorta."""

MISSING_VIEW: Final = {
    "ventricles": 0.02,
    "left_atrium": 0.025,
    "right_atrium": 0.025,
    "ascending": 0.05,
    "descending": 0.05,
    "thickness": 0.02,
    "tracking": 0.04,
}
"""Share of people whose whole view failed in the segmentation, so that all its phenotypes are missing together."""

MISSING_VALUE: Final = 0.004
"""Share of single values that are missing for no visible reason."""


def global_parts(name: str) -> list[str]:
    """The segments whose mean a ``*_global`` phenotype is, for example ``ecc_global`` -> ``ecc_1`` ... ``ecc_16``."""
    prefix = name.removesuffix("_global")
    return [f"{prefix}_{i}" for i in range(1, (LONG_AXIS_SEGMENTS if prefix == "ell" else SEGMENTS) + 1)]


def with_identities(
    primary: pd.DataFrame, rate_bpm: np.ndarray, pulse_pressure: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """All 82 phenotypes, in field order, from the primary ones.

    ``primary``: (n, len(ERRORS)); ``rate_bpm``: (n,) 1/min; ``pulse_pressure``: mmHg, (n,) for "aao" and for "dao".
    SV = EDV - ESV; EF = 100 SV / EDV; CO = SV rate / 1000; global = mean of the segments;
    distensibility = 1000 (max - min) / (min x pulse pressure).
    """
    table = {name: primary[name].to_numpy() for name in ERRORS}
    for chamber, full, empty in (
        ("lv", "edv", "esv"),
        ("rv", "edv", "esv"),
        ("la", "max", "min"),
        ("ra", "max", "min"),
    ):
        largest, smallest = table[f"{chamber}_{full}"], table[f"{chamber}_{empty}"]
        table[f"{chamber}_sv"] = largest - smallest
        table[f"{chamber}_ef"] = 100 * (largest - smallest) / largest
    table["lv_co"] = table["lv_sv"] * rate_bpm / 1000
    for vessel, pressure in pulse_pressure.items():
        widest, narrowest = table[f"{vessel}_max"], table[f"{vessel}_min"]
        table[f"{vessel}_dist"] = 1000 * (widest - narrowest) / (narrowest * pressure)
    for name in ("wt_global", "ecc_global", "err_global", "ell_global"):
        table[name] = np.mean([table[part] for part in global_parts(name)], axis=0)
    return pd.DataFrame({name: table[name] for name in phenotypes.NAMES}, index=primary.index)


def measure(hearts: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The 82 phenotypes (n, 82) as a core laboratory measures them: with error, identities kept, nothing missing."""
    n = len(hearts)
    common = {view: rng.standard_normal(n) for view in VIEWS}
    measured: dict[str, np.ndarray] = {}
    for name, error in ERRORS.items():
        z = np.sqrt(SHARED) * error.sign * common[error.view] + np.sqrt(1 - SHARED) * rng.standard_normal(n)
        measured[name] = hearts[name].to_numpy() * np.exp(error.cv * z)
    for smaller, larger in (("lv_esv", "lv_edv"), ("rv_esv", "rv_edv"), ("la_min", "la_max"), ("ra_min", "ra_max")):
        measured[smaller] = np.minimum(measured[smaller], 0.97 * measured[larger])
    for vessel in ("aao", "dao"):
        measured[f"{vessel}_min"] = np.minimum(measured[f"{vessel}_min"], 0.995 * measured[f"{vessel}_max"])
    pressure = {
        vessel: _pulse_pressure(hearts, vessel) * np.exp(PULSE_PRESSURE_CV * rng.standard_normal(n))
        for vessel in ("aao", "dao")
    }
    return with_identities(pd.DataFrame(measured, index=hearts.index), hearts["rate_bpm"].to_numpy(), pressure)


def _pulse_pressure(hearts: pd.DataFrame, vessel: str) -> np.ndarray:
    """Pulse pressure (mmHg) implied by the true areas and distensibility of a vessel."""
    widest, narrowest = hearts[f"{vessel}_max"].to_numpy(), hearts[f"{vessel}_min"].to_numpy()
    return np.asarray(1000 * (widest - narrowest) / (narrowest * hearts[f"{vessel}_dist"].to_numpy()))


def drop_values(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """``table`` with whole views and single values missing, as failures of the segmentation leave them."""
    lost = pd.DataFrame(rng.random(table.shape) < MISSING_VALUE, index=table.index, columns=table.columns)
    for view, share in MISSING_VIEW.items():
        failed = rng.random(len(table)) < share
        for name in table.columns:
            if view_of(name) == view:
                lost[name] |= failed
    return table.mask(lost)


def view_of(name: str) -> str:
    """The view a phenotype is measured in, derived ones included."""
    prefix = name.split("_", 1)[0]
    views = {"lv": "ventricles", "rv": "ventricles", "la": "left_atrium", "ra": "right_atrium"}
    views |= {"aao": "ascending", "dao": "descending", "wt": "thickness"}
    return views.get(prefix, "tracking")


ICD10: Final[dict[str, tuple[str, ...]]] = {
    "cad": ("I219", "I214", "I251", "I252", "I259"),
    "cardiomyopathy": ("I429", "I428"),
    "heart_failure": ("I500", "I501", "I509"),
    "atrial_fibrillation": ("I48", "I480", "I482", "I489"),
    "valve": ("I080", "I340", "I350", "I351"),
    "pulmonary_hypertension": ("I270", "I272"),
    "pericarditis": ("I300", "I309", "I319"),
    "rbbb": ("I451",),
    "lbbb": ("I447",),
}
ICD10_CM: Final[dict[str, tuple[str, ...]]] = ICD10 | {
    "cad": ("I214", "I2510", "I252", "I25810"),
    "heart_failure": ("I5020", "I5032", "I509"),
    "atrial_fibrillation": ("I4891", "I480", "I4820"),
    "pulmonary_hypertension": ("I270", "I2720"),
    "rbbb": ("I4510", "I4519"),
}
ICD9: Final[dict[str, tuple[str, ...]]] = {
    "cad": ("41071", "41401", "4148"),
    "cardiomyopathy": ("4254", "4259"),
    "heart_failure": ("4280", "42820", "42832"),
    "atrial_fibrillation": ("42731",),
    "valve": ("3969", "4240", "4241"),
    "pulmonary_hypertension": ("4160", "4168"),
    "pericarditis": ("42090", "4239"),
    "rbbb": ("4264",),
    "lbbb": ("4263",),
}
SUBTYPE_ICD9: Final = {"dcm": ("4254",), "hcm": ("42511", "42518"), "rcm": ("4254",)}


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OTHERS: Final[dict[str, tuple[str, ...]]] = {
    "icd10": _codes("I10 E119 E780 K219 J459 M545 R074 I209 I440 I446 I450 I493 I269 I330 I839 N390 Z867"),
    "icd10cm": _codes("I10 E119 E785 K219 J449 N179 I440 I444 I450 I2699 I330 I471 D649 Z7901 R079"),
    "icd9": _codes("4019 25000 2724 53081 496 5849 42611 4262 41519 4210 4270 2859 V5861 78650"),
}
"""Codes of no studied disease, among them neighbours in the lists: I20, I26, I33, I44.0, I45.0; 415.19, 426.2."""

_BOOKS: Final = {"icd10": ICD10, "icd10cm": ICD10_CM, "icd9": ICD9}


@dataclass(frozen=True, slots=True)
class Coding:
    """How a centre codes.

    ``uncoded``: share of true cases without a code; ``false``: false codes per healthy person and disease; ``others``:
    codes of other diseases per person; ``incident``: share dated after the ECG; and the years the records reach.
    """

    uncoded: float = 0.12
    false: float = 0.003
    others: float = 2.0
    incident: float = 0.35
    years_before: float = 12.0
    years_after: float = 6.0


def diagnose(hearts: pd.DataFrame, coding: Coding, rng: np.random.Generator) -> pd.DataFrame:
    """Coded diagnoses, one row each: person (position in ``hearts``), disease ("" for others), correct, days, draw.

    ``days``: first record minus ECG date, not positive when prevalent; ``draw``: 0..1, picks the code within the list.
    """
    n = len(hearts)
    rows = []
    for name in diseases.DIAGNOSES:
        true = hearts[name].to_numpy(dtype=bool)
        coded = np.where(true, rng.random(n) >= coding.uncoded, rng.random(n) < coding.false)
        rows.append(pd.DataFrame({"person": np.flatnonzero(coded), "disease": name, "correct": true[coded]}))
    others = np.repeat(np.arange(n), rng.poisson(coding.others, n))
    rows.append(pd.DataFrame({"person": others, "disease": "", "correct": True}))
    table = pd.concat(rows, ignore_index=True)
    after = rng.random(len(table)) < coding.incident
    years = np.where(after, coding.years_after, -coding.years_before) * rng.random(len(table))
    table["days"] = np.where(after, 1, 0) + np.trunc(years * 365.25).astype(int)
    table["draw"] = rng.random(len(table))
    return table.sort_values(["person", "days", "disease", "draw"], ignore_index=True)


def code(disease: str, subtype: str, draw: float, book: str) -> str:
    """The code of ``book`` ("icd10", "icd10cm" or "icd9") for a disease; a subtype has a code of its own."""
    choices = _BOOKS[book].get(disease, OTHERS[book])
    if disease == "cardiomyopathy" and subtype in diseases.SUBTYPES:
        choices = SUBTYPE_ICD9[subtype] if book == "icd9" else diseases.SUBTYPES[subtype]
    return choices[int(draw * len(choices))]


def codes(table: pd.DataFrame, hearts: pd.DataFrame, book: str) -> list[str]:
    """The code of every row of a :func:`diagnose` table; a false cardiomyopathy code has no subtype."""
    subtype = hearts["subtype"].to_numpy()[table["person"].to_numpy()]
    return [
        code(disease, kind if correct else "none", draw, book)
        for disease, kind, correct, draw in zip(table["disease"], subtype, table["correct"], table["draw"])
    ]
