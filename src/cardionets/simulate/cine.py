"""Cine CMR of a latent heart: what a scanner of given field, resolution and noise would show, with the true
segmentation.

Two canonical views: "sax", mid-ventricular short axis (RV on the image's left, anterior wall up), and "4ch" (apex up,
LV on the image's right). Frame 0 is end-diastole, frames are evenly spaced over one cycle. Geometry: :mod:`.geometry`;
drawing: :mod:`.short_axis`, :mod:`.long_axis`, :mod:`.four_chamber`, :mod:`.torso`; signal: :mod:`.tissue`.

A slice is planned by hand and so never perfect: the heart lies up to about a centimetre off the middle and is turned by
up to 15 degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.config import StudyError
from cardionets.simulate import four_chamber, long_axis, short_axis, tissue, torso
from cardionets.simulate.geometry import Float, Heart, Ventricles, ventricles
from cardionets.simulate.short_axis import Slice
from cardionets.simulate.torso import Surroundings

View = Literal["sax", "4ch"]
Pixels = NDArray[Any]
Mask = NDArray[np.uint8]

BLOOD_8BIT: Final = 138.0
BLOOD_12BIT: Final = 420.0
SWIRL: Final = {"sax": 0.075, "4ch": 0.09}  # SD of the signal of blood
TILT: Final = {"sax": 0.0, "4ch": -6.0}  # usual in-plane turn, degrees, anticlockwise


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a centre acquires its cines.

    ``spacing_mm`` pixel size; ``frames`` per cycle; ``size`` pixels of the square image; ``noise`` SD relative to
    blood; ``field_tesla`` 1.5 or 3; ``bits`` stored: up to 8 gives uint8, more gives uint16; ``resolution_mm`` of the
    acquisition before interpolation to ``spacing_mm``.
    """

    spacing_mm: float = 1.8
    frames: int = 25
    size: int = 96
    noise: float = 0.035
    field_tesla: float = 1.5
    bits: int = 8
    resolution_mm: float = 2.0

    def __post_init__(self) -> None:
        limits = {
            "spacing_mm": (0.5, 5),
            "frames": (4, 64),
            "size": (32, 256),
            "noise": (0, 0.5),
            "field_tesla": (0.2, 11),
            "bits": (8, 16),
            "resolution_mm": (0.5, 8),
        }
        faults = [f"{k} must lie in {a}..{b}" for k, (a, b) in limits.items() if not a <= getattr(self, k) <= b]
        if faults:
            raise StudyError(f"Scanner: {'; '.join(faults)}; correct the centre's definition.")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What differs from scan to scan: offset (mm), turn (degrees), slice error (mm), textures, gain."""

    offset: tuple[float, float]
    turn: float
    depth: float
    variant: int
    shift: tuple[int, int]
    start: tuple[int, int, int]
    gain: float


def _plan(rng: np.random.Generator, view: View) -> _Plan:
    offset = np.clip(rng.normal(0, 4.0, 2), -9, 9)
    turn = float(np.clip(rng.normal(TILT[view], 6.5), TILT[view] - 15, TILT[view] + 15))
    whole = rng.integers(0, tissue.MAP_SIZE, 2)
    start = rng.integers(0, (tissue.FLOW_STEPS, tissue.FLOW_SIZE, tissue.FLOW_SIZE))
    return _Plan(
        offset=(float(offset[0]), float(offset[1])),
        turn=turn,
        depth=float(np.clip(rng.normal(0, 2.0), -5, 5)),
        variant=int(rng.integers(tissue.VARIANTS)),
        shift=(int(whole[0]), int(whole[1])),
        start=(int(start[0]), int(start[1]), int(start[2])),
        gain=float(np.exp(0.12 * rng.standard_normal())),
    )


def render(
    heart: Mapping[str, Any] | pd.Series[Any], view: View, scanner: Scanner, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Draw one cine and its true segmentation.

    ``heart``: a row of :func:`cardionets.simulate.heart.sample`; a plain dict is quicker than a Series. Returns the
    cine (frame, H, W), uint8 or uint16 by ``scanner.bits``, and labels (frame, H, W): 0 background, 1 LV cavity
    (papillary muscles included, as in UK Biobank), 2 LV muscle, 3 RV cavity, 4 LA, 5 RA. Raises StudyError for a bad
    row or view.
    """
    person = Heart.of(heart if isinstance(heart, dict) else dict(heart))
    if view == "sax":
        stack, masks = _short_axes(person, scanner, 1, 10.0, rng)
        return stack[0], masks[0]
    if view == "4ch":
        return _four_chambers(person, scanner, rng)
    raise StudyError(f"render: view: {view!r} is unknown; use 'sax' or '4ch'.")


def render_stack(
    heart: Mapping[str, Any] | pd.Series[Any],
    scanner: Scanner,
    slices: int,
    slice_thickness_mm: float,
    rng: np.random.Generator,
) -> tuple[Pixels, Mask]:
    """Draw contiguous short-axis slices, base first, the middle one (``slices // 2``) mid-ventricular.

    ``slice_thickness_mm`` is the distance from slice to slice. Returns cines and labels, both (slice, frame, H, W). The
    same ``rng`` gives the middle slice that :func:`render` gives.
    """
    if slices < 1 or not 1 <= slice_thickness_mm <= 30:
        raise StudyError("render_stack: slices must be 1 or more and slice_thickness_mm in 1..30; correct the call.")
    return _short_axes(
        Heart.of(heart if isinstance(heart, dict) else dict(heart)), scanner, slices, slice_thickness_mm, rng
    )


def _grid(scanner: Scanner, plan: _Plan) -> tuple[Float, Float]:
    """Positions (pixel,) in mm of the pixels of the image, x right and y up, about the heart's middle, in its own
    axes.
    """
    axis = (np.arange(scanner.size, dtype=np.float32) - (scanner.size - 1) / 2) * scanner.spacing_mm
    right, up = axis - plan.offset[0], -axis - plan.offset[1]
    c, s = np.float32(np.cos(np.radians(plan.turn))), np.float32(np.sin(np.radians(plan.turn)))
    x = c * right + s * up[:, None]
    y = c * up[:, None] - s * right
    return np.asarray(x.ravel(), np.float32), np.asarray(y.ravel(), np.float32)


@dataclass(frozen=True, slots=True)
class _Scene:
    """A scan before the heart is drawn: pixel positions, the still surroundings' signal, the coil's sensitivity
    (pixel,).
    """

    scanner: Scanner
    plan: _Plan
    lv: Ventricles
    x: Float
    y: Float
    still: Float
    sensitivity: Float
    place: Surroundings

    @property
    def softness(self) -> float:
        """Width (mm) of the transition between two tissues."""
        return _softness(self.scanner)

    @property
    def signals(self) -> tissue.Contrast:
        """Signal of each tissue at this field strength."""
        return tissue.contrast(self.scanner.field_tesla)


def _softness(scanner: Scanner) -> float:
    return 1.25 * max(scanner.spacing_mm, scanner.resolution_mm)


def _scene(scanner: Scanner, plan: _Plan, lv: Ventricles, place: Surroundings, x: Float, y: Float) -> _Scene:
    still = torso.paint(x, y, lv.heart, place, tissue.contrast(scanner.field_tesla), _softness(scanner))
    sensitivity = torso.coil(x, y, place, scanner.field_tesla) * np.float32(plan.gain)
    return _Scene(scanner, plan, lv, x, y, still, sensitivity, place)


def _short_axes(
    heart: Heart, scanner: Scanner, slices: int, step_mm: float, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Slices from base to apex in one torso; the middle one takes its noise first, so that it does not depend on the
    rest.
    """
    plan, lv = _plan(rng, "sax"), ventricles(heart, scanner.frames)
    middle = slices // 2
    low, high = 0.3 * float(lv.plane.max()) + 3, lv.apex - 7
    levels = [float(np.clip(lv.apex / 2 + plan.depth + (k - middle) * step_mm, low, high)) for k in range(slices)]
    rings = {middle: short_axis.rings_at(lv, levels[middle])}
    place = short_axis.surroundings(heart, rings[middle], plan.shift)
    scene = _scene(scanner, plan, lv, place, *_grid(scanner, plan))
    drawn: dict[int, tuple[Pixels, Mask]] = {}
    for k in sorted(range(slices), key=lambda k: abs(k - middle)):
        outlines = rings.get(k) or short_axis.rings_at(lv, levels[k])
        blood = _blood(scanner, plan, SWIRL["sax"])
        part = short_axis.draw(
            scene.x,
            scene.y,
            outlines,
            scene.still,
            blood,
            scene.signals,
            scene.softness,
            levels[k] / lv.apex,
            plan.variant,
        )
        drawn[k] = _acquire(scene, part, rng)
    stack, masks = zip(*(drawn[k] for k in range(slices)))
    return np.stack(stack), np.stack(masks)


def _four_chambers(heart: Heart, scanner: Scanner, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    plan, lv = _plan(rng, "4ch"), ventricles(heart, scanner.frames)
    shape = long_axis.outlines(lv)
    centre = long_axis.middle(shape)
    x, y = _grid(scanner, plan)
    place = long_axis.surroundings(heart, shape, plan.shift)
    scene = _scene(scanner, plan, lv, place, x + np.float32(centre[0]), y + np.float32(centre[1]))
    veins = tissue.edge(four_chamber.pulmonary_veins(scene.x, scene.y, shape), scene.softness)
    tissue.blend(scene.still, 0.95, veins)
    blood = _blood(scanner, plan, SWIRL["4ch"])
    part = four_chamber.draw(
        scene.x, scene.y, shape, scene.still, blood, scene.signals, scene.softness, lv.beat.opening, plan.variant
    )
    return _acquire(scene, part, rng)


def _blood(scanner: Scanner, plan: _Plan, strength: float) -> Callable[[NDArray[np.intp]], Float]:
    """Signal of blood at pixels (pixel, frame): inflow and swirls make it uneven, SD ``strength``; it moves on."""
    steps = (np.arange(scanner.frames) * tissue.FLOW_STEPS // scanner.frames + plan.start[0]) % tissue.FLOW_STEPS
    step_px = scanner.spacing_mm / 1.5

    def at(pixels: NDArray[np.intp]) -> Float:
        rows = ((pixels // scanner.size) * step_px).astype(np.int32) + plan.start[1]
        cols = ((pixels % scanner.size) * step_px).astype(np.int32) + plan.start[2]
        cell = (rows % tissue.FLOW_SIZE) * tissue.FLOW_SIZE + cols % tissue.FLOW_SIZE
        signal = tissue.flow_pool().take(cell, axis=0).astype(np.float32).take(steps, axis=1)
        signal *= strength / 32
        signal += 1.0
        return signal

    return at


def _acquire(scene: _Scene, part: Slice, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Put the heart and the pulsating aorta on the still image; coil, blur, noise, magnitude, quantisation.

    Works with frames last, (row, column, frame), and turns to (frame, row, column) at the end.
    """
    frames, size = scene.scanner.frames, scene.scanner.size
    image = np.empty((size * size, frames), np.float32)
    image[:] = (scene.still * scene.sensitivity)[:, None]
    _draw_aorta(image, scene)
    part.image[:] *= scene.sensitivity[part.pixels, None]
    image[part.pixels] = part.image
    mask = np.zeros((size * size, frames), np.uint8)
    mask[part.pixels] = part.mask
    blurred = _blurred(image.reshape(size, size, frames), scene.scanner)
    cine = _digitised(blurred, scene.lv.heart, scene.scanner, rng)
    return _frames_first(cine), _frames_first(mask.reshape(size, size, frames))


def _frames_first(pixels: Pixels) -> Pixels:
    # (row, column, frame) -> (frame, row, column)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _draw_aorta(image: Float, scene: _Scene) -> None:
    low, high = scene.lv.heart.aorta_mm
    x, y = scene.place.aorta
    radius = np.hypot(scene.x - x, scene.y - y)
    pixels = np.flatnonzero(radius < high + 6)
    inside = (low + (high - low) * scene.lv.beat.pulse) - radius[pixels, None]
    local = np.broadcast_to(scene.still[pixels, None], inside.shape).copy()
    tissue.blend(local, 0.2, tissue.edge(inside + 1.8, scene.softness))
    tissue.blend(local, 1.0 + 0.18 * scene.lv.beat.pulse, tissue.edge(inside, scene.softness))
    image[pixels] = local * scene.sensitivity[pixels, None]


def _blurred(cine: Float, scanner: Scanner) -> Float:
    """Convolve rows and columns with (b, 1 - 2 b, b), the point spread of an acquisition coarser than the pixels."""
    share = np.float32(np.clip(0.10 * (scanner.resolution_mm / scanner.spacing_mm) ** 2, 0.04, 0.24))
    for ahead, behind, inner in (
        (np.s_[2:], np.s_[:-2], np.s_[1:-1]),
        (np.s_[:, 2:], np.s_[:, :-2], np.s_[:, 1:-1]),
    ):
        beside = cine[ahead] + cine[behind]
        beside *= share
        cine *= 1 - 2 * share
        cine[inner] += beside
    return cine


def _digitised(cine: Float, heart: Heart, scanner: Scanner, rng: np.random.Generator) -> Pixels:
    """Add complex noise, take the magnitude (Rician), scale and store as integers."""
    size = scanner.size
    pool = tissue.noise_pool(scanner.frames, size)
    starts = rng.integers(0, 24, (2, 2))
    signs = rng.integers(0, 2, 2) * 2 - 1
    real, imaginary = (pool[r : r + size, c : c + size] for r, c in starts.tolist())
    sigma = np.float32(scanner.noise * (1.3 if heart.fibrillates else 1.0))
    buffer = real * (sigma * np.float32(signs[0]))
    cine += buffer
    cine *= cine
    np.multiply(imaginary, sigma, out=buffer)
    buffer *= buffer
    cine += buffer
    np.sqrt(cine, out=cine)
    top = 2**scanner.bits - 1
    cine *= np.float32(BLOOD_8BIT if scanner.bits == 8 else BLOOD_12BIT * top / 4095)
    np.minimum(cine, np.float32(top), out=cine)
    return cine.astype(np.uint8 if scanner.bits <= 8 else np.uint16)
