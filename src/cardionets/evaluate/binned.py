"""Curves and clouds as counts of groups of people: no point, step or cell stands for a single one."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.evaluate.estimate import Floats, NotEstimableError

BINS: Final = 10
CELLS: Final = 8
RISK_COLUMNS: Final = ("bin", "people", "cases", "mean_risk")
CLOUD_COLUMNS: Final = ("x_low", "x_high", "y_low", "y_high", "people")


def risk_bins(labels: NDArray[np.bool_], risk: Floats, minimum: int, bins: int = BINS) -> pd.DataFrame:
    """People (n,) in order of risk, cut into groups with at least ``minimum`` cases and ``minimum`` controls each.

    At most ``bins`` groups, from low to high risk: bin, people, cases, mean_risk. Calibration is cases / people against
    mean_risk; the ROC curve is the running sum from the top. Raises NotEstimableError when not one group can be made.
    """
    if min(labels.sum(), (~labels).sum()) < minimum:
        raise NotEstimableError("too few people or events")
    order = np.argsort(risk, kind="stable")
    group, number = np.empty(len(risk), np.int64), 0
    cases = controls = size = 0
    for position in order:
        group[position] = number
        cases, controls, size = cases + labels[position], controls + (not labels[position]), size + 1
        if min(cases, controls) >= minimum and size >= len(risk) / bins:
            number, cases, controls, size = number + 1, 0, 0, 0
    group[group == number] = max(number - 1, 0)  # the last, unfinished group joins the one before
    frame = pd.DataFrame({"people": 1, "cases": labels.astype(int), "mean_risk": risk})
    table = frame.groupby(group).agg({"people": "sum", "cases": "sum", "mean_risk": "mean"})
    return table.rename_axis("bin").reset_index()[list(RISK_COLUMNS)]


def roc_of(bins: pd.DataFrame) -> tuple[Floats, Floats]:
    """False and true positive rates (k + 1,) from :func:`risk_bins`, from (0, 0) to (1, 1)."""
    top = bins.sort_values("bin", ascending=False)
    cases, controls = top["cases"].to_numpy(float), (top["people"] - top["cases"]).to_numpy(float)
    false, true = (np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (controls, cases))
    return false, true


def cloud(x: Floats, y: Floats, minimum: int, cells: int = CELLS) -> pd.DataFrame:
    """Pairs (n,) counted in a grid between their 5 and 95 % percentiles; only cells of ``minimum`` or more are kept.

    The extremes count in the outermost cells, so that no edge of the grid is anybody's value.
    """
    if len(x) < 4 * minimum:
        raise NotEstimableError("too few people or events")
    edges = [np.linspace(np.quantile(v, 0.05), np.quantile(v, 0.95), cells + 1) for v in (x, y)]
    if any(np.ptp(e) <= 0 for e in edges):
        raise NotEstimableError("the predictions are constant")
    column, row = (np.clip(np.searchsorted(e, v, side="right") - 1, 0, cells - 1) for v, e in zip((x, y), edges))
    counts = np.zeros((cells, cells), np.int64)
    np.add.at(counts, (column, row), 1)
    i, j = np.nonzero(counts >= minimum)
    values = (edges[0][i], edges[0][i + 1], edges[1][j], edges[1][j + 1], counts[i, j])
    return pd.DataFrame(dict(zip(CLOUD_COLUMNS, values)))
