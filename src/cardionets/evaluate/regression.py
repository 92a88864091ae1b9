"""Regression of many phenotypes at once, from per-person sums, so that 82 x 1,000 bootstraps are one matrix product.

R2 is 1 - SSE / SST about the mean of the people evaluated, and may be negative; it is never a squared correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cardionets.evaluate.bootstrap import person_codes, person_sums, resample_sums
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, z_value

SUMS = ("n", "y", "p", "yy", "pp", "yp", "abs")
METRICS = ("r2", "r", "mae", "bias", "slope", "ccc")


@dataclass(frozen=True, slots=True)
class Moments:
    """Per-person sums (P, 7, E) of standardised truth and prediction, with the shift and scale (E,) that undo it."""

    sums: Floats
    scale: Floats

    @classmethod
    def of(cls, truth: Floats, predicted: Floats, persons: NDArray[Any]) -> Moments:
        """From truth and prediction (n, endpoint E), NaN where unknown, and the person of each record (n,)."""
        known = np.isfinite(truth) & np.isfinite(predicted)
        count = np.maximum(known.sum(axis=0), 1)
        shift = np.where(known, truth, 0.0).sum(axis=0) / count
        y, p = np.where(known, truth - shift, 0.0), np.where(known, predicted - shift, 0.0)
        spread = np.sqrt((y**2).sum(axis=0) / count)
        floor = 1e-9 * np.maximum(np.abs(shift), 1e-30)  # a constant is a constant, whatever its rounding
        scale = np.where(spread > floor, spread, 1.0)
        y, p = np.where(spread > floor, y, 0.0) / scale, p / scale
        stacked = np.stack([known.astype(np.float64), y, p, y * y, p * p, y * p, np.abs(y - p)], axis=1)  # (n, 7, E)
        codes, people = person_codes(persons)
        return cls(person_sums(stacked, codes, people), scale)

    def scores(self, totals: Floats | None = None) -> dict[str, Floats]:
        """Metrics (..., E) from totals (..., 7, E); without totals, those of everybody."""
        return scores(self.sums.sum(axis=0) if totals is None else totals, self.scale)

    def bootstrap(self, replicates: int, seed: int) -> dict[str, Floats]:
        """Metrics (B, E) of each person-cluster replicate; one seed gives paired replicates for every arm."""
        return self.scores(resample_sums(self.sums, replicates, seed))


def scores(totals: Floats, scale: Floats) -> dict[str, Floats]:
    """R2, r, MAE, bias, slope of truth on prediction, Lin's CCC (Biometrics 1989;45:255); NaN where undefined."""
    n, y, p, yy, pp, yp, absolute = np.moveaxis(totals, -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        syy, spp, syp = yy - y * y / n, pp - p * p / n, yp - y * p / n
        syy, spp = (np.where(s > 1e-12 * n, s, np.nan) for s in (syy, spp))
        gap = (p - y) / n
        return {
            "r2": 1 - (yy - 2 * yp + pp) / syy,
            "r": np.clip(syp / np.sqrt(syy * spp), -1, 1),
            "mae": absolute / n * scale,
            "bias": gap * scale,
            "slope": syp / spp,
            "ccc": 2 * syp / (syy + np.where(np.isfinite(spp), spp, 0.0) + n * gap**2),
        }


def r_interval(r: float, n: int, level: float = 0.95) -> Estimate:
    """Pearson's r with Fisher's interval for independent people."""
    if n < 4:
        raise NotEstimableError(f"{n} people are too few (4 are needed)")
    half = z_value(level) / np.sqrt(n - 3)
    z = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    return Estimate(r, float(np.tanh(z - half)), float(np.tanh(z + half)))


def _dependence(r12: float, r13: float, r23: float) -> float:
    """Asymptotic correlation of z(r12) and z(r13), which share a variable. Pearson & Filon 1898; Steiger 1980 eq. 3."""
    psi = r23 * (1 - r12**2 - r13**2) - 0.5 * r12 * r13 * (1 - r12**2 - r13**2 - r23**2)
    return psi / ((1 - r12**2) * (1 - r13**2))


def steiger(r12: float, r13: float, r23: float, n: int) -> tuple[float, float]:
    """(z, p) for r12 = r13 in the same people: truth 1, predictions 2, 3. Steiger, Psychol Bull 1980;87:245, eq. 14."""
    mean = (r12 + r13) / 2
    s = _dependence(mean, mean, r23)
    z = (np.arctanh(r12) - np.arctanh(r13)) * np.sqrt((n - 3) / (2 - 2 * s))
    return float(z), float(2 * ndtr(-abs(z)))


def zou(r12: float, r13: float, r23: float, n: int, level: float = 0.95) -> Estimate:
    """r12 - r13 in the same people with an interval that keeps the skew of r. Zou, Psychol Methods 2007;12:399."""
    one, two = r_interval(r12, n, level), r_interval(r13, n, level)
    c = _dependence(r12, r13, r23)
    low = (r12 - one.lower) ** 2 + (two.upper - r13) ** 2 - 2 * c * (r12 - one.lower) * (two.upper - r13)
    high = (one.upper - r12) ** 2 + (r13 - two.lower) ** 2 - 2 * c * (one.upper - r12) * (r13 - two.lower)
    return Estimate(r12 - r13, r12 - r13 - max(low, 0.0) ** 0.5, r12 - r13 + max(high, 0.0) ** 0.5)
