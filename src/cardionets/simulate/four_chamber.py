"""The four-chamber view: every outline is a table of left-right position against height along the long axis.

The septum is the spine of the drawing: right of it lie left ventricle and left atrium, left of it their right counterparts, and the
width of each chamber is solved exactly from its area. Area from volume: V = 0.85 A^2 / L for the atria (area-length, Lang et al., JASE
2015;28:1), A proportional to V^(2/3) for the right ventricle; the left ventricle is the ellipsoid of :mod:`.geometry` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cardionets.simulate.geometry import THETA, Float, Heart, Ventricles, ring_mix, smooth_step
from cardionets.simulate.short_axis import Blood, Slice
from cardionets.simulate.tissue import POLAR, Contrast, blend, edge, long_axis_trabeculae
from cardionets.simulate.torso import Surroundings, habitus

ROWS: Final = 256
LOW, HIGH = -100.0, 140.0
Y: Final[Float] = np.linspace(LOW, HIGH, ROWS, dtype=np.float32)
STEP: Final = (HIGH - LOW) / (ROWS - 1)
SEPTAL, LATERAL = int(np.argmin(abs(THETA - np.radians(205)))), int(np.argmin(abs(THETA - np.radians(25))))
RV_AREA: Final = 0.86  # A = 0.86 V^(2/3), A in cm2, V in mL
RV_WALL, ATRIAL_WALL = 3.5, 2.5
NOWHERE: Final = -8.0  # width of a chamber where it has none


@dataclass(frozen=True, slots=True)
class Outlines:
    """Left-right position (frame, row) in mm of every outline at heights ``Y``, and where the valves hang.

    ``septum`` and ``lateral`` are the LV epicardium, ``left`` and ``right`` its cavity; ``mitral`` and ``tricuspid`` heights (frame,).
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
    start = np.where(Y < ventricles.apex, np.maximum(radius[0], 0.01), 0.01).astype(np.float32)
    shift = ventricles.travel(start, radius, weight, form)
    narrow = 1 - 0.13 * np.clip(1 - (Y - ventricles.plane[:, None]) / 26, 0, 1) ** 2
    shell = ventricles.shell(Y)
    halves = []
    for side in (SEPTAL, LATERAL):
        cavity = np.clip(start - shift * (mix @ inward[:, side]), 0, None)
        wall = np.maximum(shell - start, 0) * (mix @ thick[:, side])
        ring = (start + wall) ** 2 - start**2
        outer = np.sqrt(cavity**2 + ventricles.squeeze[:, None] * ring)
        halves.append((cavity * narrow, outer * (0.5 + 0.5 * narrow)))
    (septal, septal_outer), (lateral, lateral_outer) = halves
    septal, lateral = (np.where(radius > 0, h, NOWHERE).astype(np.float32) for h in (septal, lateral))
    septal_outer, lateral_outer = (
        np.where(shell > 0, h, NOWHERE).astype(np.float32) for h in (septal_outer, lateral_outer)
    )
    return septal, lateral, septal_outer, lateral_outer


def _rv_form(v: Float) -> Float:
    return np.asarray(np.clip(1 - v, 0, 1) ** 0.7 * (0.8 + 0.9 * np.clip(v, 0, 1)), np.float32)


def _atrium_form(u: Float) -> Float:
    """Width against depth: 0 at the valve (three quarters as wide) to 1 at the roof."""
    u = np.clip(u, 0, 1)
    return np.asarray(np.sqrt(1 - u**3) * (0.74 + 0.26 * np.sin(np.pi * u**0.8)), np.float32)


_UNIT: Final[Float] = np.linspace(0, 1, 401, dtype=np.float32)
_RV_MEAN: Final = float(_rv_form(_UNIT).mean())
_ATRIUM_MEAN: Final = float(_atrium_form(_UNIT).mean())


def _rv_width(ventricles: Ventricles) -> Float:
    length = (ventricles.rv_apex - ventricles.rv_plane)[:, None]
    area = 100 * RV_AREA * (ventricles.rv[:, None] / 1000) ** (2 / 3)
    v = (Y - ventricles.rv_plane[:, None]) / length
    width = area / (length * _RV_MEAN) * _rv_form(v)
    return np.asarray(np.where(v < 1, width, NOWHERE), dtype=np.float32)


def _atrial_width(volumes: tuple[float, float], filled: Float, plane: Float) -> tuple[Float, Float]:
    """Widths (frame, row) of cavity and outer wall below the valve ``plane`` (frame,); the roof stays where it is."""
    least, most = volumes
    volume = 1e3 * (least + (most - least) * filled)[:, None]
    roof = float(plane[0]) - 11.4 * least ** (1 / 3)
    length = plane[:, None] - roof
    mean_width = np.sqrt(volume * length / 0.85) / (length * _ATRIUM_MEAN)
    u = (plane[:, None] - Y) / length
    cavity = np.where(u < 1, mean_width * _atrium_form(u), NOWHERE)
    deeper = (plane[:, None] - Y) / (length + ATRIAL_WALL)
    wall = np.where(deeper < 1, mean_width * _atrium_form(deeper) + ATRIAL_WALL, NOWHERE)
    return cavity.astype(np.float32), wall.astype(np.float32)


def _smooth_rows(outline: Float, reach: int) -> Float:
    """Running mean over 2 reach + 1 rows."""
    padded = np.pad(outline, ((0, 0), (reach + 1, reach)), mode="edge").cumsum(axis=1, dtype=np.float32)
    width = 2 * reach + 1
    return np.asarray((padded[:, width:] - padded[:, :-width]) / width, dtype=np.float32)


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
    middle = (crux + 1.5 + 0.22 * np.minimum(Y, 0) + 0.1 * np.clip(Y, 0, 20)).astype(np.float32)
    la, la_wall = _atrial_width(heart.la, ventricles.beat.filled, mitral)
    ra, ra_wall = _atrial_width(heart.ra, ventricles.beat.filled, tricuspid)
    above_mitral, above_tricuspid = Y > mitral[:, None] - 2, Y > tricuspid[:, None] - 2
    wide_left = np.where(above_tricuspid, np.where(rv < septum, rv - RV_WALL, septum), middle - 2.5 - ra_wall)
    wide_right = np.where(above_mitral, lateral_epi, middle + la_wall)
    fat = 1.5 + 0.05 * habitus(heart)[0]
    inside = (Y < ventricles.apex + 8) & (Y > -60)
    outer_left = np.minimum(_smooth_rows(wide_left, 11), wide_left) - np.where(inside, fat, 0)
    outer_right = np.maximum(_smooth_rows(wide_right, 11), wide_right) + np.where(inside, fat, 0)
    return Outlines(
        septum=septum,
        left=axis - septal,
        right=axis + lateral,
        lateral=lateral_epi,
        rv=rv,
        la_left=np.broadcast_to(middle, la.shape),
        la_right=middle + la,
        ra_left=middle - 3.0 - ra,
        ra_right=np.broadcast_to(middle - 3.0, ra.shape),
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

    roof = float(ys.min())
    return Surroundings(
        wall=(wall_angle, distance(wall_angle) + 5 + 4 * abs(float(heart.shape[16]))),
        liver=(liver_angle, distance(liver_angle) + 1.0),
        liver_end=float(75 + 10 * heart.shape[17]),
        spine=(float(shape.crux + 22 + 5 * heart.shape[18]), roof - 24),
        fat=fat,
        muscle=muscle,
        shift=shift,
    )


class _Reader:
    """Looks outlines up at pixels, and measures distances to them square to the outline."""

    def __init__(self, x: Float, y: Float) -> None:
        self.x = x
        self.rows = np.clip((y - LOW) * (1 / STEP) + 0.5, 0, ROWS - 1).astype(np.int32)

    def inside(self, outline: Float, side: int, part: slice) -> Float:
        """Signed distance (frame, pixel) of the pixels ``part`` from an outline whose inside lies to its right (side 1) or left (-1)."""
        slope = np.gradient(np.median(outline[:: max(1, len(outline) // 4)], axis=0), STEP)
        square = (side / np.sqrt(1 + np.clip(slope, -3, 3) ** 2)).astype(np.float32)
        rows = self.rows[part]
        distance = outline.take(rows, axis=1)
        np.subtract(self.x[part], distance, out=distance)
        distance *= square.take(rows)
        return distance


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
    """Draw the beating heart. ``x``, ``y`` (pixel,) mm in the heart's axes; ``still`` (pixel,) the surroundings' signal;
    ``opening`` (frame,) of the valves; ``variant`` chooses the trabeculae.
    """
    rows = np.clip((y - LOW) * (1 / STEP) + 0.5, 0, ROWS - 1).astype(np.int32)
    reach = 2 * softness
    near = (x > shape.outer_left.min(axis=0).take(rows) - reach) & (
        x < shape.outer_right.max(axis=0).take(rows) + reach
    )
    pixels = np.flatnonzero(near)
    # by height, so that ventricles and atria are slices of the list
    pixels = pixels[np.argsort(y[pixels], kind="stable")]
    x, y = x[pixels], y[pixels]
    top = slice(int(np.searchsorted(y, -4.0)), None)
    bottom = slice(0, int(np.searchsorted(y, float(shape.tricuspid.max()) + 4.0)))
    read = _Reader(x, y)
    whole = slice(None)
    image = np.broadcast_to(still[pixels], (len(opening), len(pixels))).copy()
    outer = np.minimum(read.inside(shape.outer_left, 1, whole), read.inside(shape.outer_right, -1, whole))
    blend(image, tissue.fat * 0.85, edge(outer, softness))
    blood_share = np.zeros_like(image)
    mask = np.zeros(image.shape, np.uint8)
    _draw_atria(read, y, shape, tissue, softness, bottom, image, blood_share, mask)
    _draw_ventricles(read, y, shape, tissue, softness, top, variant, image, blood_share, mask)
    blend(image, blood(pixels), np.minimum(blood_share, 1, out=blood_share))
    _draw_valves(x, y, shape, tissue, opening, image)
    return Slice(pixels, image, mask)


def _draw_atria(
    read: _Reader,
    y: Float,
    shape: Outlines,
    tissue: Contrast,
    softness: float,
    part: slice,
    image: Float,
    blood_share: Float,
    mask: NDArray[np.uint8],
) -> None:
    y = y[part]
    for label, left, right, plane in (
        (4, shape.la_left, shape.la_right, shape.mitral),
        (5, shape.ra_left, shape.ra_right, shape.tricuspid),
    ):
        inside = np.minimum(read.inside(left, 1, part), read.inside(right, -1, part))
        below = plane[:, None] - y
        blend(image[:, part], tissue.myocardium, edge(np.minimum(inside + ATRIAL_WALL, below), softness))
        inside = edge(np.minimum(inside, below), softness)
        np.copyto(mask[:, part], np.uint8(label), where=inside >= 0.5)
        blood_share[:, part] += inside


def _draw_ventricles(
    read: _Reader,
    y: Float,
    shape: Outlines,
    tissue: Contrast,
    softness: float,
    part: slice,
    variant: int,
    image: Float,
    blood_share: Float,
    mask: NDArray[np.uint8],
) -> None:
    y = y[part]
    above, above_rv = y - shape.mitral[:, None], y - shape.tricuspid[:, None]
    from_septum = read.inside(shape.septum, 1, part)
    in_epi = np.minimum(from_septum, read.inside(shape.lateral, -1, part))
    in_epi = edge(np.minimum(in_epi, above + 1.0), softness)
    from_free = read.inside(shape.rv, 1, part)
    in_rv = edge(np.minimum(np.minimum(from_free, -from_septum), above_rv), softness)
    rv_wall = edge(np.minimum(np.minimum(from_free + RV_WALL, -from_septum), above_rv), softness)
    in_lv = np.minimum(read.inside(shape.left, 1, part), read.inside(shape.right, -1, part))
    in_lv = edge(np.minimum(in_lv, above), softness)
    blend(image[:, part], tissue.myocardium, np.maximum(in_epi, rv_wall))
    labels = mask[:, part]
    np.copyto(labels, np.uint8(3), where=in_rv >= 0.5)
    np.copyto(labels, np.uint8(2), where=in_epi >= 0.5)
    np.copyto(labels, np.uint8(1), where=in_lv >= 0.5)
    lv_map, rv_map = long_axis_trabeculae()
    in_lv *= 1 - _trabeculae(read, lv_map[variant], shape.left, shape.right, above, shape.mitral, shape.apex, part)
    in_rv *= 1 - _trabeculae(
        read, rv_map[variant], shape.rv, shape.septum, above_rv, shape.tricuspid, shape.apex - 9, part
    )
    share = blood_share[:, part]
    share *= 1 - np.minimum(in_epi, 1 - in_lv)
    share += in_lv
    share += in_rv


def _trabeculae(
    read: _Reader, height_map: Float, left: Float, right: Float, above: Float, plane: Float, apex: float, part: slice
) -> Float:
    """Share of muscle (frame, pixel) inside a ventricle, from a map in its own moving coordinates."""
    rows = read.rows[part]
    start = left.take(rows, axis=1)
    across = right.take(rows, axis=1)
    across -= start
    np.maximum(across, 4.0, out=across)
    np.subtract(read.x[part], start, out=start)
    start /= across
    start *= POLAR[1]
    up = above * (POLAR[0] / (apex - plane))[:, None]
    cell = np.clip(up, 0, POLAR[0] - 1).astype(np.int32) * POLAR[1]
    cell += np.clip(start, 0, POLAR[1] - 1).astype(np.int32)
    share = height_map.take(cell)
    share -= (0.62 - 0.12 * (plane - plane[0]) / 14)[:, None]
    share *= 2.0
    return np.clip(share, 0, 0.85, out=share)


def _draw_valves(x: Float, y: Float, shape: Outlines, tissue: Contrast, opening: Float, image: Float) -> None:
    """Leaflets as thin lines: hinged at the annulus, nearly in its plane when shut, swung towards the apex when open."""
    part = slice(int(np.searchsorted(y, -6.0)), int(np.searchsorted(y, float(shape.tricuspid.max()) + 26)))
    x, y = x[part], y[part]
    for left, right, plane, split in (
        (shape.la_left, shape.la_right, shape.mitral, 0.6),
        (shape.ra_left, shape.ra_right, shape.tricuspid, 0.55),
    ):
        rows = np.clip((plane - LOW) / STEP - 1, 0, ROWS - 1).astype(np.int32)
        frame = np.arange(len(plane))
        first, last = left[frame, rows], right[frame, rows]
        swing = np.radians(14 + 58 * opening)
        width = last - first
        lean = split if split > 0.55 else 1 - split
        for hinge, length, way in ((first, lean * width, 1.0), (last, (1 - lean) * width, -1.0)):
            share = _segment(x, y, hinge, plane, way * np.cos(swing), np.sin(swing), length / np.cos(np.radians(14)))
            blend(image[:, part], tissue.myocardium * 1.1, share)


def _segment(x: Float, y: Float, x0: Float, y0: Float, dx: Float, dy: Float, length: Float) -> Float:
    """Opacity (frame, pixel) of a line 1.2 mm thick from (x0, y0) along (dx, dy), all (frame,)."""
    px, py = x - x0[:, None], y - y0[:, None]
    dx, dy = dx.astype(np.float32)[:, None], dy.astype(np.float32)[:, None]
    along = np.clip(px * dx + py * dy, 0, length.astype(np.float32)[:, None])
    px -= along * dx
    py -= along * dy
    px *= px
    py *= py
    px += py
    return np.asarray(0.75 * np.clip(1.6 - 0.45 * px, 0, 1), dtype=np.float32)


def pulmonary_veins(x: Float, y: Float, shape: Outlines) -> Float:
    """Signed distance (pixel,) inside the two veins that enter the left atrium's roof from either side."""
    roof = float(Y[shape.la_right[0] > shape.la_left[0]][0])
    at = int(np.searchsorted(Y, roof + 12))
    sides = ((float(shape.la_left[0, at]), -0.75), (float(shape.la_right[0, at]), 0.7))
    distance = np.full_like(x, -50.0)
    for x0, dx in sides:
        dy = -np.sqrt(1 - dx**2)
        px, py = x - x0, y - (roof + 13)
        along = px * dx + py * dy
        across = np.abs(px * dy - py * dx)
        distance = np.maximum(distance, np.minimum(5.0 - across - 0.04 * along, np.minimum(along + 4, 30 - along)))
    return np.asarray(distance, dtype=np.float32)


__all__ = ["Outlines", "draw", "middle", "outlines", "pulmonary_veins", "smooth_step", "surroundings"]
