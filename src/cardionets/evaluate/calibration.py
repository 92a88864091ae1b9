"""Calibration of predicted risks: intercept, slope, O/E, Brier, flexible curve, ICI; recalibration per centre.

Sources: Van Calster et al., BMC Med 2019;17:230 (intercept, slope, curves); Debray et al., BMJ 2017;356:i6460 (O/E);
Austin & Steyerberg, Stat Med 2019;38:4051 (ICI); Murphy, J Appl Meteorol 1973;12:595 (Brier decomposition).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtri, expit, logit

from cardionets.evaluate.bootstrap import clustered_mean, person_codes, person_sums, resample_sums
from cardionets.evaluate.discrimination import Bools, require_classes
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, wald, wald_log, z_value

EDGE = 1e-6  # risks of exactly 0 or 1 have no log-odds; they are held this far from the edge
DRAWN, READ = 400, 100  # curves, and risks at which each is read, behind the interval of the ICI


def log_odds(risk: Floats) -> Floats:
    """Log-odds of risks clipped to [EDGE, 1 - EDGE]."""
    return np.asarray(logit(np.clip(risk, EDGE, 1 - EDGE)))


def logistic(
    labels: Bools, design: Floats, offset: Floats, persons: NDArray[Any] | None = None
) -> tuple[Floats, Floats]:
    """Maximum-likelihood coefficients (q,) and covariance (q, q) of a small logistic model by Newton's method.

    design (n, q); the covariance is the sandwich clustered by person, or the inverse information without ``persons``.
    """
    beta: Floats = np.zeros(design.shape[1])
    fit = _log_likelihood(labels, design @ beta + offset)
    for _ in range(60):
        mean = expit(design @ beta + offset)
        information = design.T @ (design * (mean * (1 - mean))[:, None])
        if np.linalg.cond(information) > 1e12:
            raise NotEstimableError("the predictions do not vary or separate the classes")
        step = np.linalg.solve(information, design.T @ (labels - mean))
        if np.abs(design @ step).max() < 1e-8:
            return beta, _covariance(information, design * (labels - mean)[:, None], persons)
        beta, fit = _climb(labels, design, offset, beta, step, fit)
    raise NotEstimableError("the logistic fit does not converge: the predictions separate the classes")


def _log_likelihood(labels: Bools, linear: Floats) -> float:
    return float((labels * linear - np.logaddexp(0, linear)).sum())


def _climb(
    labels: Bools, design: Floats, offset: Floats, beta: Floats, step: Floats, fit: float
) -> tuple[Floats, float]:
    """The Newton step, halved until the likelihood does not fall."""
    for _ in range(30):
        higher = _log_likelihood(labels, design @ (beta + step) + offset)
        if higher >= fit - 1e-9:
            return beta + step, higher
        step = step / 2
    return beta + step, fit


def _covariance(information: Floats, score: Floats, persons: NDArray[Any] | None) -> Floats:
    inverse = np.linalg.inv(information)
    if persons is None:
        return inverse
    codes, people = person_codes(persons)
    if people < 2:
        raise NotEstimableError("all records belong to one person")
    summed = person_sums(score, codes, people)
    return np.asarray(inverse @ (summed.T @ summed) @ inverse * people / (people - 1))


def intercept(labels: Bools, risk: Floats, level: float = 0.95, persons: NDArray[Any] | None = None) -> Estimate:
    """Calibration-in-the-large: shift of the log-odds with slope fixed at 1; 0 is ideal."""
    require_classes(labels)
    beta, covariance = logistic(labels, np.ones((len(labels), 1)), log_odds(risk), persons)
    return wald(float(beta[0]), float(covariance[0, 0]) ** 0.5, level)


def slope(labels: Bools, risk: Floats, level: float = 0.95, persons: NDArray[Any] | None = None) -> Estimate:
    """Calibration slope: coefficient of the log-odds; 1 is ideal, below 1 is overfitted."""
    require_classes(labels)
    lp = log_odds(risk)
    if np.ptp(lp) < 1e-9:
        raise NotEstimableError("the predictions are constant")
    beta, covariance = logistic(labels, np.column_stack([np.ones(len(lp)), lp]), np.zeros(len(lp)), persons)
    return wald(float(beta[1]), float(covariance[1, 1]) ** 0.5, level)


def observed_expected(
    labels: Bools, risk: Floats, level: float = 0.95, persons: NDArray[Any] | None = None
) -> Estimate:
    """Observed / expected events with an interval on the log scale; 1 is ideal."""
    require_classes(labels)
    observed, expected, n = float(labels.sum()), float(risk.sum()), len(labels)
    if expected <= 0:
        raise NotEstimableError("no events are expected")
    codes, people = person_codes(np.arange(n) if persons is None else persons)
    residual = person_sums(labels - observed / n, codes, people)
    variance = float((residual**2).sum()) / observed**2  # = (1 - prevalence) / observed for one record per person
    return wald_log(observed / expected, variance**0.5, level)


def brier(labels: Bools, risk: Floats) -> float:
    """Mean squared difference of risk and outcome; 0 is ideal."""
    if labels.size == 0:
        raise NotEstimableError("nobody has both a label and a prediction")
    return float(np.mean((risk - labels) ** 2))


def brier_parts(
    labels: Bools,
    risk: Floats,
    bins: int = 10,
    persons: NDArray[Any] | None = None,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Murphy's decomposition over risk bins: reliability - resolution + uncertainty + within_bins is the Brier score.

    Chance alone makes reliability and resolution positive; that bias is estimated by a bootstrap of persons and taken
    off (Ferro & Fricker, Q J R Meteorol Soc 2012;138:1954), so that without any the estimate lies about 0, on either
    side. Intervals are normal with the bootstrap's standard errors; the bins stay those of the people at hand.
    """
    require_classes(labels)
    bin_of = _quantile_bins(risk, bins)
    names = np.unique(bin_of)
    inside = (bin_of[:, None] == names).astype(float)  # (n, bin)
    cells = np.stack([inside, inside * labels[:, None], inside * risk[:, None]], axis=-1)  # people, events, risk
    codes, people = person_codes(np.arange(len(labels)) if persons is None else persons)
    score = np.repeat((risk - labels)[:, None, None] ** 2, 3, axis=2)  # (n, 1, 3)
    sums = person_sums(np.concatenate([cells, score], axis=1), codes, people)  # (person, bin + 1, 3)
    drawn = _murphy(resample_sums(sums, replicates, seed))
    found = {}
    for name, value in _murphy(sums.sum(axis=0)).items():
        kept = drawn[name][np.isfinite(drawn[name])]
        found[name] = wald(float(2 * value - kept.mean()), float(kept.std(ddof=1)), level)
    return found


def _murphy(sums: Floats) -> dict[str, Floats]:
    """Parts of the Brier score from sums (..., bin + 1, 3), of which the last row is the score itself."""
    count, events, risk = np.moveaxis(sums[..., :-1, :], -1, 0)  # (..., bin)
    n = count.sum(axis=-1)
    filled = np.maximum(count, 1)
    share, base = count / n[..., None], events.sum(axis=-1) / n
    parts = {
        "reliability": (share * ((risk - events) / filled) ** 2).sum(axis=-1),
        "resolution": (share * (events / filled - base[..., None]) ** 2).sum(axis=-1),
        "uncertainty": base * (1 - base),
    }
    whole = sums[..., -1, 0] / n
    return parts | {"within_bins": whole - parts["reliability"] + parts["resolution"] - parts["uncertainty"]}


def _quantile_bins(risk: Floats, bins: int) -> NDArray[np.int64]:
    edges = np.unique(np.quantile(risk, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, risk, side="right")


def deciles(labels: Bools, risk: Floats, bins: int = 10, level: float = 0.95) -> pd.DataFrame:
    """Mean risk, observed share and its Wilson interval per risk bin: predicted, observed, lower, upper, n."""
    frame = pd.DataFrame({"predicted": risk, "observed": labels.astype(float)}).groupby(_quantile_bins(risk, bins))
    table = frame.mean().assign(n=frame.size())
    z2 = z_value(level) ** 2
    centre = (table["observed"] + z2 / (2 * table["n"])) / (1 + z2 / table["n"])
    spread = table["observed"] * (1 - table["observed"]) / table["n"] + z2 / (4 * table["n"] ** 2)
    half = np.sqrt(z2 * spread) / (1 + z2 / table["n"])
    return table.assign(lower=(centre - half).clip(0, 1), upper=(centre + half).clip(0, 1)).reset_index(drop=True)


def _spline(x: Floats, knots: Floats) -> Floats:
    """Natural cubic spline basis (n, knots), linear in the tails. Harrell, Regression Modeling Strategies, 2.4."""
    last, before = knots[-1], knots[-2]
    span = (last - knots[0]) ** 2

    def cube(value: Floats) -> Floats:
        return np.maximum(value, 0) ** 3

    bends = [
        (
            cube(x - k)
            - cube(x - before) * (last - k) / (last - before)
            + cube(x - last) * (before - k) / (last - before)
        )
        / span
        for k in knots[:-2]
    ]
    return np.column_stack([np.ones_like(x), x, *bends])


def flexible_curve(labels: Bools, risk: Floats) -> Callable[[Floats], Floats]:
    """Observed risk as a smooth function of predicted risk: logistic regression on a natural spline of the log-odds.

    Four knots at the 5, 35, 65 and 95 % quantiles, as long as every coefficient rests on ten or more events and
    non-events; then three knots (10, 50, 90 %), and with fewer than 30 events a straight line of the log-odds. Returns
    a function of risk.
    """
    knots, beta, _ = _fitted_curve(labels, risk)
    return lambda wanted: np.asarray(expit(_spline(log_odds(wanted), knots) @ beta))


def _fitted_curve(labels: Bools, risk: Floats, persons: NDArray[Any] | None = None) -> tuple[Floats, Floats, Floats]:
    """Knots (k,), coefficients (k,) and their covariance (k, k) of the flexible curve."""
    require_classes(labels)
    lp = log_odds(risk)
    if np.ptp(lp) < 1e-9:
        raise NotEstimableError("the predictions are constant")
    fewer = int(min(labels.sum(), (~labels).sum()))
    wanted = [0.05, 0.35, 0.65, 0.95] if fewer >= 40 else [0.1, 0.5, 0.9] if fewer >= 30 else [0.0, 1.0]
    knots = np.unique(np.quantile(lp, wanted))
    if len(knots) < 3 and fewer >= 30:
        knots = np.linspace(lp.min(), lp.max(), 3)
    return knots, *logistic(labels, _spline(lp, knots), np.zeros(len(lp)), persons)


def ici(labels: Bools, risk: Floats, level: float = 0.95, persons: NDArray[Any] | None = None) -> Estimate:
    """Integrated calibration index: mean absolute distance of predicted risk from the flexible curve; 0 is ideal.

    Percentiles over curves drawn from the normal distribution of the coefficients (Mandel, Am Stat 2013;67:76). A
    distance is never negative, so such draws exclude 0 even where it is true: the lower bound is 0 where a Wald test
    at ``level`` does not tell the curve from perfect calibration.
    """
    knots, beta, covariance = _fitted_curve(labels, risk, persons)
    gap = np.abs(risk - expit(_spline(log_odds(risk), knots) @ beta))
    rng = np.random.default_rng(0)
    some = np.quantile(risk, (np.arange(READ) + 0.5) / READ)
    curves = expit(_spline(log_odds(some), knots) @ rng.multivariate_normal(beta, covariance, DRAWN).T)  # (risk, draw)
    who = clustered_mean(gap, np.arange(len(gap)) if persons is None else persons, level)
    spread = (who.upper - who.value) / z_value(level) * rng.normal(size=DRAWN)
    lower, upper = np.quantile(np.abs(some[:, None] - curves).mean(axis=0) + spread, [(1 - level) / 2, (1 + level) / 2])
    away = beta - np.eye(len(beta))[1]  # perfect: the log-odds themselves
    apart = away @ np.linalg.pinv(covariance, hermitian=True) @ away > chdtri(len(beta), 1 - level)
    known = min(max(float(lower), 0.0), who.value) if apart else 0.0
    return Estimate(who.value, known, max(float(upper), who.value))


Recalibration = Literal["intercept", "intercept_slope", "isotonic"]


def coefficients(labels: Bools, risk: Floats, method: Literal["intercept", "intercept_slope"]) -> tuple[float, float]:
    """Intercept and slope on the log-odds of ``risk`` (n,) that fit ``labels`` (n,); a shift alone has the slope 1."""
    require_classes(labels)
    lp, ones = log_odds(risk), np.ones(len(labels))
    if method == "intercept":
        shift, _ = logistic(labels, ones[:, None], lp)
        return float(shift[0]), 1.0
    beta, _ = logistic(labels, np.column_stack([ones, lp]), np.zeros(len(lp)))
    return float(beta[0]), float(beta[1])


@dataclass(frozen=True, slots=True)
class Recalibrator:
    """A map from risk to risk, fitted on one centre's own people and applied to others of it."""

    transform: Callable[[Floats], Floats]

    @classmethod
    def fit(cls, labels: Bools, risk: Floats, method: Recalibration) -> Recalibrator:
        """Fit on boolean labels (n,) and risks (n,). Never evaluate on the same people."""
        if method != "isotonic":
            line = coefficients(labels, risk, method)
            return cls(lambda wanted: np.asarray(expit(line[0] + line[1] * log_odds(wanted))))
        from scipy.optimize import isotonic_regression

        require_classes(labels)
        steps, place, size = np.unique(risk, return_inverse=True, return_counts=True)
        share = np.bincount(place, labels) / size  # equal risks get one value
        level = isotonic_regression(share, weights=size).x
        return cls(lambda wanted: np.asarray(np.interp(wanted, steps, level)))


def recalibrated(
    labels: Bools, risk: Floats, method: Recalibration, persons: NDArray[Any], folds: int = 5, seed: int = 0
) -> Floats:
    """Risks (n,) recalibrated by cross-fitting over persons: nobody's own outcome moves their own risk."""
    codes, people = person_codes(persons)
    fold = np.random.default_rng(seed).permutation(people)[codes] % folds
    updated = np.empty(len(risk))
    for k in range(folds):
        held = fold == k
        if held.any():
            updated[held] = Recalibrator.fit(labels[~held], risk[~held], method).transform(risk[held])
    return updated
