"""Calibration of one arm at a centre, as received and after each update, side by side for people.

The updates are those of `evaluate.recalibration`, isotonic regression beside them: cross-fitted over persons, so that
"after" is honest. Murphy, J Appl Meteorol 1973;12:595 (parts of the Brier score).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, get_args

import pandas as pd

from cardionets.config import Protocol
from cardionets.evaluate import calibration, recalibration
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.discrimination import require_classes
from cardionets.evaluate.disease_metrics import Sample, calibration_metrics
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable
from cardionets.evaluate.rows import Rows

RECEIVED: Final = "as received"
METHODS: Final = (RECEIVED, *get_args(calibration.Recalibration))
KINDS: Final = ("calibration_intercept", "calibration_slope", "oe", "ici", "brier")
PARTS: Final = ("reliability", "resolution", "uncertainty")


def updated(sample: Sample, method: str, seed: int) -> Floats:
    """Risks (n,) of the first arm of ``sample`` after one of :data:`METHODS`. Raises `NotEstimableError`."""
    require_classes(sample.labels)
    risk = sample.risks[0]
    if ((risk < 0) | (risk > 1)).any():
        raise NotEstimableError("the predictions are not probabilities")
    chosen = next((m for m in get_args(calibration.Recalibration) if m == method), None)
    return risk if chosen is None else recalibration.update(sample, risk, chosen, seed)


def before_and_after(cube: Cube, protocol: Protocol, cohort: str) -> pd.DataFrame:
    """Calibration of the first arm of ``cube`` for every disease, as received and after each update.

    The metrics' columns with ``recalibration``: intercept, slope, O / E, ICI and Brier score with its parts.
    """
    tables = []
    for endpoint in cube.diseases():
        _, sample = Sample.of(cube, endpoint, [0])
        for method in METHODS:
            rows, counts = Rows(cohort, "test"), (len(sample.labels), int(sample.labels.sum()))
            for metric, estimate in _metrics(sample, method, protocol).items():
                rows.add(endpoint, *cube.arms[0], metric, estimate, *counts)
            tables.append(rows.frame().assign(recalibration=method))
    return pd.concat(tables, ignore_index=True) if tables else Rows(cohort, "test").frame()


def _metrics(sample: Sample, method: str, protocol: Protocol) -> dict[str, Estimate]:
    try:
        risk = updated(sample, method, protocol.seed)
        found = calibration_metrics(replace(sample, risks=risk[None]), risk, protocol.statistics.level)
        parts = calibration.brier_parts(sample.labels, risk)
    except NotEstimableError as error:
        return dict.fromkeys(KINDS, not_estimable(str(error)))
    return found | {f"brier_{name}": Estimate(parts[name]) for name in PARTS}
