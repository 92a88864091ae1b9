"""One heart beat as a sum of vector waves: P, QRS, ST, T and U of a vectorcardiogram, from a latent heart.

Frame: Frank's axes, x to the left, y to the feet, z to the back; uV as the Frank leads see it. Each wave is a fixed
direction times a Gaussian in time whose two flanks may differ, so a beat is a table of (vector, centre, rising width,
falling width); the fixed-shape waves follow McSharry et al., IEEE Trans Biomed Eng 2003;50:289, in three dimensions.
The sequence of activation (septum, apex, free wall, base, the late wall of a blocked bundle) follows Durrer et al.,
Circulation 1970;41:899; block patterns Surawicz et al., JACC 2009;53:976; hypertrophy Hancock et al., JACC
2009;53:992; infarct Thygesen et al., JACC 2018;72:2231; voltages agree with Macfarlane's adult normal limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from cardionets.simulate.anatomy import Array

WAVES: Final = (
    *("p_ra", "p_la"),
    *("septal", "apical", "free_wall", "basal", "terminal", "rv", "late", "scar", "notch"),
    *("st", "t_early", "t_late", "u"),
)
_P, _QRS, _SCAR, _NOTCH, _ST, _T, _U = slice(0, 2), slice(2, 9), 9, 10, 11, slice(12, 14), 14
# Rows: septal, apical, free_wall, basal, terminal, rv, late; columns: centre and width in QRS durations, x, y, z in uV.
_NORMAL: Final = np.array([
    [0.16, 0.080, -120, -20, -190],
    [0.36, 0.090, 600, 330, -250],
    [0.50, 0.095, 970, 400, 370],
    [0.66, 0.095, 170, -40, 640],
    [0.82, 0.080, -180, -160, 150],
    [0.42, 0.110, -120, 30, -90],
    [0.80, 0.080, 0, 0, 0],
])  # fmt: skip
_RIGHT_BLOCK: Final = np.array([
    [0.12, 0.060, -120, -20, -230],
    [0.25, 0.062, 600, 330, -190],
    [0.34, 0.066, 940, 400, 380],
    [0.45, 0.068, 150, 0, 420],
    [0.62, 0.090, -160, -20, -130],
    [0.72, 0.095, -290, 10, -330],
    [0.84, 0.080, -190, 10, -220],
])  # fmt: skip
_LEFT_BLOCK: Final = np.array([
    [0.12, 0.070, 90, 40, 60],
    [0.28, 0.090, 480, 220, 330],
    [0.41, 0.105, 560, 200, 760],
    [0.57, 0.105, 430, 40, 780],
    [0.73, 0.090, 560, 0, 480],
    [0.14, 0.060, -40, 20, -110],
    [0.88, 0.080, 210, -40, 260],
])  # fmt: skip
# Exponent of relative LV mass by QRS wave: the free wall and the base carry the added muscle, leftward and backward.
_MASS_POWER: Final = np.array([0.2, 0.25, 0.5, 0.65, 0.45, 0.0, 0.3])
_TOWARDS: Final = {"anterior": (0.25, 0.05, -1.0), "inferior": (-0.15, 1.0, 0.15), "lateral": (1.0, 0.05, 0.25)}


@dataclass(frozen=True, slots=True)
class Beat:
    """Waves of one beat for n people: ``vector`` (n, wave, 3) uV; times (n, wave) in ms from the onset of QRS."""

    vector: Array
    centre: Array
    rise: Array
    fall: Array


@dataclass(frozen=True, slots=True)
class _Heart:
    """Columns of the latent table as arrays (n,), with the few ratios that the electrical model uses."""

    table: pd.DataFrame
    mass: Array  # relative to 86 g
    strain: Array  # 0..1.6, repolarisation of the loaded ventricle
    weak: Array  # percentage points of ejection fraction below 60
    rbbb: Array
    lbbb: Array

    def __getitem__(self, name: str) -> Array:
        return self.table[name].to_numpy()

    def var(self, name: str) -> Array:
        return self[f"var_{name}"]


def _heart(hearts: pd.DataFrame) -> _Heart:
    mass = hearts["lv_mass"].to_numpy() / 86.0
    expected = np.where(hearts["sex"] == "M", 103.0, 71.0) / 86.0
    strain = (
        0.4 * (hearts["subtype"] == "hcm").to_numpy()
        + 0.25 * (hearts["lv_load"].to_numpy() - 1.3)
        + 1.1 * np.log(mass / expected)
        + 0.28 * hearts["var_strain"].to_numpy()
    )
    conduction = hearts["conduction"].to_numpy()
    return _Heart(
        hearts,
        mass=mass,
        strain=np.clip(strain, 0, 1.6),
        weak=60 - hearts["lv_ef"].to_numpy(),
        rbbb=np.asarray(conduction == "rbbb"),
        lbbb=np.asarray(conduction == "lbbb"),
    )


def beat(hearts: pd.DataFrame) -> Beat:
    """The dominant beat of each person in the body frame, torso gain applied."""
    h, n = _heart(hearts), len(hearts)
    vector = np.zeros((n, len(WAVES), 3))
    centre, rise, fall = (np.ones((n, len(WAVES))) for _ in range(3))
    for part in (_p_wave, _qrs, _scar_and_notch, _repolarisation):
        part(h, vector, centre, rise, fall)
    # (n, i, j) rotates every wave (n, wave, j)
    vector = np.einsum("nij,nwj->nwi", _rotation(h), vector)
    return Beat(vector * h["torso_gain"][:, None, None], centre, rise, fall)


def _p_wave(h: _Heart, vector: Array, centre: Array, rise: Array, fall: Array) -> None:
    """Right atrium early, forward and down; left atrium later, left and back; P lengthens with the latter and scar."""
    left, right = h["la_max"] / 68.0, h["ra_max"] / 82.0
    length = 108 + 24 * np.log(left) + 0.25 * (h["age"] - 64) + 25 * (h["fibrosis"] - 0.1) + 8 * h.var("p_length")
    length = np.clip(length, 78, 170)
    sinus = h["rhythm"] != "af"
    magnitude_right = sinus * 105 * right**0.7 * np.exp(0.18 * h.var("p_right") + 0.04 * np.clip(h["rv_load"], -2, 5))
    magnitude_left = sinus * 85 * left**0.6 * np.exp(0.26 * h.var("p_left"))
    vector[:, 0] = magnitude_right[:, None] * np.array([0.36, 0.78, -0.60])
    vector[:, 1] = magnitude_left[:, None] * np.array([0.74, 0.54, 0.34])
    onset, late = -h["pr_ms"], 0.63 + 0.03 * h.var("p_late")
    centre[:, 0], centre[:, 1] = onset + 0.34 * length, onset + late * length
    rise[:, _P] = fall[:, _P] = 0.155 * length[:, None]


def _qrs(h: _Heart, vector: Array, centre: Array, rise: Array, fall: Array) -> None:
    """Activation of the ventricles: waves by conduction, their voltages by mass, volume, scar and RV load."""
    tables = np.stack([_NORMAL, _RIGHT_BLOCK, _LEFT_BLOCK])
    table = tables[np.where(h.rbbb, 1, np.where(h.lbbb, 2, 0))]  # (n, wave, 5)
    names = ("septal", "apical", "free_wall", "basal", "terminal", "rv", "late")
    spread = np.stack([h.var(name) for name in names], 1) * np.array([0.35, 0.25, 0.16, 0.25, 0.45, 0.3, 0.2])
    gain = spread + _MASS_POWER * np.log(h.mass)[:, None] + (0.19 * h.var("gain"))[:, None]
    gain[:, 0] += 0.7 * (h["subtype"] == "hcm")
    gain[:, 1] -= 0.011 * np.clip(h.weak, -12, 40) + 0.8 * (h["fibrosis"] - 0.1)
    gain[:, 2] -= 0.006 * np.clip(h.weak, -12, 40)
    gain[:, 3] += 0.25 * np.log(h["lv_edv"] / 145)
    gain[:, 5] += 0.5 * np.log(h["rv_edv"] / 155) + 0.45 * np.clip(h["rv_load"], -2, 4)
    vector[:, _QRS] = table[:, :, 2:] * np.exp(gain)[:, :, None]
    right = np.clip(h["rv_load"], -2, 6) * np.where(h.lbbb | h.rbbb, 0.4, 1.0)
    vector[:, 6] += right[:, None] * np.array([-85.0, 20.0, -45.0])
    length = h["qrs_ms"][:, None]
    centre[:, _QRS] = table[:, :, 0] * length
    jitter = np.exp(0.06 * np.stack([h.var("width"), -h.var("width")], 1).repeat([4, 3], 1))
    rise[:, _QRS] = fall[:, _QRS] = table[:, :, 1] * length * jitter


def _scar_and_notch(h: _Heart, vector: Array, centre: Array, rise: Array, fall: Array) -> None:
    """Dead muscle no longer pulls towards itself: an early vector away from it. Diffuse scar notches the QRS."""
    away = -_territory(h)
    healthy = np.where(h.lbbb, 0.4, 1.0)
    vector[:, _SCAR] = away * (healthy * (200 + 750 * h["infarct_extent"]))[:, None]
    centre[:, _SCAR] = 0.30 * h["qrs_ms"]
    rise[:, _SCAR], fall[:, _SCAR] = 0.11 * h["qrs_ms"], 0.11 * h["qrs_ms"]
    size = 40 + 420 * h["fibrosis"]
    vector[:, _NOTCH] = size[:, None] * 0.5 * np.stack([h.var("notch_x"), h.var("notch_y"), h.var("notch_z")], 1)
    centre[:, _NOTCH] = (0.6 + 0.06 * h.var("width")) * h["qrs_ms"]
    rise[:, _NOTCH] = fall[:, _NOTCH] = 0.045 * h["qrs_ms"]


def _territory(h: _Heart) -> Array:
    """(n, 3) unit vector from the centre of the heart to the infarct, zero where there is none."""
    towards = np.zeros((len(h.mass), 3))
    for name, direction in _TOWARDS.items():
        towards[h["infarct"] == name] = np.array(direction) / np.linalg.norm(direction)
    return towards


def _repolarisation(h: _Heart, vector: Array, centre: Array, rise: Array, fall: Array) -> None:
    """T follows QRS in health, taller and further forward in men; load, scar, block, weakness turn or flatten it."""
    male = h["sex"] == "M"
    size = np.where(male, 560.0, 420.0) * np.exp(
        0.22 * h.var("t_gain") - 0.005 * (h["age"] - 64) + 0.2 * np.log(h.mass)
    )
    size = size * np.exp(-0.012 * np.clip(h.weak, -12, 35)) * (1 - 0.5 * np.clip(h.strain, 0, 1.5))
    size = size * np.where(h["pericarditis"], 0.6, 1.0)
    direction = np.stack(
        [0.62 + 0.10 * h.var("t_x"), 0.46 + 0.10 * h.var("t_y"), np.where(male, -0.52, -0.36) + 0.14 * h.var("t_z")], 1
    )
    area = (vector[:, _QRS] * rise[:, _QRS, None]).sum(1) / 10.0  # (n, 3), a mean QRS vector in uV
    turned = -area * (0.22 * h.strain)[:, None]
    late = (vector[:, 6] + vector[:, 7] + vector[:, 8]) * h.rbbb[:, None]
    turned = turned - 0.28 * late - 0.14 * area * h.lbbb[:, None]
    overload = np.clip(h["rv_load"] - 1.8, 0, 3.5)[:, None] * np.array([30.0, -25.0, 75.0])
    size = size * np.where(h.lbbb, 0.35, 1.0)
    turned = turned + overload
    extent = h["infarct_extent"]
    t = (
        direction * size[:, None] * (1 - 0.5 * extent)[:, None]
        + turned
        - _territory(h) * (330 * np.sqrt(extent))[:, None]
    )
    _place_repolarisation(h, t, turned, vector, centre, rise, fall)


def _place_repolarisation(
    h: _Heart, t: Array, turned: Array, vector: Array, centre: Array, rise: Array, fall: Array
) -> None:
    """ST, two overlapping T waves (slow rise, fast fall) and U in time: T ends where the QT interval does."""
    male, scale = h["sex"] == "M", h["qt_ms"] / 405
    ahead = (np.where(male, 46.0, 18.0) * np.exp(0.4 * h.var("st")))[:, None] * np.array([0.35, 0.2, -0.9])
    vector[:, _ST] = ahead + 0.30 * turned
    vector[:, 12] = 0.30 * t + 0.16 * turned
    vector[:, 13] = 0.78 * t
    vector[:, _U] = 0.05 * t
    peak = h["qt_ms"] - 84 * scale * np.exp(0.06 * h.var("t_width"))
    centre[:, _ST] = h["qrs_ms"] + 0.32 * (peak - h["qrs_ms"])
    rise[:, _ST], fall[:, _ST] = 26.0, 0.36 * (peak - h["qrs_ms"])
    centre[:, 12], centre[:, 13], centre[:, _U] = peak - 50 * scale, peak, h["qt_ms"] + 75 * scale
    rise[:, 12], fall[:, 12] = 46 * scale, 34 * scale
    rise[:, 13], fall[:, 13] = 44 * scale, 37 * scale
    rise[:, _U] = fall[:, _U] = 34 * scale


def _rotation(h: _Heart) -> Array:
    """(n, 3, 3) rotation of the electrical by the anatomical axis, with individual and load-dependent turns.

    In the frontal plane more elevation turns left towards the feet, in the transverse plane more azimuth turns left
    towards the front; a heavy left ventricle turns both back (up, backwards), a loaded right one down.
    """
    down = np.deg2rad(
        0.9 * (h["heart_elevation_deg"] - 36)
        + 11 * h.var("axis")
        - 10 * np.log(h.mass)
        + 3.0 * np.clip(h["rv_load"], -2, 6)
    )
    front = np.deg2rad(0.8 * (h["heart_azimuth_deg"] - 45) + 8 * h.var("azimuth") - 8 * np.log(h.mass))
    zero, one = np.zeros_like(down), np.ones_like(down)
    frontal = np.array([[np.cos(down), -np.sin(down), zero], [np.sin(down), np.cos(down), zero], [zero, zero, one]])
    transverse = np.array(
        [[np.cos(front), zero, np.sin(front)], [zero, one, zero], [-np.sin(front), zero, np.cos(front)]]
    )
    return np.asarray(np.einsum("ijn,jkn->nik", transverse, frontal))


def determinants(hearts: pd.DataFrame) -> pd.DataFrame:
    """What an ideal, noise-free ECG could reveal: wave vectors (uV), their times and widths (ms), rate, rhythm.

    Torso gain and orientation appear only as they act, inside the vectors. Regressing a phenotype on these columns
    gives the attainable ceiling. One row per row of ``hearts``, same index.
    """
    waves = beat(hearts)
    columns: dict[str, Array] = {}
    for w, name in enumerate(WAVES):
        columns |= {f"{name}_{axis}_uv": waves.vector[:, w, i] for i, axis in enumerate("xyz")}
    for name in ("p_ra", "p_la", "free_wall", "st", "t_late"):
        columns[f"{name}_ms"] = waves.centre[:, WAVES.index(name)]
    columns |= {f"{name}_width_ms": waves.rise[:, WAVES.index(name)] for name in ("p_ra", "free_wall", "t_late")}
    columns |= {name: hearts[name].to_numpy() for name in ("rate_bpm", "pr_ms", "qrs_ms", "qt_ms")}
    columns["af"] = (hearts["rhythm"] == "af").to_numpy(float)
    columns |= {name: (hearts["conduction"] == name).to_numpy(float) for name in ("rbbb", "lbbb")}
    columns["pr_ms"] = columns["pr_ms"] * (1 - columns["af"])
    return pd.DataFrame(columns, index=hearts.index)
