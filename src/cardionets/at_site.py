"""A released risk as one of a site: the map that the site's validation left, applied to people who come after.

``results/<cohort>/calibration.csv`` holds two numbers and two counts per arm and disease and stays at the site.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cardionets.config import Study

FILE: Final = "calibration"
ARMS: Final = ("aligned", "aligned_covariates", "aligned_mae")
"""The arms whose risks a patient page shows."""
EDGE: Final = 1e-6


@dataclass(frozen=True)
class Update:
    """Log-odds of a risk here = ``intercept`` + ``slope`` x log-odds as released; from ``n`` people, ``events`` ill."""

    intercept: float
    slope: float
    n: int
    events: int

    def risk(self, released: float) -> float:
        """The site's probability, or threshold, for a released one; NaN stays NaN."""
        if math.isnan(released):
            return released
        inside = min(max(released, EDGE), 1 - EDGE)
        odds = self.intercept + self.slope * math.log(inside / (1 - inside))
        return (1 + math.tanh(odds / 2)) / 2


def load(study: Study, cohort: str, arms: Mapping[str, str]) -> dict[str, Update]:
    """Disease -> update of its arm at a cohort (``arms``: disease -> arm); empty where not validated, and at home.

    A development cohort needs none: its own people chose the thresholds and are the prevalence.
    """
    path = study.path("results", cohort, f"{FILE}.csv")
    if not cohort or study.cohort(cohort).role == "development" or not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["arm"] == arms.get(row["endpoint"])]
    return {
        row["endpoint"]: Update(float(row["intercept"]), float(row["slope"]), int(row["n"]), int(row["events"]))
        for row in rows
    }
