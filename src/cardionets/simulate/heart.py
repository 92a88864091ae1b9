"""Latent hearts: one row per simulated person, from which ECG, cine, phenotypes and diagnoses all follow.

Order of causes: body (age, sex, size) -> acquired and inherited disease, load, fibrosis -> chambers, walls, strain,
aorta (:mod:`cardionets.simulate.anatomy`) -> conduction intervals and torso -> diagnoses by logistic liability.
Everything is vectorised over people; 10,000 hearts take a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes
from cardionets.config import StudyError
from cardionets.simulate import anatomy
from cardionets.simulate.anatomy import Array, Columns

COVARIATES: Final = ("sex", "age", "height_cm", "weight_kg", "bsa", "rate_bpm")
STATES: Final = ("rhythm", "conduction", "infarct", "infarct_extent", "subtype", "lv_load", "rv_load", "fibrosis")
VARIATION: Final = tuple(
    f"var_{name}"
    for name in (
        *("gain", "axis", "azimuth", "width", "septal", "apical", "free_wall", "basal", "terminal", "rv", "late"),
        *("notch_x", "notch_y", "notch_z", "p_length", "p_late", "p_right", "p_left"),
        *("st", "strain", "t_gain", "t_x", "t_y", "t_z", "t_width"),
    )
)
ELECTRICAL: Final = ("pr_ms", "qrs_ms", "qt_ms", "heart_azimuth_deg", "heart_elevation_deg", "torso_gain")


@dataclass(frozen=True, slots=True)
class CaseMix:
    """Who comes to a centre: demography, and prevalence of each cause of heart disease (fractions of everybody).

    The defaults resemble the UK Biobank imaging visit (Fry et al., Am J Epidemiol 2017;186:1026; Bai et al., Nat Med
    2020;26:1654). ``af`` counts every diagnosis; ``af_now`` is the share of those who fibrillate during the recording.
    """

    age_mean: float = 64.0
    age_sd: float = 7.7
    age_low: float = 45.0
    age_high: float = 82.0
    women: float = 0.52
    height_shift_cm: float = 0.0
    bmi_shift: float = 0.0
    load_shift: float = 0.0
    dcm: float = 0.003
    hcm: float = 0.002
    rcm: float = 0.0005
    other_cardiomyopathy: float = 0.001
    infarct: float = 0.03
    cad: float = 0.08
    heart_failure: float = 0.02
    af: float = 0.04
    af_now: float = 0.4
    valve: float = 0.025
    pulmonary_hypertension: float = 0.006
    pericarditis: float = 0.004
    rbbb: float = 0.03
    lbbb: float = 0.008

    def __post_init__(self) -> None:
        shares = [f.name for f in fields(self) if f.name not in _NOT_SHARES and not 0 <= getattr(self, f.name) <= 1]
        if shares:
            raise StudyError(
                f"CaseMix: {', '.join(shares)}: a share of people must lie in 0..1; correct the centre's definition."
            )
        if not self.age_low < self.age_mean < self.age_high:
            raise StudyError(
                "CaseMix: age_mean: must lie between age_low and age_high; correct the centre's definition."
            )
        if self.dcm + self.hcm + self.rcm + self.other_cardiomyopathy > 1:
            raise StudyError("CaseMix: dcm + hcm + rcm + other_cardiomyopathy: must not exceed 1; lower them.")


_NOT_SHARES: Final = frozenset(
    {"age_mean", "age_sd", "age_low", "age_high", "height_shift_cm", "bmi_shift", "load_shift"}
)


def sample(n: int, mix: CaseMix, rng: np.random.Generator) -> pd.DataFrame:
    """Draw ``n`` latent hearts of the given case mix.

    Returns one row per person: covariates (y, cm, kg, m2, beats/min), states, the 82 true phenotypes in the units of
    :mod:`cardionets.phenotypes`, intervals (ms), anatomical axis (degrees), torso gain, one bool per
    disease, and ``var_*``: standard normal differences between people's electricity that no phenotype shares.
    """
    if n < 1:
        raise StudyError(f"simulate: people: at least one person is needed, {n} were asked for; raise the number.")
    people = _body(n, mix, rng)
    people |= _causes(people, mix, rng)
    people |= anatomy.chambers(people, rng)
    people |= anatomy.segments(people, rng)
    people |= anatomy.aorta(people, rng)
    people |= _electrical(people, rng)
    people |= _diagnoses(people, mix, rng)
    people["sex"] = np.where(people["male"], "M", "F").astype(object)
    people |= {name: rng.standard_normal(n) for name in VARIATION}
    order = [*COVARIATES, *STATES, *phenotypes.NAMES, *ELECTRICAL, *diseases.DIAGNOSES, *VARIATION]
    return pd.DataFrame({name: people[name] for name in order})


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), elementwise."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def bernoulli(liability: Array, prevalence: float, rng: np.random.Generator, among: Array | None = None) -> Array:
    """Affected or not: P = logistic(a + liability), ``a`` set so that the expected share of all is ``prevalence``.

    ``among`` restricts who can be affected. The intercept is found by bisection on this population.
    """
    eligible = np.ones(len(liability), bool) if among is None else among
    low, high = -40.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2
        share = float((logistic(liability + middle) * eligible).mean())
        low, high = (middle, high) if share < prevalence else (low, middle)
    return np.asarray(eligible & (rng.random(len(liability)) < logistic(liability + low)))


def _body(n: int, mix: CaseMix, rng: np.random.Generator) -> Columns:
    """Age (truncated normal), sex, height and BMI by sex (UK Biobank imaging visit), surface area (Du Bois 1916)."""
    age = mix.age_mean + mix.age_sd * rng.standard_normal(n)
    for _ in range(20):
        outside = (age < mix.age_low) | (age > mix.age_high)
        age = np.where(outside, mix.age_mean + mix.age_sd * rng.standard_normal(n), age)
    age = np.clip(age, mix.age_low, mix.age_high)
    male = rng.random(n) >= mix.women
    height = np.where(male, 176.3, 162.8) + mix.height_shift_cm - 0.1 * (age - 64)
    height = height + np.where(male, 6.5, 6.1) * rng.standard_normal(n)
    bmi = np.where(male, 26.9, 26.0) + mix.bmi_shift
    bmi = bmi * np.exp(np.where(male, 0.14, 0.17) * rng.standard_normal(n) - 0.012)
    weight = np.clip(bmi, 16, 48) * (height / 100) ** 2
    bsa = 0.007184 * weight**0.425 * height**0.725
    return {
        "age": age,
        "male": male,
        "height_cm": height,
        "weight_kg": weight,
        "bsa": bsa,
        "bmi": weight / (height / 100) ** 2,
    }


def _subtypes(mix: CaseMix, male: Array, rng: np.random.Generator) -> Columns:
    """Inherited or primary muscle disease; dilated cardiomyopathy is commoner in men (odds about 1.7)."""
    n = len(male)
    dcm = bernoulli(0.5 * male, mix.dcm, rng)
    hcm = bernoulli(0.3 * male, mix.hcm, rng, among=~dcm)
    rcm = bernoulli(np.zeros(n), mix.rcm, rng, among=~dcm & ~hcm)
    other = bernoulli(0.2 * male, mix.other_cardiomyopathy, rng, among=~dcm & ~hcm & ~rcm)
    subtype = np.select([dcm, hcm, rcm], ["dcm", "hcm", "rcm"], "none").astype(object)
    return {"subtype": subtype, "other_cm": other, "cardiomyopathy": dcm | hcm | rcm | other}


def _infarct(mix: CaseMix, age_z: Array, male: Array, rng: np.random.Generator) -> Columns:
    """Old infarct: odds 3 in men, 1.9 per decade; LAD 45 %, RCA 38 %, LCx 17 %; extent 0.1-1 of the territory."""
    n = len(age_z)
    has = bernoulli(1.1 * male + 0.5 * age_z, mix.infarct, rng)
    territory = rng.choice(np.array(["anterior", "inferior", "lateral"], object), size=n, p=[0.45, 0.38, 0.17])
    extent = 0.1 + 0.9 * rng.beta(1.8, 2.2, n)
    return {"infarct": np.where(has, territory, "none").astype(object), "infarct_extent": np.where(has, extent, 0.0)}


def _causes(people: Columns, mix: CaseMix, rng: np.random.Generator) -> Columns:
    """Muscle disease, infarct, valve, load, fibrosis, lung pressure, rhythm, conduction, each from those before it."""
    male, n = people["male"], len(people["age"])
    age_z = (people["age"] - 64) / 7.7
    bmi_z = (people["bmi"] - 26.5) / 4.2
    out: Columns = {"age_z": age_z, "bmi_z": bmi_z}
    out |= _subtypes(mix, male, rng)
    out |= _infarct(mix, age_z, male, rng)
    out["valve"] = bernoulli(0.6 * age_z, mix.valve, rng)
    stenosis = out["valve"] & (rng.random(n) < 0.45)
    out["regurgitation"] = out["valve"] & ~stenosis
    pressure = 0.3 * age_z + 0.3 * bmi_z + 0.15 * male + 0.88 * rng.standard_normal(n)
    out["lv_load"] = pressure + mix.load_shift + np.where(stenosis, 1.8, 0.0)
    muscle = 1.5 * out["cardiomyopathy"] + 2.2 * out["infarct_extent"]
    out["fibrosis"] = logistic(-2.6 + 0.35 * age_z + 0.4 * out["lv_load"] + muscle + 0.8 * rng.standard_normal(n))
    out |= _right_and_rhythm(out, mix, male, rng)
    return out


def _right_and_rhythm(causes: Columns, mix: CaseMix, male: Array, rng: np.random.Generator) -> Columns:
    """Lung pressure, pericarditis, atrial fibrillation and bundle branch block."""
    age_z, n = causes["age_z"], len(male)
    scar, load = causes["fibrosis"], causes["lv_load"]
    risk = 0.3 * age_z + 0.8 * causes["valve"] + 0.8 * causes["cardiomyopathy"] + 0.2 * causes["bmi_z"]
    high = bernoulli(risk, mix.pulmonary_hypertension, rng)
    pericarditis = bernoulli(0.2 * male, mix.pericarditis, rng)
    risk = 0.6 * age_z + 0.5 * male + 2.0 * scar + 0.25 * load + 0.7 * causes["valve"] + 0.8 * causes["cardiomyopathy"]
    af = bernoulli(risk, mix.af, rng)
    fibrillates = af & (rng.random(n) < mix.af_now)
    left = bernoulli(0.4 * age_z + 4.0 * scar + 0.8 * (causes["subtype"] == "dcm"), mix.lbbb, rng)
    right = bernoulli(0.5 * age_z + 0.6 * male + 1.5 * high, mix.rbbb, rng, among=~left)
    return {
        "pulmonary_hypertension": high,
        "pericarditis": pericarditis,
        "atrial_fibrillation": af,
        "lbbb": left,
        "rbbb": right,
        "rv_load": 0.15 * causes["bmi_z"] + 0.97 * rng.standard_normal(n) + high * (2.2 + 0.8 * rng.standard_normal(n)),
        "rhythm": np.where(fibrillates, "af", "sinus").astype(object),
        "conduction": np.select([left, right], ["lbbb", "rbbb"], "none").astype(object),
    }


def _qrs_ms(people: Columns, rng: np.random.Generator) -> Array:
    """QRS duration (ms): 95 in men, 88 in women (Mason et al., J Electrocardiol 2007;40:228); mass and scar add."""
    male, n = people["male"], len(people["age"])
    normal = np.where(male, 95.0, 88.0) + 6.5 * rng.standard_normal(n)
    normal += 22 * people["mass_dev"] + 16 * people["edv_dev"] + 9 * (people["fibrosis"] - 0.1)
    normal += 0.35 * np.clip(58 - people["lv_ef"], -10, 35)
    left = 148 + 8 * np.clip(people["edv_dev"], -1, 1) + 11 * rng.standard_normal(n)
    right = 138 + 10 * rng.standard_normal(n)
    value = np.select(
        [people["lbbb"], people["rbbb"]], [np.clip(left, 124, 200), np.clip(right, 122, 180)], np.clip(normal, 68, 119)
    )
    return np.asarray(value)


def _electrical(people: Columns, rng: np.random.Generator) -> Columns:
    """Intervals, anatomical axis and torso gain.

    QT by Fridericia, QT = QTc (60 / rate)^(1/3), QTc 404 ms in men and 414 in women, plus half of the QRS excess.
    Axis (base to apex): azimuth from left towards front, elevation below the horizontal; in a broad, short or old body
    it lies flatter (Engblom et al., J Electrocardiol 2005;38:332). Gain: fat, breast and lung lower the voltage.
    """
    male, age_z, bmi_z, n = people["male"], people["age_z"], people["bmi_z"], len(people["age"])
    qrs = _qrs_ms(people, rng)
    qtc = np.where(male, 404.0, 414.0) + 3 * age_z + 0.5 * np.clip(qrs - 95, 0, None) + 14 * rng.standard_normal(n)
    pr = (
        158
        + 5 * age_z
        + 4 * male
        + 6 * people["la_dev"]
        + 40 * (people["fibrosis"] - 0.1)
        + 20 * rng.standard_normal(n)
    )
    effusion = np.where(people["pericarditis"], 0.82, 1.0)
    log_gain = -0.075 * bmi_z - 0.05 * ~male + 0.17 * rng.standard_normal(n)
    return {
        "qrs_ms": qrs,
        "qt_ms": qtc * np.cbrt(60 / people["rate_bpm"]),
        "pr_ms": np.clip(pr, 105, 320),
        "heart_azimuth_deg": 45 + 3 * bmi_z - 2 * age_z + 8 * rng.standard_normal(n),
        "heart_elevation_deg": 36 - 5 * bmi_z - 2.5 * age_z + 8 * rng.standard_normal(n),
        "torso_gain": effusion * np.exp(log_gain),
    }


def _diagnoses(people: Columns, mix: CaseMix, rng: np.random.Generator) -> Columns:
    """Coronary disease and heart failure follow from the heart; the other diseases are causes and stand already."""
    scarred = people["infarct_extent"] > 0
    cad = bernoulli(
        0.9 * people["male"] + 0.6 * people["age_z"] + 0.2 * people["lv_load"],
        max(mix.cad - mix.infarct, 0.0),
        rng,
        among=~scarred,
    )
    strain = 0.14 * np.clip(56 - people["lv_ef"], -12, 40) + 1.2 * people["la_dev"] + 2.5 * people["fibrosis"]
    strain += 0.35 * people["age_z"] + 0.8 * people["cardiomyopathy"] + 0.5 * people["valve"]
    strain += 0.6 * people["pulmonary_hypertension"] + 0.6 * people["atrial_fibrillation"]
    return {"cad": cad | scarred, "heart_failure": bernoulli(strain, mix.heart_failure, rng)}
