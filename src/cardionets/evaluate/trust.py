"""May a number be trusted at this centre? Coverage of prediction intervals, and novelty of the ECGs behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.evaluate.bootstrap import clustered_error, person_codes, weight_blocks
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.discrimination import midranks, proportion
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, percentile, wald_logit
from cardionets.evaluate.rows import Rows, attempt

ALL = "all_phenotypes"


def trust(
    predictions: pd.DataFrame,
    records: pd.DataFrame,
    widths: pd.DataFrame,
    novelty: pd.DataFrame,
    *,
    cohort: str,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of the metrics table about test people, for each arm of ``widths`` (arm, endpoint, half_width, level).

    ``coverage``: share of phenotypes inside their interval, each and over all. ``beyond``: share of records whose
    ``novelty`` (record, novelty, beyond) exceeds the threshold. ``novelty_error``: Spearman correlation between novelty
    and the mean absolute error of a record's phenotypes, each in half-widths.
    """
    kept = predictions[predictions["arm"].isin(widths["arm"]) & predictions["fraction"].eq(1.0)]
    cube, rows = Cube.of(kept, records, "test"), Rows(cohort, "test")
    names, persons = cube.phenotypes(), cube.persons
    truth = np.column_stack([cube.truth(name) for name in names])  # (n, E)
    new = novelty.drop_duplicates("record").set_index("record").reindex(cube.records["record"])
    for number, (arm, fraction) in enumerate(cube.arms):
        half = widths[widths["arm"] == arm].set_index("endpoint")["half_width"].reindex(names).to_numpy(np.float64)
        predicted = cube.values[number][:, [cube.endpoints.index(name) for name in names]]
        error = np.abs(predicted - truth) / half  # 1 = on the edge of the interval
        inside = np.where(np.isfinite(error), error <= 1, np.nan)
        for j, name in enumerate(names):
            _add(rows, name, arm, fraction, "coverage", inside[:, j], persons, _share, level)
        _add(rows, ALL, arm, fraction, "coverage", _mean(inside), persons, _mean_share, level)
        beyond = new["beyond"].astype("Float64").to_numpy(np.float64, na_value=np.nan)
        _add(rows, ALL, arm, fraction, "beyond", beyond, persons, _share, level)
        strange, size = new["novelty"].to_numpy(np.float64), _mean(error)
        both = np.isfinite(strange) & np.isfinite(size)
        found = attempt(partial(_spearman, strange[both], size[both], persons[both], replicates, seed, level))
        rows.add(ALL, arm, fraction, "novelty_error", found, len(set(persons[both])))
    return rows.frame()


def _add(
    rows: Rows,
    endpoint: str,
    arm: str,
    fraction: float,
    metric: str,
    values: Floats,
    persons: NDArray[Any],
    statistic: Callable[[Floats, NDArray[Any], float], Estimate],
    level: float,
) -> None:
    """A statistic of the known values (n,) and their persons."""
    known = np.isfinite(values)
    found = attempt(partial(statistic, values[known].astype(np.float64), persons[known], level))
    rows.add(endpoint, arm, fraction, metric, found, len(set(persons[known])))


def _share(values: Floats, persons: NDArray[Any], level: float) -> Estimate:
    """Share of ones among ones and zeros (n,)."""
    if not len(values):
        raise NotEstimableError("nobody's value is known")
    return proportion(values > 0.5, persons, level)


def _mean_share(values: Floats, persons: NDArray[Any], level: float) -> Estimate:
    """Mean of shares (n,), with an interval on the logit scale."""
    error = clustered_error(values, persons)
    return wald_logit(float(values.mean()), error, level)


def _mean(values: Floats) -> Floats:
    """Mean over the known endpoints of each record, (n, E) -> (n,); NaN where none is known."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)


def _spearman(x: Floats, y: Floats, persons: NDArray[Any], replicates: int, seed: int, level: float) -> Estimate:
    """Spearman correlation with a percentile bootstrap over people; ranks are those of everybody."""
    if len(x) < 3:
        raise NotEstimableError("fewer than 3 records have phenotypes and a novelty score")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise NotEstimableError("the novelty or the error is the same for everybody")
    a, b = midranks(np.stack([x, y]))
    codes, people = person_codes(persons)
    terms = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], axis=1)  # (n, 6)
    drawn = [w[:, codes] @ terms for w in weight_blocks(people, replicates, seed)]
    return percentile(float(_correlation(terms.sum(0))), _correlation(np.concatenate(drawn)), level)


def _correlation(sums: Floats) -> Floats:
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n)))
