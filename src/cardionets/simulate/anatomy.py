"""Chambers, wall segments, strain and aorta of latent hearts, with UK Biobank marginals by sex.

Means and SDs: Petersen et al., JCMR 2017;19:18 (ventricles, atria); Bai et al., Nat Med 2020;26:1654 (wall thickness,
strain, aorta). Volumes and mass are log-normal about a power of body surface area; identities hold exactly.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = dict[str, Array]

DENSITY: Final = 1.055  # g/mL, myocardium
LENGTH_RATIO: Final = 3.3  # long axis (apex to mitral plane) over basal radius of the cavity
TERRITORY: Final[dict[str, tuple[int, ...]]] = {
    "anterior": (1, 2, 7, 8, 13, 14),
    "inferior": (3, 4, 9, 10, 15),
    "lateral": (5, 6, 11, 12, 16),
}
LONG_AXIS_TERRITORY: Final[dict[str, tuple[int, ...]]] = {"anterior": (2, 3, 4), "inferior": (1,), "lateral": (5, 6)}
SEPTUM: Final = (2, 3, 8, 9, 14)
# AHA 1-16 relative to their mean; basal septum is thickest, the apex thinnest and most mobile.
_WALL: Final = np.array([1.08, 1.19, 1.15, 1.05, 1.0, 1.0, 0.93, 1.05, 1.11, 1.0, 0.93, 0.92, 0.88, 0.95, 0.88, 0.88])
_CIRC: Final = np.array(
    [0.98, 0.80, 0.82, 0.95, 1.02, 1.04, 1.05, 0.94, 0.88, 0.96, 1.04, 1.06, 1.15, 1.06, 1.10, 1.15]
)
_RADIAL: Final = np.array(
    [1.05, 0.86, 0.84, 1.02, 1.14, 1.12, 1.04, 0.92, 0.90, 1.03, 1.10, 1.08, 0.96, 0.93, 0.98, 1.03]
)
_LONG: Final = np.array([0.82, 0.92, 1.15, 1.18, 0.95, 0.98])  # septal base, mid, apex; lateral apex, mid, base


def chambers(people: Columns, rng: np.random.Generator) -> Columns:
    """Volumes (mL), mass (g), ejection fractions (%), output (L/min), rate (beats/min) of the four chambers.

    Also returns ``edv_dev``, ``mass_dev``, ``la_dev``: log deviations from what sex and body size predict.
    """
    out = _left_ventricle(people, rng)
    out |= _right_ventricle(people | out, rng)
    out |= _left_atrium(people | out, rng)
    out |= _right_atrium(people | out, rng)
    return out


def _relative_size(people: Columns) -> Array:
    """log(BSA / typical BSA of the sex), Du Bois: 1.99 m2 men, 1.72 m2 women."""
    return np.asarray(np.log(people["bsa"] / np.where(people["male"], 1.985, 1.725)))


def _is(people: Columns, subtype: str) -> Array:
    return np.asarray(people["subtype"] == subtype)


def _ejection_fraction(people: Columns, size: Array, rng: np.random.Generator) -> Array:
    """LVEF: 58 / 61 % (men / women), SD about 6; falls with dilation, scar, infarct extent, block and fibrillation."""
    n = len(size)
    ef = np.where(people["male"], 59.6, 61.6) + 4.9 * rng.standard_normal(n) - 1.6 * size
    ef += np.where(_is(people, "hcm"), 4, 0) - np.where(_is(people, "rcm"), 5, 0)
    ef -= 20 * people["infarct_extent"] + 8 * (people["fibrosis"] - 0.1)
    ef -= 4 * (people["rhythm"] == "af") + 6 * people["lbbb"] + 5 * people["other_cm"]
    dilated = 38 + 7 * rng.standard_normal(n)
    return np.asarray(np.clip(np.where(_is(people, "dcm"), np.minimum(ef - 6, dilated), ef), 14, 80))


def _left_ventricle(people: Columns, rng: np.random.Generator) -> Columns:
    """LV: EDV ~ BSA^0.9, mass ~ BSA^0.8, a shared size factor, load on mass alone; SV = EDV EF, CO = SV HR."""
    male, n = people["male"], len(people["age"])
    bsa, size = _relative_size(people), rng.standard_normal(n)
    ef = _ejection_fraction(people, size, rng)
    edv = 0.14 * size + 0.075 * rng.standard_normal(n) - 0.025 * people["age_z"] - 0.004 * (ef - 60) * (ef < 60)
    edv += (
        0.20 * _is(people, "dcm")
        - 0.10 * _is(people, "hcm")
        - 0.18 * _is(people, "rcm")
        + 0.15 * people["infarct_extent"]
    )
    edv += 0.14 * people["regurgitation"] + 0.05 * people["other_cm"]
    mass = 0.10 * size + 0.075 * people["lv_load"] + 0.15 * rng.standard_normal(n) + 0.04 * people["fibrosis"]
    mass += (
        0.28 * _is(people, "dcm")
        + 0.42 * _is(people, "hcm")
        + 0.14 * _is(people, "rcm")
        + 0.10 * people["regurgitation"]
    )
    lv_edv = np.where(male, 159.5, 121.0) * np.exp(edv + 0.9 * bsa)
    lv_sv = lv_edv * ef / 100
    rate = np.where(male, 61.5, 64.0) + 9.5 * rng.standard_normal(n) + 0.25 * np.clip(55 - ef, 0, 30)
    rate += np.where(people["rhythm"] == "af", 20 + 8 * rng.standard_normal(n), 0)
    rate = np.clip(rate, 40, 140)
    lv_mass = np.where(male, 99.0, 69.0) * np.exp(mass + 0.8 * bsa)
    out = {"lv_edv": lv_edv, "lv_esv": lv_edv - lv_sv, "lv_sv": lv_sv, "lv_ef": ef, "rate_bpm": rate}
    return out | {"lv_mass": lv_mass, "lv_co": lv_sv * rate / 1000, "edv_dev": edv, "mass_dev": mass, "size": size}


def _right_ventricle(people: Columns, rng: np.random.Generator) -> Columns:
    """RV: the LV's stroke volume less regurgitation; EF 54 / 58 % falls with load, so that the volume rises."""
    n = len(people["age"])
    backward = np.where(people["regurgitation"], 0.15, 0.0)
    sv = people["lv_sv"] * (1 - backward) * np.exp(0.01 + 0.045 * rng.standard_normal(n))
    ef = np.where(people["male"], 55.0, 58.6) + 0.28 * (people["lv_ef"] - 60) + 4.6 * rng.standard_normal(n)
    ef = np.clip(ef - 1.6 * people["rv_load"] - 1.0 * people["size"] - 3 * people["pulmonary_hypertension"], 15, 78)
    edv = sv / (ef / 100)
    return {"rv_edv": edv, "rv_esv": edv - sv, "rv_sv": sv, "rv_ef": ef}


def _atrium(name: str, maximum: Array, ef: Array) -> Columns:
    ef = np.clip(ef, 8, 82)
    sv = maximum * ef / 100
    return {f"{name}_max": maximum, f"{name}_min": maximum - sv, f"{name}_sv": sv, f"{name}_ef": ef}


def _left_atrium(people: Columns, rng: np.random.Generator) -> Columns:
    """LA: maximum 71 / 62 mL; grows with ventricle, load, scar, valve leak, fibrillation; its EF falls as it grows."""
    male, n = people["male"], len(people["age"])
    fibrillates = people["rhythm"] == "af"
    dev = (
        0.22 * rng.standard_normal(n)
        + 0.35 * people["edv_dev"]
        + 0.03 * people["lv_load"]
        + 0.25 * (people["fibrosis"] - 0.1)
    )
    dev += 0.30 * fibrillates + 0.10 * people["atrial_fibrillation"] + 0.22 * people["regurgitation"]
    dev += 0.50 * _is(people, "rcm") + 0.22 * _is(people, "hcm") + 0.15 * _is(people, "dcm")
    maximum = np.where(male, 71.0, 62.5) * np.exp(dev + 0.8 * _relative_size(people))
    ef = (
        np.where(male, 60.0, 61.5)
        - 11 * dev
        - 1.0 * people["age_z"]
        + 0.15 * (people["lv_ef"] - 60)
        + 6.0 * rng.standard_normal(n)
    )
    return _atrium("la", maximum, ef - 24 * fibrillates - 8 * _is(people, "rcm")) | {"la_dev": dev}


def _right_atrium(people: Columns, rng: np.random.Generator) -> Columns:
    """RA: maximum 93 / 69 mL, EF 46 / 53 %; follows the right ventricle, its load and fibrillation."""
    male, n = people["male"], len(people["age"])
    ventricle = np.log(people["rv_edv"] / np.where(male, 178.0, 128.0))
    dev = (
        0.20 * rng.standard_normal(n)
        + 0.45 * ventricle
        + 0.2 * people["la_dev"]
        + 0.05 * np.clip(people["rv_load"], -2, 5)
    )
    dev += 0.22 * (people["rhythm"] == "af") + 0.35 * _is(people, "rcm") + 0.08 * people["pericarditis"]
    maximum = np.where(male, 91.0, 68.5) * np.exp(dev + 0.35 * _relative_size(people))
    ef = np.where(male, 46.5, 52.0) - 9 * dev - 0.8 * people["age_z"] + 7.5 * rng.standard_normal(n)
    return _atrium("ra", maximum, ef - 20 * (people["rhythm"] == "af"))


def shell_thickness(volume_ml: Array, mass_g: Array) -> Array:
    """Wall thickness (mm) of an open half-ellipsoid shell that holds ``volume_ml`` and weighs ``mass_g``.

    Cavity V = (2/3) pi a^2 L with L = 3.3 a; within the outer surface V + M / density = (2/3) pi (a + t)^2 (L + t);
    t by Newton's method.
    """
    radius = np.cbrt(1.5e3 * volume_ml / (np.pi * LENGTH_RATIO))
    length = LENGTH_RATIO * radius
    target = 1.5e3 * (volume_ml + mass_g / DENSITY) / np.pi
    t = np.full_like(radius, 6.0)
    for _ in range(8):
        error = (radius + t) ** 2 * (length + t) - target
        t = t - error / (2 * (radius + t) * (length + t) + (radius + t) ** 2)
    return np.asarray(t)


def territory_mask(infarct: Array, territories: dict[str, tuple[int, ...]], count: int) -> Array:
    """(n, count) of 0/1: which segments an infarct reaches."""
    mask = np.zeros((len(infarct), count))
    for name, members in territories.items():
        mask[np.ix_(infarct == name, np.array(members) - 1)] = 1.0
    return mask


def _pattern(rows: Array, pattern: Array, spread: float, rng: np.random.Generator) -> Array:
    """Each person's value (n,) spread over segments (n, s): pattern, individual variation, mean kept."""
    relative = pattern * np.exp(spread * rng.standard_normal((len(rows), len(pattern))))
    return np.asarray(rows[:, None] * relative / relative.mean(1, keepdims=True))


def _named(prefix: str, values: Array) -> Columns:
    """Columns prefix_1 ... prefix_s, and prefix_global, the mean of the segments."""
    columns = {f"{prefix}_{i + 1}": values[:, i] for i in range(values.shape[1])}
    return columns | {f"{prefix}_global": values.mean(1)}


def segments(people: Columns, rng: np.random.Generator) -> Columns:
    """Wall thickness (mm) and circumferential, radial, longitudinal strain (%) by segment.

    Thickness: the shell of the person's mass and cavity, thicker septum in hypertrophic disease, thinned by infarct.
    Strain follows ejection fraction (r about 0.6), load and fibrosis; an infarct lowers it in its territory.
    """
    n, ef, extent = len(people["age"]), people["lv_ef"] - 60, people["infarct_extent"][:, None]
    common = rng.standard_normal(n)
    scar = extent * territory_mask(people["infarct"], TERRITORY, 16)
    scar_long = extent * territory_mask(people["infarct"], LONG_AXIS_TERRITORY, 6)
    wall = _pattern(shell_thickness(people["lv_edv"], people["lv_mass"]) * 0.97, _WALL, 0.06, rng)
    septal = np.isin(np.arange(1, 17), SEPTUM)
    wall = wall * (1 + 0.45 * septal * _is(people, "hcm")[:, None]) * (1 - 0.4 * scar)
    male, load, fibrosis = people["male"], people["lv_load"], people["fibrosis"] - 0.1
    circ = (
        np.where(male, -21.6, -23.2)
        - 0.25 * ef
        + 0.3 * load
        + 3 * fibrosis
        + 1.4 * common
        + 1.6 * rng.standard_normal(n)
    )
    radial = (
        np.where(male, 43.6, 47.2) + 0.62 * ef - 1.0 * load - 6 * fibrosis - 3.5 * common + 5.5 * rng.standard_normal(n)
    )
    long = (
        np.where(male, -17.8, -19.3)
        - 0.18 * ef
        + 0.45 * load
        + 4 * fibrosis
        + 0.9 * common
        + 1.8 * rng.standard_normal(n)
    )
    long = long + 3.0 * _is(people, "rcm") + 2.0 * _is(people, "hcm")
    ecc = _pattern(np.clip(circ, -36, -4), _CIRC, 0.09, rng) * (1 - 0.7 * scar)
    err = _pattern(np.clip(radial, 6, 90), _RADIAL, 0.12, rng) * (1 - 0.7 * scar)
    ell = _pattern(np.clip(long, -32, -3), _LONG, 0.12, rng) * (1 - 0.6 * scar_long)
    return _named("wt", wall) | _named("ecc", ecc) | _named("err", err) | _named("ell", ell)


def aorta(people: Columns, rng: np.random.Generator) -> Columns:
    """Areas (mm2) and distensibility (1e-3 / mmHg) of ascending and descending aorta.

    distensibility = (Amax - Amin) / (Amin PP) with pulse pressure PP; it falls by 3-4 % a year of age (Redheuil
    et al., Hypertension 2010;55:319) and with load, while areas grow with age and body size.
    """
    male, age, n = people["male"], people["age"] - 64, len(people["age"])
    pulse = np.clip(50 + 0.45 * age + 4 * people["lv_load"] + 9 * rng.standard_normal(n), 25, 110)
    stiff, wide, bsa = rng.standard_normal(n), rng.standard_normal(n), _relative_size(people)
    out: Columns = {}
    for name, men, women, dist, fall in (("aao", 905.0, 760.0, 1.55, 0.040), ("dao", 560.0, 425.0, 2.15, 0.030)):
        log_area = 0.0065 * age + 0.35 * bsa + 0.02 * people["lv_load"] + 0.10 * wide + 0.12 * rng.standard_normal(n)
        maximum = np.where(male, men, women) * np.exp(log_area)
        log_dist = -fall * age - 0.12 * people["lv_load"] + 0.25 * stiff + 0.28 * rng.standard_normal(n)
        elastic = np.clip(dist * np.exp(log_dist), 0.1, 12)
        out |= {f"{name}_max": maximum, f"{name}_min": maximum / (1 + elastic * pulse / 1000), f"{name}_dist": elastic}
    return out
