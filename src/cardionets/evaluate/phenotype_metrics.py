"""Metrics of the 82 phenotypes: one matrix product per arm, and the same bootstrap people for every arm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cardionets.config import Protocol
from cardionets.evaluate.cube import IMAGED, Cube
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable
from cardionets.evaluate.regression import Moments, steiger, zou
from cardionets.evaluate.rows import UNVARIED, Rows, attempt
from cardionets.evaluate.scales import (
    FISHER,
    IDENTITY,
    LOG,
    LOG_REST,
    bootstrap_interval,
    bootstrap_intervals,
    standard_errors,
)

ALL = "all_phenotypes"
HEADLINE = "headline_phenotypes"
FEWEST: Final = 20  # people below whom a phenotype does not enter a mean: its R2, if it exists, is noise
METRIC_SCALES = {"r2": LOG_REST, "r": FISHER, "mae": LOG, "bias": IDENTITY, "ccc": FISHER}
Scores = dict[str, Floats]


def bootstrap_p(difference: Floats, replicates: Floats) -> Floats:
    """Two-sided p values (E,) of differences from the standard errors of their replicates (B, E); NaN if undefined."""
    se = standard_errors(replicates)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(se > 0, 2 * ndtr(-np.abs(difference / se)), np.nan)


def _normal(value: float, replicates: Floats, level: float) -> Estimate:
    return Estimate(value) if np.isnan(value) else bootstrap_interval(value, replicates, level, IDENTITY)


def add_phenotypes(rows: Rows, cube: Cube, protocol: Protocol, reference: str | None = None) -> None:
    """R2, r, MAE, bias and CCC per phenotype x arm x fraction, their means, and paired differences between arms.

    All arms of a fraction are compared on the same records; one that reads images, and its differences, on those of
    them that it covers. A phenotype known in fewer than :data:`FEWEST` people enters no mean. Intervals are normal with
    the bootstrap's standard error on the scale where the metric is close to normal: log(1 - R2), Fisher z for r and
    CCC, log MAE. Differences of the mean R2 are given for every pair of arms, per phenotype against ``reference`` only.
    A cohort in which no phenotype was measured has no such rows.
    """
    names = cube.phenotypes()
    if not any(np.isfinite(cube.truth(name)).any() for name in names):
        return
    for fraction, arms in cube.fractions().items():
        _Fraction(rows, cube, protocol, names, fraction, arms).add(reference)


@dataclass(frozen=True, slots=True)
class _Judged:
    """One arm on the records where ``known`` (n, E): predictions (n, E), NaN elsewhere, and what they are worth.

    ``point``: scores (E,). ``boot``: their replicates (B, E). ``people``: how many have truth and prediction (E,).
    ``independent``: one record per person.
    """

    known: NDArray[np.bool_]
    predicted: Floats
    point: Scores
    boot: Scores
    people: NDArray[np.int64]
    independent: bool

    @property
    def n(self) -> NDArray[np.int64]:
        """Records behind each phenotype (E,)."""
        return np.asarray(self.known.sum(axis=0))

    def most(self, members: NDArray[np.bool_]) -> int:
        """Records behind the best known of some phenotypes (E,)."""
        return int(self.n[members].max(initial=0))

    def usable(self, metric: str, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of some phenotypes (E,) that enter a mean."""
        return np.asarray(members & np.isfinite(self.point[metric]) & (self.people >= FEWEST))

    def mean(self, metric: str, usable: NDArray[np.bool_]) -> tuple[float, Floats]:
        """Mean over some phenotypes (E,), and its replicates (B,)."""
        if not usable.any():
            return float("nan"), np.array([np.nan])
        return float(self.point[metric][usable].mean()), self.boot[metric][:, usable].mean(axis=1)


def _noted(estimate: Estimate, used: int, members: int) -> Estimate:
    """With the number of phenotypes behind a mean, where some are missing."""
    if not 0 < used < members or estimate.note:
        return estimate
    reason = f"the others are not estimable or known in fewer than {FEWEST} people"
    return replace(estimate, note=f"mean of {used} of {members} phenotypes; {reason}")


class _Fraction:
    """One label fraction: the arms to compare and their bootstrap replicates."""

    def __init__(
        self, rows: Rows, cube: Cube, protocol: Protocol, names: list[str], fraction: float, arms: list[int]
    ) -> None:
        self.rows, self.names, self.fraction, self.protocol = rows, names, fraction, protocol
        self.level, self.persons = protocol.statistics.level, cube.persons
        self.truth = np.column_stack([cube.truth(name) for name in names])  # (n, E)
        headline = protocol.endpoints.headline_phenotypes
        self.sets = {ALL: np.full(len(names), True), HEADLINE: np.isin(names, headline)}
        shared = np.column_stack([cube.shared(name, arms) for name in names])
        columns = [cube.endpoints.index(name) for name in names]
        self.judged: dict[str, _Judged] = {}
        for arm in arms:
            label, values = cube.arms[arm][0], cube.values[arm][:, columns]
            if np.isfinite(values).any():
                known = shared & np.isfinite(values) if label in IMAGED else shared
                self.judged[label] = self._judge(values, known)

    def _judge(self, values: Floats, known: NDArray[np.bool_]) -> _Judged:
        kept = known.any(axis=1) | ~known.any()  # where nobody is known, everything is missing
        predicted = np.where(known, values, np.nan)
        persons = self.persons[kept]
        moments = Moments.of(self.truth[kept], predicted[kept], persons)
        boot = moments.bootstrap(self.protocol.statistics.bootstrap, self.protocol.seed)
        people = (moments.sums[:, 0] > 0).sum(axis=0)
        independent = len(np.unique(persons.astype(str))) == len(persons)
        return _Judged(known, predicted, moments.scores(), boot, people, independent)

    def _pair(self, first: str, second: str) -> list[_Judged]:
        """Two arms on the records that both cover."""
        arms = self.judged[first], self.judged[second]
        both = arms[0].known & arms[1].known
        return [arm if np.array_equal(arm.known, both) else self._judge(arm.predicted, both) for arm in arms]

    def add(self, reference: str | None) -> None:
        """Write every row of this fraction."""
        for label, arm in self.judged.items():
            self._add_each(label, arm)
            for endpoint, members in self.sets.items():
                self._add_mean(label, arm, endpoint, members)
        for first, second in combinations(self.judged, 2):
            pair = self._pair(first, second)
            for endpoint, members in self.sets.items():
                self._add_difference(f"{first} minus {second}", pair, endpoint, members)
            if reference in (first, second):
                ordered = pair if reference == first else pair[::-1]
                self._add_each_difference(f"{reference} minus {second if reference == first else first}", ordered)

    def _add_each(self, label: str, arm: _Judged) -> None:
        for metric in METRIC_SCALES:
            found = self._estimates(metric, arm.point[metric], arm.boot[metric], arm.n)
            for name, estimate, n in zip(self.names, found, arm.n):
                self.rows.add(name, label, self.fraction, metric, estimate, int(n))

    def _estimates(self, metric: str, values: Floats, replicates: Floats, n: NDArray[np.int64]) -> list[Estimate]:
        """One estimate per phenotype from values (E,), replicates (B, E) and records (E,)."""
        found = bootstrap_intervals(values, replicates, self.level, METRIC_SCALES.get(metric, IDENTITY))
        exist = np.isfinite(values) & (n >= 3)
        return [e if there else not_estimable(UNVARIED) for e, there in zip(found, exist)]

    def _add_mean(self, label: str, arm: _Judged, endpoint: str, members: NDArray[np.bool_]) -> None:
        for metric in ("r2", "r"):
            usable = arm.usable(metric, members)
            estimate = attempt(partial(_normal, *arm.mean(metric, usable), self.level))
            noted = _noted(estimate, int(usable.sum()), int(members.sum()))
            self.rows.add(endpoint, label, self.fraction, f"mean_{metric}", noted, arm.most(members))

    def _add_difference(self, label: str, pair: list[_Judged], endpoint: str, members: NDArray[np.bool_]) -> None:
        usable = pair[0].usable("r2", members) & pair[1].usable("r2", members)
        (a, boot_a), (b, boot_b) = (arm.mean("r2", usable) for arm in pair)
        value, gap = a - b, boot_a - boot_b
        estimate = attempt(partial(_normal, value, gap, self.level))
        p = attempt(lambda: float(bootstrap_p(np.array([value]), gap[:, None])[0]))
        noted, n = _noted(estimate, int(usable.sum()), int(members.sum())), pair[0].most(members)
        self.rows.add(endpoint, label, self.fraction, "mean_r2_difference", noted, n)
        self.rows.add(endpoint, label, self.fraction, "mean_r2_difference_p", p, n)

    def _add_each_difference(self, label: str, pair: list[_Judged]) -> None:
        gap, boot = (getattr(pair[0], k)["r2"] - getattr(pair[1], k)["r2"] for k in ("point", "boot"))
        counts = pair[0].n
        found, tests = self._estimates("r2_difference", gap, boot, counts), bootstrap_p(gap, boot)
        for name, estimate, p, n in zip(self.names, found, tests, counts):
            self.rows.add(name, label, self.fraction, "r2_difference", estimate, int(n))
            stated = Estimate(float(p)) if np.isfinite(p) else not_estimable(UNVARIED)
            self.rows.add(name, label, self.fraction, "r2_difference_p", stated, int(n))
        self._add_correlations(label, pair)

    def _add_correlations(self, label: str, pair: list[_Judged]) -> None:
        """Zou's interval of the difference of two correlations with one truth, and Steiger's p value."""
        first, second = pair[0].point["r"], pair[1].point["r"]
        made = pair[0].predicted, pair[1].predicted
        between = Moments.of(*made, np.arange(len(made[0]))).scores()["r"]
        for j, name in enumerate(self.names):
            args = float(first[j]), float(second[j]), float(between[j]), int(pair[0].n[j]), pair[0].independent
            gap, p = attempt(partial(self._correlations, *args)), attempt(partial(self._steiger, *args))
            self.rows.add(name, label, self.fraction, "r_difference", gap, args[3])
            self.rows.add(name, label, self.fraction, "r_difference_p", p, args[3])

    def _correlations(self, r12: float, r13: float, r23: float, n: int, independent: bool) -> Estimate:
        if not independent:
            raise NotEstimableError("the test needs one record per person")
        if not np.isfinite([r12, r13, r23]).all() or max(abs(r12), abs(r13), r23) > 1 - 1e-12:
            raise NotEstimableError("a correlation does not exist or is perfect")
        return zou(r12, r13, r23, n, self.level)

    def _steiger(self, r12: float, r13: float, r23: float, n: int, independent: bool) -> float:
        self._correlations(r12, r13, r23, n, independent)
        return steiger(r12, r13, r23, n)[1]
