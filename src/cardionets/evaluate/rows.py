"""Collects rows of the tidy metrics table, the only place every printed number comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from cardionets.evaluate.estimate import Estimate, NotEstimableError, not_estimable

COLUMNS: Final = (
    "cohort",
    "endpoint",
    "arm",
    "fraction",
    "split",
    "metric",
    "estimate",
    "lower",
    "upper",
    "n",
    "events",
    "note",
)
MEAN_OF: Final = "mean of "
"""Begins the note of a mean that some of its phenotypes are missing from."""
UNVARIED: Final = "the truth or the prediction does not vary, or too few people are known"


def attempt(compute: Callable[[], Estimate | float]) -> Estimate:
    """Run one statistic; the reason why it does not exist becomes its note."""
    try:
        found = compute()
    except NotEstimableError as error:
        return not_estimable(str(error))
    estimate = found if isinstance(found, Estimate) else Estimate(float(found))
    if np.isnan(estimate.value) and not estimate.note:
        return not_estimable(UNVARIED)
    return estimate


class Rows:
    """Rows of one cohort and split."""

    def __init__(self, cohort: str, split: str) -> None:
        self.cohort, self.split = cohort, split
        self.rows: list[tuple[Any, ...]] = []

    def add(
        self,
        endpoint: str,
        arm: str,
        fraction: float,
        metric: str,
        estimate: Estimate,
        n: int,
        events: int | None = None,
    ) -> None:
        """Append one estimate."""
        e = estimate
        self.rows.append(
            (self.cohort, endpoint, arm, fraction, self.split, metric, e.value, e.lower, e.upper, n, events, e.note)
        )

    def frame(self) -> pd.DataFrame:
        """The tidy table."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return table.astype({"n": "int64", "events": "Int64", "fraction": "float64", "note": "string"})
