"""Outlines of the four chambers: each is a table of left-right position against height along the long axis.

The septum is the spine of the drawing: right of it lie left ventricle and left atrium, left of it their right
counterparts, and the width of each chamber is solved exactly from its area. Area from volume: V = 0.85 A^2 / L for the
atria (area-length, Lang et al., JASE 2015;28:1), A proportional to V^(2/3) for the right ventricle; the left ventricle
is the ellipsoid of :mod:`.geometry` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cardionets.simulate.geometry import THETA, Float, Heart, Ventricles, ring_mix
from cardionets.simulate.torso import Surroundings, habitus

ROWS: Final = 256
LOW, HIGH = -100.0, 140.0
Y: Final[Float] = np.linspace(LOW, HIGH, ROWS, dtype=np.float32)
STEP: Final = (HIGH - LOW) / (ROWS - 1)
SEPTAL, LATERAL = int(np.argmin(abs(THETA - np.radians(205)))), int(np.argmin(abs(THETA - np.radians(25))))
RV_AREA: Final = 0.86  # A = 0.86 V^(2/3), A in cm2, V in mL
RV_WALL, ATRIAL_WALL = 3.5, 2.0
STEEPEST: Final = 2.2  # mm sideways per mm of height, of the heart's outer surface
NOWHERE: Final = -8.0  # width of a chamber where it has none


@dataclass(frozen=True, slots=True)
class Outlines:
    """Left-right position (frame, row) in mm of every outline at heights ``Y``, and where the valves hang.

    ``septum`` and ``lateral`` are the LV epicardium, ``left`` and ``right`` its cavity; ``mitral`` and ``tricuspid``
    heights (frame,).
    """

    septum: Float
    left: Float
    right: Float
    lateral: Float
    rv: Float
    la_left: Float
    la_right: Float
    ra_left: Float
    ra_right: Float
    outer_left: Float
    outer_right: Float
    mitral: Float
    tricuspid: Float
    apex: float
    crux: float


def _walls(ventricles: Ventricles) -> tuple[Float, Float, Float, Float]:
    """Half-widths (frame, row) of the LV: septal and lateral cavity, septal and lateral outer surface."""
    mix = ring_mix(np.asarray(Y / ventricles.apex, np.float32))
    inward, thick = ventricles.inward, ventricles.thickness
    # opposite walls of the plane share the ring's motion: each keeps its strength relative to the ring's mean
    weight = mix @ (inward**2).mean(axis=1)
    form = np.ones(ROWS, np.float32)
    radius = ventricles.cavity(Y)
    start = np.where(ventricles.apex > Y, np.maximum(radius[0], 0.01), 0.01).astype(np.float32)
    shift = ventricles.travel(start, radius, weight, form)
    narrow = 1 - 0.16 * np.clip(1 - (Y - ventricles.plane[:, None]) / 26, 0, 1) ** 2
    shell = ventricles.shell(Y)
    halves = []
    for side in (SEPTAL, LATERAL):
        cavity = np.clip(start - shift * (mix @ inward[:, side]), 0, None)
        wall = np.maximum(shell - start, 0) * (mix @ thick[:, side])
        ring = (start + wall) ** 2 - start**2
        outer = np.sqrt(cavity**2 + ventricles.squeeze[:, None] * ring)
        halves.append((cavity * narrow, outer * (0.5 + 0.5 * narrow)))
    (septal, septal_outer), (lateral, lateral_outer) = halves
    septal, lateral = (np.where(radius > 0, half, NOWHERE) for half in (septal, lateral))
    septal_outer, lateral_outer = (
        np.where(shell > 0, h, NOWHERE).astype(np.float32) for h in (septal_outer, lateral_outer)
    )
    return septal, lateral, septal_outer, lateral_outer


FORM_STEPS: Final = 500
_UNIT: Final = np.linspace(0, 1, FORM_STEPS + 1)
RV_FORM: Final[Float] = ((1 - _UNIT) ** 0.7 * (0.68 + 1.1 * _UNIT)).astype(np.float32)
"""Width of the RV from tricuspid plane (0) to its apex (1)."""
ATRIUM_FORM: Final[Float] = (np.sqrt(1 - _UNIT**2.4) * (0.60 + 0.40 * np.sin(np.pi * _UNIT**0.8))).astype(np.float32)
"""Width of an atrium from its valve (0) to its roof (1)."""
ROUNDING: Final[Float] = (1 - np.sqrt(1 - _UNIT**4)).astype(np.float32)
"""How the septal side of an atrium curves away from the septum towards the roof."""


def _form(table: Float, depth: Float) -> Float:
    """A form at relative depths; as at the valve where negative, as at the end (zero) beyond 1."""
    return table.take(np.clip(depth * FORM_STEPS, 0, FORM_STEPS).astype(np.int32))


def _rv_width(ventricles: Ventricles) -> Float:
    length = (ventricles.rv_apex - ventricles.rv_plane)[:, None]
    area = 100 * RV_AREA * (ventricles.rv[:, None] / 1000) ** (2 / 3)
    v = (Y - ventricles.rv_plane[:, None]) / length
    width = area / (length * float(RV_FORM.mean())) * _form(RV_FORM, v)
    return np.asarray(np.where(v < 1, width, NOWHERE), dtype=np.float32)


def _atrial_width(volumes: tuple[float, float], filled: Float, plane: Float) -> tuple[Float, Float, Float]:
    """Widths (frame, row) of cavity and outer wall below the valve ``plane`` (frame,), and how far the roof rounds off.

    The roof stays where it is while the valve plane moves.
    """
    least, most = volumes
    volume = 1e3 * (least + (most - least) * filled)[:, None]
    roof = float(plane[0]) - 13.3 * least ** (1 / 3)
    length = plane[:, None] - roof
    mean_width = np.sqrt(volume * length / 0.85) / (length * float(ATRIUM_FORM.mean()))
    fall = plane[:, None] - Y
    cavity = np.where(fall < length, mean_width * _form(ATRIUM_FORM, fall / length), NOWHERE)
    deeper = fall / (length + ATRIAL_WALL)
    wall = np.where(deeper < 1, mean_width * _form(ATRIUM_FORM, deeper) + ATRIAL_WALL, NOWHERE)
    rounding = np.where(deeper < 1, 0.34 * mean_width * _form(ROUNDING, fall / length), 0)
    return cavity.astype(np.float32), wall.astype(np.float32), rounding.astype(np.float32)


def _draped(outline: Float, side: int) -> Float:
    """The closest outline further out (side 1 right, -1 left) without steps: fat fills grooves."""
    out = side * outline
    for rows in (1, 2, 4, 8, 16):
        fall = np.float32(STEEPEST * rows * STEP)
        wider = out.copy()
        np.maximum(wider[:, rows:], out[:, :-rows] - fall, out=wider[:, rows:])
        np.maximum(wider[:, :-rows], out[:, rows:] - fall, out=wider[:, :-rows])
        out = wider
    return np.asarray(side * out, dtype=np.float32)


def outlines(ventricles: Ventricles) -> Outlines:
    """All outlines of the four chambers over the cycle."""
    heart = ventricles.heart
    septal, lateral, septal_outer, lateral_outer = _walls(ventricles)
    axis = 17.0 - 3.0 * ((Y - 35) / 55) ** 2 + 2.0 * float(np.clip(heart.shape[6], -2, 2)) * np.sin((Y - 10) / 28)
    axis = axis.astype(np.float32)
    septum, lateral_epi = axis - septal_outer, axis + lateral_outer
    rv = septum - _rv_width(ventricles)
    mitral, tricuspid = ventricles.plane, ventricles.rv_plane
    base = int(np.searchsorted(Y, 4.0))
    crux = float(axis[base] - (septal[0, base] + septal_outer[0, base]) / 2)
    middle = (crux + 1.5 + 0.36 * np.minimum(Y, 0) + 0.1 * np.clip(Y, 0, 20)).astype(np.float32)
    la, la_wall, la_round = _atrial_width(heart.la, ventricles.beat.filled, mitral)
    ra, ra_wall, ra_round = _atrial_width(heart.ra, ventricles.beat.filled, tricuspid)
    above_mitral, above_tricuspid = mitral[:, None] - 2 < Y, tricuspid[:, None] - 2 < Y
    wide_left = np.where(
        above_tricuspid, np.where(rv < septum, rv - RV_WALL, septum), middle - 2.2 - ra_round - ra_wall
    )
    wide_right = np.where(above_mitral, lateral_epi, middle + la_round + la_wall)
    fat = 0.6 + 0.05 * habitus(heart)[0]
    inside = wide_right > wide_left
    wide_left, wide_right = np.where(inside, wide_left, 99.0), np.where(inside, wide_right, -99.0)
    outer_left = np.where(inside, _draped(wide_left, -1) - fat, 99.0)
    outer_right = np.where(inside, _draped(wide_right, 1) + fat, -99.0)
    groove = 0.6 + 0.02 * habitus(heart)[0] + 0.15 * float(np.clip(heart.shape[7], -2, 2))
    outer_left = outer_left - 5.0 * groove * np.exp(-(((Y - tricuspid[:, None]) / 8) ** 2))
    outer_right = outer_right + 4.0 * groove * np.exp(-(((Y - mitral[:, None]) / 8) ** 2))
    return Outlines(
        septum=septum,
        left=axis - septal,
        right=axis + lateral,
        lateral=lateral_epi,
        rv=rv,
        la_left=middle + la_round,
        la_right=middle + la_round + la,
        ra_left=middle - 2.2 - ra_round - ra,
        ra_right=middle - 2.2 - ra_round,
        outer_left=outer_left.astype(np.float32),
        outer_right=outer_right.astype(np.float32),
        mitral=mitral,
        tricuspid=tricuspid,
        apex=ventricles.apex,
        crux=crux,
    )


def middle(shape: Outlines) -> tuple[float, float]:
    """Middle (x, y) of the end-diastolic heart."""
    filled = shape.outer_right[0] - shape.outer_left[0] > 6
    x = (float(shape.outer_left[0][filled].min()) + float(shape.outer_right[0][filled].max())) / 2
    return x, (float(Y[filled][0]) + float(Y[filled][-1])) / 2


def surroundings(heart: Heart, shape: Outlines, shift: tuple[int, int]) -> Surroundings:
    """The torso around the heart: chest wall before the apex, liver beside the RV, spine behind the left atrium."""
    fat, muscle = habitus(heart)
    wall_angle = float(108 + 9 * np.clip(heart.shape[14], -2, 2))
    liver_angle = float(176 + 9 * np.clip(heart.shape[15], -2, 2))
    filled = shape.outer_right[0] - shape.outer_left[0] > 6
    xs = np.concatenate([shape.outer_left[0][filled], shape.outer_right[0][filled]])
    ys = np.concatenate([Y[filled], Y[filled]])

    def distance(degrees: float) -> float:
        return float((xs * np.cos(np.radians(degrees)) + ys * np.sin(np.radians(degrees))).max())

    spine = (float(shape.crux + 4 + 5 * heart.shape[18]), float(ys.min()) - 27)
    return Surroundings(
        wall=(wall_angle, distance(wall_angle) + 5 + 4 * abs(float(heart.shape[16]))),
        liver=(liver_angle, distance(liver_angle) - 10.0),
        liver_end=float(75 + 10 * heart.shape[17]),
        spine=spine,
        aorta=(spine[0] + 25, spine[1] + 20),
        fat=fat,
        muscle=muscle,
        shift=shift,
        dome=150.0,
    )
