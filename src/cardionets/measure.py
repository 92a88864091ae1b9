"""Phenotypes from segmentations: for centres without a phenotype table, and to measure a cine that was drawn.

:func:`measure_stack` sums a full short-axis stack (Simpson's rule, as for the UK Biobank fields 24100-24109 and
24124-24140); :func:`measure_two_views` has only one mid-ventricular slice and one four-chamber slice and assumes
shapes, for many people at once. Units are those of :mod:`cardionets.phenotypes`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from cardionets.cmr import LA, LV, MYO, RA, RV
from cardionets.config import StudyError

Array = NDArray[np.float64]
Labels = NDArray[np.uint8]

DENSITY: Final = 1.05
"""Myocardium, g/mL."""
BULLET: Final = 5 / 6
"""V = 5/6 A L of a ventricle (Schiller et al., JASE 1989;2:358)."""
CRESCENT: Final = 2 / 3
"""V = 2/3 A L of the right ventricle, A and L from crossing views (Levine et al., Circulation 1984;69:497)."""
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

    ``sax``, ``lax`` (person, frame, H, W) on one grid, frame 0 at end-diastole. The LV's volume is 5/6 of its
    short-axis area times its four-chamber length, and its mass the same of its muscle, the length grown by the mean
    wall; the RV's is 2/3 of its four-chamber area times its short-axis length; an atrium's comes by area and length
    of the four-chamber view; wall thickness of segments 7-12. Where a chamber is not drawn its columns are NaN.
    Raises StudyError where shapes differ.
    """
    if sax.shape != lax.shape or sax.ndim != 4:
        raise StudyError(f"masks: shapes {sax.shape} and {lax.shape}; give two of one shape (person, frame, H, W).")
    area, muscle = (_area(sax, label, spacing_mm) for label in (LV, MYO))
    left, right, crescent = (_Shape(m, label, spacing_mm) for m, label in ((lax, LV), (lax, RV), (sax, RV)))
    length = left.extent(left.axis)
    out = _ventricle("lv", BULLET * area * length / 1000)
    out["lv_mass"] = _mass(area[:, 0], muscle[:, 0], length[:, 0])
    out |= _ventricle("rv", CRESCENT * right.area * crescent.extent(crescent.axis) / 1000, _smallest(area * length))
    for side, label, ventricle in (("la", LA, left), ("ra", RA, right)):
        out |= _atrium(side, _single_plane(_Shape(lax, label, spacing_mm), ventricle))
    walls = wall_thickness(sax[:, 0], spacing_mm, 6)
    out |= {f"wt_{7 + i}": walls[:, i] for i in range(6)} | {"wt_global": walls.mean(axis=1)}
    return pd.DataFrame(out)


def largest_pieces(masks: Labels) -> Labels:
    """Masks (person, frame, H, W) of which every label keeps its largest connected piece in each image, no strays.

    A single stray pixel makes a chamber longer, and with that larger: lengths run between outermost pixels.
    """
    images = masks.reshape(-1, *masks.shape[2:])
    in_plane = np.zeros((3, 3, 3), np.uint8)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    kept = np.zeros_like(images)
    for label in (LV, MYO, RV, LA, RA):
        pieces, count = ndimage.label(images == label, in_plane)  # numbered image by image
        size = np.bincount(pieces.ravel(), minlength=count + 1)
        last = np.maximum.accumulate(pieces.max(axis=(1, 2)))  # number of the last piece so far, by image
        owner = np.searchsorted(last, np.arange(1, count + 1))
        largest = np.zeros(count + 1, np.uint8)
        largest[1 + np.lexsort((-size[1:], owner))[np.unique(owner, return_index=True)[1]]] = label
        kept += largest[pieces]
    return kept.reshape(masks.shape)


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


def _single_plane(atrium: _Shape, ventricle: _Shape) -> Array:
    """Volume (person, frame) in mL by area and length, the length along the line from ventricle to atrium."""
    along = np.arctan2(atrium.y - ventricle.y, atrium.x - ventricle.x)
    length = atrium.extent(np.where(np.isfinite(along), along, atrium.axis))
    return np.asarray(AREA_LENGTH * atrium.area**2 / length / 1000, dtype=np.float64)


def _area(masks: Labels, label: int, spacing_mm: tuple[float, float]) -> Array:
    """Area (person, frame) of a label in mm2; NaN where it is not drawn."""
    count = (masks == label).sum(axis=(2, 3))
    return np.where(count > 0, count * spacing_mm[0] * spacing_mm[1], np.nan)


class _Shape:
    """Area (mm2), centroid ``x``, ``y`` (mm) and direction ``axis`` (radians) of the principal axis of one label of
    masks (person, frame, H, W); all (person, frame), NaN where it is not drawn.
    """

    def __init__(self, masks: Labels, label: int, spacing_mm: tuple[float, float]) -> None:
        self.shape, self.spacing_mm = masks.shape[:2], spacing_mm
        height, width = masks.shape[2:]
        where = np.flatnonzero((masks == label).ravel())
        self._image = where // (height * width)
        self._y = (where // width % height) * spacing_mm[0]
        self._x = (where % width) * spacing_mm[1]
        count = np.bincount(self._image, minlength=self.shape[0] * self.shape[1]).astype(np.float64)
        self._count = np.where(count > 0, count, np.nan)
        x, y = self._mean(self._x), self._mean(self._y)
        dx, dy = self._x - x[self._image], self._y - y[self._image]
        axis = 0.5 * np.arctan2(2 * self._mean(dx * dy), self._mean(dx * dx) - self._mean(dy * dy))
        area = self._count * spacing_mm[0] * spacing_mm[1]
        self.x, self.y, self.axis, self.area = (v.reshape(self.shape) for v in (x, y, axis, area))

    def _mean(self, values: Array) -> Array:
        return np.bincount(self._image, values, len(self._count)) / self._count

    def extent(self, direction: Array) -> Array:
        """Length in mm along ``direction`` (person, frame), radians from the image's right, downwards."""
        cosine, sine = np.cos(direction).ravel(), np.sin(direction).ravel()
        along = self._x * cosine[self._image] + self._y * sine[self._image]
        length = np.full(len(self._count), np.nan)
        drawn = np.flatnonzero(np.isfinite(self._count))
        if len(drawn):
            starts = np.searchsorted(self._image, drawn)
            length[drawn] = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
        # between the centres of the outermost pixels; a pixel's own width completes it
        length += np.hypot(cosine * self.spacing_mm[1], sine * self.spacing_mm[0])
        return length.reshape(self.shape)
