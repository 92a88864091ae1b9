"""What a cine's motion tells without a segmentation: where the heart is, and when it is full."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float32]

SMOOTHING_MM: Final = 4.0
SEARCH_MM: Final = (60.0,) * 3 + (35.0,) * 5
"""Widths of the windows of the mean shift: first the whole chest, then one heart."""
HEART_MM: Final = 40.0
REACH_MM: Final = 2 * HEART_MM
MIN_SKEWNESS: Final = 0.2


def motion_map(frames: NDArray[Any], phases: NDArray[np.float64], spacing_mm: tuple[float, float]) -> Float:
    """Amplitude of the first two harmonics of every pixel over the cycle, smoothed: float32 (H, W).

    ``frames`` (frame, H, W), ``phases`` (frame,) in [0, 1). The heart is what moves once per beat: Lin, Cowan and
    Young, MICCAI 2006, localise it by the same harmonic.
    """
    count, rows, cols = frames.shape
    angles = 2 * np.pi * phases
    basis = np.stack([np.cos(angles), np.sin(angles), np.cos(2 * angles), np.sin(2 * angles)])
    basis -= basis.mean(axis=1, keepdims=True)
    # (4, frame) x (frame, H * W) -> (4, H * W)
    harmonics = basis.astype(np.float32) @ frames.reshape(count, -1).astype(np.float32)
    amplitude = np.sqrt((harmonics**2).sum(axis=0)).reshape(rows, cols) / count
    smooth: Float = ndimage.gaussian_filter(amplitude, [SMOOTHING_MM / s for s in spacing_mm], truncate=2.5)
    return smooth


def _window(motion: Float, centre: tuple[float, float], width_mm: float, spacing_mm: tuple[float, float]) -> Float:
    offsets = [(np.arange(n) - c) * s / width_mm for n, c, s in zip(motion.shape, centre, spacing_mm)]
    rows, cols = (np.exp(-(offset**2) / 2).astype(np.float32) for offset in offsets)
    window: Float = rows[:, None] * cols
    return window


def _mode(motion: Float, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Where most of the motion is (row, column), by mean shift from the middle of the image."""
    floor, ceiling = np.percentile(motion, (70, 99.5))
    weight = np.clip(motion, floor, ceiling) - floor
    rows, cols = weight.shape
    centre = ((rows - 1) / 2, (cols - 1) / 2)
    for width in SEARCH_MM:
        near = weight * _window(weight, centre, width, spacing_mm)
        total = float(near.sum())
        if total <= 0:
            break
        centre = (float(near.sum(axis=1) @ np.arange(rows)) / total, float(near.sum(axis=0) @ np.arange(cols)) / total)
    return centre


def middle(profile: NDArray[np.int64]) -> float:
    """Half way between where the first and the last fiftieth of a profile end."""
    share = np.cumsum(profile) / profile.sum()
    return float(np.searchsorted(share, 0.02) + np.searchsorted(share, 0.98)) / 2


def motion_centre(motion: Float, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Middle (row, column) of the largest connected region that moves, around the mode of a motion map (H, W).

    The region is what reaches 15 % of the strongest motion: enough to count the walls of a failing ventricle. Its row
    is the middle of its extent, for the busy valve plane would draw a centroid from the apex; its column is its
    centroid, for the thin edge of the right ventricle would draw an extent from the left.
    """
    mode = _mode(motion, spacing_mm)
    near = motion * _window(motion, mode, REACH_MM, spacing_mm)
    regions, count = ndimage.label(near > 0.15 * np.percentile(near, 99.5))
    if count == 0:
        return mode
    sizes = np.bincount(regions.ravel())
    largest = regions == sizes[1:].argmax() + 1
    column = largest.sum(axis=0) @ np.arange(largest.shape[1]) / largest.sum()
    return middle(largest.sum(axis=1)), float(column)


def contraction(frames: NDArray[Any], centre: tuple[float, float], spacing_mm: tuple[float, float]) -> Float:
    """First principal component over time of the region around the heart, smoothed to four harmonics: (frame,), mean 0.

    Every second pixel is enough. The heart goes one way and back once per beat, so this is how far it has contracted,
    up to its sign.
    """
    count = len(frames)
    near = tuple(slice(max(round(c - REACH_MM / s), 0), round(c + REACH_MM / s)) for c, s in zip(centre, spacing_mm))
    region = frames[:, *near][:, ::2, ::2].astype(np.float32)
    inside = tuple((c - part.start) / 2 for c, part in zip(centre, near))
    spacing = (2 * spacing_mm[0], 2 * spacing_mm[1])
    region -= region.mean(axis=0)
    region *= _window(region[0], (inside[0], inside[1]), HEART_MM, spacing)
    # (frame, H * W) -> (frame, frame)
    flat = region.reshape(count, -1)
    spectrum = np.fft.rfft(np.linalg.eigh(flat @ flat.T)[1][:, -1])
    spectrum[0], spectrum[5:] = 0, 0
    return np.asarray(np.fft.irfft(spectrum, n=count), dtype=np.float32)


def fullest_frame(frames: NDArray[Any], centre: tuple[float, float], spacing_mm: tuple[float, float]) -> int:
    """Index of end-diastole: 0 by the convention of the trigger, unless the motion proves otherwise.

    A heart rests in diastole and only passes through systole: over the frames, contraction is skewed towards its
    systolic end. Frame 0 stands where it lies on the diastolic half, or where the skewness is below 0.2 and proves
    nothing; else end-diastole is the last rise before systole.
    """
    path = contraction(frames, centre, spacing_mm)
    spread = float(path.std())
    skewness = float((path**3).mean()) / spread**3 if spread > 0 else 0.0
    if abs(skewness) < MIN_SKEWNESS:
        return 0
    filling = -path * np.sign(skewness)
    half = (filling.min() + filling.max()) / 2
    if filling[0] >= half:
        return 0
    # Backwards from end-systole, frame after frame, to the top of the first rise above half.
    before = np.roll(filling, -int(filling.argmin()) - 1)[::-1]
    tops = (i for i in range(len(before) - 1) if before[i] >= half and before[i + 1] <= before[i])
    top = next(tops, len(before) - 1)
    return (int(filling.argmin()) - top) % len(filling)
