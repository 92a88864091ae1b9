"""The short-axis view: every outline is a table of radius against angle about the middle of the left ventricle.

A pixel's angle never changes, so its distance to a moving outline is one look-up per frame. The right ventricle is a
crescent on the left ventricle's outer surface; its area, like every area here, is solved exactly from the volume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cardionets.simulate.geometry import ANGLES, THETA, Float, Heart, Ventricles, ring_mix
from cardionets.simulate.tissue import POLAR, Contrast, blend, lv_trabeculae, rv_trabeculae
from cardionets.simulate.torso import Surroundings, habitus

STEP: Final = 2 * np.pi / ANGLES
RV_WALL: Final = 3.0  # mm


@dataclass(frozen=True, slots=True)
class Rings:
    """Radius (frame, angle), mm, of endocardium, LV epicardium, RV cavity, outer muscle and pericardium of a slice."""

    endo: Float
    epi: Float
    rv: Float
    muscle: Float
    pericardium: Float


def _bump(centre: float, width: float) -> Float:
    gap = (THETA - np.radians(centre) + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(np.exp(-((gap / np.radians(width)) ** 2)), dtype=np.float32)


def septum_angle(heart: Heart) -> float:
    """Direction (degrees) from the LV to the middle of the RV."""
    return float(186 + 6 * np.clip(heart.shape[2], -2, 2))


def _form(ventricles: Ventricles) -> Float:
    """Relative radius (frame, angle), mean square 1: slightly oval, and the septum flat where the right heart is
    loaded.
    """
    heart, emptied = ventricles.heart, ventricles.beat.emptied
    load = float(np.clip(heart.rv_load - 1.0, 0, 4)) + 1.5 * float(np.clip(heart.rv[0] / heart.lv[0] - 1.5, 0, 1))
    flat = 0.02 + 0.055 * load
    oval = 0.025 * float(heart.shape[3])
    flatness = np.minimum(flat * (0.6 + 0.8 * emptied), 0.3)[:, None]
    form = 1 + oval * np.cos(2 * (THETA - 0.6)) - flatness * _bump(septum_angle(heart), 36)
    return np.asarray(form / np.sqrt((form**2).mean(axis=1, keepdims=True)), dtype=np.float32)


def _left(ventricles: Ventricles, y: float) -> tuple[Float, Float]:
    """Endocardium and epicardium (frame, angle) at height ``y``."""
    mix = ring_mix(y / ventricles.apex)
    inward: Float = mix @ ventricles.inward
    thick: Float = mix @ ventricles.thickness
    if ventricles.heart.left_block:
        inward = _late_lateral(ventricles, inward)
    form, level = _form(ventricles), np.array([y], np.float32)
    radius = ventricles.cavity(level)
    start, still = radius[0], form[0]
    weight = np.atleast_1d((inward**2).mean(axis=-1)).reshape(-1, 1)
    shape = np.atleast_1d((form * inward).mean(axis=-1)).reshape(-1, 1)
    shift = ventricles.travel(start, radius, weight, shape)
    endo = np.maximum(form * start - shift * inward, 1.0)
    endo *= np.maximum(radius, 1.0) / np.sqrt((endo**2).mean(axis=1, keepdims=True))
    wall = np.maximum(ventricles.shell(level) - start, 3.0) * thick
    first = still * start
    ring = (first + wall) ** 2 - first**2
    epi = np.sqrt(endo**2 + ventricles.squeeze[:, None] * ring)
    return endo, np.asarray(epi, dtype=np.float32)


def _late_lateral(ventricles: Ventricles, inward: Float) -> Float:
    """Left bundle branch block: the septum moves early and the lateral wall late (frame, angle)."""
    emptied = ventricles.beat.emptied[:, None]
    rising = np.gradient(ventricles.beat.emptied)[:, None] > 0
    lag = np.where(rising, 4 * emptied * (1 - emptied), 0) * 0.6
    return np.asarray(inward * (1 - lag * np.cos(THETA)), dtype=np.float32)


def _crescent(heart: Heart) -> Float:
    """Depth (angle,) of the RV relative to its deepest point: a rounded triangle between the two insertions on the
    septum.
    """
    middle = septum_angle(heart)
    corner = middle + 15 + 7 * float(np.clip(heart.shape[4], -2, 2))
    first, last = middle - 68, middle + 62
    at = np.degrees(THETA)
    inner, outer = 33.0, 56.0
    depth = np.zeros(ANGLES, np.float32)
    for low, high, r_low, r_high, round_mm in (
        (first, corner, inner, outer, 15.0),
        (corner, last, outer, inner, 9.0),
    ):
        within = (at >= low) & (at <= high)
        a, b = np.radians(at[within] - low), np.radians(high - at[within])
        chord = r_low * r_high * np.sin(a + b) / (r_low * np.sin(a) + r_high * np.sin(b))
        bulge = round_mm * np.sin(np.pi * a / (a + b))
        depth[within] = (chord + bulge - inner) / (outer - inner)
    kernel = np.array([1, 3, 5, 6, 5, 3, 1], np.float32) / 24
    padded = np.concatenate([depth[-3:], depth, depth[:3]])
    return np.asarray(np.convolve(padded, kernel, mode="valid"), dtype=np.float32)


def rings_at(ventricles: Ventricles, y: float) -> Rings:
    """All outlines of the slice at height ``y`` mm above the end-diastolic mitral plane."""
    heart = ventricles.heart
    endo, epi = _left(ventricles, y)
    crescent = _crescent(heart)
    # area = D * integral(epi s) + D^2 / 2 * integral(s^2), solved for the depth D
    linear = (epi * crescent).sum(axis=1) * STEP
    square = float((crescent**2).sum()) * STEP
    depth = (np.sqrt(linear**2 + 2 * square * ventricles.rv_area(y)) - linear) / square
    rv = epi + depth[:, None] * crescent
    has_rv = np.clip(depth[:, None] * crescent / 3.0, 0, 1)
    muscle = np.maximum(epi, rv + RV_WALL * has_rv)
    fat, _ = habitus(heart)
    middle = septum_angle(heart)
    thick = (
        1.5
        + 0.05 * fat
        + float(np.clip(1 + 0.5 * heart.shape[5], 0.2, 2))
        * (
            4.0 * _bump(middle - 72, 13)
            + 3.5 * _bump(middle + 68, 12)
            + 3.0 * _bump(middle + 25, 22)
            + 1.5 * _bump(20, 35)
        )
    )
    return Rings(endo, epi, rv, muscle, np.asarray(muscle + thick, dtype=np.float32))


def surroundings(heart: Heart, rings: Rings, shift: tuple[int, int]) -> Surroundings:
    """The torso around this slice: chest wall in front of the RV, diaphragm below."""
    fat, muscle = habitus(heart)
    wall_angle = float(150 + 14 * np.clip(heart.shape[14], -2, 2))
    liver_angle = float(276 + 9 * np.clip(heart.shape[15], -2, 2))
    reach = rings.pericardium[0]

    def distance(degrees: float) -> float:
        # furthest point of the heart along the direction
        return float((reach * np.cos(THETA - np.radians(degrees))).max())

    liver_depth, liver_end = distance(liver_angle) - 9.0, float(14 + 9 * heart.shape[17])
    down, along = liver_depth + 38 + 4 * abs(float(heart.shape[20])), liver_end - 18 + 3 * float(heart.shape[19])
    c, s = float(np.cos(np.radians(liver_angle))), float(np.sin(np.radians(liver_angle)))
    return Surroundings(
        wall=(wall_angle, distance(wall_angle) + 3 + 3 * abs(float(heart.shape[16]))),
        liver=(liver_angle, liver_depth),
        liver_end=liver_end,
        spine=None,
        aorta=(c * down - s * along, s * down + c * along),
        fat=fat,
        muscle=muscle,
        shift=shift,
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """Pixels of the heart and what they hold, both (pixel, frame): ``image`` signed signal, ``mask`` labels."""

    pixels: NDArray[np.intp]
    image: Float
    mask: NDArray[np.uint8]


Blood = Callable[[NDArray[np.intp]], Float]
"""Signal of blood (pixel, frame) relative to its mean at the given pixels of the image."""


def draw(
    x: Float,
    y: Float,
    rings: Rings,
    still: Float,
    blood: Blood,
    tissue: Contrast,
    softness: float,
    height: float,
    variant: int,
) -> Slice:
    """Draw the beating slice. ``x``, ``y`` (pixel,) mm from the LV's middle; ``still`` (pixel,) the surroundings'
    signal; ``height`` 0 base to 1 apex; ``variant`` chooses the trabeculae. Inside, frames are the last axis: one
    look-up serves all of them.
    """
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    index = (angle * (1 / STEP) + ANGLES).astype(np.int32) % ANGLES
    pixels = np.flatnonzero(radius < rings.pericardium.max(axis=0).take(index) + 2 * softness)
    at, r = index[pixels], radius[pixels, None]

    def inside(outline: Float) -> Float:
        share = np.ascontiguousarray(outline.T / softness + 0.5, dtype=np.float32).take(at, axis=0)
        share -= r / softness
        np.clip(share, 0, 1, out=share)
        return share

    in_lv, in_epi, in_rv = inside(rings.endo), inside(rings.epi), inside(rings.rv)
    in_rv *= 1 - in_epi
    image = np.broadcast_to(still[pixels, None], in_lv.shape).copy()
    blend(image, tissue.fat * 0.85, inside(rings.pericardium))
    blend(image, tissue.myocardium, inside(rings.muscle))
    mask = (in_epi >= 0.5).astype(np.uint8) * np.uint8(2)
    np.copyto(mask, np.uint8(3), where=in_rv >= 0.5)
    np.copyto(mask, np.uint8(1), where=in_lv >= 0.5)
    row = ((at * POLAR[0] // ANGLES) * POLAR[1])[:, None]
    in_lv *= 1 - _muscle_in_lv(r, rings, at, row, height, variant)
    in_rv *= 1 - _muscle_in_rv(r, rings, at, row, variant)
    blend(image, blood(pixels), np.maximum(in_lv, in_rv, out=in_lv))
    return Slice(pixels, image, mask)


def _cell(r: Float, inner: Float, outer: Float, at: NDArray[np.int32], row: NDArray[np.int32]) -> NDArray[np.int32]:
    """Cell (pixel, frame) of a polar map at radius ``r`` (pixel, 1) between two outlines (frame, angle)."""
    scale = POLAR[1] / np.maximum(outer - inner, 2.0)
    depth = r * np.ascontiguousarray(scale.T, dtype=np.float32).take(at, axis=0)
    depth -= np.ascontiguousarray((inner * scale).T, dtype=np.float32).take(at, axis=0)
    cell = np.clip(depth, 0, POLAR[1] - 1, out=depth).astype(np.int32)
    cell += row
    return cell


def _muscle_in_lv(
    r: Float, rings: Rings, at: NDArray[np.int32], row: NDArray[np.int32], height: float, variant: int
) -> Float:
    """Share of papillary muscle and trabeculae (pixel, frame); they fill more of a contracted cavity."""
    share: Float = lv_trabeculae()[variant].take(_cell(r, np.zeros_like(rings.endo), rings.endo, at, row))
    size = np.sqrt((rings.endo**2).mean(axis=1))
    share -= 0.12 + 0.48 * size / size[0] + 0.3 * abs(height - 0.5)
    share *= 3.0
    np.clip(share, 0, 0.92, out=share)
    return share


def _muscle_in_rv(r: Float, rings: Rings, at: NDArray[np.int32], row: NDArray[np.int32], variant: int) -> Float:
    share: Float = rv_trabeculae()[variant].take(_cell(r, rings.epi, rings.rv + 2.0, at, row))
    share -= 0.55
    share *= 2.0
    np.clip(share, 0, 0.8, out=share)
    return share
