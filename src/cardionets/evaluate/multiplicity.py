"""Many endpoints at once: adjusted p values, and how much the sample can say before anybody looks at results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes
from cardionets.config import Protocol
from cardionets.evaluate.cube import disease_labels
from cardionets.evaluate.estimate import Floats, z_value

ANTICIPATED_AUC, ANTICIPATED_R = 0.8, 0.6
ENOUGH_EVENTS = 100  # of each class, for external validation: Collins et al., Stat Med 2016;35:214


def _adjust(p: Floats, rule: Callable[[Floats], Floats]) -> Floats:
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(rule(p[order]), 1.0)
    return adjusted


def holm(p: Floats) -> Floats:
    """Holm's adjusted p values (family-wise error; Scand J Stat 1979;6:65); NaN stays NaN and is not counted."""
    return _adjust(p, lambda q: np.maximum.accumulate(q * np.arange(len(q), 0, -1)))


def benjamini_hochberg(p: Floats) -> Floats:
    """Benjamini & Hochberg's adjusted p values (false discovery rate; JRSS B 1995;57:289); NaN stays NaN."""
    return _adjust(p, lambda q: np.minimum.accumulate((q * len(q) / np.arange(1, len(q) + 1))[::-1])[::-1])


def adjusted_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows ``<metric>_holm`` and ``<metric>_bh``: p values adjusted across endpoints within arm pair and fraction."""
    rows = metrics[metrics["metric"].str.endswith("_p")]
    parts = []
    for suffix, rule in (("holm", holm), ("bh", benjamini_hochberg)):
        adjusted = rows.copy()
        keys = ["cohort", "arm", "fraction", "split", "metric"]
        adjusted["estimate"] = rows.groupby(keys)["estimate"].transform(lambda p, rule=rule: rule(p.to_numpy(float)))
        adjusted["metric"] = rows["metric"] + "_" + suffix
        parts.append(adjusted)
    return pd.concat(parts, ignore_index=True)


def auc_width(events: int, others: int, auc: float = ANTICIPATED_AUC, level: float = 0.95) -> float:
    """Expected width of an AUC interval. Hanley & McNeil, Radiology 1982;143:29."""
    if min(events, others) < 1:
        return float("nan")
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    pairs = auc * (1 - auc) + (events - 1) * (q1 - auc**2) + (others - 1) * (q2 - auc**2)
    return float(2 * z_value(level) * np.sqrt(pairs / (events * others)))


def r_width(n: int, r: float = ANTICIPATED_R, level: float = 0.95) -> float:
    """Expected width of a correlation's interval (Fisher)."""
    if n < 4:
        return float("nan")
    half = z_value(level) / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(r) + half) - np.tanh(np.arctanh(r) - half))


def adequacy(records: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """What the test split can say, per endpoint: n, events, expected interval width at an anticipated value, verdict.

    It reads how many people have each label, and no prediction; whoever has recordings with and without an event is
    counted in both classes.
    """
    test, level = records[records["split"] == "test"], protocol.statistics.level
    rows: list[tuple[object, ...]] = []
    for name in protocol.endpoints.diseases:
        labels = disease_labels(test, name)
        n, events, others = (
            test.loc[who, "person"].nunique() for who in (np.isfinite(labels), labels == 1, labels == 0)
        )
        width = auc_width(events, others, level=level)
        enough = min(events, others) >= ENOUGH_EVENTS
        verdict = "enough" if enough else f"fewer than {ENOUGH_EVENTS} events or non-events: imprecise"
        rows.append((diseases.BY_NAME[name].label, n, events, f"AUC {ANTICIPATED_AUC}", width, verdict))
    for name in protocol.endpoints.headline_phenotypes:
        n = test.loc[test[name].notna(), "person"].nunique() if name in test else 0
        width = r_width(n, level=level)
        verdict = "enough" if width <= 0.1 else "interval wider than 0.1: imprecise" if n >= 4 else "nobody to judge"
        rows.append((phenotypes.BY_NAME[name].label, n, None, f"r {ANTICIPATED_R}", width, verdict))
    columns = ["endpoint", "n", "events", "anticipated", "expected_width", "verdict"]
    return pd.DataFrame(rows, columns=columns).astype({"events": "Int64"})
