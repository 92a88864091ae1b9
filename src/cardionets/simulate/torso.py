"""What surrounds the heart on a cine: lungs, diaphragm and liver, stomach, chest wall, spine; still while the heart
beats.

Positions are in mm, x to the image's right and y up, from the middle of the left ventricle (short axis) or of the heart
(four-chamber). Individual form comes from ``Heart.shape``; the thickness of fat from the body mass index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.simulate.geometry import Heart
from cardionets.simulate.tissue import Contrast, blend, edge, grain_map, sample_map, vessel_map

Float = NDArray[np.floating[Any]]

DEPTH_STEP: Final = 0.5
DEPTH_BINS: Final = 256  # of DEPTH_STEP mm, across the chest wall


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the neighbours of the heart lie. Angles in degrees, distances in mm from the origin along that direction.

    ``wall``: angle and distance of the inner chest wall; ``liver``: of the diaphragm; ``liver_end``: how far along the
    diaphragm the liver reaches before the stomach; ``spine`` (x, y) or None, ``aorta`` (x, y); ``fat`` subcutaneous,
    ``muscle`` thickness; ``dome`` twice the radius of the diaphragm's curve.
    """

    wall: tuple[float, float]
    liver: tuple[float, float]
    liver_end: float
    spine: tuple[float, float] | None
    aorta: tuple[float, float]
    fat: float
    muscle: float
    shift: tuple[int, int]
    dome: float = 520.0


def habitus(heart: Heart) -> tuple[float, float]:
    """Thickness (mm) of subcutaneous fat and of the muscle layer of the chest wall."""
    fat = float(np.clip(4 + 1.3 * (heart.bmi - 17) + 2.5 * heart.shape[8], 3, 50))
    return fat, float(np.clip(17 + 2.5 * heart.shape[9], 10, 26))


def _along(x: Float, y: Float, degrees: float) -> tuple[Float, Float]:
    """Coordinates along a direction and across it (to its left)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(c * x + s * y, np.float32), np.asarray(c * y - s * x, np.float32)


def _chest_wall(place: Surroundings, tissue: Contrast, softness: float) -> Float:
    """Signal against depth (DEPTH_BINS,): thin inner fat, muscle, subcutaneous fat, skin, air."""
    depth = (np.arange(DEPTH_BINS) * DEPTH_STEP - 12).astype(np.float32)
    edges = np.cumsum([0.0, 2.2, place.muscle, place.fat, 2.0])
    layers = (tissue.fat * 0.75, tissue.muscle, tissue.fat, tissue.muscle, tissue.air)
    signal = np.full_like(depth, tissue.lung)
    for start, value in zip(edges, layers):
        blend(signal, value, edge(depth - float(start), softness))
    return signal


def paint(x: Float, y: Float, heart: Heart, place: Surroundings, tissue: Contrast, softness: float) -> Float:
    """Signed signal (pixel,) of the still surroundings at positions ``x``, ``y`` (mm)."""
    image = tissue.lung * (1 + 0.25 * sample_map(grain_map(), x, y, place.shift))
    image += 0.75 * sample_map(vessel_map("lung"), x, y, place.shift)
    if place.spine is not None:
        _paint_spine(image, x - place.spine[0], y - place.spine[1], tissue, softness)
    _paint_abdomen(image, x, y, heart, place, tissue, softness)
    depth, across = _along(x, y, place.wall[0])
    depth = depth - place.wall[1] + across**2 / (420 + 60 * float(heart.shape[10])) + 2 * np.sin(across / 17)
    index = np.clip((depth + 12) / DEPTH_STEP, 0, DEPTH_BINS - 1).astype(np.int32)
    wall = _chest_wall(place, tissue, softness).take(index)
    # ribs and vessels: dark gaps along the muscle layer, fine dark septa in the fat
    ribs = np.exp(-(((depth - 0.55 * place.muscle) / (0.22 * place.muscle)) ** 2)) * np.clip(
        1.6 * np.sin(across / 6.2 + float(heart.shape[11])) - 0.5, 0, 1
    )
    grain = sample_map(grain_map(), x, y, (place.shift[1], place.shift[0]))
    wall *= (1 - 0.55 * ribs) * (1 + 0.07 * grain)
    inside = edge(depth + 0.5, softness)
    blend(image, wall, inside)
    return image


def _paint_abdomen(
    image: Float, x: Float, y: Float, heart: Heart, place: Surroundings, tissue: Contrast, softness: float
) -> None:
    """Liver with its vessels below the diaphragm; past ``liver_end`` the stomach, with a rim of fat."""
    depth, across = _along(x, y, place.liver[0])
    depth = depth - place.liver[1] - (across + 8) ** 2 / place.dome
    below = edge(depth.copy(), softness)
    vessels = sample_map(vessel_map("liver"), x, y, place.shift)
    grain = sample_map(grain_map(), x, y, (place.shift[1] + 99, place.shift[0]))
    organ = tissue.liver * (0.88 + 0.05 * grain) + 0.62 * vessels
    content = float(np.clip(0.35 + 0.25 * heart.shape[12], 0.06, 0.9))
    stomach = content * (1 + 0.3 * grain)
    past = across - place.liver_end + 0.15 * depth
    blend(organ, tissue.fat * (0.8 + 0.04 * grain), edge(past.copy(), softness))
    bubble = 24 - np.hypot((past - 33) * 0.85, depth - 27 - 4 * float(heart.shape[13]))
    blend(organ, tissue.muscle, edge(bubble + 3, softness))
    blend(organ, stomach, edge(bubble, softness))
    blend(image, organ, below)


def _paint_spine(image: Float, x: Float, y: Float, tissue: Contrast, softness: float) -> None:
    """Vertebral body, canal with bright fluid around the cord, muscle beside and behind."""
    back = np.hypot(x * 0.55, y + 42)
    blend(image, tissue.muscle * 0.9, edge(38 - back, softness))
    body = 18 - np.hypot(x, y * 1.15)
    blend(image, 0.16, edge(body + 1.5, softness))
    blend(image, tissue.marrow * 0.75, edge(body, softness))
    canal = np.hypot(x, y + 26)
    blend(image, 1.15, edge(8.5 - canal, softness))
    blend(image, 0.4, edge(5.0 - canal, softness))


def coil(x: Float, y: Float, place: Surroundings, field_tesla: float) -> Float:
    """Receive sensitivity (pixel,), 1 at the origin: an array on the chest wall and a weaker one behind."""
    depth, across = _along(x, y, place.wall[0])
    reach = 125.0 if field_tesla <= 2 else 100.0
    near = np.exp((depth - place.wall[1]) / reach) / (1 + (across / 150) ** 2)
    far = 0.35 * np.exp(-(depth + 80) / 130)
    field = near + far
    origin = float(np.exp(-place.wall[1] / reach) + 0.35 * np.exp(-80 / 130))
    return np.asarray(np.minimum(field / origin, 3.0), dtype=np.float32)
