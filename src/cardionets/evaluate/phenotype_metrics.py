"""Metrics of the 82 phenotypes: one matrix product per arm, and the same bootstrap people for every arm."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
from scipy.special import ndtr

from cardionets.config import Protocol
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable
from cardionets.evaluate.regression import Moments, steiger, zou
from cardionets.evaluate.rows import UNVARIED, Rows, attempt
from cardionets.evaluate.scales import FISHER, IDENTITY, LOG, LOG_REST, bootstrap_interval, bootstrap_intervals

ALL = "all_phenotypes"
HEADLINE = "headline_phenotypes"
METRIC_SCALES = {"r2": LOG_REST, "r": FISHER, "mae": LOG, "bias": IDENTITY, "ccc": FISHER}
Scores = dict[str, Floats]


def bootstrap_p(difference: Floats, replicates: Floats) -> Floats:
    """Two-sided p values (E,) of differences from the standard errors of their replicates (B, E); NaN if undefined."""
    se = replicates.std(axis=0, ddof=1) if len(replicates) > 1 else np.zeros_like(difference)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(se > 0, 2 * ndtr(-np.abs(difference / se)), np.nan)


def _normal(value: float, replicates: Floats, level: float) -> Estimate:
    return Estimate(value) if np.isnan(value) else bootstrap_interval(value, replicates, level, IDENTITY)


def add_phenotypes(rows: Rows, cube: Cube, protocol: Protocol, reference: str | None = None) -> None:
    """R2, r, MAE, bias and CCC per phenotype x arm x fraction, their means, and paired differences between arms.

    All arms of a fraction are compared on the same records. Intervals are normal with the bootstrap's standard error on
    the scale where the metric is close to normal: log(1 - R2), Fisher z for r and CCC, log MAE. Differences of the
    mean R2 are given for every pair of arms, per phenotype against ``reference`` only. A cohort in
    which no phenotype was measured has no such rows.
    """
    names = cube.phenotypes()
    if not any(np.isfinite(cube.truth(name)).any() for name in names):
        return
    for fraction, arms in cube.fractions().items():
        _Fraction(rows, cube, protocol, names, fraction, arms).add(reference)


class _Fraction:
    """One label fraction: the arms to compare and their bootstrap replicates."""

    def __init__(
        self, rows: Rows, cube: Cube, protocol: Protocol, names: list[str], fraction: float, arms: list[int]
    ) -> None:
        self.rows, self.names, self.fraction = rows, names, fraction
        self.level = protocol.statistics.level
        truth = np.column_stack([cube.truth(name) for name in names])  # (n, E)
        active, masks = zip(*(cube.common(name, arms) for name in names))
        known = np.column_stack(masks)
        kept = known.any(axis=1)
        self.n = known.sum(axis=0)
        columns = [cube.endpoints.index(name) for name in names]
        self.point: dict[str, Scores] = {}
        self.boot: dict[str, Scores] = {}
        self.predicted: dict[str, Floats] = {}
        self.independent = len(np.unique(cube.persons[kept].astype(str))) == int(kept.sum())
        headline = protocol.endpoints.headline_phenotypes
        self.sets = {ALL: np.full(len(names), True), HEADLINE: np.isin(names, headline)}
        for arm in arms:
            if not any(arm in some for some in active):
                continue
            predicted = np.where(known, cube.values[arm][:, columns], np.nan)
            moments = Moments.of(truth[kept], predicted[kept], cube.persons[kept])
            label = cube.arms[arm][0]
            self.predicted[label] = predicted
            self.point[label] = moments.scores()
            self.boot[label] = moments.bootstrap(protocol.statistics.bootstrap, protocol.seed)

    def add(self, reference: str | None) -> None:
        """Write every row of this fraction."""
        for arm in self.point:
            self._add_each(arm)
            for endpoint, members in self.sets.items():
                self._add_mean(arm, endpoint, members)
        for first, second in combinations(self.point, 2):
            for endpoint, members in self.sets.items():
                self._add_difference(first, second, endpoint, members)
            if reference in (first, second):
                other = second if reference == first else first
                self._add_each_difference(str(reference), other)

    def _add_each(self, arm: str) -> None:
        for metric in METRIC_SCALES:
            found = self._estimates(metric, self.point[arm][metric], self.boot[arm][metric])
            for name, estimate, n in zip(self.names, found, self.n):
                self.rows.add(name, arm, self.fraction, metric, estimate, int(n))

    def _estimates(self, metric: str, values: Floats, replicates: Floats) -> list[Estimate]:
        """One estimate per phenotype from values (E,) and replicates (B, E)."""
        found = bootstrap_intervals(values, replicates, self.level, METRIC_SCALES.get(metric, IDENTITY))
        exist = np.isfinite(values) & (self.n >= 3)
        return [e if there else not_estimable(UNVARIED) for e, there in zip(found, exist)]

    def _mean(self, arm: str, metric: str, members: Floats) -> tuple[float, Floats, int]:
        usable = members & np.isfinite(self.point[arm][metric]) & (self.n >= 3)
        if not usable.any():
            return float("nan"), np.array([np.nan]), 0
        replicates = self.boot[arm][metric][:, usable]
        return float(self.point[arm][metric][usable].mean()), replicates.mean(axis=1), int(usable.sum())

    def _add_mean(self, arm: str, endpoint: str, members: Floats) -> None:
        people = int(self.n[members].max(initial=0))
        for metric in ("r2", "r"):
            value, replicates, used = self._mean(arm, metric, members)
            estimate = attempt(partial(_normal, value, replicates, self.level))
            if 0 < used < members.sum():
                note = f"mean of {used} of {members.sum()} phenotypes; the others are not estimable"
                estimate = Estimate(estimate.value, estimate.lower, estimate.upper, estimate.note or note)
            self.rows.add(endpoint, arm, self.fraction, f"mean_{metric}", estimate, people)

    def _add_difference(self, first: str, second: str, endpoint: str, members: Floats) -> None:
        both = members & np.isfinite(self.point[first]["r2"]) & np.isfinite(self.point[second]["r2"])
        (a, boot_a, _), (b, boot_b, _) = self._mean(first, "r2", both), self._mean(second, "r2", both)
        gap = boot_a - boot_b
        value = a - b
        estimate = attempt(partial(_normal, value, gap, self.level))
        p = attempt(lambda: float(bootstrap_p(np.array([value]), gap[:, None])[0]))
        people, label = int(self.n[members].max(initial=0)), f"{first} minus {second}"
        self.rows.add(endpoint, label, self.fraction, "mean_r2_difference", estimate, people)
        self.rows.add(endpoint, label, self.fraction, "mean_r2_difference_p", p, people)

    def _add_each_difference(self, reference: str, other: str) -> None:
        gap = self.point[reference]["r2"] - self.point[other]["r2"]
        boot = self.boot[reference]["r2"] - self.boot[other]["r2"]
        label, tests = f"{reference} minus {other}", bootstrap_p(gap, boot)
        for name, estimate, p, n in zip(self.names, self._estimates("r2_difference", gap, boot), tests, self.n):
            self.rows.add(name, label, self.fraction, "r2_difference", estimate, int(n))
            stated = Estimate(float(p)) if np.isfinite(p) else not_estimable(UNVARIED)
            self.rows.add(name, label, self.fraction, "r2_difference_p", stated, int(n))
        self._add_correlations(reference, other)

    def _add_correlations(self, reference: str, other: str) -> None:
        """Zou's interval of the difference of two correlations with one truth, and Steiger's p value."""
        first, second = self.point[reference]["r"], self.point[other]["r"]
        pair = self.predicted[reference], self.predicted[other]
        between = Moments.of(*pair, np.arange(len(pair[0]))).scores()["r"]
        label = f"{reference} minus {other}"
        for j, name in enumerate(self.names):
            args = float(first[j]), float(second[j]), float(between[j]), int(self.n[j])
            gap, p = attempt(partial(self._correlations, *args)), attempt(partial(self._steiger, *args))
            self.rows.add(name, label, self.fraction, "r_difference", gap, args[3])
            self.rows.add(name, label, self.fraction, "r_difference_p", p, args[3])

    def _correlations(self, r12: float, r13: float, r23: float, n: int) -> Estimate:
        if not self.independent:
            raise NotEstimableError("the test needs one record per person")
        if not np.isfinite([r12, r13, r23]).all() or max(abs(r12), abs(r13), r23) > 1 - 1e-12:
            raise NotEstimableError("a correlation does not exist or is perfect")
        return zou(r12, r13, r23, n, self.level)

    def _steiger(self, r12: float, r13: float, r23: float, n: int) -> float:
        self._correlations(r12, r13, r23, n)
        return steiger(r12, r13, r23, n)[1]
