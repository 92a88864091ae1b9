"""Clinical utility: decision curves. Vickers & Elkin, Med Decis Making 2006;26:565.

Net benefit at threshold probability t: true positives / n - false positives / n x t / (1 - t). "Treat all" is therefore
p - (1 - p) t / (1 - t), which falls with t; "treat none" is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.config import Protocol
from cardionets.evaluate.bootstrap import person_codes, person_sums, resample_sums
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.discrimination import Bools, require_classes
from cardionets.evaluate.disease_metrics import Sample
from cardionets.evaluate.estimate import Floats, NotEstimableError


def treat_all(prevalence: float, thresholds: Floats) -> Floats:
    """Net benefit (t,) of treating everybody."""
    return prevalence - (1 - prevalence) * thresholds / (1 - thresholds)


def _benefit(labels: Bools, risk: Floats, thresholds: Floats) -> Floats:
    """Each record's contribution (n, t) to the net benefit."""
    called = risk[:, None] >= thresholds
    return np.asarray(called * np.where(labels[:, None], 1.0, -thresholds / (1 - thresholds)))


def net_benefit(labels: Bools, risk: Floats, thresholds: Floats) -> Floats:
    """Net benefit (t,) of treating those with risk >= t; labels and risk (n,), thresholds (t,) inside 0-1."""
    require_classes(labels)
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise NotEstimableError("a threshold probability must lie inside 0-1")
    return np.asarray(_benefit(labels, risk, thresholds).mean(axis=0))


def decision_curve(
    labels: Bools,
    risk: Floats,
    thresholds: Floats,
    persons: NDArray[Any],
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Tidy curve: threshold, net_benefit, lower, upper, treat_all, treat_none; person-cluster percentile intervals."""
    model = net_benefit(labels, risk, thresholds)
    codes, people = person_codes(persons)
    ones = np.ones((len(labels), 1))
    sums = person_sums(np.column_stack([ones, _benefit(labels, risk, thresholds)]), codes, people)
    totals = resample_sums(sums, replicates, seed)
    lower, upper = np.quantile(totals[:, 1:] / totals[:, :1], [(1 - level) / 2, (1 + level) / 2], axis=0)
    everybody = treat_all(float(labels.mean()), thresholds)
    columns = {"threshold": thresholds, "net_benefit": model, "lower": lower, "upper": upper, "treat_all": everybody}
    return pd.DataFrame({**columns, "treat_none": 0.0})


def thresholds_for(prevalence: float, steps: int = 40) -> Floats:
    """Threshold probabilities (steps,) from near 0 to three times the prevalence, within 0.1-0.6."""
    top = min(0.6, max(0.1, 3 * prevalence))
    return np.asarray(np.linspace(top / steps, top, steps))


def decision_curves(cube: Cube, arms: Sequence[str], protocol: Protocol) -> pd.DataFrame:
    """`decision_curve` of each disease and arm at its largest label fraction, all arms on the same people.

    Columns: endpoint, arm, n, events, then those of the curve. A disease without both classes, or whose predictions are
    not probabilities, has one row whose note says so.
    """
    tables, s = [], protocol.statistics
    top = {arm: max(f for a, f in cube.arms if a == arm) for arm in arms if arm in dict(cube.arms)}
    wanted = [i for i, (arm, fraction) in enumerate(cube.arms) if top.get(arm) == fraction]
    for endpoint in cube.diseases():
        active, sample = Sample.of(cube, endpoint, wanted)
        for position, risk in zip(active, sample.risks):
            about = {"endpoint": endpoint, "arm": cube.arms[position][0], "n": len(risk), "events": sample.labels.sum()}
            try:
                curve = _curve_of(sample, risk, s.bootstrap, s.level, protocol.seed).assign(note="")
            except NotEstimableError as error:
                curve = pd.DataFrame({"note": [f"not estimable: because {error}"]})
            tables.append(curve.assign(**about))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _curve_of(sample: Sample, risk: Floats, replicates: int, level: float, seed: int) -> pd.DataFrame:
    require_classes(sample.labels)
    if ((risk < 0) | (risk > 1)).any():
        raise NotEstimableError("the predictions are not probabilities")
    grid = thresholds_for(float(sample.labels.mean()))
    return decision_curve(sample.labels, risk, grid, sample.persons, replicates, level, seed)
