"""What the figures of one centre show: labels and risks per disease, truth and prediction per phenotype."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.config import Protocol
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.discrimination import at_prevalence
from cardionets.evaluate.disease_metrics import Sample
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError
from cardionets.evaluate.recalibration import RECEIVED, updated

Panel = tuple[NDArray[np.bool_], dict[str, Floats]]


def risks(cube: Cube, arms: Sequence[str]) -> dict[str, Panel]:
    """Disease -> (labels (n,), arm -> risk (n,)) at each arm's largest label fraction, all on the same people."""
    top = {arm: max(f for a, f in cube.arms if a == arm) for arm in arms if arm in dict(cube.arms)}
    wanted = [i for i, (arm, fraction) in enumerate(cube.arms) if top.get(arm) == fraction]
    found = {}
    for endpoint in cube.diseases():
        active, sample = Sample.of(cube, endpoint, wanted)
        found[endpoint] = sample.labels, {cube.arms[a][0]: risk for a, risk in zip(active, sample.risks)}
    return found


def recalibrated(cube: Cube, protocol: Protocol, method: str = "intercept_slope") -> dict[str, Panel]:
    """Disease -> (labels, risks of the cube's first arm as received and, where it can be fitted, after ``method``)."""
    found = {}
    for endpoint in cube.diseases():
        _, sample = Sample.of(cube, endpoint, [0])
        shown = {RECEIVED: sample.risks[0]}
        with suppress(NotEstimableError):
            shown["intercept and slope updated"] = updated(sample, method, protocol.seed)
        found[endpoint] = sample.labels, shown
    return found


def pairs(cube: Cube, names: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Truth and predictions of the cube's first arm, phenotype -> (n,), for those of ``names`` that it predicts."""
    known = [name for name in names if name in cube.endpoints]
    return {n: cube.truth(n) for n in known}, {n: cube.column(n)[0] for n in known}


def stated_prevalence(metrics: pd.DataFrame, arm: str, prevalences: Sequence[float]) -> pd.DataFrame:
    """PPV and NPV of one arm at each stated prevalence, from its likelihood ratios at the transferred threshold.

    Columns: endpoint, arm, prevalence, ppv, ppv_lower, ppv_upper, npv, npv_lower, npv_upper, n, events, note.
    """
    rows = metrics[(metrics["arm"] == arm) & metrics["metric"].isin(["lr_positive", "lr_negative"])]
    rows = rows[rows["fraction"] == rows["fraction"].max()]
    found = []
    for endpoint, part in rows.groupby("endpoint", sort=False):
        ratios = {
            r["metric"]: Estimate(r["estimate"], r["lower"], r["upper"], _text(r["note"])) for _, r in part.iterrows()
        }
        counts = {"n": part["n"].max(), "events": part["events"].max()}
        for prevalence in prevalences:
            ppv, npv = at_prevalence(ratios["lr_positive"], ratios["lr_negative"], prevalence)
            values = {"ppv": ppv.value, "ppv_lower": ppv.lower, "ppv_upper": ppv.upper}
            values |= {"npv": npv.value, "npv_lower": npv.lower, "npv_upper": npv.upper}
            note = ppv.note or npv.note
            found.append({"endpoint": endpoint, "arm": arm, "prevalence": prevalence, **values, **counts, "note": note})
    return pd.DataFrame(found)


def cross_tabulation(metrics: pd.DataFrame, arm: str, minimum: int = 1) -> pd.DataFrame:
    """Decisions at the transferred threshold against the reference standard (STARD 2015 item 23), per disease.

    Columns: endpoint, n, events, true_positive, false_negative, false_positive, true_negative, note. Where any cell
    holds 1 to ``minimum`` - 1 recordings, all four are withheld: one would give away another.
    """
    rows = metrics[(metrics["arm"] == arm) & metrics["metric"].isin(["sensitivity", "specificity"])]
    rows = rows[rows["fraction"] == rows["fraction"].max()]
    found = []
    for endpoint, part in rows.groupby("endpoint", sort=False):
        sensitivity, specificity = part.set_index("metric")["estimate"][["sensitivity", "specificity"]]
        n, events = int(part["n"].max()), int(part["events"].max())
        cells, note = [np.nan] * 4, _text(part["note"].iloc[0])
        if np.isfinite([sensitivity, specificity]).all():
            hit, quiet = round(sensitivity * events), round(specificity * (n - events))
            cells, note = [hit, events - hit, n - events - quiet, quiet], ""
            if any(0 < cell < minimum for cell in cells):
                cells, note = [np.nan] * 4, f"withheld: a cell holds fewer than {minimum}"
        found.append((endpoint, n, events, *cells, note))
    columns = ["endpoint", "n", "events", "true_positive", "false_negative", "false_positive", "true_negative", "note"]
    return pd.DataFrame(found, columns=columns).astype(dict.fromkeys(columns[3:7], "Int64"))


def _text(note: object) -> str:
    return "" if pd.isna(note) else str(note)  # type: ignore[call-overload]
