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


def motion_centre(motion: Float, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Mode (row, column) of a motion map (H, W), by mean shift from the middle of the image.

    Only motion above the map's 70th percentile counts, and no pixel more than the 99.5th, so that one bright vessel or
    an artefact at the edge does not decide.
    """
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


def fullest_frame(
    frames: NDArray[Any], motion: Float, centre: tuple[float, float], spacing_mm: tuple[float, float]
) -> int:
    """Index of end-diastole: 0 by the convention of the trigger, unless the motion proves otherwise.

    Blood is bright in a cine, so the light within the moving heart follows the size of its chambers. Frame 0 stands
    unless its light, smoothed to three harmonics, is less than half way from the least to the most of the cycle; then
    the frame of most light is taken.
    """
    count = len(frames)
    weight = motion * _window(motion, centre, 30.0, spacing_mm)
    spectrum = np.fft.rfft(frames.reshape(count, -1).astype(np.float32) @ weight.ravel())
    spectrum[4:] = 0
    light = np.fft.irfft(spectrum, n=count)
    return 0 if light[0] >= (light.min() + light.max()) / 2 else int(light.argmax())
