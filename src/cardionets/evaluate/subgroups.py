"""Performance in subgroups, with a test of interaction: does the performance differ, or only its noise?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from cardionets.config import Protocol
from cardionets.evaluate import discrimination
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.disease_metrics import Sample
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, z_value
from cardionets.evaluate.multiplicity import holm
from cardionets.evaluate.regression import Moments, r_interval
from cardionets.evaluate.rows import Rows, attempt
from cardionets.evaluate.scales import FISHER, LOGIT, Scale

AGE_BANDS = (0, 45, 55, 65, 75, 200)
BMI_BANDS = (0, 25, 30, 100)
MINIMUM = 10
FEWEST_EVENTS = 5  # of each class, below which the AUC of a subgroup, and a gap built on it, is noise


def standard_groups(records: pd.DataFrame) -> pd.DataFrame:
    """Subgroup of each record (rows as given): sex, age band, body size (BMI), rhythm, device; NA where unknown.

    Devices are left out where all recordings come from one.
    """
    groups = pd.DataFrame(index=records.index)
    if "sex" in records:
        groups["sex"] = records["sex"].map({"F": "women", "M": "men"})
    if "age" in records:
        groups["age"] = _bands(records["age"], AGE_BANDS)
    if {"height_cm", "weight_kg"} <= set(records):
        groups["body mass index"] = _bands(records["weight_kg"] / (records["height_cm"] / 100) ** 2, BMI_BANDS)
    if "atrial_fibrillation" in records:
        rhythm = records["atrial_fibrillation"].astype("boolean")
        groups["rhythm"] = rhythm.map(
            {True: "atrial fibrillation", False: "no atrial fibrillation"}, na_action="ignore"
        )
    if "device" in records and records["device"].nunique() > 1:
        groups["device"] = _frequent(records["device"])
    return groups


def _frequent(names: pd.Series, most: int = 6) -> pd.Series:
    """The ``most`` frequent names of at least :data:`MINIMUM` records; the rest are one group."""
    counts = names.value_counts()
    return names.where(names.isna() | names.isin(counts.index[counts >= MINIMUM][:most]), "other devices")


def _bands(values: pd.Series, edges: tuple[int, ...]) -> pd.Series:
    names = [f"under {edges[1]}", *(f"{a}-{b - 1}" for a, b in pairwise(edges[1:-1])), f"{edges[-2]} and over"]
    return pd.cut(pd.to_numeric(values), list(edges), right=False, labels=names).astype("object")


def interaction(estimates: list[Estimate], scale: Scale, level: float = 0.95) -> tuple[float, int, float]:
    """(Q, degrees of freedom, p): are the estimates of independent subgroups equal? Cochran's Q on ``scale``.

    Altman & Bland, BMJ 2003;326:219, for more than two groups; subgroups without an interval within the scale (an AUC
    of 1 has none) are left out.
    """
    usable = [e for e in estimates if scale.holds(e) and e.upper > e.lower]
    if len(usable) < 2:
        raise NotEstimableError("fewer than 2 subgroups have an interval within the scale")
    centre, lower, upper = (
        scale.forward(np.array([getattr(e, k) for e in usable])) for k in ("value", "lower", "upper")
    )
    weight = 1 / (np.abs(upper - lower) / (2 * z_value(level))) ** 2
    q = float(weight @ (centre - weight @ centre / weight.sum()) ** 2)
    return q, len(usable) - 1, float(chdtrc(len(usable) - 1, q))


def _interaction_p(estimates: list[Estimate], scale: Scale, level: float) -> Estimate:
    _, freedom, p = interaction(estimates, scale, level)
    left = len(estimates) - freedom - 1
    return Estimate(
        p, note=f"{left} of {len(estimates)} subgroups left out: no interval within the scale" if left else ""
    )


def gap(estimates: list[Estimate]) -> float:
    """Fairness gap: best minus worst subgroup. It is positive by construction; judge it by `interaction`."""
    values = [e.value for e in estimates if np.isfinite(e.value)]
    if len(values) < 2:
        raise NotEstimableError("fewer than 2 subgroups are estimable")
    return max(values) - min(values)


Masked = Callable[[NDArray[np.bool_]], Estimate]


def _auc(sample: Sample, level: float, mask: NDArray[np.bool_]) -> Estimate:
    _enough(mask)
    discrimination.require_classes(sample.labels[mask])
    events = int(sample.labels[mask].sum())
    if min(events, int(mask.sum()) - events) < FEWEST_EVENTS:
        raise NotEstimableError(f"the subgroup has {events} events ({FEWEST_EVENTS} of each class are needed)")
    return discrimination.auc(sample.labels[mask], sample.risks[0][mask], level, sample.persons[mask])


def _r(truth: Floats, predicted: Floats, level: float, mask: NDArray[np.bool_]) -> Estimate:
    _enough(mask)
    people = np.arange(int(mask.sum()))
    r = Moments.of(truth[mask][:, None], predicted[mask][:, None], people).scores()["r"].item()
    if np.isnan(r):
        raise NotEstimableError("the truth or the prediction does not vary")
    return r_interval(r, len(people), level)


def _enough(mask: NDArray[np.bool_]) -> None:
    if mask.sum() < MINIMUM:
        raise NotEstimableError(f"the subgroup has {int(mask.sum())} people ({MINIMUM} are needed)")


def evaluate(
    predictions: pd.DataFrame, records: pd.DataFrame, protocol: Protocol, arm: str, cohort: str
) -> pd.DataFrame:
    """AUC of every disease and r of the headline phenotypes of one arm in each subgroup of the test split.

    One record per person (chosen by pseudonym), the largest label fraction. The metrics' columns with variable and
    group; the group "all groups" holds ``<metric>_interaction_p`` and ``<metric>_gap``.
    """
    first = records[records["split"] == "test"].drop_duplicates("person")
    cube = Cube.of_arm(predictions, first, arm)
    groups, level = standard_groups(cube.records), protocol.statistics.level
    tables = []
    for endpoint in cube.diseases():
        _, sample = Sample.of(cube, endpoint, [0])
        mask = cube.common(endpoint, [0])[1]
        one = _Endpoint(Rows(cohort, "test"), endpoint, cube.arms[0], "auc", LOGIT, partial(_auc, sample, level))
        tables += one.tables(groups[mask], sample.labels, level)
    for endpoint in [n for n in protocol.endpoints.headline_phenotypes if n in cube.endpoints]:
        mask = cube.common(endpoint, [0])[1]
        compute = partial(_r, cube.truth(endpoint)[mask], cube.column(endpoint)[0][mask], level)
        one = _Endpoint(Rows(cohort, "test"), endpoint, cube.arms[0], "r", FISHER, compute)
        tables += one.tables(groups[mask], None, level)
    return adjusted(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame()


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """With rows ``<metric>_interaction_p_holm``: the interaction tests of one metric count as one family."""
    rows = table[table["metric"].str.endswith("_interaction_p")].copy()
    rows["estimate"] = rows.groupby("metric")["estimate"].transform(lambda p: holm(p.to_numpy(float)))
    rows["metric"] = rows["metric"] + "_holm"
    return pd.concat([table, rows], ignore_index=True)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    rows: Rows
    endpoint: str
    arm: tuple[str, float]
    metric: str
    scale: Scale
    compute: Masked

    def tables(self, groups: pd.DataFrame, labels: NDArray[np.bool_] | None, level: float) -> list[pd.DataFrame]:
        return [self._variable(str(name), groups[name], labels, level) for name in groups]

    def _variable(self, name: str, group: pd.Series, labels: NDArray[np.bool_] | None, level: float) -> pd.DataFrame:
        rows, found, names = Rows(self.rows.cohort, self.rows.split), [], []
        for member in sorted(group.dropna().unique(), key=lambda m: (not str(m).startswith("under"), str(m))):
            mask = (group == member).fillna(False).to_numpy(bool)
            found.append(attempt(partial(self.compute, mask)))
            events = None if labels is None else int(labels[mask].sum())
            rows.add(self.endpoint, *self.arm, self.metric, found[-1], int(mask.sum()), events)
            names.append(str(member))
        total = int(group.notna().sum())
        p = attempt(lambda: _interaction_p(found, self.scale, level))
        rows.add(self.endpoint, *self.arm, f"{self.metric}_interaction_p", p, total)
        rows.add(self.endpoint, *self.arm, f"{self.metric}_gap", attempt(lambda: gap(found)), total)
        return rows.frame().assign(variable=name, group=[*names, "all groups", "all groups"])
