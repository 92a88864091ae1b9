"""Signal of tissue in balanced SSFP, and the textures and noise that make it look acquired.

Signal with TR far below T1 and T2 (Scheffler and Lehnhardt, Eur Radiol 2003;13:2409): S = M0 sin(a) / (1 + cos(a) + (1
- cos(a)) T1 / T2). Relaxation times in ms: Stanisz et al., MRM 2005;54:507; Bojorquez et al., Magn Reson Imaging
2017;35:69. Fat is in opposed phase and therefore negative: a voxel that holds fat and water cancels, which draws the
thin black line around fat on real images. The magnitude of the noisy complex signal is Rician (Gudbjartsson and Patz,
MRM 1995;34:910).

Everything random in here is a fixed pool, drawn once per process from a constant seed; a person's own stream only says
which part of a pool is used. That is what keeps a cine at a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]

POOL_SEED: Final = 42_010
FLOW_STEPS: Final = 16
FLOW_SIZE: Final = 192
MAP_SIZE: Final = 512  # mm, vessel maps
POLAR: Final = (96, 32)  # angles and depths of a trabecular map
VARIANTS: Final = 12
_RELAXATION: Final = {  # proton density, (T1, T2) at 1.5 T, (T1, T2) at 3 T
    "blood": (1.0, (1480, 275), (1830, 275)),
    "muscle": (0.85, (1000, 44), (1280, 42)),
    "myocardium": (0.92, (1030, 48), (1250, 46)),
    "fat": (0.95, (290, 75), (370, 70)),
    "liver": (0.85, (590, 46), (810, 40)),
    "spleen": (0.9, (1060, 79), (1330, 75)),
    "marrow": (0.5, (550, 49), (590, 45)),
}


@dataclass(frozen=True, slots=True)
class Contrast:
    """Signed signal of each tissue relative to blood; fat is negative."""

    blood: float
    myocardium: float
    muscle: float
    fat: float
    liver: float
    spleen: float
    marrow: float
    lung: float = 0.035
    air: float = 0.004


@lru_cache(maxsize=8)
def contrast(field_tesla: float) -> Contrast:
    """Signals at a field strength: flip angle 60 degrees up to 2 T, 50 above; blood gains a third by inflow."""
    flip = np.radians(60.0 if field_tesla <= 2 else 50.0)
    signal: dict[str, float] = {}
    for tissue, (density, low, high) in _RELAXATION.items():
        t1, t2 = low if field_tesla <= 2 else high
        ratio = t1 / t2
        signal[tissue] = float(density * np.sin(flip) / (1 + np.cos(flip) + (1 - np.cos(flip)) * ratio))
    signal["blood"] *= 1.33
    relative = {tissue: value / signal["blood"] for tissue, value in signal.items()}
    relative["fat"] *= -0.9
    return Contrast(**relative)


def _smooth_noise(shape: tuple[int, ...], decay: tuple[float, ...], rng: np.random.Generator) -> Float:
    """Periodic Gaussian noise of unit variance, band-limited by exp(-(f decay)^2 / 2) along each axis."""
    spectrum = np.fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    for axis, (size, width) in enumerate(zip(shape, decay)):
        f = np.fft.rfftfreq(size) if axis == len(shape) - 1 else np.fft.fftfreq(size)
        window = np.exp(-((2 * np.pi * f * width) ** 2) / 2)
        spectrum *= window.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    noise = np.fft.irfftn(spectrum, s=shape, axes=tuple(range(len(shape))))
    return np.asarray(noise / noise.std(), dtype=np.float32)


@lru_cache(maxsize=1)
def flow_pool() -> NDArray[np.int8]:
    """Moving inhomogeneity of blood, SD 32, int8 (row * column, step), periodic in time and space; fine swirls on
    coarse ones.
    """
    rng = np.random.default_rng([POOL_SEED, 1])
    shape = (FLOW_STEPS, FLOW_SIZE, FLOW_SIZE)
    pool = 0.85 * _smooth_noise(shape, (1.4, 6.0, 5.0), rng) + 0.53 * _smooth_noise(shape, (0.9, 1.1, 2.4), rng)
    return np.ascontiguousarray(np.clip(32 * pool, -127, 127).reshape(FLOW_STEPS, -1).T.astype(np.int8))


@lru_cache(maxsize=16)
def noise_pool(frames: int, size: int) -> Float:
    """Thermal noise of unit variance with the slight correlation of interpolated images: (size + 24, size + 24,
    frames).
    """
    rng = np.random.default_rng([POOL_SEED, 2, frames, size])
    noise = rng.standard_normal((size + 26, size + 26, frames), dtype=np.float32)
    noise = noise[1:-1] + 0.35 * (noise[2:] + noise[:-2])
    noise = noise[:, 1:-1] + 0.35 * (noise[:, 2:] + noise[:, :-2])
    return np.asarray(noise / noise.std(), dtype=np.float32)


@lru_cache(maxsize=4)
def vessel_map(kind: str) -> Float:
    """Branching vessels at 1 mm per pixel, brightness 0-1, (512, 512): ``kind`` "lung" (many, small) or "liver"
    (fewer, longer).
    """
    lung = kind == "lung"
    rng = np.random.default_rng([POOL_SEED, 3, int(lung)])
    canvas: Float = np.zeros((MAP_SIZE + 24, MAP_SIZE + 24), np.float32)
    offsets = np.arange(-7, 8, dtype=np.float32)
    for _ in range(1300 if lung else 420):
        place, heading = rng.uniform(12, MAP_SIZE + 12, 2), rng.uniform(0, 2 * np.pi)
        radius = float(0.55 + rng.gamma(1.2, 0.5) if lung else rng.gamma(4.0, 0.4))
        level = float(rng.beta(1.0, 1.6) if lung else rng.uniform(0.3, 0.9))
        for _ in range(int(rng.geometric(0.22 if lung else 0.14))):
            row, col = np.clip(place, 8, MAP_SIZE + 15).astype(int)
            blob = np.exp(-(offsets**2) / (2 * radius**2))
            patch = canvas[row - 7 : row + 8, col - 7 : col + 8]
            np.maximum(patch, level * blob[:, None] * blob, out=patch)
            heading += rng.normal(0, 0.35)
            place = place + 1.4 * np.array([np.sin(heading), np.cos(heading)])
            radius *= 0.95
    return np.ascontiguousarray(canvas[12:-12, 12:-12])


@lru_cache(maxsize=1)
def grain_map() -> Float:
    """Fine grain of solid tissue, unit variance, (512, 512) at 1 mm per pixel."""
    rng = np.random.default_rng([POOL_SEED, 4])
    coarse, fine = (
        _smooth_noise((MAP_SIZE, MAP_SIZE), (7.0, 7.0), rng),
        _smooth_noise((MAP_SIZE, MAP_SIZE), (1.2, 1.2), rng),
    )
    return 0.6 * coarse + 0.8 * fine


@lru_cache(maxsize=1)
def lv_trabeculae() -> Float:
    """Muscle inside the LV cavity: (variant, angle * depth), depth 0 centre to 1 endocardium. A pixel is muscle where
    the map exceeds a threshold, which falls as the cavity contracts. Two papillary muscles, 45 and 290 degrees, and
    a rough wall.
    """
    rng = np.random.default_rng([POOL_SEED, 5])
    angles, depths = POLAR
    theta = (np.arange(angles) * 360 / angles)[:, None]
    rho = ((np.arange(depths) + 0.5) / depths)[None]
    maps = []
    for _ in range(VARIANTS):
        rough = _smooth_noise((angles, 4 * depths), (1.1, 3.0), rng)[:, :depths]
        height = 0.30 * rough * np.clip((rho - 0.5) / 0.35, 0, 1) + 0.55 * np.clip((rho - 0.78) / 0.22, 0, 1)
        for centre, spread in ((42, 9), (292, 10)):
            for _ in range(int(rng.integers(1, 4))):
                where, depth = centre + rng.normal(0, 12), rng.uniform(0.60, 0.84)
                wide, deep = spread * rng.uniform(0.6, 1.2), rng.uniform(0.07, 0.13)
                gap = (theta - where + 180) % 360 - 180
                height = np.maximum(height, 1.75 * np.exp(-((gap / wide) ** 2 + ((rho - depth) / deep) ** 2) / 2))
        maps.append(height.astype(np.float32).ravel())
    return np.stack(maps)


@lru_cache(maxsize=1)
def rv_trabeculae() -> Float:
    """Muscle inside the RV crescent: (variant, angle * depth), depth 0 septum to 1 free wall: coarse trabeculae and
    the moderator band.
    """
    rng = np.random.default_rng([POOL_SEED, 6])
    angles, depths = POLAR
    theta = (np.arange(angles) * 360 / angles)[:, None]
    rho = ((np.arange(depths) + 0.5) / depths)[None]
    maps = []
    for _ in range(VARIANTS):
        rough = _smooth_noise((angles, 4 * depths), (1.0, 4.5), rng)[:, :depths]
        height = 0.55 * rough * (0.35 + 0.65 * rho) + 0.55 * np.clip((rho - 0.75) / 0.25, 0, 1)
        for _ in range(int(rng.integers(1, 4))):
            where, slant = rng.uniform(165, 235), rng.normal(0, 22)
            gap = theta - where - slant * (rho - 0.5)
            height = np.maximum(height, rng.uniform(0.9, 1.3) * np.exp(-((gap / 3.2) ** 2) / 2) * (0.6 + 0.4 * rough))
        maps.append(height.astype(np.float32).ravel())
    return np.stack(maps)


@lru_cache(maxsize=1)
def long_axis_trabeculae() -> tuple[Float, Float]:
    """The same on the four-chamber view: two of (variant, height * across), LV then RV; height 0 base to 1 apex,
    across 0 left to 1 right.

    LV: rough lateral wall and apex, the anterolateral papillary muscle as a band. RV: coarse apex and the moderator
    band.
    """
    rng = np.random.default_rng([POOL_SEED, 7])
    heights, across = POLAR
    up = ((np.arange(heights) + 0.5) / heights)[:, None]
    xi = ((np.arange(across) + 0.5) / across)[None]
    left, right = [], []
    for _ in range(VARIANTS):
        rough = _smooth_noise((heights, 2 * across), (2.0, 1.3), rng)[:, :across]
        edge = np.maximum(np.clip((xi - 0.86) / 0.14, 0, 1), 0.6 * np.clip((0.07 - xi) / 0.07, 0, 1))
        lv = (
            0.8 * edge
            + 0.32 * rough * np.clip(edge + 1.6 * (up - 0.55), 0.08, 1)
            + 0.5 * np.clip((up - 0.85) / 0.15, 0, 1)
        )
        line = 0.80 + rng.normal(0, 0.03) - 0.22 * np.clip(0.55 - up, 0, 1)
        band = (
            np.exp(-(((xi - line) / 0.055) ** 2) / 2)
            * np.clip((up - 0.30) / 0.12, 0, 1)
            * np.clip((0.78 - up) / 0.2, 0, 1)
        )
        left.append(np.maximum(lv, rng.uniform(0.7, 1.3) * band).astype(np.float32).ravel())
        rough = _smooth_noise((heights, 2 * across), (1.8, 2.0), rng)[:, :across]
        free = np.clip((0.22 - xi) / 0.22, 0, 1)
        rv = (
            0.55 * free
            + 0.6 * rough * np.clip(0.2 + 1.5 * free + 1.2 * (up - 0.35), 0.1, 1)
            + 0.3 * np.clip((up - 0.7) / 0.3, 0, 1)
        )
        course = rng.uniform(0.50, 0.66) + 0.16 * (1 - xi)
        moderator = rng.uniform(0.7, 1.0) * np.exp(-(((up - course) / 0.03) ** 2) / 2) * (0.8 + 0.25 * rough)
        right.append(np.maximum(rv, moderator).astype(np.float32).ravel())
    return np.stack(left), np.stack(right)


def sample_map(pool: Float, x: Float, y: Float, shift: tuple[int, int]) -> Float:
    """Values of a periodic 1 mm map at positions ``x``, ``y`` (mm), moved by ``shift``; nearest pixel."""
    rows = (y + shift[0]).astype(np.int32) & (MAP_SIZE - 1)
    cols = (x + shift[1]).astype(np.int32) & (MAP_SIZE - 1)
    return pool.ravel().take(rows * MAP_SIZE + cols)


def edge(distance: Float, softness: float) -> Float:
    """Partial volume: share of a pixel inside an outline, from the signed ``distance`` (mm, inside positive), in
    place.
    """
    distance *= 1 / softness
    distance += 0.5
    np.clip(distance, 0, 1, out=distance)
    return distance


def blend(image: Float, value: Float | float, share: Float) -> None:
    """Replace ``share`` (0-1) of ``image`` by ``value``, in place."""
    image += share * (value - image)
