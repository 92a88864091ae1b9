"""Scales on which a measure is close to normal, for bootstrap intervals and for pooling centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from cardionets.evaluate.estimate import Estimate, Floats, not_estimable, z_value


@dataclass(frozen=True, slots=True)
class Scale:
    """A monotone transformation and its inverse."""

    name: str
    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]

    def holds(self, estimate: Estimate) -> bool:
        """Whether a value and its bounds lie within the scale, its ends excluded."""
        with np.errstate(all="ignore"):
            ends = self.forward(np.array([estimate.value, estimate.lower, estimate.upper]))
        return bool(np.isfinite(ends).all())


IDENTITY: Final = Scale("identity", lambda x: x, lambda x: x)
LOGIT: Final = Scale("logit", logit, expit)
LOG: Final = Scale("log", np.log, np.exp)
FISHER: Final = Scale("fisher z", np.arctanh, np.tanh)
LOG_REST: Final = Scale("log(1 - x)", lambda x: np.log1p(-x), lambda z: -np.expm1(z))
SCALES: Final[dict[str, Scale]] = {
    "auc": LOGIT,
    "macro_auc": LOGIT,
    "auprc": LOGIT,
    "sensitivity": LOGIT,
    "specificity": LOGIT,
    "r": FISHER,
    "ccc": FISHER,
    "r2": LOG_REST,
    "mae": LOG,
    "oe": LOG,
    "calibration_slope": IDENTITY,
    "calibration_intercept": IDENTITY,
    "mean_r2": IDENTITY,
    "mean_r": IDENTITY,
}


def bootstrap_interval(value: float, replicates: Floats, level: float, scale: Scale) -> Estimate:
    """:func:`bootstrap_intervals` of one estimate with replicates (B,)."""
    return bootstrap_intervals(np.array([value]), np.asarray(replicates)[:, None], level, scale)[0]


def bootstrap_intervals(values: Floats, replicates: Floats, level: float, scale: Scale) -> list[Estimate]:
    """Normal intervals on ``scale`` around estimates (E,), with the standard errors of the replicates (B, E).

    Centred on the estimate, they do not count the bootstrap's small-sample bias twice, as percentiles do. Where more
    than a fifth of the replicates do not exist the estimate is "not estimable".
    """
    with np.errstate(all="ignore"):
        centre = scale.forward(np.asarray(values, dtype=np.float64))
        error = standard_errors(scale.forward(np.asarray(replicates, dtype=np.float64)))
        half = z_value(level) * error
        bounds = np.sort([scale.inverse(centre - half), scale.inverse(centre + half)], axis=0)  # (2, E)
    return [_bounded(*each) for each in zip(values, *bounds, np.isfinite(error), np.isfinite(centre))]


def standard_errors(replicates: Floats) -> Floats:
    """Standard errors (E,) from the finite ones of replicates (B, E); NaN where more than a fifth does not exist."""
    finite = np.isfinite(replicates)
    kept = finite.sum(axis=0)
    with np.errstate(all="ignore"):
        mean = np.where(finite, replicates, 0.0).sum(axis=0) / kept
        variance = (np.where(finite, replicates - mean, 0.0) ** 2).sum(axis=0) / (kept - 1)
    return np.where(kept >= max(2, 0.8 * len(replicates)), np.sqrt(variance), np.nan)


def _bounded(value: float, lower: float, upper: float, enough: bool, inside: bool) -> Estimate:
    if not enough:
        return not_estimable("too many bootstrap samples lack variation")
    if not inside:
        return Estimate(float(value), note="interval not estimable: because the estimate lies on the edge of its scale")
    return Estimate(float(value), float(lower), float(upper))
