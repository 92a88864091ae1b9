"""Similarity of cines and of their features: SSIM, PSNR, temporal smoothness, Frechet distance, retrieval ranks.

Cines are uint8 (..., frame, H, W), range 0-255. SSIM: Gaussian kernel of 11 x 11 pixels, sigma 1.5, K1 = 0.01,
K2 = 0.03, range 255, mean over the pixels whose kernel lies inside the image (Wang et al., IEEE Trans Image Process
2004;13:600).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from cardionets.config import StudyError
from cardionets.evaluate.estimate import Floats, NotEstimableError

RANGE: Final = 255.0
MIDDLE: Final = 127.5
RADIUS: Final = 5
SIGMA: Final = 1.5
SSIM_SETTINGS: Final = f"SSIM: {2 * RADIUS + 1} x {2 * RADIUS + 1} Gaussian, sigma {SIGMA}, range {RANGE:.0f}"
Images = NDArray[Any]


def _check(real: Images, made: Images) -> None:
    if real.shape != made.shape or real.ndim < 2:
        raise StudyError(f"cines: shapes {real.shape} and {made.shape} differ; bring both to the store's grid.")


@cache
def _band(length: int) -> Floats:
    """The Gaussian at every place where it fits whole: (length - 2 RADIUS, length)."""
    offsets = np.arange(length) - np.arange(RADIUS, length - RADIUS)[:, None]
    weights = np.where(abs(offsets) <= RADIUS, np.exp(-0.5 * (offsets / SIGMA) ** 2), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _blur(image: Floats) -> Floats:
    """Filtered images (..., H, W) -> (..., H - 2 RADIUS, W - 2 RADIUS); as matrix products."""
    height, width = image.shape[-2:]
    down, across = (_band(side).astype(image.dtype) for side in (height, width))
    return np.asarray(down @ (image @ across.T))


def ssim(real: Images, made: Images) -> Floats:
    """Structural similarity of each image: (..., H, W) and (..., H, W) -> (...); 1 is identity.

    In single precision about the middle of the range: within 1e-6 of double precision, in half the time.
    """
    _check(real, made)
    if min(real.shape[-2:]) <= 2 * RADIUS:
        raise StudyError(f"cines: {real.shape[-2:]} pixels are too few for an {2 * RADIUS + 1} pixel kernel.")
    x, y = (image.astype(np.float32) - MIDDLE for image in (real, made))
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    mx, my = _blur(x), _blur(y)
    # only the sum of both variances is needed; it and the covariance do not depend on the zero of the grey scale
    spread, cov = _blur(x * x + y * y) - mx * mx - my * my, _blur(x * y) - mx * my
    mx, my = mx + MIDDLE, my + MIDDLE
    similarity = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (spread + c2))
    return np.asarray(similarity.mean(axis=(-2, -1), dtype=np.float64))


def psnr(real: Images, made: Images) -> Floats:
    """Peak signal-to-noise ratio in dB over range 255: (..., H, W) -> (...); infinite for identical images."""
    _check(real, made)
    error = ((real.astype(np.float64) - made) ** 2).mean(axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(RANGE**2 / error))


def cine_psnr(real: Images, made: Images) -> Floats:
    """:func:`psnr` over all frames of each cine: (..., frame, H, W) -> (...)."""
    _check(real, made)
    difference = np.subtract(real, made, dtype=np.float32)
    error = _product(difference, difference) / math.prod(real.shape[-3:])
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(RANGE**2 / error))


def mean_absolute_error(real: Images, made: Images) -> Floats:
    """Mean absolute difference in grey levels of each image: (..., H, W) -> (...)."""
    _check(real, made)
    return np.asarray(np.abs(real.astype(np.float64) - made).mean(axis=(-2, -1)))


def _steps(cine: Images) -> NDArray[np.float32]:
    """Change from each frame to the next, from the last to the first: (..., frame, H, W) -> same; exact for uint8."""
    out = np.empty(cine.shape, np.float32)
    np.subtract(cine[..., 1:, :, :], cine[..., :-1, :, :], out=out[..., :-1, :, :], dtype=np.float32)
    np.subtract(cine[..., 0, :, :], cine[..., -1, :, :], out=out[..., -1, :, :], dtype=np.float32)
    return out


def _product(x: NDArray[np.float32], y: NDArray[np.float32], axes: int = 3) -> Floats:
    """Sum of x y over the last ``axes`` axes, without writing the product down."""
    kept = x.shape[: x.ndim - axes]
    return np.asarray(np.vecdot(x.reshape(*kept, -1), y.reshape(*kept, -1)), np.float64)


def temporal_roughness(cine: Images) -> Floats:
    """Second difference over the cycle relative to the first, (..., frame, H, W) -> (...); lower is smoother.

    The cycle is closed: the last frame precedes the first. A still cine has no motion to be smooth, and gives NaN.
    """
    return _roughness(_steps(cine))


def _roughness(first: NDArray[np.float32]) -> Floats:
    second = _steps(first)
    steps, bends = (np.sqrt(_product(d, d)) for d in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(steps > 0, bends / steps, np.nan))


def cycle_closing(cine: Images) -> Floats:
    """Step from the last frame back to the first relative to the median step, (..., frame, H, W) -> (...).

    About 1 where the cycle closes; far above where the beat ends elsewhere than it began. A still cine gives NaN.
    """
    return _closing(_steps(cine))


def _closing(first: NDArray[np.float32]) -> Floats:
    steps = np.sqrt(_product(first, first, 2))  # (..., frame)
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = np.median(steps, axis=-1)
        return np.asarray(np.where(usual > 0, steps[..., -1] / usual, np.nan))


def spread_and_error(real: Images, mean: Images, spread: Images, samples: int) -> tuple[Floats, Floats]:
    """Does doubt tell error? Of cines (n, frame, H, W): correlation over pixels, and ratio of their sizes, each (n,).

    ``spread`` is the SD of ``samples`` drawn cines about their ``mean``; the error is |real - mean|. The ratio is
    RMS error over RMS spread, corrected for the noise of a mean of few: 1 is calibrated, above 1 is overconfident
    (Fortin et al., J Hydrometeorol 2014;15:1708).
    """
    error = np.abs(real.astype(np.float64) - mean).reshape(len(real), -1)
    doubt = spread.astype(np.float64).reshape(len(real), -1)
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (error, doubt))
    expected = np.sqrt((doubt**2).mean(axis=1) * (samples + 1) / (samples - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
        return r, np.where(expected > 0, np.sqrt((error**2).mean(axis=1)) / expected, np.nan)


def motion_similarity(real: Images, made: Images) -> Floats:
    """Correlation of the frame-to-frame changes of two cines (..., frame, H, W) -> (...); 1 is the same motion."""
    _check(real, made)
    return _similarity(_steps(real), _steps(made))


def _similarity(x: NDArray[np.float32], y: NDArray[np.float32]) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_product(x, y) / np.sqrt(_product(x, x) * _product(y, y)))


def dynamics(real: Images, made: Images) -> dict[str, Floats]:
    """Motion similarity of both cines, roughness and closing of the second, from one look at their steps."""
    _check(real, made)
    x, y = _steps(real), _steps(made)
    return {"motion": _similarity(x, y), "roughness": _roughness(y), "closing": _closing(y)}


def frechet_distance(real: Floats, made: Floats) -> float:
    """Frechet distance of two sets of features (n, d) as normal distributions. Heusel et al., NeurIPS 2017.

    It falls with n: compare only at equal n and with the same feature extractor. At least d + 1 items each are needed.
    """
    if min(len(real), len(made)) <= real.shape[1]:
        raise NotEstimableError(f"{min(len(real), len(made))} items are too few for {real.shape[1]} features")
    mean = real.mean(axis=0) - made.mean(axis=0)
    a, b = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    values = np.clip(linalg.eigvals(a @ b).real, 0, None)  # the square root's trace needs eigenvalues only
    return float(max(0.0, mean @ mean + np.trace(a) + np.trace(b) - 2 * np.sqrt(values).sum()))


def retrieval_ranks(queries: Floats, gallery: Floats) -> NDArray[np.int64]:
    """Rank (n,) from 1 of each query's partner by cosine similarity: queries (n, d), gallery (m >= n, d), same row.

    Ties count against the model: everybody at least as similar as the partner ranks before it.
    """
    q, g = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, gallery))
    similarity = q @ g.T  # (n, m)
    own = similarity[np.arange(len(q)), np.arange(len(q))]
    return np.asarray((similarity >= own[:, None]).sum(axis=1))
