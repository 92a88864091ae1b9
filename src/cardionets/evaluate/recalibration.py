"""Recalibration at a centre: what a shift, or a shift and a slope, of its own would mend. Before and after stay apart.

Every person's risk is updated by a map fitted on other people of the centre (cross-fitting over persons), so nobody is
judged on a map that has seen them. Updated arms are named ``<arm>+intercept`` and ``<arm>+intercept_slope``. People
who come to the centre later get :func:`maps`, fitted on everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, get_args

import numpy as np
import pandas as pd

from cardionets.config import Protocol, Study
from cardionets.evaluate import calibration
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.disease_metrics import Sample, calibration_metrics
from cardionets.evaluate.estimate import Floats, NotEstimableError, not_estimable
from cardionets.evaluate.rows import Rows

METHODS: Final[tuple[calibration.Recalibration, ...]] = get_args(calibration.Recalibration)[:2]
FOLDS: Final = 5
MIN_EVENTS: Final = 10  # cases, and controls, below which a slope is noise
MIN_SLOPE: Final = 50  # people of either kind from whom a slope for later patients is taken; fewer give a shift
MAP_COLUMNS: Final = ("arm", "endpoint", "method", "intercept", "slope", "n", "events")


def evaluate(predictions: pd.DataFrame, records: pd.DataFrame, study: Study, cohort: str) -> pd.DataFrame:
    """Calibration of every screening arm after each update: the rows of `evaluate.rows.COLUMNS`, test split only.

    The same metrics before the update are those of the arm itself in `evaluate.metrics.evaluate`; both are judged on
    the same people.
    """
    cube, rows = Cube.of(predictions, records, "test"), Rows(cohort, "test")
    for endpoint in cube.diseases():
        for fraction, arms in cube.fractions().items():
            active, sample = Sample.of(cube, endpoint, arms)
            for arm, risk in zip(active, sample.risks):
                for method in METHODS:
                    _add(rows, sample, risk, method, (endpoint, cube.arms[arm][0], fraction), study.protocol)
    return rows.frame()


def _add(
    rows: Rows,
    sample: Sample,
    risk: Floats,
    method: calibration.Recalibration,
    key: tuple[str, str, float],
    protocol: Protocol,
) -> None:
    endpoint, arm, fraction = key
    try:
        updated = update(sample, risk, method, protocol.seed)
        found = calibration_metrics(replace(sample, risks=updated[None]), updated, protocol.statistics.level)
    except NotEstimableError as error:
        found = dict.fromkeys(("calibration_intercept", "calibration_slope", "oe"), not_estimable(str(error)))
    for metric, estimate in found.items():
        n, events = len(sample.labels), int(sample.labels.sum())
        rows.add(endpoint, f"{arm}+{method}", fraction, metric, estimate, n, events)


def update(sample: Sample, risk: Floats, method: calibration.Recalibration, seed: int) -> Floats:
    """Cross-fitted risks (n,). Raises NotEstimableError with fewer than `MIN_EVENTS` cases or controls."""
    if min(sample.labels.sum(), (~sample.labels).sum()) < MIN_EVENTS:
        raise NotEstimableError(f"too few people or events to recalibrate ({MIN_EVENTS} of each are needed)")
    if np.ptp(risk) == 0 and method == "intercept_slope":
        raise NotEstimableError("the predictions are constant")
    return calibration.recalibrated(sample.labels, risk, method, sample.persons, FOLDS, seed)


def maps(predictions: pd.DataFrame, records: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """What turns a released risk into one of this centre, for people who come after: :data:`MAP_COLUMNS`.

    Fitted on the first record of every test person, so it is not to be judged on them (see :func:`evaluate`). A shift
    and a slope with :data:`MIN_SLOPE` cases and controls, unless the slope would turn the order of people round; a
    shift with :data:`MIN_EVENTS`; no row with fewer.
    """
    chosen = predictions[predictions["arm"].isin(arms) & (predictions["fraction"] == 1)]
    cube, rows = Cube.of(chosen, records, "test").first_records(), []
    for number, (arm, _) in enumerate(cube.arms):
        for endpoint in cube.diseases():
            _, sample = Sample.of(cube, endpoint, [number])
            try:
                rows.append((arm, endpoint, *_map(sample), len(sample.labels), int(sample.labels.sum())))
            except NotEstimableError:
                continue
    return pd.DataFrame(rows, columns=list(MAP_COLUMNS))


def _map(sample: Sample) -> tuple[str, float, float]:
    """Method, intercept and slope. Raises NotEstimableError with fewer than `MIN_EVENTS` cases or controls."""
    fewer = min(sample.labels.sum(), (~sample.labels).sum())
    if len(sample.risks) == 0 or fewer < MIN_EVENTS:
        raise NotEstimableError("too few people or events to recalibrate")
    if fewer >= MIN_SLOPE and np.ptp(sample.risks[0]) > 0:
        shift, slope = calibration.coefficients(sample.labels, sample.risks[0], "intercept_slope")
        if slope > 0:
            return "intercept_slope", shift, slope
    return "intercept", *calibration.coefficients(sample.labels, sample.risks[0], "intercept")
