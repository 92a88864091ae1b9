"""Random-effects pooling of a few centres: REML, Hartung-Knapp interval, heterogeneity, prediction interval.

Sources: Viechtbauer, J Educ Behav Stat 2005;30:261 (REML); Knapp & Hartung, Stat Med 2003;22:2693; Higgins &
Thompson, Stat Med 2002;21:1539 (I2); Higgins et al., JRSS A 2009;172:137 (prediction interval, t with k - 2 df);
Debray et al., BMJ 2017;356:i6460 (which scale for which measure).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, stdtrit

from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, z_value
from cardionets.evaluate.rows import MEAN_OF
from cardionets.evaluate.scales import SCALES, Scale

FEW = 3
DIFFERENT = "not every centre measured all phenotypes: each mean is over those of its own"


@dataclass(frozen=True, slots=True)
class Pooled:
    """A pooled estimate with its confidence and prediction intervals and what they rest on."""

    estimate: Estimate
    prediction: Estimate
    tau2: float
    i2: float
    q: float
    q_p: float
    k: int
    weights: Floats
    se: float
    note: str = ""


def reml(effects: Floats, variances: Floats) -> float:
    """Between-centre variance tau2 by Fisher scoring of the restricted likelihood, held at 0 or above."""
    tau2 = max(0.0, float(effects.var(ddof=1) - variances.mean()))
    for _ in range(500):
        w = 1 / (variances + tau2)
        mean = (w @ effects) / w.sum()
        gradient = (w**2) @ ((effects - mean) ** 2) - w.sum() + (w**2).sum() / w.sum()
        information = (w**2).sum() - 2 * (w**3).sum() / w.sum() + ((w**2).sum() / w.sum()) ** 2
        updated = max(0.0, tau2 + gradient / information)
        if abs(updated - tau2) < 1e-10 * (1 + tau2):
            return float(updated)
        tau2 = updated
    raise NotEstimableError("the between-centre variance does not converge")


def _i2(tau2: float, variances: Floats) -> float:
    w = 1 / variances
    typical = (len(w) - 1) * w.sum() / (w.sum() ** 2 - (w**2).sum())
    return float(100 * tau2 / (tau2 + typical))


def pool(effects: Floats, ses: Floats, level: float = 0.95, floor: bool = False) -> Pooled:
    """Pool effects (k,) with standard errors (k,) on a scale where they are normal.

    ``floor`` keeps the Hartung-Knapp factor at 1 or above (Rover et al., BMC Med Res Methodol 2015;15:99). Simulated,
    the 95 % interval covered 95 % for 5 centres of equal size, 92 % for 5 of very unequal size, and 95 % there with
    ``floor``, which is too wide (above 99 %) where centres agree.
    """
    effects, variances = np.asarray(effects, dtype=np.float64), np.asarray(ses, dtype=np.float64) ** 2
    k = len(effects)
    if k < 2:
        raise NotEstimableError(f"{k} centre{'s' * (k != 1)} cannot be pooled")
    if not (np.isfinite(effects).all() and (variances > 1e-30).all()):  # smaller ones overflow when inverted
        raise NotEstimableError("a centre has no estimate or no standard error")
    tau2 = reml(effects, variances)
    w = 1 / (variances + tau2)
    mean = float(w @ effects / w.sum())
    factor = float(w @ (effects - mean) ** 2 / (k - 1))
    se = float(np.sqrt((max(factor, 1.0) if floor else factor) / w.sum()))
    half = float(stdtrit(k - 1, 0.5 + level / 2)) * se
    fixed = 1 / variances
    q = float(fixed @ (effects - fixed @ effects / fixed.sum()) ** 2)
    note = f"k = {k}: tau2, I2 and both intervals are unreliable with so few centres" if k <= FEW else ""
    return Pooled(
        estimate=Estimate(mean, mean - half, mean + half), prediction=_prediction(mean, se, tau2, k, level),
        tau2=tau2, i2=_i2(tau2, variances), q=q, q_p=float(chdtrc(k - 1, q)), k=k,
        weights=w / w.sum(), se=se, note=note,
    )  # fmt: skip


def _prediction(mean: float, se: float, tau2: float, k: int, level: float) -> Estimate:
    if k < FEW:
        return Estimate(mean, note="interval not estimable: because a prediction interval needs 3 centres")
    half = float(stdtrit(k - 2, 0.5 + level / 2)) * float(np.sqrt(tau2 + se**2))
    return Estimate(mean, mean - half, mean + half)


def _back(estimate: Estimate, scale: Scale) -> Estimate:
    value, *bounds = (float(scale.inverse(x)) for x in (estimate.value, estimate.lower, estimate.upper))
    return Estimate(value, min(bounds), max(bounds), estimate.note)


def pool_on(scale: Scale, values: Floats, lower: Floats, upper: Floats, level: float = 0.95) -> Pooled:
    """Pool values (k,) whose intervals are symmetric on ``scale``; the answer is transformed back, tau2 is not."""
    effects = scale.forward(np.asarray(values, dtype=np.float64))
    width = scale.forward(np.asarray(upper, dtype=np.float64)) - scale.forward(np.asarray(lower, dtype=np.float64))
    pooled = pool(effects, np.abs(width) / (2 * z_value(level)), level)
    return replace(pooled, estimate=_back(pooled.estimate, scale), prediction=_back(pooled.prediction, scale))


def leave_one_out(
    scale: Scale, labels: list[str], values: Floats, lower: Floats, upper: Floats, level: float = 0.95
) -> pd.DataFrame:
    """Pooled estimate without each centre in turn: left_out, estimate, lower, upper, tau2, i2."""
    rows = []
    for i, label in enumerate(labels):
        keep = np.arange(len(labels)) != i
        part = pool_on(scale, np.asarray(values)[keep], np.asarray(lower)[keep], np.asarray(upper)[keep], level)
        rows.append((label, part.estimate.value, part.estimate.lower, part.estimate.upper, part.tau2, part.i2))
    return pd.DataFrame(rows, columns=["left_out", "estimate", "lower", "upper", "tau2", "i2"])


KEYS = ["endpoint", "arm", "fraction", "metric"]
MEASURES = ("auc", "r", "oe", "calibration_slope")  # pooled as logit, Fisher z, log, and as it is


def usable(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows whose interval exists and has a width, and that lie within their scale: those that can be pooled."""
    known = metrics.dropna(subset=["estimate", "lower", "upper"])
    known = known[known["upper"] > known["lower"]]
    bounds = known[["metric", "estimate", "lower", "upper"]].itertuples(index=False)
    inside = [SCALES[metric].holds(Estimate(*values)) for metric, *values in bounds]
    return known[np.array(inside, bool)]


def groups(metrics: pd.DataFrame, fewest: int = 2) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Usable rows of each endpoint x arm x fraction x :data:`MEASURES` that ``fewest`` cohorts or more have."""
    rows = usable(metrics[metrics["metric"].isin(MEASURES) & metrics["split"].eq("test")])
    for key, group in rows.groupby(KEYS, sort=False):
        if len(group) >= fewest:
            yield dict(zip(KEYS, key)), group


def pool_rows(metric: str, rows: pd.DataFrame, level: float = 0.95) -> Pooled:
    """:func:`pool_on` for rows of one metric, on its own scale."""
    value, lower, upper = rows[["estimate", "lower", "upper"]].to_numpy(float).T
    return pool_on(SCALES[metric], value, lower, upper, level)


def leave_each_out(metrics: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """:func:`leave_one_out` of every group of three cohorts or more: the keys, then its columns."""
    tables = []
    for key, rows in groups(metrics, 3):
        value, lower, upper = rows[["estimate", "lower", "upper"]].to_numpy(float).T
        left = leave_one_out(SCALES[key["metric"]], list(rows["cohort"]), value, lower, upper, level)
        tables.append(left.assign(**key))
    columns = [*KEYS, "left_out", "estimate", "lower", "upper", "tau2", "i2"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def pool_metrics(metrics: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Pool a tidy metrics table across its cohorts, one row per endpoint x arm x fraction x metric with a known scale.

    Columns: the keys, estimate, lower, upper, prediction_lower, prediction_upper, tau2, i2, q_p, k, n, events, cohorts,
    note. A mean that some centre took over part of the phenotypes is pooled, and :data:`DIFFERENT` says so.
    """
    table = metrics[metrics["metric"].isin(SCALES) & metrics["split"].eq("test")]
    rows = [
        _pool_group(dict(zip(KEYS, key)), group, level) for key, group in table.groupby(KEYS, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows)


def _pool_group(key: dict[str, Any], group: pd.DataFrame, level: float) -> dict[str, Any]:
    rows = usable(group)
    left = _left_out(group, rows)
    total = {
        "k": len(rows),
        "n": rows["n"].sum(),
        "events": rows["events"].sum(min_count=1),
        "cohorts": ";".join(rows["cohort"]),
    }
    try:
        pooled = pool_rows(key["metric"], rows, level)
    except NotEstimableError as error:
        missing = dict.fromkeys(("estimate", "lower", "upper"), np.nan)
        return {**key, **missing, **total, "note": _joined(f"not estimable: because {error}", left)}
    numbers = {
        "estimate": pooled.estimate.value, "lower": pooled.estimate.lower, "upper": pooled.estimate.upper,
        "prediction_lower": pooled.prediction.lower, "prediction_upper": pooled.prediction.upper,
        "tau2": pooled.tau2, "i2": pooled.i2, "q_p": pooled.q_p,
    }  # fmt: skip
    return {**key, **numbers, **total, "note": _joined(_partial(rows), pooled.note, left)}


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _partial(rows: pd.DataFrame) -> str:
    """Whether a mean rests on other phenotypes at one cohort than at another."""
    partial = rows["note"].fillna("").str.startswith(MEAN_OF).any() if "note" in rows else False
    return DIFFERENT if partial else ""


def _left_out(group: pd.DataFrame, pooled: pd.DataFrame) -> str:
    """Which cohorts have an estimate that cannot be pooled; "" where there is none."""
    lost = group.loc[group["estimate"].notna() & ~group["cohort"].isin(pooled["cohort"]), "cohort"]
    return f"left out, without an interval within the scale: {', '.join(lost)}" if len(lost) else ""
