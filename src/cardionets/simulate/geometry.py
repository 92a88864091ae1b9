"""Geometry and motion of one beating heart, from its row of latent phenotypes.

Left ventricle: an ellipsoid of revolution cut off at the mitral plane, the classic model of ventricular volume (Dodge
and Sandler, Am Heart J 1960;60:762), with the cut 0.5 long semi-axes above the equator: V = pi a^2 c (2/3 + k - k^3 /
3), L = c (1 + k). The apex stays, the mitral plane descends by the longitudinal strain, and muscle is incompressible,
so a wall that shortens thickens. Segments follow the 17-segment model (Cerqueira et al., Circulation 2002;105:539):
each moves inwards in proportion to its circumferential strain. Duration of ejection falls with rate (Weissler et al.,
Circulation 1968;37:149).

Axes of a heart: y along the long axis in mm from the end-diastolic mitral plane (0) to the apex (positive); angles
about it as seen on a short-axis image, 0 lateral (image right), 90 anterior (up), 180 septal.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.config import StudyError
from cardionets.phenotypes import NAMES

Float = NDArray[np.floating[Any]]

ANGLES: Final = 192
THETA: Final[Float] = (np.arange(ANGLES) * (2 * np.pi / ANGLES)).astype(np.float32)
DENSITY: Final = 1.055  # g/mL, myocardium
CUT: Final = 0.5  # height of the mitral plane above the equator, long semi-axes
SHAPE: Final = 2 / 3 + CUT - CUT**3 / 3
RV_TAPER: Final = 1.15  # RV area falls as (1 - v)^1.15 from tricuspid plane (v = 0) to RV apex (v = 1)
LEVELS: Final = (0.17, 0.5, 0.83)  # basal, mid and apical ring, fraction of the way from base to apex
_RINGS: Final = ((90, 150, 210, 270, 330, 30), (90, 150, 210, 270, 330, 30), (90, 180, 270, 0))
_SEX_AGE: Final = ("age", "height_cm", "weight_kg", "rate_bpm", "rv_load")


def smooth_step(t: Float, start: float, end: float) -> Float:
    """0 before ``start``, 1 after ``end``, cubic in between with zero slope at both."""
    s = np.clip((t - start) / (end - start), 0, 1)
    return np.asarray(s * s * (3 - 2 * s), dtype=np.float32)


@lru_cache(maxsize=1)
def _ring_weights() -> tuple[Float, ...]:
    """Per ring, (angle, segment) weights of periodic linear interpolation between segment centres."""
    out = []
    for centres in _RINGS:
        width = 2 * np.pi / len(centres)
        gap = THETA[:, None] - np.radians(np.array(centres, dtype=np.float32))
        gap = np.abs((gap + np.pi) % (2 * np.pi) - np.pi)
        out.append(np.clip(1 - gap / width, 0, None).astype(np.float32))
    return tuple(out)


def rings(segments: Float) -> Float:
    """Spread 16 segment values over the angles of the three rings: (3, angle)."""
    weights = _ring_weights()
    parts = (segments[:6], segments[6:12], segments[12:16])
    return np.stack([w @ part for w, part in zip(weights, parts)])


def ring_mix(level: Float | float) -> Float:
    """Weights (..., 3) of basal, mid and apical ring at ``level`` (0 base, 1 apex)."""
    u = np.clip(np.asarray(level, dtype=np.float32), LEVELS[0], LEVELS[2])[..., None]
    gap = np.abs(u - np.array(LEVELS, dtype=np.float32)) / (LEVELS[1] - LEVELS[0])
    return np.asarray(np.clip(1 - gap, 0, None), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Heart:
    """What the drawing needs of a person: volumes (mL), mass (g), walls (mm), strains (%), rhythm, habitus.

    ``wall``, ``circumferential`` hold the 16 AHA segments. ``shape`` holds standard normal draws of individual form
    that belong to the person, not to a scan: the same row gives the same draws, so two views show one heart.
    """

    lv: tuple[float, float]
    rv: tuple[float, float]
    la: tuple[float, float]
    ra: tuple[float, float]
    mass: float
    wall: Float
    circumferential: Float
    longitudinal: float
    aorta_mm: tuple[float, float]
    age: float
    rate: float
    bmi: float
    rv_load: float
    fibrillates: bool
    left_block: bool
    subtype: str
    shape: Float

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Heart:
        """Read a row of the latent table; StudyError names every missing or impossible field."""
        wanted = (*NAMES, *_SEX_AGE, "rhythm", "conduction", "subtype")
        missing = [name for name in wanted if name not in row]
        if missing:
            raise StudyError(f"latent heart: {', '.join(missing)}: missing; pass a whole row of simulate.heart.sample.")
        number = {name: float(row[name]) for name in (*NAMES, *_SEX_AGE)}  # type: ignore[arg-type]
        _refuse_impossible(number)
        seed = zlib.crc32(np.array([number[name] for name in NAMES]).tobytes())
        return cls(
            lv=(number["lv_edv"], number["lv_esv"]),
            rv=(number["rv_edv"], number["rv_esv"]),
            la=(number["la_min"], number["la_max"]),
            ra=(number["ra_min"], number["ra_max"]),
            mass=number["lv_mass"],
            wall=np.array([number[f"wt_{i}"] for i in range(1, 17)], np.float32),
            circumferential=np.array([number[f"ecc_{i}"] for i in range(1, 17)], np.float32),
            longitudinal=number["ell_global"],
            aorta_mm=((number["dao_min"] / np.pi) ** 0.5, (number["dao_max"] / np.pi) ** 0.5),
            age=number["age"],
            rate=number["rate_bpm"],
            bmi=number["weight_kg"] / (number["height_cm"] / 100) ** 2,
            rv_load=number["rv_load"],
            fibrillates=row["rhythm"] == "af",
            left_block=row["conduction"] == "lbbb",
            subtype=str(row["subtype"]),
            shape=np.random.default_rng(seed).standard_normal(24, dtype=np.float32),
        )


def _refuse_impossible(number: dict[str, float]) -> None:
    pairs = (("lv_esv", "lv_edv"), ("rv_esv", "rv_edv"), ("la_min", "la_max"), ("ra_min", "ra_max"))
    faults = [f"{low} must lie between 0 and {high}" for low, high in pairs if not 0 < number[low] < number[high]]
    positive = ("lv_mass", "rate_bpm", "height_cm", "weight_kg", *(f"wt_{i}" for i in range(1, 17)))
    faults += [f"{name} must be positive" for name in positive if not number[name] > 0]
    if faults:
        raise StudyError(f"latent heart: {'; '.join(faults)}; correct the row.")


@dataclass(frozen=True, slots=True)
class Beat:
    """One cycle of ``frames`` even phases from end-diastole. Per frame, float32 (frame,): ``emptied`` 0 (full) to 1
    (end-systole), ``filled`` the same of the atria, ``opening`` of the inflow valves, ``pulse`` of the aorta.
    """

    emptied: Float
    filled: Float
    opening: Float
    pulse: Float


def beat(heart: Heart, frames: int) -> Beat:
    """Volume curves: ejection, isovolumic relaxation, rapid filling, diastasis, atrial kick (none in fibrillation)."""
    t = (np.arange(frames) / frames).astype(np.float32)
    cycle = 60 / heart.rate
    systole = float(np.clip((0.413 - 0.0017 * heart.rate + 0.05) / cycle, 0.28, 0.52))
    # end-systole falls on a frame, so that the cine shows the true end-systolic volume
    systole = max(1, round(systole * frames)) / frames
    relaxed = systole + min(0.05 / cycle, 0.08)
    filled = min(relaxed + 0.19 / cycle, 0.93)
    kick = max(1 - 0.16 / cycle, relaxed + 0.1)
    passive = 0.72 - 0.005 * (heart.age - 50) + 0.05 * float(heart.shape[0]) + 0.2 * (heart.subtype == "rcm")
    passive = 0.85 if heart.fibrillates else float(np.clip(passive, 0.4, 0.9))
    active = 0.0 if heart.fibrillates else 0.85 * (1 - passive)
    early, late = smooth_step(t, relaxed - 0.02, filled), smooth_step(t, kick, 0.995)
    drift = smooth_step(t, filled - 0.05, 1.0)
    emptied = smooth_step(t, 0.02, systole) - passive * early - active * late - (1 - passive - active) * drift
    conduit, boost = (0.7, 0.0) if heart.fibrillates else (0.48, 0.44)
    reservoir = smooth_step(t, 0.0, relaxed) - conduit * early - boost * late - (1 - conduit - boost) * drift
    waves = np.exp(-(((t - (relaxed + filled) / 2) / (0.09 / cycle)) ** 2))
    waves = waves + (0 if heart.fibrillates else 0.75) * np.exp(-(((t - (kick + 1) / 2) / (0.06 / cycle)) ** 2))
    opening = np.clip(waves + 0.5 * smooth_step(t, relaxed, filled) * (1 - smooth_step(t, 0.93, 1.0)), 0, 1)
    pulse = smooth_step(t, 0.06, 0.8 * systole) - smooth_step(t, systole, 1.0)
    return Beat(emptied, reservoir, opening.astype(np.float32), pulse)


@dataclass(frozen=True, slots=True)
class Ventricles:
    """Both ventricles over one cycle. Scalars in mm; per-frame arrays (frame,).

    ``short``, ``long`` semi-axes and ``length`` of the LV cavity; ``apex`` its y, fixed; ``wall`` uniform thickness
    that has the mass; ``plane`` y of the mitral and ``rv_plane`` of the tricuspid annulus; ``rv`` volume (mm3);
    ``rv_apex`` y, fixed.
    """

    heart: Heart
    beat: Beat
    short: Float
    long: Float
    length: Float
    apex: float
    wall: float
    plane: Float
    rv: Float
    rv_plane: Float
    rv_apex: float
    inward: Float
    thickness: Float

    def cavity(self, y: Float) -> Float:
        """Mean radius (frame, level) of the LV cavity at heights ``y`` (level,); 0 beyond the apex."""
        centre = self.apex - self.long
        ratio = (y - centre[:, None]) / self.long[:, None]
        return np.asarray(self.short[:, None] * np.sqrt(np.clip(1 - ratio**2, 0, None)), dtype=np.float32)

    def shell(self, y: Float, extra: float = 0.0) -> Float:
        """End-diastolic outer radius (level,) of a wall of uniform thickness, ``extra`` mm further out."""
        long = float(self.long[0])
        ratio = (y - (self.apex - long)) / (long + 0.75 * self.wall + extra)
        return np.asarray((self.short[0] + self.wall + extra) * np.sqrt(np.clip(1 - ratio**2, 0, None)), np.float32)

    @property
    def squeeze(self) -> Float:
        """Growth (frame,) of the muscle's cross-section as the ventricle shortens: incompressibility."""
        return np.asarray(self.length[0] / self.length, dtype=np.float32)

    def rv_area(self, y: float) -> Float:
        """Cross-section (frame,) of the RV cavity in mm2 at height ``y``."""
        length = self.rv_apex - self.rv_plane
        v = np.clip((y - self.rv_plane) / length, 0, 1)
        return np.asarray(self.rv / length * (1 + RV_TAPER) * (1 - v) ** RV_TAPER, dtype=np.float32)

    def travel(self, start: Float, now: Float, weight: Float, form: Float) -> Float:
        """Inward shift d (frame, level) so that contours ``form * start - d * weight`` keep the area of radius
        ``now``.

        ``start`` (level,) end-diastolic and ``now`` (frame, level) mean radii; ``weight`` mean squared and ``form``
        mean product (level,). Solves mean((form start - d weight)^2) = now^2, a quadratic in d.
        """
        b = start * form
        root = np.sqrt(np.clip(b**2 - weight * (start**2 - now**2), 0, None))
        return np.asarray((b - root) / weight, dtype=np.float32)


def ventricles(heart: Heart, frames: int) -> Ventricles:
    """Place and move both ventricles of ``heart`` over ``frames`` phases."""
    cycle = beat(heart, frames)
    volume = 1e3 * (heart.lv[0] - (heart.lv[0] - heart.lv[1]) * cycle.emptied)
    # a dilated ventricle is rounder: its length grows with less than the cube root of its volume
    apex = 89.0 * (heart.lv[0] / 145) ** 0.27 * float(np.exp(0.025 * heart.shape[1]))
    shortening = float(np.clip(-0.0085 * heart.longitudinal, 0.02, 0.24))
    length = apex * (1 - shortening * cycle.emptied)
    long = length / (1 + CUT)
    short = np.sqrt(volume / (np.pi * long * SHAPE))
    rv_volume = 1e3 * (heart.rv[0] - (heart.rv[0] - heart.rv[1]) * cycle.emptied)
    rv_apex, rv_shortening = apex - 9.0, float(np.clip(0.5 * (1 - heart.rv[1] / heart.rv[0]), 0.08, 0.38))
    rv_plane = 7.0 + rv_shortening * (rv_apex - 7.0) * cycle.emptied
    return Ventricles(
        heart=heart,
        beat=cycle,
        short=short.astype(np.float32),
        long=long.astype(np.float32),
        length=length.astype(np.float32),
        apex=apex,
        wall=_shell_wall(float(short[0]), float(long[0]), heart.mass),
        plane=(apex - length).astype(np.float32),
        rv=rv_volume.astype(np.float32),
        rv_plane=rv_plane.astype(np.float32),
        rv_apex=rv_apex,
        inward=_inward(heart),
        thickness=rings(heart.wall / heart.wall.mean()),
    )


def _shell_wall(short: float, long: float, mass: float) -> float:
    """Uniform wall (mm), three quarters of it at the apex, whose shell weighs ``mass`` grams: Newton's method."""
    target = 1e3 * mass / DENSITY + np.pi * short**2 * long * SHAPE

    def volume(wall: float) -> float:
        tall = long + 0.75 * wall
        cut = CUT * long / tall
        return float(np.pi * (short + wall) ** 2 * tall * (2 / 3 + cut - cut**3 / 3))

    wall = 7.0
    for _ in range(6):
        slope = (volume(wall + 0.1) - volume(wall)) / 0.1
        wall = max(wall - (volume(wall) - target) / slope, 1.0)
    return wall


def _inward(heart: Heart) -> Float:
    """Relative inward motion (3, angle) of the three rings, mean 1 each: strain relative to the ring's mean."""
    motion = rings(np.clip(heart.circumferential / heart.circumferential.mean(), -0.3, 2.5).astype(np.float32))
    return np.asarray(motion / np.maximum(motion.mean(axis=1, keepdims=True), 0.2), dtype=np.float32)
