"""Phenotypes from segmentations, for centres without a phenotype table.

:func:`measure_stack` sums a full short-axis stack (Simpson's rule, as for the UK Biobank fields 24100-24109 and
24124-24140). Units are those of :mod:`cardionets.phenotypes`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import LV, MYO, RV
from cardionets.config import StudyError

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]

DENSITY: Final = 1.05
"""Myocardium, g/mL."""
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
