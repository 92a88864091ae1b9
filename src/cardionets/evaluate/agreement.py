"""Agreement of two or more measurements of the same people: Bland-Altman, ICC, CCC, kappa."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, wald, z_value


@dataclass(frozen=True, slots=True)
class Limits:
    """Bias and 95 % limits of agreement, each with its confidence interval."""

    bias: Estimate
    lower: Estimate
    upper: Estimate
    sd: float
    n: int


def bland_altman(first: Floats, second: Floats, level: float = 0.95) -> Limits:
    """Limits of agreement of first - second (n,). Bland & Altman, Lancet 1986;327:307; limits' variance ~ 3 s2 / n."""
    difference = np.asarray(first, dtype=np.float64) - second
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n < 3:
        raise NotEstimableError(f"{n} pairs are too few (3 are needed)")
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    quantile = float(stdtrit(n - 1, 0.5 + level / 2))
    se, se_limit = sd / n**0.5, sd * (3 / n) ** 0.5

    def around(centre: float, error: float) -> Estimate:
        return Estimate(centre, centre - quantile * error, centre + quantile * error)

    return Limits(around(mean, se), around(mean - 1.96 * sd, se_limit), around(mean + 1.96 * sd, se_limit), sd, n)


def mean_squares(ratings: Floats) -> tuple[float, float, float]:
    """Mean squares (between people, between raters, error) of a complete table (people n, raters k)."""
    n, k = ratings.shape
    grand, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    between = k * ((rows - grand) ** 2).sum() / (n - 1)
    raters = n * ((columns - grand) ** 2).sum() / (k - 1)
    error = ((ratings - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return float(between), float(raters), float(error)


def icc21(ratings: Floats, level: float = 0.95) -> Estimate:
    """ICC(2,1), absolute agreement of single ratings (n, k), two-way random. Shrout & Fleiss, Psychol Bull 1979;86:420.

    The interval is McGraw & Wong's (Psychol Methods 1996;1:30).
    """
    n, k = ratings.shape
    if n < 2 or k < 2 or not np.isfinite(ratings).all():
        raise NotEstimableError("two complete ratings of two people are the least that is needed")
    between, raters, error = mean_squares(ratings)
    total = between + (k - 1) * error + k * (raters - error) / n
    if total <= 0 or error <= 0:
        raise NotEstimableError("the ratings do not vary")
    value = (between - error) / total
    a, b = k * value / (n * (1 - value)), 1 + k * value * (n - 1) / (n * (1 - value))
    df = (a * raters + b * error) ** 2 / ((a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    tail = 0.5 + level / 2
    low, high = fdtri(n - 1, df, tail), fdtri(df, n - 1, tail)
    spread = k * raters + (k * n - k - n) * error
    lower = n * (between - low * error) / (low * spread + n * between)
    upper = n * (high * between - error) / (spread + n * high * between)
    return Estimate(value, float(lower), float(upper))


def ccc(truth: Floats, predicted: Floats, level: float = 0.95) -> Estimate:
    """Lin's concordance correlation with its z-scale interval. Lin, Biometrics 1989;45:255 (corrected 2000;56:324)."""
    n = len(truth)
    sy, sp = truth.std(), predicted.std()
    if n < 4 or sy == 0 or sp == 0:
        raise NotEstimableError("fewer than 4 people, or no variation")
    r = float(np.corrcoef(truth, predicted)[0, 1])
    gap = (truth.mean() - predicted.mean()) / np.sqrt(sy * sp)
    value = float(2 * r * sy * sp / (sy**2 + sp**2 + (truth.mean() - predicted.mean()) ** 2))
    if abs(value) >= 1 or r == 0:
        return Estimate(value, note="interval not estimable: because the agreement is perfect or absent")
    spread = (1 - r**2) * value**2 / ((1 - value**2) * r**2)
    spread += 2 * value**3 * (1 - value) * gap**2 / (r * (1 - value**2) ** 2)
    spread -= value**4 * gap**4 / (2 * r**2 * (1 - value**2) ** 2)
    half = z_value(level) * np.sqrt(max(spread, 0.0) / (n - 2))
    return Estimate(value, float(np.tanh(np.arctanh(value) - half)), float(np.tanh(np.arctanh(value) + half)))


def kappa(first: NDArray[Any], second: NDArray[Any], level: float = 0.95) -> Estimate:
    """Cohen's kappa of two raters (n,), large-sample interval of Fleiss, Cohen & Everitt, Psychol Bull 1969;72:323."""
    classes, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    n, k = len(first), len(classes)
    if n == 0 or k < 2:
        raise NotEstimableError("the raters used one category only")
    table = np.bincount(codes[:n] * k + codes[n:], minlength=k * k).reshape(k, k) / n
    row, column = table.sum(axis=1), table.sum(axis=0)
    observed, chance = float(np.trace(table)), float(row @ column)
    value = (observed - chance) / (1 - chance)
    diagonal = (np.diag(table) * (1 - (row + column) * (1 - value)) ** 2).sum()
    off = table * (column[:, None] + row[None, :]) ** 2
    beyond = (1 - value) ** 2 * (off.sum() - np.trace(off))
    variance = (diagonal + beyond - (value - chance * (1 - value)) ** 2) / (n * (1 - chance) ** 2)
    return wald(value, float(max(variance, 0.0)) ** 0.5, level)


def fleiss_kappa(ratings: NDArray[Any], level: float = 0.95) -> Estimate:
    """Fleiss' kappa of many raters (people n, raters k). Fleiss, Psychol Bull 1971;76:378.

    The interval is normal with the jackknife's standard error over people (Efron & Stein, Ann Stat 1981;9:586): other
    people would be rated by the same raters.
    """
    classes, codes = np.unique(ratings, return_inverse=True)
    n, k = ratings.shape
    counts = np.stack([(codes.reshape(n, k) == c).sum(axis=1) for c in range(len(classes))], axis=1)  # (n, classes)
    if len(classes) < 2 or k < 2:
        raise NotEstimableError("the raters used one category only")
    pairs, used = ((counts**2).sum(axis=1) - k) / (k * (k - 1)), counts.sum(axis=0)
    value = float(_beyond_chance(pairs.mean(), used / (n * k)))
    others = np.maximum(n - 1, 1)
    left = _beyond_chance((pairs.sum() - pairs) / others, (used - counts) / (others * k))  # (n,)
    if n < 3 or not np.isfinite(left).all():
        return Estimate(value, note="interval not estimable: because one person decides which categories were used")
    return wald(value, float(np.sqrt((n - 1) * left.var())), level)


def _beyond_chance(observed: Floats | float, shares: Floats) -> Floats:
    """Kappa from the observed agreement (...) and the shares of the categories (..., classes)."""
    chance = (shares**2).sum(axis=-1)
    with np.errstate(all="ignore"):
        return np.asarray((observed - chance) / (1 - chance))
