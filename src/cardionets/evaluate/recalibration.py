"""Recalibration at a centre: what a shift, a shift and a slope, or a monotone map of its own would mend.

Every person's risk is updated by a map fitted on other people of the centre (cross-fitting over persons), so nobody is
judged on a map that has seen them. Before and after stay apart: updated arms are named ``<arm>+intercept`` and
``<arm>+intercept_slope``. People who come to the centre later get :func:`maps`, fitted on everybody. Murphy, J Appl
Meteorol 1973;12:595 (parts of the Brier score).
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
from cardionets.evaluate.discrimination import require_classes
from cardionets.evaluate.disease_metrics import Sample, calibration_metrics
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable
from cardionets.evaluate.rows import Rows

RECEIVED: Final = "as received"
UPDATES: Final[tuple[calibration.Recalibration, ...]] = get_args(calibration.Recalibration)
METHODS: Final = (RECEIVED, *UPDATES)
ARMS: Final = UPDATES[:2]  # those that keep the order of people, and become arms of their own
KINDS: Final = ("calibration_intercept", "calibration_slope", "oe", "ici", "brier")
PARTS: Final = ("reliability", "resolution", "uncertainty")
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
                one = replace(sample, risks=risk[None])
                for method in ARMS:
                    found = _metrics(one, method, study.protocol)
                    _add(rows, one, (endpoint, f"{cube.arms[arm][0]}+{method}", fraction), found)
    return rows.frame()


def before_and_after(cube: Cube, protocol: Protocol, cohort: str) -> pd.DataFrame:
    """Calibration of the first arm of ``cube`` for every disease, as received and after each update, side by side.

    The metrics' columns with ``recalibration``: intercept, slope, O / E, ICI and Brier score with its parts.
    """
    tables = []
    for endpoint in cube.diseases():
        _, sample = Sample.of(cube, endpoint, [0])
        for method in METHODS:
            rows = Rows(cohort, "test")
            _add(rows, sample, (endpoint, *cube.arms[0]), _metrics(sample, method, protocol, parts=True))
            tables.append(rows.frame().assign(recalibration=method))
    return pd.concat(tables, ignore_index=True) if tables else Rows(cohort, "test").frame()


def updated(sample: Sample, method: str, seed: int) -> Floats:
    """Cross-fitted risks (n,) of the first arm of ``sample`` after one of :data:`METHODS`.

    Raises `NotEstimableError` with one class only, with fewer than :data:`MIN_EVENTS` cases or controls, for constant
    predictions, and for predictions that are no probabilities.
    """
    require_classes(sample.labels)
    risk: Floats = sample.risks[0]
    if ((risk < 0) | (risk > 1)).any():
        raise NotEstimableError("the predictions are not probabilities")
    chosen = next((m for m in UPDATES if m == method), None)
    if chosen is None:
        return risk
    if min(sample.labels.sum(), (~sample.labels).sum()) < MIN_EVENTS:
        raise NotEstimableError(f"too few people or events to recalibrate ({MIN_EVENTS} of each are needed)")
    if np.ptp(risk) == 0 and chosen == "intercept_slope":
        raise NotEstimableError("the predictions are constant")
    mended: Floats = calibration.recalibrated(sample.labels, risk, chosen, sample.persons, FOLDS, seed)
    return mended


def _metrics(sample: Sample, method: str, protocol: Protocol, parts: bool = False) -> dict[str, Estimate]:
    """:data:`KINDS` after one method, and with ``parts`` those of the Brier score."""
    try:
        risk = updated(sample, method, protocol.seed)
        found = calibration_metrics(replace(sample, risks=risk[None]), risk, protocol.statistics.level)
        brier = _brier(sample, risk, protocol) if parts else {}
    except NotEstimableError as error:
        return dict.fromkeys(KINDS, not_estimable(str(error)))
    return found | brier


def _brier(sample: Sample, risk: Floats, protocol: Protocol) -> dict[str, Estimate]:
    s = protocol.statistics
    found = calibration.brier_parts(sample.labels, risk, 10, sample.persons, s.bootstrap, s.level, protocol.seed)
    return {f"brier_{name}": found[name] for name in PARTS}


def _add(rows: Rows, sample: Sample, key: tuple[str, str, float], found: dict[str, Estimate]) -> None:
    for metric, estimate in found.items():
        rows.add(*key, metric, estimate, len(sample.labels), int(sample.labels.sum()))


def maps(predictions: pd.DataFrame, records: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """What turns a released risk into one of this centre, for people who come after: :data:`MAP_COLUMNS`.

    Fitted on one record of every test person, so it is not to be judged on them (see :func:`evaluate`). A shift
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
