"""Forest plots across centres."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cardionets.evaluate.pooling import Pooled
from cardionets.figures.base import GREY, OKABE_ITO, styled
from cardionets.figures.performance import bars_of
from cardionets.figures.risk import COLUMNS, edges, panels


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


@styled
def forest_sheet(
    shown: Mapping[str, tuple[pd.DataFrame, Pooled]], label: str, title: str = "", ideal: float | None = None
) -> Figure:
    """A small forest plot per endpoint: label -> (centres as in :func:`forest`, their pool), three to a row.

    Squares are centres, the diamond their pool with its Hartung-Knapp interval, the line the prediction interval. A
    dotted line marks ``ideal``. The axis of a ratio is logarithmic.
    """
    names = list(dict.fromkeys(c for rows, _ in shown.values() for c in rows["cohort"]))
    figure, axes = panels(len(shown), 0.62 + 0.17 * len(names))
    for i, (ax, (name, (rows, pooled))) in enumerate(zip(axes, shown.items())):
        _small(ax, rows.set_index("cohort").reindex(names).reset_index(), pooled, i % COLUMNS == 0)
        ax.set_title(f"{name}\n{_text(*_three(pooled))}, I² {pooled.i2:.0f} %", fontsize=6.5)
        if "O/E" in label:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
        if ideal is not None:
            ax.axvline(ideal, color=GREY, lw=0.6, ls=":", zorder=0)
    edges(axes, f"{label} (95 % interval)", "")
    figure.suptitle(title or label, x=0.01, ha="left", fontsize=9, weight="bold")
    notes = dict.fromkeys(pooled.note for _, pooled in shown.values() if pooled.note)
    figure.text(0.99, 0.99, "; ".join(notes), fontsize=6, color="#C00000", ha="right", va="top")
    return figure


def _three(pooled: Pooled) -> tuple[float, float, float]:
    return pooled.estimate.value, pooled.estimate.lower, pooled.estimate.upper


def _small(ax: Axes, rows: pd.DataFrame, pooled: Pooled, named: bool) -> None:
    k = len(rows)
    e, p = pooled.estimate, pooled.prediction
    ax.errorbar(rows["estimate"], range(k), xerr=bars_of(rows), fmt="s", ms=3, lw=0.8, color=OKABE_ITO[0])
    ax.fill([e.lower, e.value, e.upper, e.value], [k, k - 0.28, k, k + 0.28], color=OKABE_ITO[1])
    low, high = min(rows["lower"].min(), e.lower), max(rows["upper"].max(), e.upper)
    if np.isfinite(p.lower):
        ax.plot([p.lower, p.upper], [k + 0.8, k + 0.8], color=OKABE_ITO[1], lw=1.4)
    margin = 0.05 * (high - low)
    ax.set(ylim=(k + 1.2, -0.6), xlim=(low - margin if not 0 < low <= margin else 0.8 * low, high + margin))
    words = [f"{c} ({int(n):,})" if pd.notna(n) else str(c) for c, n in zip(rows["cohort"], rows["n"])]
    places = [*range(k + 1), k + 0.8]
    ax.set_yticks(places, [*words, "Pooled", "Prediction"] if named else [""] * len(places), fontsize=6)
    ax.tick_params(axis="x", labelsize=6)


def _row(row: pd.Series, weight: float) -> tuple[str, str, str]:
    events = f", {int(row['events']):,} events" if "events" in row and pd.notna(row["events"]) else ""
    return (
        f"{row['cohort']} (n = {int(row['n']):,}{events})",
        _text(row["estimate"], row["lower"], row["upper"]),
        f"{weight:.0%}",
    )
