"""Cine CMR: orientation, cardiac phase, the heart's centre, and resampling to the store's grid.

A cine of any scanner becomes ``uint8 (frame, H, W)`` at one spacing in millimetres: the heart in the middle, frame 0 at
end-diastole and the frames evenly spaced over one cycle. Nothing here needs a segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cardionets.config import Grid, StudyError
from cardionets.motion import fullest_frame, middle, motion_centre, motion_map

View = Literal["sax", "4ch"]
Float = NDArray[np.float32]

VIEWS: Final[tuple[View, ...]] = ("sax", "4ch")
LV, MYO, RV, LA, RA = 1, 2, 3, 4, 5
"""Labels of a mask; 0 is background."""

MIN_FRAMES: Final = 4
WINDOW: Final = (1.0, 99.5)
"""Percentiles of the resampled cine that become 0 and 255."""
TOWARDS_APEX_MM: Final = {"sax": 0.0, "4ch": 7.0}
"""The veins behind the atria move too and draw the centre of a four-chamber view, apex up, towards the base."""


def _patient_axes() -> dict[str, NDArray[np.float64]]:
    """Directions (right, down) of the canonical views in DICOM patient coordinates (left, posterior, superior).

    From the usual lie of the heart: septum to lateral wall points left and a little back; the apex left, forward, down.
    """
    lateral = np.array([0.87, 0.35, 0.35])
    inferior = np.array([0.05, 0.66, -0.75])
    lateral /= np.linalg.norm(lateral)
    inferior -= lateral * (inferior @ lateral)
    inferior /= np.linalg.norm(inferior)
    base = np.cross(lateral, inferior)
    return {"sax": np.stack([lateral, inferior]), "4ch": np.stack([lateral, base])}


AXES: Final = _patient_axes()


@dataclass(frozen=True)
class Cine:
    """One slice through the cardiac cycle, as the file holds it.

    ``frames`` (frame, H, W), any real dtype; ``spacing_mm`` (between rows, between columns); ``times_ms`` (frame,)
    after the R wave, ascending, or None where the file is silent; ``rr_ms`` length of the cycle or None; ``axes``
    (2, 3) patient directions of growing column and row (left, posterior, superior), or None; ``scanned`` the day;
    ``slices`` of the stack whose middle one this is, or None where that is not known; ``notes`` what had to be assumed.
    Raises StudyError where these cannot be a cine.
    """

    frames: NDArray[Any]
    spacing_mm: tuple[float, float]
    times_ms: NDArray[np.float64] | None = None
    view: str = "sax"
    axes: NDArray[np.float64] | None = None
    rr_ms: float | None = None
    source: str = "cine"
    scanned: date | None = None
    slices: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise StudyError("\n".join(faults))

    @property
    def phases(self) -> NDArray[np.float64]:
        """Fraction of the cycle of every frame, ascending in [0, 1); even where the file gives no times."""
        count = len(self.frames)
        if self.times_ms is None:
            return np.arange(count, dtype=np.float64) / count
        since = self.times_ms - self.times_ms[0]
        cycle = since[-1] * count / (count - 1)
        if self.rr_ms is not None and self.rr_ms > since[-1]:
            cycle = self.rr_ms
        return np.asarray(since / cycle, dtype=np.float64)


def _faults(cine: Cine) -> Iterator[str]:
    shape, times = cine.frames.shape, cine.times_ms
    if len(shape) != 3 or shape[0] < MIN_FRAMES or min(shape[1:]) < 8:
        yield f"{cine.source}: frames: {shape} is not a cine; give at least {MIN_FRAMES} frames of 8 x 8 pixels."
    if not all(0.3 <= s <= 5.0 for s in cine.spacing_mm):
        yield f"{cine.source}: pixel spacing: {cine.spacing_mm} mm is outside 0.3-5 mm; correct the header."
    if times is not None and (len(times) != shape[0] or not np.all(np.diff(times) > 0)):
        yield f"{cine.source}: frame times: the {len(times)} times of {shape[0]} frames must ascend; mend the header."
    if cine.view not in VIEWS:
        yield f"{cine.source}: view: {cine.view!r} is unknown; use one of {', '.join(VIEWS)}."


@dataclass(frozen=True)
class Turn:
    """A flip, a quarter turn or both: transpose first, then flip rows, then columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_cols: bool = False

    def pixels(self, frames: NDArray[Any]) -> NDArray[Any]:
        """``frames`` (..., H, W) turned; a view, no copy."""
        turned = np.swapaxes(frames, -1, -2) if self.transpose else frames
        turned = turned[..., ::-1, :] if self.flip_rows else turned
        return turned[..., ::-1] if self.flip_cols else turned

    def axes(self, axes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient directions (2, 3) after the turn."""
        right, down = axes[::-1] if self.transpose else axes
        return np.stack([-right if self.flip_cols else right, -down if self.flip_rows else down])

    def cine(self, cine: Cine) -> Cine:
        """The cine turned, its spacing and axes with it."""
        spacing = cine.spacing_mm[::-1] if self.transpose else cine.spacing_mm
        axes = None if cine.axes is None else self.axes(cine.axes)
        return replace(cine, frames=self.pixels(cine.frames), spacing_mm=spacing, axes=axes)


AS_IS: Final = Turn()
TURNS: Final = tuple(Turn(t, r, c) for t in (False, True) for r in (False, True) for c in (False, True))


def plane(axes: NDArray[np.float64]) -> str:
    """Which view the patient directions (2, 3) belong to, by their normal: "sax", "4ch" or "2ch"."""
    normal = np.cross(axes[0], axes[1])
    lateral, inferior = AXES["sax"]
    normals = {"sax": np.cross(lateral, inferior), "4ch": inferior, "2ch": lateral}
    return max(normals, key=lambda view: abs(float(normal @ normals[view])))


def middle_slice(depths: Sequence[float]) -> int:
    """Index of the mid-ventricular slice of a stack whose depths ascend from base to apex; of two, the basal one."""
    middle = (depths[0] + depths[-1]) / 2
    return min(range(len(depths)), key=lambda i: round(abs(depths[i] - middle), 3))


def canonical_turn(cine: Cine) -> Turn:
    """The turn that brings the right ventricle to the image's left and the anterior wall (sax) or the apex (4ch) up.

    Without directions, or with directions that contradict the view (some converters), the cine stays as it is.
    """
    return AS_IS if cine.axes is None else _turn(tuple(cine.axes.ravel().tolist()), cine.view)


@lru_cache(maxsize=256)
def _turn(directions: tuple[float, ...], view: str) -> Turn:
    """The turn for these directions, two by three; the scans of one protocol share a few."""
    axes, wanted = np.reshape(directions, (2, 3)), AXES[view]
    if plane(axes) != view:
        return AS_IS
    return max(TURNS, key=lambda turn: float((turn.axes(axes) * wanted).sum()))


def heart_centre(cine: Cine, mask: NDArray[Any] | None = None) -> tuple[float, float]:
    """Centre of the heart (row, column) in pixels of the cine, which must be canonical (see :func:`canonical_turn`).

    With ``mask`` (frame, H, W) the middle of all that is labelled in any frame; else found by its motion.
    """
    if mask is not None and mask.any():
        drawn = (_matching(cine, mask) > 0).any(axis=0)
        return middle(drawn.sum(axis=1)), middle(drawn.sum(axis=0))
    return _moving_centre(cine)


def _moving_centre(cine: Cine) -> tuple[float, float]:
    row, col = motion_centre(motion_map(cine.frames, cine.phases, cine.spacing_mm), cine.spacing_mm)
    return row - TOWARDS_APEX_MM[cine.view] / cine.spacing_mm[0], col


@dataclass(frozen=True)
class Placement:
    """Where a cine goes on the grid: its turn, the heart's centre (row, column) after it, and end-diastole."""

    turn: Turn
    centre: tuple[float, float]
    start: int


def place(cine: Cine, mask: NDArray[Any] | None = None) -> Placement:
    """Find turn, centre and end-diastole of a cine; ``mask`` (frame, H, W), where given, settles the centre."""
    turn = canonical_turn(cine)
    turned = turn.cine(cine)
    centre = _moving_centre(turned)
    start = fullest_frame(turned.frames, centre, turned.spacing_mm)
    if mask is not None:
        centre = heart_centre(turned, turn.pixels(_matching(cine, mask)))
    return Placement(turn, centre, start)


def _matching(cine: Cine, mask: NDArray[Any]) -> NDArray[Any]:
    if mask.shape != cine.frames.shape:
        raise StudyError(
            f"{cine.source}: mask: shape {mask.shape} (frame, H, W) does not match the images' {cine.frames.shape}; "
            "give the mask that was drawn on these images, or none."
        )
    return mask


def phase_weights(phases: NDArray[np.float64], count: int, start: int) -> Float:
    """Matrix (count, frame) that interpolates cyclically to ``count`` even phases, the first at frame ``start``."""
    frames = len(phases)
    targets = (phases[start] + np.arange(count) / count) % 1.0
    after = np.searchsorted(phases, targets + 1e-9, side="right") % frames
    before = (after - 1) % frames
    gap = (phases[after] - phases[before]) % 1.0
    share = ((targets - phases[before]) % 1.0) / gap
    share = np.where(share > 1 - 1e-6, 0.0, share)
    weights = np.zeros((count, frames), np.float32)
    weights[np.arange(count), before] = 1 - share
    weights[np.arange(count), after] += share.astype(np.float32)
    return weights


def _positions(grid: Grid, centre: float, spacing: float) -> NDArray[np.float64]:
    """Source pixel of every grid pixel along one axis: (size,)."""
    offsets = np.arange(grid.size, dtype=np.float64) - (grid.size - 1) / 2
    return centre + offsets * (grid.spacing_mm / spacing)


def axis_weights(positions: NDArray[np.float64], length: int, step: float) -> Float:
    """Matrix (size, length) of linear interpolation along one axis, widened to ``step`` pixels where that exceeds one.

    The widening averages what a coarser grid cannot show. Positions outside the image get nothing: they stay black.
    """
    width = max(step, 1.0)
    margin = int(np.ceil(width))
    pixels = np.arange(-2 * margin, length + 2 * margin)
    near = np.clip(positions, -margin, length - 1 + margin)
    weights = np.clip(1 - np.abs(near[:, None] - pixels) / width, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[:, 2 * margin : -2 * margin].astype(np.float32)


def to_grid(cine: Cine, grid: Grid, placement: Placement | None = None) -> NDArray[np.uint8]:
    """The cine on the store's grid: uint8 (grid.frames, grid.size, grid.size), canonical, centred, end-diastole first.

    Interpolation is linear and separable: phase, rows, columns. The 1st and 99.5th percentile become 0 and 255.
    """
    where = placement or place(cine)
    turned = where.turn.cine(cine)
    count, rows, cols = turned.frames.shape
    vertical, top, bottom = _axis(grid, where.centre[0], turned.spacing_mm[0], rows)
    horizontal, left, right = _axis(grid, where.centre[1], turned.spacing_mm[1], cols)
    region = np.ascontiguousarray(turned.frames[:, top:bottom, left:right], dtype=np.float32)
    phase = phase_weights(turned.phases, grid.frames, where.start)
    # (frame, h, w) -> (grid frame, h, w) -> (grid frame, size, w) -> (grid frame, size, size)
    beat = (phase @ region.reshape(count, -1)).reshape(grid.frames, *region.shape[1:])
    return _to_bytes(np.matmul(vertical, beat) @ horizontal.T)


def _axis(grid: Grid, centre: float, spacing: float, length: int) -> tuple[Float, int, int]:
    """Weights (size, stop - start) of one axis over the pixels start:stop that they touch."""
    weights = axis_weights(_positions(grid, centre, spacing), length, grid.spacing_mm / spacing)
    touched = np.flatnonzero(weights.any(axis=0))
    start, stop = (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 1)
    return weights[:, start:stop], start, stop


def _to_bytes(values: Float) -> NDArray[np.uint8]:
    low, high = np.percentile(values, WINDOW)
    scaled = (values - low) * (255.0 / max(float(high - low), 1e-6))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def mask_to_grid(mask: NDArray[Any], cine: Cine, grid: Grid, placement: Placement) -> NDArray[np.uint8]:
    """A mask (frame, H, W) of the cine on the grid: uint8 (grid.frames, grid.size, grid.size), by nearest neighbour."""
    turned = placement.turn.pixels(_matching(cine, mask))
    spacing = placement.turn.cine(cine).spacing_mm
    frames = phase_weights(cine.phases, grid.frames, placement.start).argmax(axis=1)
    out: NDArray[np.uint8] = np.zeros((grid.frames, grid.size, grid.size), np.uint8)
    rows, cols = (np.rint(_positions(grid, c, s)).astype(int) for c, s in zip(placement.centre, spacing))
    inside_rows, inside_cols = (np.flatnonzero((i >= 0) & (i < n)) for i, n in zip((rows, cols), turned.shape[1:]))
    source = np.ix_(frames, rows[inside_rows], cols[inside_cols])
    out[np.ix_(np.arange(grid.frames), inside_rows, inside_cols)] = turned[source]
    return out
