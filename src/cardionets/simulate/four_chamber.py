"""Drawing the four-chamber view from its outlines (:mod:`.long_axis`): walls, blood, trabeculae and leaflets.

A pixel's height never changes, so its distance to a moving outline is one look-up per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cardionets.simulate.geometry import Float
from cardionets.simulate.long_axis import ATRIAL_WALL, LOW, ROWS, RV_WALL, STEP, Outlines, Y
from cardionets.simulate.short_axis import Blood, Slice
from cardionets.simulate.tissue import POLAR, Contrast, blend, long_axis_trabeculae


class _Pixels:
    """The heart's pixels, ``x`` and ``y`` (pixel,) mm, ascending in y, and shares of them (pixel, frame) inside
    outlines.

    A share is not yet clipped to 0-1: the smaller of two shares is their overlap, and d / softness shifts it by d mm.
    """

    def __init__(self, x: Float, y: Float, softness: float) -> None:
        self.x, self.y, self.softness = x, y, softness
        self.rows = _row(y)

    def part(self, start: float, end: float) -> tuple[slice, _Pixels]:
        """The pixels between two heights, and which slice of all of them they are."""
        chosen = slice(int(np.searchsorted(self.y, start)), int(np.searchsorted(self.y, end)))
        return chosen, _Pixels(self.x[chosen], self.y[chosen], self.softness)

    def table(self, values: Float) -> Float:
        """Values (frame, row) read at the pixels: (pixel, frame)."""
        read: Float = np.ascontiguousarray(values.T, dtype=np.float32).take(self.rows, axis=0)
        return read

    def beside(self, outline: Float, side: int) -> Float:
        """Share inside an outline (frame, row) whose inside lies to its right (side 1) or left (-1), square to it."""
        slope = np.clip((outline[0, 2:] - outline[0, :-2]) / (2 * STEP), -3, 3)
        scale = np.empty(ROWS, np.float32)
        scale[1:-1] = side / (self.softness * np.sqrt(1 + slope**2))
        scale[0], scale[-1] = scale[1], scale[-2]
        share = self.table(outline * scale)
        here = self.x * scale.take(self.rows) + 0.5
        np.subtract(here[:, None], share, out=share)
        return share

    def above(self, plane: Float) -> Float:
        """Share above a height (frame,)."""
        share = (self.y / self.softness + 0.5)[:, None] - plane / self.softness
        return np.asarray(share, dtype=np.float32)


def _row(y: Float) -> NDArray[np.int32]:
    return np.asarray(np.clip((y - LOW) * (1 / STEP) + 0.5, 0, ROWS - 1), dtype=np.int32)


def _clip(share: Float) -> Float:
    np.clip(share, 0, 1, out=share)
    return share


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What is being drawn, (pixel, frame): signal, share of blood, labels."""

    image: Float
    blood: Float
    mask: NDArray[np.uint8]

    def part(self, chosen: slice) -> _Canvas:
        """A view of some of the pixels."""
        return _Canvas(self.image[chosen], self.blood[chosen], self.mask[chosen])


def draw(
    x: Float,
    y: Float,
    shape: Outlines,
    still: Float,
    blood: Blood,
    tissue: Contrast,
    softness: float,
    opening: Float,
    variant: int,
) -> Slice:
    """Draw the beating heart. ``x``, ``y`` (pixel,) mm in the heart's axes; ``still`` (pixel,) the surroundings'
    signal; ``opening`` (frame,) of the valves; ``variant`` chooses the trabeculae. Inside, frames are the last
    axis: one look-up serves all.
    """
    rows, reach = _row(y), 2 * softness
    near = (x > shape.outer_left.min(axis=0).take(rows) - reach) & (
        x < shape.outer_right.max(axis=0).take(rows) + reach
    )
    pixels = np.flatnonzero(near)
    pixels = pixels[np.argsort(y[pixels], kind="stable")]
    at = _Pixels(x[pixels], y[pixels], softness)
    outer = np.minimum(at.beside(shape.outer_left, 1), at.beside(shape.outer_right, -1))
    image = np.broadcast_to(still[pixels, None], outer.shape).copy()
    blend(image, tissue.fat * 0.85, _clip(outer))
    canvas = _Canvas(image, np.zeros_like(image), np.zeros(image.shape, np.uint8))
    low, high = -3.0 - softness, float(shape.tricuspid.max()) + 3.0
    chosen, below = at.part(-np.inf, high)
    _draw_atria(below, shape, tissue, canvas.part(chosen))
    chosen, above = at.part(low, np.inf)
    _draw_ventricles(above, shape, tissue, variant, canvas.part(chosen))
    signal = blood(pixels)
    signal *= _inflow(at, shape)[:, None]
    blend(image, signal, np.minimum(canvas.blood, 1, out=canvas.blood))
    chosen, near_valves = at.part(low - 2, high + 24)
    _draw_valves(near_valves, shape, tissue, opening, image[chosen])
    return Slice(pixels, image, canvas.mask)


def _inflow(at: _Pixels, shape: Outlines) -> Float:
    """Relative signal (pixel,) of blood by where it comes from: fresh and bright where the caval veins enter the RA."""
    row = int(_row(np.array([-14.0]))[0])
    x, y = at.x - float(shape.ra_left[0, row]) - 6, at.y + 14
    bright = np.exp(-(x * x + y * y) / np.float32(2 * 17.0**2))
    return np.asarray(1 + 0.32 * bright, dtype=np.float32)


def _draw_atria(at: _Pixels, shape: Outlines, tissue: Contrast, canvas: _Canvas) -> None:
    for label, left, right, plane in (
        (4, shape.la_left, shape.la_right, shape.mitral),
        (5, shape.ra_left, shape.ra_right, shape.tricuspid),
    ):
        inside = np.minimum(at.beside(left, 1), at.beside(right, -1))
        below = 1 - at.above(plane)
        wall = np.minimum(inside + np.float32(ATRIAL_WALL / at.softness), below)
        blend(canvas.image, tissue.myocardium, _clip(wall))
        inside = _clip(np.minimum(inside, below, out=inside))
        np.copyto(canvas.mask, np.uint8(label), where=inside >= 0.5)
        canvas.blood[:] += inside


def _draw_ventricles(at: _Pixels, shape: Outlines, tissue: Contrast, variant: int, canvas: _Canvas) -> None:
    above, above_rv = at.above(shape.mitral), at.above(shape.tricuspid)
    septum, free = at.beside(shape.septum, 1), at.beside(shape.rv, 1)
    in_epi = np.minimum(septum, at.beside(shape.lateral, -1))
    in_epi = _clip(np.minimum(in_epi, above + np.float32(1 / at.softness), out=in_epi))
    right = np.minimum(np.subtract(1, septum, out=septum), above_rv)
    in_rv = _clip(np.minimum(free, right))
    rv_wall = _clip(np.minimum(free + np.float32(RV_WALL / at.softness), right))
    in_lv = np.minimum(at.beside(shape.left, 1), at.beside(shape.right, -1))
    in_lv = _clip(np.minimum(in_lv, above, out=in_lv))
    blend(canvas.image, tissue.myocardium, np.maximum(in_epi, rv_wall, out=rv_wall))
    np.copyto(canvas.mask, np.uint8(3), where=in_rv >= 0.5)
    np.copyto(canvas.mask, np.uint8(2), where=in_epi >= 0.5)
    np.copyto(canvas.mask, np.uint8(1), where=in_lv >= 0.5)
    lv_map, rv_map = long_axis_trabeculae()
    canvas.blood[:] *= 1 - np.minimum(in_epi, 1 - in_lv)
    in_lv *= 1 - _trabeculae(at, lv_map[variant], shape.left, shape.right, shape.mitral, shape.apex)
    in_rv *= 1 - _trabeculae(at, rv_map[variant], shape.rv, shape.septum, shape.tricuspid, shape.apex - 9)
    canvas.blood[:] += in_lv
    canvas.blood[:] += in_rv


def _trabeculae(at: _Pixels, height_map: Float, left: Float, right: Float, plane: Float, apex: float) -> Float:
    """Share of muscle (pixel, frame) inside a ventricle, from a map in its own moving coordinates."""
    scale = POLAR[1] / np.maximum(right - left, 4.0)
    across = at.x[:, None] * at.table(scale)
    across -= at.table(left * scale)
    cell = np.clip(across, 0, POLAR[1] - 1, out=across).astype(np.int32)
    rise = (POLAR[0] / (apex - plane)).astype(np.float32)
    up = at.y[:, None] * rise
    up -= plane * rise
    cell += np.clip(up, 0, POLAR[0] - 1, out=up).astype(np.int32) * POLAR[1]
    share = height_map.take(cell)
    share -= 0.62 - 0.12 * (plane - plane[0]) / 14
    share *= 2.0
    np.clip(share, 0, 0.85, out=share)
    return share


def _draw_valves(at: _Pixels, shape: Outlines, tissue: Contrast, opening: Float, image: Float) -> None:
    """Leaflets as thin lines hinged at the annulus: nearly in its plane when shut, towards the apex when open."""
    frame = np.arange(len(opening))
    swing = np.radians(14 + 62 * opening)
    for left, right, plane, lean in (
        (shape.la_left, shape.la_right, shape.mitral, 0.6),
        (shape.ra_left, shape.ra_right, shape.tricuspid, 0.45),
    ):
        row = _row(plane) - 1
        first, last = left[frame, row], right[frame, row]
        width = (last - first) / np.cos(np.radians(14))
        span = (at.x > first.min() - 4) & (at.x < last.max() + 4)
        pixels = np.flatnonzero(span & (at.y > plane.min() - 3) & (at.y < plane.max() + float(width.max()) * 0.62))
        local = image[pixels]
        for hinge, length, way in ((first, lean * width, 1.0), (last, (1 - lean) * width, -1.0)):
            line = _segment(at.x[pixels], at.y[pixels], hinge, plane, way * np.cos(swing), np.sin(swing), length)
            blend(local, tissue.myocardium * 1.1, line)
        image[pixels] = local


def _segment(x: Float, y: Float, x0: Float, y0: Float, dx: Float, dy: Float, length: Float) -> Float:
    """Opacity (pixel, frame) of a line 1.2 mm thick from (x0, y0) along (dx, dy), all (frame,)."""
    dx, dy = dx.astype(np.float32), dy.astype(np.float32)
    px, py = x[:, None] - x0, y[:, None] - y0
    along = px * dx
    along += py * dy
    np.clip(along, 0, length.astype(np.float32), out=along)
    px -= along * dx
    py -= along * dy
    px *= px
    py *= py
    px += py
    px *= -0.3
    px += 1.0
    np.clip(px, 0, 0.6, out=px)
    return px


def pulmonary_veins(x: Float, y: Float, shape: Outlines) -> Float:
    """Signed distance (pixel,) inside the two veins that enter the left atrium's roof from either side."""
    roof = float(Y[shape.la_right[0] > shape.la_left[0]][0])
    at = int(np.searchsorted(Y, roof + 12))
    sides = ((float(shape.la_left[0, at]), -0.9), (float(shape.la_right[0, at]), 0.93))
    distance = np.full_like(x, -50.0)
    for x0, dx in sides:
        dy = -np.sqrt(1 - dx**2)
        px, py = x - x0, y - (roof + 13)
        along = px * dx + py * dy
        across = np.abs(px * dy - py * dx)
        distance = np.maximum(distance, np.minimum(5.2 - across - 0.3 * along, along + 6))
    return np.asarray(distance, dtype=np.float32)
