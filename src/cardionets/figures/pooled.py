"""Forest plots across centres."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cardionets.evaluate.pooling import Pooled
from cardionets.figures.base import GREY, OKABE_ITO, styled
from cardionets.figures.performance import bars_of


def _text(value: float, lower: float, upper: float) -> str:
    return f"{value:.2f} ({lower:.2f}–{upper:.2f})" if np.isfinite(lower) else f"{value:.2f}"


@styled
def forest(
    centres: pd.DataFrame, pooled: Pooled, label: str = "AUC", title: str = "", chance: float | None = None
) -> Figure:
    """Forest plot: centres with columns cohort, estimate, lower, upper, n (events optional), and their pool.

    The diamond is the Hartung-Knapp interval, the line below it the prediction interval.
    """
    k = len(centres)
    figure, ax = plt.subplots(figsize=(6.4, 1.5 + 0.3 * k))
    y = np.arange(k)
    weight = np.asarray(pooled.weights) if len(pooled.weights) == k else np.full(k, 1 / max(k, 1))
    ax.errorbar(centres["estimate"], y, xerr=bars_of(centres), fmt="none", ecolor="black", lw=0.9)
    ax.scatter(centres["estimate"], y, s=20 + 150 * weight, marker="s", color=OKABE_ITO[0], zorder=3)
    e, p = pooled.estimate, pooled.prediction
    ax.fill([e.lower, e.value, e.upper, e.value], [k, k - 0.28, k, k + 0.28], color=OKABE_ITO[1])
    ax.axvline(e.value, color=OKABE_ITO[1], lw=0.6, ls="--", zorder=0)
    if np.isfinite(p.lower):
        ax.plot([p.lower, p.upper], [k + 1, k + 1], color=OKABE_ITO[1], lw=2)
    rows = [
        *(_row(r, w) for (_, r), w in zip(centres.iterrows(), weight)),
        ("Pooled (Hartung–Knapp)", _text(e.value, e.lower, e.upper), ""),
    ]
    rows.append(
        ("Prediction interval", f"({p.lower:.2f}–{p.upper:.2f})" if np.isfinite(p.lower) else "needs 3 centres", "")
    )
    ax.set_yticks(range(k + 2), [r[0] for r in rows])
    for i, (_, text, share) in enumerate(rows):
        for words, points in ((text, 8), (share, 84)):
            ax.annotate(words, (1, i), (points, 0), ax.get_yaxis_transform(), "offset points", va="center", fontsize=7)
    if chance is not None:
        ax.axvline(chance, color=GREY, lw=0.6, ls=":")
    ax.set(ylim=(k + 1.6, -0.6), xlabel=f"{label}   τ² = {pooled.tau2:.3f}, I² = {pooled.i2:.0f} %, k = {pooled.k}")
    ax.set_title(title or label)
    if pooled.note:
        ax.text(
            0,
            -0.28 - 0.12 / (1.5 + 0.3 * k),
            pooled.note,
            transform=ax.transAxes,
            fontsize=6,
            color="#C00000",
            va="top",
        )
    return figure


def _row(row: pd.Series, weight: float) -> tuple[str, str, str]:
    events = f", {int(row['events']):,} events" if "events" in row and pd.notna(row["events"]) else ""
    return (
        f"{row['cohort']} (n = {int(row['n']):,}{events})",
        _text(row["estimate"], row["lower"], row["upper"]),
        f"{weight:.0%}",
    )
