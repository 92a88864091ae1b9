"""Metrics of diseases: discrimination, operating point chosen on validation, calibration, paired tests between arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import diseases
from cardionets.config import Protocol
from cardionets.evaluate import calibration
from cardionets.evaluate import discrimination as dis
from cardionets.evaluate.bootstrap import clustered_mean, person_codes, person_sums, weight_blocks
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import (
    Estimate,
    Floats,
    NotEstimableError,
    mean_of_two,
    not_estimable,
    percentile,
)
from cardionets.evaluate.rows import Rows, attempt
from cardionets.evaluate.scales import LOGIT, bootstrap_interval

SUBTYPES = "cardiomyopathy_subtypes"
BALANCED = 0.5  # prevalence of the 1:1 case-control sets of earlier publications
CURVES = ("auprc", "auprc_balanced", "sensitivity_at_specificity", "specificity_at_sensitivity")


@dataclass(frozen=True, slots=True)
class Sample:
    """Labels (n,), risks of each arm (k, n) and person of each record (n,) for one disease at one label fraction."""

    labels: NDArray[np.bool_]
    risks: Floats
    persons: NDArray[Any]

    @classmethod
    def of(cls, cube: Cube, endpoint: str, arms: list[int]) -> tuple[list[int], Sample]:
        """The arms that predict the disease, and the records known to all of them."""
        active, mask = cube.common(endpoint, arms)
        risks = cube.column(endpoint)[active][:, mask]
        return active, cls(cube.truth(endpoint)[mask] > 0.5, risks, cube.persons[mask])


def curve_statistics(
    sample: Sample, replicates: int, seed: int, level: float, operating: float = 0.9
) -> list[dict[str, Estimate]]:
    """What each arm's ROC and precision-recall curves say: :data:`CURVES`, name -> estimate.

    AUPRC at the natural prevalence and reweighted to 1:1, sensitivity where specificity reaches ``operating``, and the
    reverse. Person-cluster bootstrap stratified by outcome; all arms share the people drawn, and every replicate
    finds its own threshold, so that the intervals count what choosing it costs.
    """
    dis.require_classes(sample.labels)
    codes, people = person_codes(sample.persons)
    diseased = person_sums(sample.labels.astype(float), codes, people) > 0
    point = _curves(sample, np.ones((1, len(codes)), np.float32), operating)[..., 0]
    blocks = weight_blocks(people, replicates, seed, diseased)
    boot = np.concatenate([_curves(sample, w.astype(np.float32)[:, codes], operating) for w in blocks], axis=-1)
    return [{name: _interval(float(v), b, level) for name, v, b in zip(CURVES, *arm)} for arm in zip(point, boot)]


def _interval(value: float, replicates: Floats, level: float) -> Estimate:
    """Normal on the logit scale: percentiles of an AUPRC cover 90 %, and those of a point of the ROC are steps."""
    return attempt(lambda: bootstrap_interval(value, np.clip(replicates, 1e-3, 1 - 1e-3), level, LOGIT))


def _curves(sample: Sample, weights: Floats, operating: float) -> Floats:
    """(arm k, statistic 4, replicate b) for record weights (b, n)."""
    found = []
    for risk in sample.risks:
        counts = dis.called_counts(sample.labels, risk, weights)
        areas = [dis.average_precision(*counts, prevalence) for prevalence in (None, BALANCED)]
        found.append([*areas, *dis.at_operating(*counts, operating)])
    return np.array(found)


def choose_thresholds(predictions: pd.DataFrame, records: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Threshold per arm, fraction and disease that reaches the protocol's specificity on the VALIDATION split.

    Columns: arm, fraction, endpoint, threshold (NaN with a note where it does not exist). Carry it to external cohorts.
    """
    cube = Cube.of(predictions, records, "val")
    rows = []
    for endpoint in cube.diseases():
        for position, (arm, fraction) in enumerate(cube.arms):
            active, sample = Sample.of(cube, endpoint, [position])
            if active:
                found = attempt(partial(_threshold, sample, protocol.statistics.specificity))
                rows.append((arm, fraction, endpoint, found.value, found.note))
    return pd.DataFrame(rows, columns=["arm", "fraction", "endpoint", "threshold", "note"])


def _threshold(sample: Sample, specificity: float) -> float:
    dis.require_classes(sample.labels)
    return dis.threshold_at_specificity(sample.labels, sample.risks[0], specificity)


def calibration_metrics(s: Sample, risk: Floats, level: float) -> dict[str, Estimate]:
    """Brier score, calibration intercept and slope, O/E and ICI of the risks (n,) of one arm."""
    steps: dict[str, Callable[[], Estimate | float]] = {
        "brier": lambda: clustered_mean((risk - s.labels) ** 2, s.persons, level),
        "calibration_intercept": lambda: calibration.intercept(s.labels, risk, level, s.persons),
        "calibration_slope": lambda: calibration.slope(s.labels, risk, level, s.persons),
        "oe": lambda: calibration.observed_expected(s.labels, risk, level, s.persons),
        "ici": lambda: calibration.ici(s.labels, risk, level, s.persons),
    }
    if ((risk < 0) | (risk > 1)).any():
        reason = "not estimable: because the predictions are not probabilities"
        return {metric: Estimate(float("nan"), note=reason) for metric in steps}
    return {metric: attempt(step) for metric, step in steps.items()}


class DiseaseMetrics:
    """Writes the rows of every disease, arm and fraction of one cohort."""

    def __init__(self, rows: Rows, protocol: Protocol, thresholds: pd.DataFrame) -> None:
        self.rows, self.seed = rows, protocol.seed
        self.statistics = protocol.statistics
        self.level = protocol.statistics.level
        keys = zip(thresholds["arm"], thresholds["fraction"].astype(float), thresholds["endpoint"])
        self.thresholds: dict[tuple[str, float, str], float] = dict(zip(keys, thresholds["threshold"].astype(float)))

    def add(self, cube: Cube) -> None:
        """All diseases of a cube."""
        for endpoint in cube.diseases():
            for fraction, arms in cube.fractions().items():
                active, sample = Sample.of(cube, endpoint, arms)
                if not active:
                    continue
                areas = self._areas(sample)
                for k, arm in enumerate(active):
                    self._add_arm(endpoint, cube.arms[arm][0], fraction, sample, k, areas[k])
                self._add_pairs(endpoint, [cube.arms[a][0] for a in active], fraction, sample)

    def _areas(self, sample: Sample) -> list[dict[str, Estimate]]:
        s = self.statistics
        try:
            return curve_statistics(sample, s.bootstrap, self.seed, self.level, s.specificity)
        except NotEstimableError as error:
            return [dict.fromkeys(CURVES, not_estimable(str(error)))] * len(sample.risks)

    def _add_arm(
        self, endpoint: str, arm: str, fraction: float, sample: Sample, k: int, areas: dict[str, Estimate]
    ) -> None:
        n, events, risk = len(sample.labels), int(sample.labels.sum()), sample.risks[k]
        found = self._discrimination(sample, risk) | areas
        found |= calibration_metrics(sample, risk, self.level)
        found |= self._operating(sample, risk, self.thresholds.get((arm, fraction, endpoint)))
        for metric, estimate in found.items():
            self.rows.add(endpoint, arm, fraction, metric, estimate, n, events)

    def _discrimination(self, s: Sample, risk: Floats) -> dict[str, Estimate]:
        def auc() -> Estimate:
            dis.require_classes(s.labels)
            if np.ptp(risk) == 0:
                raise NotEstimableError("the predictions are constant")
            return dis.auc(s.labels, risk, self.level, s.persons)

        return {"prevalence": attempt(lambda: dis.proportion(s.labels, s.persons, self.level)), "auc": attempt(auc)}

    def _operating(self, s: Sample, risk: Floats, threshold: float | None) -> dict[str, Estimate]:
        names = ("sensitivity", "specificity", "ppv", "npv", "lr_positive", "lr_negative")
        if threshold is None or np.isnan(threshold) or not len(s.labels):
            reason = "no threshold could be chosen on a validation split"
            note = f"not estimable: because {reason if len(s.labels) else 'nobody has a known label'}"
            return dict.fromkeys(("threshold", *names), Estimate(float("nan"), note=note))
        found = {"threshold": Estimate(threshold, note="chosen on validation")}
        try:
            point = dis.operating_point(s.labels, risk, threshold, s.persons, self.level)
        except NotEstimableError as error:
            return found | dict.fromkeys(names, Estimate(float("nan"), note=f"not estimable: because {error}"))
        found |= {name: getattr(point, name) for name in names}
        ppv, npv = dis.at_prevalence(point.lr_positive, point.lr_negative, BALANCED)
        balanced = mean_of_two(point.sensitivity, point.specificity)
        return found | {"ppv_balanced": ppv, "npv_balanced": npv, "accuracy_balanced": balanced}

    def _add_pairs(self, endpoint: str, arms: list[str], fraction: float, s: Sample) -> None:
        if len(arms) < 2:
            return
        n, events = len(s.labels), int(s.labels.sum())
        for i, j in combinations(range(len(arms)), 2):
            estimate, p = self._pair(s, i, j)
            label = f"{arms[i]} minus {arms[j]}"
            self.rows.add(endpoint, label, fraction, "auc_difference", estimate, n, events)
            self.rows.add(endpoint, label, fraction, "auc_difference_p", p, n, events)
            cuts = [self.thresholds.get((arm, fraction, endpoint), np.nan) for arm in (arms[i], arms[j])]
            gap, p = self._decisions(s, (i, j), cuts)
            self.rows.add(endpoint, label, fraction, "accuracy_difference", gap, n, events)
            self.rows.add(endpoint, label, fraction, "accuracy_difference_p", p, n, events)

    def _pair(self, s: Sample, i: int, j: int) -> tuple[Estimate, Estimate]:
        try:
            aucs, covariance = dis.delong(s.labels, s.risks[[i, j]], s.persons)
        except NotEstimableError as error:
            missing = Estimate(float("nan"), note=f"not estimable: because {error}")
            return missing, missing
        estimate, p = dis.auc_difference(aucs, covariance, 0, 1, self.level)
        return estimate, Estimate(p, note=estimate.note.removeprefix("interval "))

    def _decisions(self, s: Sample, pair: tuple[int, int], cuts: list[float]) -> tuple[Estimate, Estimate]:
        """Difference in the share of right decisions, and McNemar's p value on one record of each person."""
        if not np.isfinite(cuts).all():
            return (not_estimable("no threshold could be chosen on a validation split"),) * 2
        if len(s.labels) == 0:
            return (not_estimable("nobody has both a label and a prediction"),) * 2
        a, b = ((s.risks[k] >= cut) == s.labels for k, cut in zip(pair, cuts))
        first = np.unique(person_codes(s.persons)[0], return_index=True)[1]
        gap = attempt(lambda: clustered_mean(a.astype(float) - b, s.persons, self.level))
        return gap, attempt(lambda: dis.mcnemar(a[first], b[first])[1])


def add_subtypes(rows: Rows, cube: Cube, protocol: Protocol) -> None:
    """AUC of each cardiomyopathy subtype against the other two, and their macro mean, among people with a known one.

    Per arm; DeLong's interval for each, a person-cluster bootstrap for the mean. A cohort or an arm without subtypes
    has one row that says so.
    """
    named = cube.subtypes()
    if len(named) < len(diseases.SUBTYPES):
        reason = not_estimable("no arm predicts the subtypes of cardiomyopathy")
        rows.add(SUBTYPES, "all arms", 1.0, "macro_auc", reason, 0)
        return
    truth = np.column_stack([cube.truth(name) for name in named])  # (n, 3)
    for position, arm in enumerate(cube.arms):
        scores = np.column_stack([cube.column(name)[position] for name in named])
        known = np.isfinite(truth).all(axis=1) & np.isfinite(scores).all(axis=1)
        if np.isfinite(scores).any():
            _add_classes(
                rows, arm, dict(zip(named, scores[known].T)), truth[known] > 0.5, cube.persons[known], protocol
            )


def _add_classes(
    rows: Rows,
    arm: tuple[str, float],
    scores: dict[str, Floats],
    truth: NDArray[np.bool_],
    persons: NDArray[Any],
    protocol: Protocol,
) -> None:
    """Rows of one arm from class -> score (n,) and one-hot truth (n, class)."""
    for (name, score), labels in zip(scores.items(), truth.T):
        found = attempt(partial(dis.auc, labels, score, protocol.statistics.level, persons))
        rows.add(name, *arm, "auc", found, len(labels), int(labels.sum()))
    classes = np.asarray(list(scores))[truth.argmax(axis=1)]
    rows.add(SUBTYPES, *arm, "macro_auc", attempt(partial(macro_auc, classes, scores, persons, protocol)), len(truth))


def macro_auc(classes: NDArray[Any], scores: dict[str, Floats], persons: NDArray[Any], protocol: Protocol) -> Estimate:
    """`discrimination.macro_ovr_auc` with a person-cluster bootstrap interval stratified by class."""
    value = float(dis.macro_ovr_auc(classes, scores)[0])
    codes, people = person_codes(persons)
    own = np.empty(people, dtype=classes.dtype)
    own[codes] = classes
    blocks = weight_blocks(people, protocol.statistics.bootstrap, protocol.seed, own)
    drawn = np.concatenate([dis.macro_ovr_auc(classes, scores, w[:, codes]) for w in blocks])
    return percentile(value, drawn, protocol.statistics.level)
