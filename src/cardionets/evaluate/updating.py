"""Recalibration at a centre: what it would mend, measured on people whose own outcomes did not move their risks.

Cross-fitted over persons (`calibration.recalibrated`), so that "after" is honest. Janssen et al., J Clin Epidemiol
2008;61:76 (the ladder of updates); Murphy, J Appl Meteorol 1973;12:595 (parts of the Brier score).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, get_args

import pandas as pd

from cardionets.config import Protocol
from cardionets.evaluate import calibration
from cardionets.evaluate.bootstrap import clustered_mean
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.discrimination import require_classes
from cardionets.evaluate.disease_metrics import Sample
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError
from cardionets.evaluate.rows import Rows, attempt

RECEIVED: Final = "as received"
METHODS: Final = (RECEIVED, *get_args(calibration.Recalibration))
PARTS: Final = ("reliability", "resolution", "uncertainty")
FEWEST: Final = 10  # events and non-events, below which an update fitted on four fifths of a centre is noise


def updated(sample: Sample, method: str, seed: int) -> Floats:
    """Risks (n,) of the first arm of ``sample`` after one of :data:`METHODS`. Raises `NotEstimableError`."""
    require_classes(sample.labels)
    risk = sample.risks[0]
    if ((risk < 0) | (risk > 1)).any():
        raise NotEstimableError("the predictions are not probabilities")
    if method == RECEIVED:
        return risk
    events = int(sample.labels.sum())
    if min(events, len(sample.labels) - events) < FEWEST:
        raise NotEstimableError(f"{FEWEST} events and {FEWEST} non-events are needed to recalibrate")
    chosen = next(m for m in get_args(calibration.Recalibration) if m == method)
    return calibration.recalibrated(sample.labels, risk, chosen, sample.persons, seed=seed)


def before_and_after(cube: Cube, protocol: Protocol, cohort: str) -> pd.DataFrame:
    """Calibration of the first arm of ``cube`` for every disease, as received and after each update.

    The metrics' columns with ``recalibration``: intercept, slope, O / E, ICI and Brier score with its parts.
    """
    tables = []
    for endpoint in cube.diseases():
        _, sample = Sample.of(cube, endpoint, [0])
        for method in METHODS:
            rows = Rows(cohort, "test")
            events = int(sample.labels.sum())
            for metric, compute in _steps(sample, method, protocol).items():
                rows.add(endpoint, *cube.arms[0], metric, attempt(compute), len(sample.labels), events)
            tables.append(rows.frame().assign(recalibration=method))
    return pd.concat(tables, ignore_index=True) if tables else Rows(cohort, "test").frame()


def _steps(sample: Sample, method: str, protocol: Protocol) -> dict[str, Callable[[], Estimate | float]]:
    level, labels, persons = protocol.statistics.level, sample.labels, sample.persons
    try:
        risk = updated(sample, method, protocol.seed)
    except NotEstimableError as error:
        return dict.fromkeys(
            ("calibration_intercept", "calibration_slope", "oe", "ici", "brier"), partial(_fail, error)
        )
    parts = partial(calibration.brier_parts, labels, risk)
    return {
        "calibration_intercept": lambda: calibration.intercept(labels, risk, level, persons),
        "calibration_slope": lambda: calibration.slope(labels, risk, level, persons),
        "oe": lambda: calibration.observed_expected(labels, risk, level, persons),
        "ici": lambda: calibration.ici(labels, risk),
        "brier": lambda: clustered_mean((risk - labels) ** 2, persons, level),
        **{f"brier_{name}": lambda name=name: parts()[name] for name in PARTS},  # type: ignore[misc]
    }


def _fail(error: NotEstimableError) -> Estimate:
    raise error
