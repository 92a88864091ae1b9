"""Discrimination: DeLong for AUC, precision-recall, operating points chosen on validation, paired decisions.

Labels are boolean (n,), scores are any real numbers that rise with risk. Several ECGs of one person are allowed where
``persons`` is given. Functions raise `NotEstimableError` when the data do not determine the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, chdtrc

from cardionets.evaluate.bootstrap import person_codes, person_sums
from cardionets.evaluate.estimate import (
    Estimate,
    Floats,
    NotEstimableError,
    two_sided_p,
    wald,
    wald_log,
    wald_logit,
    z_value,
)

Bools = NDArray[np.bool_]
FEW: Final = 30
"""Persons of a class below which an AUC gets a score interval."""


def require_classes(labels: Bools) -> None:
    """Refuse labels that lack events or non-events."""
    if labels.size == 0:
        raise NotEstimableError("nobody has both a label and a prediction")
    if not labels.any():
        raise NotEstimableError("there are no events")
    if labels.all():
        raise NotEstimableError("everybody has the event")


def placements(labels: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """Structural components of the AUC from midranks, O(n log n). Sun & Xu, IEEE Signal Process Lett 2014;21:1389.

    scores (k, n) -> V10 (k, positives), V01 (k, negatives); the mean of each is the AUC.
    """
    positive, negative = scores[:, labels], scores[:, ~labels]
    ranks = midranks(scores)
    v10 = (ranks[:, labels] - midranks(positive)) / negative.shape[1]
    v01 = 1 - (ranks[:, ~labels] - midranks(negative)) / positive.shape[1]
    return v10, v01


def midranks(values: Floats) -> Floats:
    """Ranks from 1 along the last axis of (..., n); equal values share their mean rank."""
    rows = values.reshape(-1, values.shape[-1])
    return np.stack([pd.Series(row).rank().to_numpy() for row in rows]).reshape(values.shape)


def _scatter(left: Floats, right: Floats, clusters: int) -> Floats:
    if clusters < 2:
        return np.full((len(left), len(left)), np.nan)
    return clusters / (clusters - 1) * (left @ right.T)


def delong(labels: Bools, scores: Floats, persons: NDArray[Any] | None = None) -> tuple[Floats, Floats]:
    """AUCs (k,) of scores (k, n) or (n,) and their covariance (k, k).

    Independent records: DeLong et al., Biometrics 1988;44:837. With ``persons`` (n,), components are first summed
    within person: Obuchowski, Biometrics 1997;53:567; one record per person gives DeLong exactly.
    """
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    require_classes(labels)
    if not np.isfinite(scores).all():
        raise NotEstimableError("some scores are missing or infinite")
    v10, v01 = placements(labels, scores)
    auc = v10.mean(axis=1)
    d10, d01 = v10 - auc[:, None], v01 - auc[:, None]
    if persons is None:
        covariance = (
            _scatter(d10, d10, d10.shape[1]) / d10.shape[1] ** 2 + _scatter(d01, d01, d01.shape[1]) / d01.shape[1] ** 2
        )
        return auc, covariance
    return auc, _clustered(labels, d10, d01, persons)


def _clustered(labels: Bools, d10: Floats, d01: Floats, persons: NDArray[Any]) -> Floats:
    codes, people = person_codes(persons)
    positive, negative = codes[labels], codes[~labels]
    s10, s01 = person_sums(d10.T, positive, people).T, person_sums(d01.T, negative, people).T  # (k, P)
    m, n = len(positive), len(negative)
    cross = _scatter(s10, s01, people) / (m * n)
    diseased, healthy = len(np.unique(positive)), len(np.unique(negative))
    return _scatter(s10, s10, diseased) / m**2 + _scatter(s01, s01, healthy) / n**2 + cross + cross.T


def auc(
    labels: Bools, scores: Floats, level: float = 0.95, persons: NDArray[Any] | None = None, scale: str = "logit"
) -> Estimate:
    """AUC with DeLong interval on the ``logit`` scale, or the plain ``auc`` scale clipped to 0-1 (as pROC prints).

    Where a class has fewer than 30 persons that on the logit scale covers too little, or does not exist; then it is
    :func:`score_interval` of the persons of each class.
    """
    value, covariance = delong(labels, scores, persons)
    se = float(np.sqrt(covariance[0, 0]))
    who = np.arange(len(labels)) if persons is None else persons
    events, others = (len(np.unique(who[part])) for part in (labels, ~labels))
    if (scale == "logit" and min(events, others) < FEW) or not se > 0:
        return score_interval(float(value[0]), events, others, level)
    if scale == "logit":
        return wald_logit(float(value[0]), se, level)
    plain = wald(float(value[0]), se, level)
    return Estimate(plain.value, max(plain.lower, 0.0), min(plain.upper, 1.0))


def score_interval(value: float, events: int, others: int, level: float = 0.95) -> Estimate:
    """Interval of an AUC from the sizes of its classes: Newcombe, Stat Med 2006;25:559, method 5.

    It holds every AUC from which the one found is no further than chance would lead, by the variance of Hanley and
    McNeil (Radiology 1982;143:29) at that AUC; so it exists at 0 and 1 as well.
    """
    mean = (events + others) / 2 - 1

    def beyond(area: float) -> float:
        spread = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * spread / (events * others)
        return float((value - area) ** 2 - z_value(level) ** 2 * variance)

    lower = 0.0 if value < 1e-8 else brentq(beyond, 0.0, value - 1e-9)
    upper = 1.0 if value > 1 - 1e-8 else brentq(beyond, value + 1e-9, 1.0)
    return Estimate(value, float(lower), float(upper))


def auc_difference(aucs: Floats, covariance: Floats, i: int, j: int, level: float = 0.95) -> tuple[Estimate, float]:
    """Paired difference AUC_i - AUC_j with its interval and two-sided p value (DeLong 1988)."""
    difference = float(aucs[i] - aucs[j])
    variance = float(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
    if not variance > 1e-15:
        note = (
            "interval not estimable: because the two sets of scores rank everybody alike or a class has one person only"
        )
        return Estimate(difference, note=note), float("nan")
    se = variance**0.5
    return wald(difference, se, level), two_sided_p(difference / se)


def called_counts(labels: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives (b, distinct scores) as the threshold falls, for each row of record weights (b, n)."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], labels[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    w = weights[:, order]
    true, shown = np.cumsum(w * hit, axis=1)[:, ends], np.cumsum(w, axis=1)[:, ends]
    return true, shown - true


def roc(labels: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates (k,) from (0, 0) to (1, 1), only the points where the curve turns."""
    true, false = (np.append(0.0, c[0] / c[0, -1]) for c in called_counts(labels, scores, np.ones((1, len(labels)))))
    turn = np.diff(true)[:-1] * np.diff(false)[1:] != np.diff(true)[1:] * np.diff(false)[:-1]
    bend = np.concatenate([[True], turn, [True]])
    return false[bend], true[bend]


def average_precision(true: Floats, false: Floats, prevalence: float | None = None) -> Floats:
    """Average precision (b,) from `called_counts`; tied scores enter together.

    ``prevalence`` reweights the classes to a stated share of events, such as 0.5 for 1:1 sets.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if prevalence is not None:
            false = false * (true[:, -1:] / false[:, -1:] * (1 - prevalence) / prevalence)
        precision = np.where(true > 0, true / (true + false), 0.0)
        steps = np.diff(true, axis=1, prepend=0.0) / true[:, -1:]
    return np.asarray((steps * precision).sum(axis=1))


def at_operating(true: Floats, false: Floats, wanted: float) -> tuple[Floats, Floats]:
    """Sensitivity (b,) where specificity is ``wanted``, and specificity where sensitivity is, on each replicate's ROC.

    From `called_counts`; between two points the ROC is a straight line.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, alarm = true / true[:, -1:], false / false[:, -1:]
    return _along(alarm, sensitivity, 1 - wanted, last=True), 1 - _along(sensitivity, alarm, wanted, last=False)


def _along(x: Floats, y: Floats, at: float, last: bool) -> Floats:
    """y (b,) where the rising curve (x, y) (b, points) from (0, 0) passes ``at``: its highest y there, or lowest."""
    x, y = (np.pad(v.astype(np.float64), ((0, 0), (1, 0))) for v in (x, y))
    edge = 1e-6 if last else -1e-6  # counts may be single precision
    after = np.clip((x <= at + edge).sum(axis=1), 1, x.shape[1] - 1)
    row = np.arange(len(x))
    x0, x1, y0, y1 = x[row, after - 1], x[row, after], y[row, after - 1], y[row, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(x1 > x0, np.clip((at - x0) / (x1 - x0), 0, 1), 0.0)
    return np.asarray(np.where(np.isfinite(x1), y0 + share * (y1 - y0), np.nan))


def weighted_average_precision(
    labels: Bools, scores: Floats, weights: Floats, prevalence: float | None = None
) -> Floats:
    """Average precision (b,) for each row of record weights (b, n)."""
    return average_precision(*called_counts(labels, scores, weights), prevalence)


def weighted_auc(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """AUC (b,) for each row of record weights (b, n); ties count one half."""
    order = np.argsort(scores, kind="stable")
    ranked, hit = scores[order], labels[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    w = weights[:, order]
    positive = np.add.reduceat(w * hit, starts, axis=1)
    negative = np.add.reduceat(w * ~hit, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1)))


def threshold_at_specificity(labels: Bools, scores: Floats, specificity: float) -> float:
    """Threshold t with at least ``specificity`` of the non-events below it; positive means score >= t.

    No more non-events than needed are below; t lies midway to the next score, so that rounding moves nobody.
    """
    require_classes(labels)
    negative = np.sort(scores[~labels].astype(np.float64))
    place = int(np.ceil(specificity * len(negative) - 1e-9)) - 1
    edge = negative[max(place, 0)]
    above = scores[(scores > edge) & np.isfinite(scores)]
    middle = (edge + above.min()) / 2 if len(above) else edge
    return float(max(middle, np.nextafter(edge, np.inf)))


def threshold_at_sensitivity(labels: Bools, scores: Floats, sensitivity: float) -> float:
    """Highest threshold t with at least ``sensitivity`` of the events at or above it."""
    require_classes(labels)
    positive = np.sort(scores[labels])[::-1]
    place = int(np.ceil(sensitivity * len(positive) - 1e-9)) - 1
    return float(positive[max(place, 0)])


def proportion(hits: Bools, persons: NDArray[Any], level: float = 0.95) -> Estimate:
    """Share of ``hits`` with Wilson's interval; several records per person shrink n by the design effect."""
    n = len(hits)
    if n == 0:
        raise NotEstimableError("the denominator is empty")
    share = float(hits.mean())
    return wilson(share, effective_count(hits, persons), level)


def effective_count(hits: Bools, persons: NDArray[Any]) -> float:
    """Number of independent records that say as much about the share of ``hits`` (n,): n over the design effect."""
    n, share = len(hits), hits.mean()
    codes, people = person_codes(persons)
    residual = person_sums(hits - share, codes, people)
    binomial = share * (1 - share) * n
    design = max(1.0, float((residual**2).sum() / binomial)) if binomial > 0 else n / people
    return float(n / design)


def wilson(share: float, n: float, level: float = 0.95) -> Estimate:
    """Wilson's score interval of a proportion seen in ``n`` (Wilson, JASA 1927;22:209)."""
    z2 = z_value(level) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = float(np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True, slots=True)
class Operating:
    """Performance at one threshold."""

    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    lr_positive: Estimate
    lr_negative: Estimate


def _ratio(top: Estimate, bottom: Estimate, n_top: float, n_bottom: float, level: float) -> Estimate:
    if top.value <= 0 or bottom.value <= 0:
        return Estimate(float("nan"), note="not estimable: because the ratio has a zero count")
    variance = (1 - top.value) / (top.value * n_top) + (1 - bottom.value) / (bottom.value * n_bottom)
    return wald_log(top.value / bottom.value, variance**0.5, level)


def _share(hits: Bools, persons: NDArray[Any], level: float, empty: str) -> Estimate:
    if hits.size == 0:
        return Estimate(float("nan"), note=f"not estimable: because {empty}")
    return proportion(hits, persons, level)


def operating_point(
    labels: Bools, scores: Floats, threshold: float, persons: NDArray[Any], level: float = 0.95
) -> Operating:
    """Sensitivity, specificity, predictive values at the natural prevalence, likelihood ratios (log intervals).

    Several records of a person count for less, by their design effect.
    """
    require_classes(labels)
    called = scores >= threshold
    sensitivity = proportion(called[labels], persons[labels], level)
    specificity = proportion(~called[~labels], persons[~labels], level)
    ppv = _share(labels[called], persons[called], level, "nobody is called positive")
    npv = _share(~labels[~called], persons[~called], level, "nobody is called negative")
    m, n = (effective_count(called[part], persons[part]) for part in (labels, ~labels))
    false_positive = Estimate(1 - specificity.value)
    false_negative = Estimate(1 - sensitivity.value)
    plus = _ratio(sensitivity, false_positive, m, n, level)
    minus = _ratio(false_negative, specificity, m, n, level)
    return Operating(sensitivity, specificity, ppv, npv, plus, minus)


def at_prevalence(lr_positive: Estimate, lr_negative: Estimate, prevalence: float) -> tuple[Estimate, Estimate]:
    """(PPV, NPV) at a stated prevalence, by Bayes' theorem on the odds, intervals carried over from the ratios.

    A prevalence of 0.5 compares with 1:1 case-control publications.
    """
    if not 0 < prevalence < 1:
        raise NotEstimableError("a stated prevalence must lie inside 0-1")
    odds = prevalence / (1 - prevalence)

    def share(ratio: float, turned: bool) -> float:
        return 1 / (1 + odds * ratio) if turned else odds * ratio / (1 + odds * ratio)

    plus, minus = lr_positive, lr_negative
    ppv = Estimate(share(plus.value, False), share(plus.lower, False), share(plus.upper, False), plus.note)
    npv = Estimate(share(minus.value, True), share(minus.upper, True), share(minus.lower, True), minus.note)
    return ppv, npv


def mcnemar(correct_a: Bools, correct_b: Bools) -> tuple[float, float]:
    """(statistic, p) for paired decisions. McNemar, Psychometrika 1947;12:153.

    Exact binomial below 25 discordant pairs, else chi-square with continuity correction.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    discordant = only_a + only_b
    if discordant == 0:
        raise NotEstimableError("the two decisions never differ")
    if discordant < 25:
        return float(min(only_a, only_b)), min(1.0, float(2 * bdtr(min(only_a, only_b), discordant, 0.5)))
    statistic = (abs(only_a - only_b) - 1) ** 2 / discordant
    return float(statistic), float(chdtrc(1, statistic))


def macro_ovr_auc(classes: NDArray[Any], scores: dict[str, Floats], weights: Floats | None = None) -> Floats:
    """Macro mean one-vs-rest AUC (b,) over the classes of ``scores`` (name -> (n,)), per row of ``weights`` (b, n)."""
    rows = np.ones((1, len(classes))) if weights is None else weights
    absent = [name for name in scores if not (classes == name).any() or (classes == name).all()]
    if absent:
        raise NotEstimableError(f"nobody (or everybody) belongs to {', '.join(absent)}")
    return np.asarray(np.mean([weighted_auc(classes == name, score, rows) for name, score in scores.items()], axis=0))
