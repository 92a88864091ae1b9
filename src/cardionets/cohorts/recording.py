"""What every ECG file reader hands over, and how it becomes an ``EcgRecord``.

Unit, rate and leads are stated by the file or declared by the cohort; they are never guessed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardionets.config import CohortEcg
from cardionets.ecg import EcgRecord, RecordError, canonical, derived_leads, lead_name

MAX_SAMPLES = 4_000_000
MAX_BYTES = 256 * 2**20
CALIBRATION_TOLERANCE_UV = 40.0
UNIT_UV = {
    "uv": 1.0,
    "microvolt": 1.0,
    "microvolts": 1.0,
    "mv": 1e3,
    "millivolt": 1e3,
    "v": 1e6,
    "volt": 1e6,
    "nv": 1e-3,
}


@dataclass(frozen=True)
class Raw:
    """A recording as stored: ``signal`` (lead, T), and what the file says about it; None is "the file does not say".

    ``scale_uv``: microvolts per step, one number or one per lead.
    """

    signal: NDArray[Any]
    names: tuple[str, ...] | None = None
    rate: float | None = None
    scale_uv: float | NDArray[np.float64] | None = None
    person: str | None = None
    date: dt.datetime | None = None
    age: float | None = None
    sex: str | None = None
    flags: tuple[str, ...] = ()
    device: str | None = None


def finish(raw: Raw, declared: CohortEcg, path: Path) -> EcgRecord:
    """Apply what the cohort declares where the file is silent, and bring the leads into canonical order in uV.

    Raises ``RecordError``: ``rate_unknown``, ``unit_unknown``, ``leads_unknown``, ``declaration_conflict``,
    ``too_large``, ``lead_missing``, ``lead_repeated``.
    """
    if raw.signal.ndim != 2 or not 0 < raw.signal.size <= MAX_SAMPLES:
        raise RecordError(
            "too_large", f"{path.name}: {raw.signal.shape} samples are not one recording; check the file."
        )
    names = _names(raw, declared, path)
    rate = _rate(raw, declared, path)
    scale = np.asarray(_scale(raw, declared, path), np.float32).reshape(-1, 1)
    signal = raw.signal.astype(np.float32, copy=False) * scale
    signal, trimmed = _without_calibration(signal, rate)
    try:
        leads = canonical(signal, names)
    except RecordError as fault:
        raise RecordError(fault.reason, f"{path.name}: {fault}") from None
    flags = (*(["derived_limb_leads"] if derived_leads(names) else []), *(["calibration_cut"] if trimmed else []))
    return EcgRecord(
        leads,
        rate,
        raw.person,
        raw.date,
        raw.age,
        raw.sex,
        path.name,
        raw.flags + flags,
        _said_unit(raw, declared),
        model_name(raw.device),
    )


def _said_unit(raw: Raw, declared: CohortEcg) -> str:
    """Where the microvolts come from: the step the file states, or what the cohort declares."""
    said = f"declared {declared.unit}"
    if raw.scale_uv is not None:
        said = f"{median(np.atleast_1d(raw.scale_uv).tolist()):.4g} uV per step"
    return said if declared.gain_factor == 1 else f"{said}, times {declared.gain_factor:g}"


def _without_calibration(signal: NDArray[np.float32], rate: float) -> tuple[NDArray[np.float32], bool]:
    """Cut the calibration step that some carts store after the heart beats: the one place where ALL leads move alike.

    (lead, T) -> (lead, T - cut). No heart does that: III would have to equal both I and II - I.
    """
    edge = signal[:, -max(2, round(0.04 * rate)) :]
    if (edge.max(axis=0) - edge.min(axis=0)).max() > CALIBRATION_TOLERANCE_UV or signal.shape[1] < 2 * rate:
        return signal, False
    alike = np.ptp(signal[:, -round(2 * rate) :], axis=0) <= CALIBRATION_TOLERANCE_UV
    length = int(np.argmin(alike[::-1])) if not alike.all() else len(alike)
    pulse = signal[:, -length:].mean(axis=0)
    if length < 0.3 * rate or np.ptp(pulse) < 700:
        return signal, False
    return signal[:, :-length], True


def _names(raw: Raw, declared: CohortEcg, path: Path) -> tuple[str, ...]:
    known = [name for name in raw.names or () if lead_name(name)]
    names = raw.names if known and raw.names else declared.leads
    if names is None:
        text = "the file names no lead; declare the stored order as ecg.leads in cohorts.yaml."
        raise RecordError("leads_unknown", f"{path.name}: {text}")
    if len(names) != len(raw.signal):
        text = f"{len(raw.signal)} channels are stored but {len(names)} lead names are known; correct ecg.leads."
        raise RecordError("leads_unknown", f"{path.name}: {text}")
    return names


def _rate(raw: Raw, declared: CohortEcg, path: Path) -> float:
    rate = raw.rate or declared.rate
    if rate is None:
        raise RecordError(
            "rate_unknown", f"{path.name}: the file states no sampling rate; declare ecg.rate in cohorts.yaml."
        )
    if raw.rate and declared.rate and abs(raw.rate - declared.rate) > 1e-3 * raw.rate:
        text = (
            f"the file states {raw.rate:g} Hz but cohorts.yaml declares {declared.rate:g}; correct or delete ecg.rate."
        )
        raise RecordError("declaration_conflict", f"{path.name}: {text}")
    if not 20 <= rate <= 20_000:
        raise RecordError(
            "rate_unknown", f"{path.name}: a sampling rate of {rate:g} Hz is not that of an ECG; correct it."
        )
    return float(rate)


def _scale(raw: Raw, declared: CohortEcg, path: Path) -> NDArray[np.float64] | float:
    scale = raw.scale_uv
    if scale is None and declared.unit is not None:
        scale = UNIT_UV[declared.unit.lower()]
    if scale is None:
        text = "the file states no physical unit; declare ecg.unit in cohorts.yaml (uV, mV or V)."
        raise RecordError("unit_unknown", f"{path.name}: {text}")
    if not np.isfinite(scale).all() or not np.all(np.asarray(scale) > 0):
        raise RecordError("unit_unknown", f"{path.name}: the stated gain is not a positive number; correct the file.")
    return np.asarray(scale, np.float64) * declared.gain_factor


def unit_uv(unit: str, path: Path) -> float:
    """Microvolts in one ``unit`` as spelled in a file (any case, with either micro sign)."""
    key = unit.strip().lower().replace("µ", "u").replace("μ", "u")
    if key not in UNIT_UV:
        raise RecordError(
            "unit_unknown", f"{path.name}: unit {unit!r} is not a voltage; declare ecg.unit in cohorts.yaml."
        )
    return UNIT_UV[key]


def parse_sex(text: str | None) -> str | None:
    """ "F" or "M" from the usual spellings, else None."""
    word = (text or "").strip().upper()
    return "F" if word in ("F", "FEMALE", "WOMAN", "女") else "M" if word in ("M", "MALE", "MAN", "男") else None


def model_name(text: str | None) -> str | None:
    """The electrocardiograph's model on one line of at most 40 characters; None where nothing is said."""
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())[:40].strip() or None


_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def parse_age(text: str | None, unit: str | None = None) -> float | None:
    """Age in years from ``56``, ``056Y`` or ``18`` with unit ``MONTHS``; None where it is absent or not an age."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*([A-Za-z]*)\s*", text or "")
    if not found:
        return None
    years = float(found[1]) * _YEARS.get((unit or found[2] or "Y")[:1].upper(), np.nan)
    return years if 0 <= years < 120 else None


def parse_date(text: str | None, formats: Iterable[str]) -> dt.datetime | None:
    """The first of ``formats`` that fits, as a date without time zone; None where none does."""
    for form in formats:
        try:
            return dt.datetime.strptime((text or "").strip(), form)
        except ValueError:
            continue
    return None


def age_at(birth: dt.datetime | None, date: dt.datetime | None) -> float | None:
    """Whole years between birth and recording; None where unknown or impossible."""
    if birth is None or date is None:
        return None
    years = date.year - birth.year - ((date.month, date.day) < (birth.month, birth.day))
    return float(years) if 0 <= years < 120 else None


def refuse_large(path: Path, samples: int) -> None:
    """``too_large`` before anything of that many samples is held in memory."""
    if samples > MAX_SAMPLES:
        raise RecordError("too_large", f"{path.name}: {samples} samples are not one recording; check the file.")


def corrupt(path: Path, what: str) -> RecordError:
    """The error of a damaged file."""
    return RecordError("unreadable", f"{path.name}: {what}; copy the file anew from the centre.")
