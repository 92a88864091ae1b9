"""Scales on which a measure is close to normal, for bootstrap intervals and for pooling centres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.special import expit, logit

from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, z_value


@dataclass(frozen=True, slots=True)
class Scale:
    """A monotone transformation and its inverse."""

    name: str
    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]


IDENTITY: Final = Scale("identity", lambda x: x, lambda x: x)
LOGIT: Final = Scale("logit", logit, expit)
LOG: Final = Scale("log", np.log, np.exp)
FISHER: Final = Scale("fisher z", np.arctanh, np.tanh)
LOG_REST: Final = Scale("log(1 - x)", lambda x: np.log1p(-x), lambda z: -np.expm1(z))
SCALES: Final[dict[str, Scale]] = {
    "auc": LOGIT,
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
    """Normal interval on ``scale`` around the estimate, with the standard error of the replicates (B,).

    Centred on the estimate, it does not count the bootstrap's small-sample bias twice, as percentiles do.
    """
    with np.errstate(all="ignore"):
        spread = scale.forward(np.asarray(replicates, dtype=np.float64))
        centre = float(scale.forward(value))
    kept = spread[np.isfinite(spread)]
    if len(kept) < max(2, 0.8 * len(spread)):
        raise NotEstimableError("too many bootstrap samples lack variation")
    if not np.isfinite(centre):
        return Estimate(value, note="interval not estimable: because the estimate lies on the edge of its scale")
    half = z_value(level) * float(kept.std(ddof=1))
    bounds = [float(scale.inverse(centre - half)), float(scale.inverse(centre + half))]
    return Estimate(value, min(bounds), max(bounds))
