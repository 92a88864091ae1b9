"""Phenotypes from segmentations: for centres without a phenotype table, and to measure a cine that was drawn.

:func:`measure_stack` sums a full short-axis stack (Simpson's rule, as for the UK Biobank fields 24100-24109 and
24124-24140); :func:`measure_two_views` has only one mid-ventricular slice and one four-chamber slice and assumes
shapes, for many people at once. Units are those of :mod:`cardionets.phenotypes`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.cmr import LA, LV, MYO, RA, RV
from cardionets.config import StudyError

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]

DENSITY: Final = 1.05
"""Myocardium, g/mL."""
BULLET: Final = 5 / 6
"""V = 5/6 A L of a ventricle (Schiller et al., JASE 1989;2:358)."""
AREA_LENGTH: Final = 8 / (3 * np.pi)
"""V = 8 A^2 / (3 pi L) of one long-axis view (Dodge and Sandler, Am Heart J 1960; Lang et al., JASE 2015;28:1)."""
RINGS: Final = ((1, 6), (7, 6), (13, 4))
"""First segment and number of segments, base to apex (Cerqueira et al., Circulation 2002;105:539)."""


def measure_stack(
    masks: Labels,
    spacing_mm: tuple[float, float],
    step_mm: float,
    rr_ms: float | None = None,
    frames: tuple[int, int] | None = None,
) -> dict[str, float]:
    """LV and RV volumes, ejection fraction, mass and wall thickness by AHA segment of one person's short-axis stack.

    ``masks`` (slice, frame, H, W), contiguous slices in either order, ``step_mm`` from slice to slice. End-diastole
    is frame 0 and end-systole the frame of the smallest LV cavity, unless ``frames`` names both. What the stack
    cannot tell is NaN: a single frame has no end-systole, and without ``rr_ms`` there is no cardiac output. Raises
    StudyError where there is no LV cavity.
    """
    if masks.ndim != 4 or not (masks == LV).any():
        raise StudyError(
            f"masks: shape {masks.shape} without LV cavity (label {LV}); give (slice, frame, H, W) in our labels."
        )
    millilitre = spacing_mm[0] * spacing_mm[1] * step_mm / 1000
    volume = {label: (masks == label).sum(axis=(0, 2, 3)) * millilitre for label in (LV, MYO, RV)}
    drawn = np.where(volume[LV] > 0, volume[LV], np.inf)
    ed, es = frames or (0, int(drawn.argmin()))
    out: dict[str, float] = {}
    for side, label in (("lv", LV), ("rv", RV)):
        edv = float(volume[label][ed]) or np.nan
        esv = float(volume[label][es]) if es != ed and edv > 0 else np.nan
        out |= {f"{side}_edv": edv, f"{side}_esv": esv, f"{side}_sv": edv - esv, f"{side}_ef": 100 * (edv - esv) / edv}
    out["lv_co"] = out["lv_sv"] * 60 / rr_ms if rr_ms else np.nan
    out["lv_mass"] = (float(volume[MYO][ed]) or np.nan) * DENSITY
    return out | _segments(masks[:, ed], spacing_mm)


def _segments(slices: Labels, spacing_mm: tuple[float, float]) -> dict[str, float]:
    """Mean wall thickness of the 16 segments and of all, mm, from the end-diastolic slices (slice, H, W)."""
    whole = ((slices == LV).any(axis=(1, 2))) & ((slices == MYO).any(axis=(1, 2)))
    rings = slices[whole]
    size = (rings != 0).sum(axis=(1, 2))
    if len(rings) and size[: len(size) // 2].sum() < size[(len(size) + 1) // 2 :].sum():
        rings = rings[::-1]  # the base is the larger end
    out: dict[str, float] = {}
    for third, (first, count) in zip(np.array_split(rings, 3), RINGS):
        walls = wall_thickness(third, spacing_mm, count)
        out |= {f"wt_{first + i}": _mean(walls[:, i]) for i in range(count)}
    out["wt_global"] = _mean(np.array(list(out.values())))
    return out


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def wall_thickness(masks: Labels, spacing_mm: tuple[float, float], sectors: int) -> Array:
    """LV wall thickness in mm by sector, (image, sectors), of short-axis masks (image, H, W); else NaN.

    Sectors follow the AHA model seen from the apex: the first is anterior, then by the septum to inferior and
    lateral. The middle of the septum is the direction of the right ventricle, or the image's left where there is
    none. A sector's wall is the difference of the radii of two circles with the areas of muscle and cavity, and of
    cavity alone, in that sector.
    """
    image, row, col = np.nonzero((masks == LV) | (masks == MYO))
    cavity = masks[image, row, col] == LV
    centre_row, centre_col = _centroids(masks == LV)
    up = -(row - centre_row[image]) * spacing_mm[0]
    right = (col - centre_col[image]) * spacing_mm[1]
    turn = _septum(masks, centre_row, centre_col, spacing_mm) - np.pi
    angle = np.degrees(np.arctan2(up, right) - turn[image])
    width = 360 / sectors
    sector = ((angle - 90 + width / 2) % 360 // width).astype(int) % sectors
    cell = image * sectors + sector
    pixel = spacing_mm[0] * spacing_mm[1]
    inner, outer = (np.bincount(cell[part], minlength=len(masks) * sectors) * pixel for part in (cavity, slice(None)))
    radii = [np.sqrt(2 * area / np.radians(width)) for area in (inner, outer)]
    thickness = np.where(outer > inner, radii[1] - radii[0], np.nan)
    return np.asarray(thickness.reshape(-1, sectors), dtype=np.float64)


def _centroids(marked: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Row and column (image,) of the centroid of what is marked in (image, H, W); NaN where nothing is."""
    count = marked.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        rows = marked.sum(axis=2) @ np.arange(marked.shape[1]) / count
        cols = marked.sum(axis=1) @ np.arange(marked.shape[2]) / count
    return rows, cols


def _septum(masks: Labels, row: Array, col: Array, spacing_mm: tuple[float, float]) -> Array:
    """Angle (image,) from the LV's centre to the right ventricle, radians anticlockwise from the image's right."""
    rv_row, rv_col = _centroids(masks == RV)
    angle = np.arctan2(-(rv_row - row) * spacing_mm[0], (rv_col - col) * spacing_mm[1])
    return np.where(np.isfinite(angle), angle, np.pi)


def measure_two_views(sax: Labels, lax: Labels, spacing_mm: tuple[float, float]) -> pd.DataFrame:
    """Phenotypes of many people from one short-axis and one four-chamber segmentation each; one row per person.

    ``sax``, ``lax`` (person, frame, H, W) on one grid, frame 0 at end-diastole. LV volume is 5/6 of the short-axis
    area times the four-chamber length; mass the same for muscle with the length grown by the mean wall; RV and atria
    by area and length of the four-chamber view; wall thickness of segments 7-12. Where a chamber is not drawn its
    columns are NaN. Raises StudyError where shapes differ.
    """
    if sax.shape != lax.shape or sax.ndim != 4:
        raise StudyError(f"masks: shapes {sax.shape} and {lax.shape}; give two of one shape (person, frame, H, W).")
    area = _area(sax, LV, spacing_mm)
    length = _area_length(lax, LV, spacing_mm)[1]
    out = _ventricle("lv", BULLET * area * length / 1000)
    out["lv_mass"] = _mass(area[:, 0], _area(sax[:, :1], MYO, spacing_mm)[:, 0], length[:, 0])
    end_systole = _smallest(area * length)
    out |= _ventricle("rv", _single_plane(lax, RV, spacing_mm), end_systole)
    for side, label in (("la", LA), ("ra", RA)):
        out |= _atrium(side, _single_plane(lax, label, spacing_mm))
    walls = wall_thickness(sax[:, 0], spacing_mm, 6)
    out |= {f"wt_{7 + i}": walls[:, i] for i in range(6)} | {"wt_global": walls.mean(axis=1)}
    return pd.DataFrame(out)


def _smallest(volume: Array) -> NDArray[np.intp]:
    return np.asarray(np.where(np.isfinite(volume), volume, np.inf).argmin(axis=1))


def _ventricle(side: str, volume: Array, end_systole: NDArray[np.intp] | None = None) -> dict[str, Array]:
    """EDV, ESV, SV and EF from volumes (person, frame) in mL."""
    at = _smallest(volume) if end_systole is None else end_systole
    edv, esv = volume[:, 0], volume[np.arange(len(volume)), at]
    return {f"{side}_edv": edv, f"{side}_esv": esv, f"{side}_sv": edv - esv, f"{side}_ef": 100 * (edv - esv) / edv}


def _atrium(side: str, volume: Array) -> dict[str, Array]:
    """Largest and smallest volume, their difference and its share, from volumes (person, frame) in mL."""
    drawn = np.isfinite(volume)
    least = np.where(drawn, volume, np.inf).min(axis=1)
    most = np.where(drawn, volume, -np.inf).max(axis=1)
    most, least = (np.where(drawn.any(axis=1), v, np.nan) for v in (most, least))
    return {
        f"{side}_max": most,
        f"{side}_min": least,
        f"{side}_sv": most - least,
        f"{side}_ef": 100 * (most - least) / most,
    }


def _mass(cavity: Array, muscle: Array, length: Array) -> Array:
    """LV mass in g from short-axis areas of cavity and muscle (mm2) and LV length (mm): two bullets."""
    muscle = np.where(muscle > 0, muscle, np.nan)
    wall = np.sqrt((cavity + muscle) / np.pi) - np.sqrt(cavity / np.pi)
    shell = BULLET * ((cavity + muscle) * (length + wall) - cavity * length)
    return np.asarray(DENSITY * shell / 1000, dtype=np.float64)


def _single_plane(masks: Labels, label: int, spacing_mm: tuple[float, float]) -> Array:
    """Volume (person, frame) in mL by area and length of one view."""
    area, length = _area_length(masks, label, spacing_mm)
    return np.asarray(AREA_LENGTH * area**2 / length / 1000, dtype=np.float64)


def _area(masks: Labels, label: int, spacing_mm: tuple[float, float]) -> Array:
    """Area (person, frame) of a label in mm2; NaN where it is not drawn."""
    count = (masks == label).sum(axis=(2, 3))
    return np.where(count > 0, count * spacing_mm[0] * spacing_mm[1], np.nan)


def _area_length(masks: Labels, label: int, spacing_mm: tuple[float, float]) -> tuple[Array, Array]:
    """Area in mm2 and length in mm along the principal axis of a label, both (person, frame); else NaN."""
    people, frames = masks.shape[:2]
    image, row, col = np.nonzero((masks == label).reshape(people * frames, *masks.shape[2:]))
    y, x = row.astype(np.float64) * spacing_mm[0], col.astype(np.float64) * spacing_mm[1]
    count = np.bincount(image, minlength=people * frames)

    def mean(values: NDArray[Any]) -> Array:
        return np.bincount(image, values, people * frames) / np.maximum(count, 1)

    dx, dy = x - mean(x)[image], y - mean(y)[image]
    axis = 0.5 * np.arctan2(2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy))
    along = dx * np.cos(axis)[image] + dy * np.sin(axis)[image]
    length = np.full(people * frames, np.nan)
    drawn = np.flatnonzero(count)
    if len(drawn):
        starts = np.searchsorted(image, drawn)
        extent: Any = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
        length[drawn] = extent + _pixel_along(axis[drawn], spacing_mm)
    area = np.where(count > 0, count * spacing_mm[0] * spacing_mm[1], np.nan)
    return area.reshape(people, frames), length.reshape(people, frames)


def _pixel_along(axis: Array, spacing_mm: tuple[float, float]) -> Array:
    """What one pixel adds to an extent between pixel centres, mm, in the direction ``axis``."""
    return np.asarray(np.hypot(np.cos(axis) * spacing_mm[1], np.sin(axis) * spacing_mm[0]), dtype=np.float64)
