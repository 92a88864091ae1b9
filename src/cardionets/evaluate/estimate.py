"""What every statistic returns: a number with its interval, or a stated reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

Floats = NDArray[np.floating[Any]]


class NotEstimableError(ValueError):
    """The statistic does not exist for these data; the message completes "not estimable: because ..."."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence bounds; ``note`` says why a bound or the value is missing (then NaN)."""

    value: float
    lower: float = float("nan")
    upper: float = float("nan")
    note: str = ""


def not_estimable(reason: str) -> Estimate:
    """The empty estimate that carries its reason."""
    return Estimate(float("nan"), note=f"not estimable: because {reason}")


@cache
def z_value(level: float) -> float:
    """Two-sided standard normal quantile, 1.96 for 0.95."""
    return float(ndtri(0.5 + level / 2))


def wald(value: float, se: float, level: float) -> Estimate:
    """Symmetric normal interval."""
    half = z_value(level) * se
    return Estimate(value, value - half, value + half)


def wald_logit(value: float, se: float, level: float) -> Estimate:
    """Normal interval on the logit scale (delta method), back-transformed: it stays within 0-1 and pools without loss.

    At 0 or 1 the scale ends, and the interval is stated to be missing.
    """
    if not 0 < value < 1 or se <= 0:
        return Estimate(
            value, note="interval not estimable: because the estimate lies on its boundary or does not vary"
        )
    half = z_value(level) * se / (value * (1 - value))
    centre = logit(value)
    return Estimate(value, float(expit(centre - half)), float(expit(centre + half)))


def mean_of_two(one: Estimate, two: Estimate) -> Estimate:
    """Mean of two independent estimates; half-widths add in squares on each side (Newcombe, Stat Med 1998;17:873)."""
    value = (one.value + two.value) / 2
    low = np.hypot(one.value - one.lower, two.value - two.lower) / 2
    high = np.hypot(one.upper - one.value, two.upper - two.value) / 2
    return Estimate(value, float(value - low), float(value + high), one.note or two.note)


def wald_log(value: float, se_log: float, level: float) -> Estimate:
    """Normal interval on the log scale, for ratios."""
    half = z_value(level) * se_log
    return Estimate(value, float(value * np.exp(-half)), float(value * np.exp(half)))


def fisher(r: float, se_z: float, level: float) -> Estimate:
    """Interval of a correlation, symmetric on Fisher's z scale."""
    if abs(r) >= 1:
        return Estimate(r, note="interval not estimable: because the correlation is perfect")
    half = z_value(level) * se_z
    return Estimate(r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))


def percentile(value: float, replicates: Any, level: float) -> Estimate:
    """Percentile bootstrap interval; replicates that could not be computed are dropped.

    When a fifth or more are missing the interval is stated to be missing.
    """
    kept = np.asarray(replicates, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if len(kept) < 0.8 * np.size(replicates) or len(kept) == 0:
        return Estimate(
            value, note="interval not estimable: because too many bootstrap samples lack a class or variation"
        )
    lower, upper = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(lower), float(upper))


def two_sided_p(z: float) -> float:
    """P value of a standard normal statistic."""
    return float(2 * ndtr(-abs(z)))
