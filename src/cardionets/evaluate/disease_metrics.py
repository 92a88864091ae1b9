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

from cardionets.config import Protocol
from cardionets.evaluate import calibration
from cardionets.evaluate import discrimination as dis
from cardionets.evaluate.bootstrap import clustered_mean, person_codes, person_sums, weight_blocks
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable, percentile
from cardionets.evaluate.rows import Rows, attempt

BALANCED = 0.5  # prevalence of the 1:1 case-control sets of earlier publications


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


def precision_recall(sample: Sample, replicates: int, seed: int, level: float) -> list[tuple[Estimate, Estimate]]:
    """AUPRC of each arm at the natural prevalence and reweighted to 1:1.

    Person-cluster bootstrap stratified by outcome; all arms share the people drawn.
    """
    dis.require_classes(sample.labels)
    codes, people = person_codes(sample.persons)
    diseased = person_sums(sample.labels.astype(float), codes, people) > 0
    point = _average_precisions(sample, np.ones((1, len(codes)), np.float32))[..., 0]
    blocks = weight_blocks(people, replicates, seed, diseased)
    boot = np.concatenate([_average_precisions(sample, w.astype(np.float32)[:, codes]) for w in blocks], axis=-1)
    found = [[percentile(float(v), b, level) for v, b in zip(*arm)] for arm in zip(point, boot)]
    return [(natural, balanced) for natural, balanced in found]


def _average_precisions(sample: Sample, weights: Floats) -> Floats:
    """(arm k, natural and balanced 2, replicate b) for record weights (b, n)."""
    found = []
    for risk in sample.risks:
        counts = dis.called_counts(sample.labels, risk, weights)
        found.append([dis.average_precision(*counts, prevalence) for prevalence in (None, BALANCED)])
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
        "ici": lambda: calibration.ici(s.labels, risk),
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

    def _areas(self, sample: Sample) -> list[tuple[Estimate, Estimate]]:
        try:
            return precision_recall(sample, self.statistics.bootstrap, self.seed, self.level)
        except NotEstimableError as error:
            return [(not_estimable(str(error)),) * 2] * len(sample.risks)

    def _add_arm(
        self, endpoint: str, arm: str, fraction: float, sample: Sample, k: int, areas: tuple[Estimate, Estimate]
    ) -> None:
        n, events, risk = len(sample.labels), int(sample.labels.sum()), sample.risks[k]
        found = self._discrimination(sample, risk) | dict(zip(("auprc", "auprc_balanced"), areas))
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
        if threshold is None or np.isnan(threshold):
            note = "not estimable: because no threshold could be chosen on a validation split"
            return dict.fromkeys(("threshold", *names), Estimate(float("nan"), note=note))
        found = {"threshold": Estimate(threshold, note="chosen on validation")}
        try:
            point = dis.operating_point(s.labels, risk, threshold, s.persons, self.level)
        except NotEstimableError as error:
            return found | dict.fromkeys(names, Estimate(float("nan"), note=f"not estimable: because {error}"))
        ppv, npv = dis.predictive_values(point.sensitivity.value, point.specificity.value, BALANCED)
        found |= {name: getattr(point, name) for name in names}
        return found | {"ppv_balanced": attempt(lambda: ppv), "npv_balanced": attempt(lambda: npv)}

    def _add_pairs(self, endpoint: str, arms: list[str], fraction: float, s: Sample) -> None:
        if len(arms) < 2:
            return
        n, events = len(s.labels), int(s.labels.sum())
        for i, j in combinations(range(len(arms)), 2):
            estimate, p = self._pair(s, i, j)
            label = f"{arms[i]} minus {arms[j]}"
            self.rows.add(endpoint, label, fraction, "auc_difference", estimate, n, events)
            self.rows.add(endpoint, label, fraction, "auc_difference_p", p, n, events)

    def _pair(self, s: Sample, i: int, j: int) -> tuple[Estimate, Estimate]:
        try:
            aucs, covariance = dis.delong(s.labels, s.risks[[i, j]], s.persons)
        except NotEstimableError as error:
            missing = Estimate(float("nan"), note=f"not estimable: because {error}")
            return missing, missing
        estimate, p = dis.auc_difference(aucs, covariance, 0, 1, self.level)
        return estimate, Estimate(p, note=estimate.note.removeprefix("interval "))
