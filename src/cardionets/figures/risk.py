"""Figures of predicted risk, one panel per disease: ROC, calibration, decision curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cardionets.evaluate import calibration, discrimination
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.figures.base import GREY, LINES, colours, styled

Risks = Mapping[str, NDArray[np.floating]]
Labels = NDArray[np.bool_]
Panels = Mapping[str, tuple[Labels, Risks]]
COLUMNS = 3
PAPER = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.6}


def panels(count: int, height: float = 2.2) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, three to a row at most, for the full width of a page; spare ones are hidden."""
    columns = min(COLUMNS, max(count, 1))
    rows = -(-max(count, 1) // columns)
    size = (2.4 * columns if columns > 1 else 3.4, height * rows + 0.6)
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    axes = list(grid.ravel())
    for spare in axes[count:]:
        spare.axis("off")
    return figure, axes[:count]


def edges(axes: Sequence[Axes], across: str, up: str) -> None:
    """Name the axes once per column and row: ``across`` under the lowest panels, ``up`` beside the first ones."""
    columns = min(COLUMNS, max(len(axes), 1))
    for i, ax in enumerate(axes):
        if i + columns >= len(axes):
            ax.set_xlabel(across, fontsize=7)
        if i % columns == 0:
            ax.set_ylabel(up, fontsize=7)


def heading(figure: Figure, title: str, names: Sequence[str], extra: Sequence[Line2D] = ()) -> None:
    """Title above the panels, and one legend beside it for lines named ``names`` in the order of the palette."""
    tint = colours(list(names))
    lines = [Line2D([], [], color=tint[n], ls=ls, label=n) for n, ls in zip(names, LINES * 3)]
    figure.legend(handles=[*lines, *extra], loc="outside upper right", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")


def _count(labels: Labels) -> str:
    return f"{int(labels.sum()):,} events / {len(labels):,}"


def _sorry(ax: Axes, reason: object) -> None:
    words = f"not estimable:\nbecause {reason}"
    ax.text(0.5, 0.5, words, ha="center", va="center", color=GREY, fontsize=6.5, transform=ax.transAxes, wrap=True)


def _names(risks: Sequence[Risks]) -> list[str]:
    return list(dict.fromkeys(name for some in risks for name in some))


@styled
def roc(shown: Panels, title: str = "ROC", level: float = 0.95) -> Figure:
    """ROC curves per panel: label -> (labels (n,), arm -> risk (n,)); AUC with DeLong interval inside each."""
    figure, axes = panels(len(shown))
    names = _names([risks for _, risks in shown.values()])
    tint = colours(names)
    for ax, (label, (labels, risks)) in zip(axes, shown.items()):
        ax.plot([0, 1], [0, 1], color=GREY, lw=0.6, ls=":")
        ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
        ax.set_title(f"{label}\n{_count(labels)}", fontsize=7)
        try:
            discrimination.require_classes(labels)
        except NotEstimableError as error:
            _sorry(ax, error)
            continue
        for k, arm in enumerate(reversed(list(risks))):
            x, y = discrimination.roc(labels, np.asarray(risks[arm], dtype=float))
            e = discrimination.auc(labels, np.asarray(risks[arm], dtype=float), level)
            ax.plot(x, y, color=tint[arm], ls=(LINES * 3)[names.index(arm)], lw=1.1)
            words = f"{e.value:.2f} ({e.lower:.2f}–{e.upper:.2f})" if np.isfinite(e.lower) else f"{e.value:.2f}"
            ax.text(0.98, 0.03 + 0.1 * k, words, color=tint[arm], fontsize=6.5, ha="right")
    edges(axes, "1 − specificity", "Sensitivity")
    heading(figure, title, names)
    return figure


@styled
def calibration_plot(shown: Panels, title: str = "Calibration") -> Figure:
    """Observed against predicted risk per panel: tenths of the first set of risks with intervals, flexible curves.

    Slope and O/E of every set are inside; the ticks below show where the first set's risks lie.
    """
    figure, axes = panels(len(shown))
    names = _names([risks for _, risks in shown.values()])
    tint = colours(names)
    for ax, (label, (labels, risks)) in zip(axes, shown.items()):
        top = min(1.0, max([0.05, *(1.1 * float(np.quantile(r, 0.99)) for r in risks.values() if len(r))]))
        ax.set_title(f"{label}\n{_count(labels)}", fontsize=7)
        try:
            discrimination.require_classes(labels)
            for k, (name, risk) in enumerate(risks.items()):
                line = (LINES * 3)[names.index(name)]
                words = _curve(ax, labels, np.asarray(risk, dtype=float), tint[name], line)
                place: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "bbox": PAPER}
                ax.text(0.03, 0.97 - 0.1 * k, words, color=tint[name], fontsize=6, **place)
            top = max(top, _tenths(ax, labels, np.asarray(next(iter(risks.values())), dtype=float), tint[names[0]]))
        except NotEstimableError as error:
            _sorry(ax, error)
        top = min(top, 1.0)
        ax.plot([0, top], [0, top], color=GREY, lw=0.6, ls=":")
        ax.set(xlim=(0, top), ylim=(-0.06 * top, top))
    edges(axes, "Predicted risk", "Observed share")
    heading(figure, title, names)
    return figure


def _curve(ax: Axes, labels: Labels, risk: NDArray[np.floating], colour: str, line: object) -> str:
    grid = np.linspace(float(np.quantile(risk, 0.01)), float(np.quantile(risk, 0.99)), 100)
    try:
        slope, oe = calibration.slope(labels, risk), calibration.observed_expected(labels, risk)
        ax.plot(grid, calibration.flexible_curve(labels, risk)(grid), color=colour, ls=line)
        return f"slope {slope.value:.2f}, O/E {oe.value:.2f}".replace("-", "−")
    except NotEstimableError:
        return "curve not estimable"


def _tenths(ax: Axes, labels: Labels, risk: NDArray[np.floating], colour: str) -> float:
    """Points of ten risk groups and a rug of the risks; returns how high the axis must reach."""
    tenths = calibration.deciles(labels, risk)
    bars = np.stack([tenths["observed"] - tenths["lower"], tenths["upper"] - tenths["observed"]]).clip(min=0)
    ax.errorbar(tenths["predicted"], tenths["observed"], yerr=bars, fmt="o", ms=2.5, lw=0.6, color=colour)
    ax.plot(risk, np.zeros(len(risk)), "|", color=GREY, ms=3, mew=0.3, alpha=0.4, rasterized=True)
    solid = tenths["upper"][tenths["n"] >= 10]
    return float(solid.max()) if len(solid) else 0.0


@styled
def decision(curves: pd.DataFrame, labels: Mapping[str, str], title: str = "Decision curves") -> Figure:
    """Net benefit against threshold probability, a panel per endpoint, from `evaluate.utility.decision_curves`.

    ``labels``: endpoint -> name. Intervals are shaded for the last arm only; more would hide one another.
    """
    figure, axes = panels(curves["endpoint"].nunique())
    names = [str(a) for a in curves["arm"].unique()]
    tint = colours(names)
    for ax, (endpoint, part) in zip(axes, curves.groupby("endpoint", sort=False)):
        row = part.iloc[0]
        name = labels.get(str(endpoint), str(endpoint))
        ax.set_title(f"{name}\n{int(row['events']):,} events / {int(row['n']):,}", fontsize=7)
        known = part.dropna(subset=["net_benefit"]) if "net_benefit" in part else part.iloc[:0]
        if known.empty:
            _sorry(ax, str(row["note"]).removeprefix("not estimable: because "))
            continue
        first = known[known["arm"] == known["arm"].iloc[0]]
        ax.plot(first["threshold"], first["treat_all"], color=GREY, lw=1)
        ax.axhline(0, color="black", lw=0.8)
        for arm, curve in known.groupby("arm", sort=False):
            line = (LINES * 3)[names.index(str(arm))]
            ax.plot(curve["threshold"], curve["net_benefit"], color=tint[str(arm)], ls=line, lw=1.1)
        ax.fill_between(curve["threshold"], curve["lower"], curve["upper"], color=tint[str(arm)], alpha=0.15, lw=0)
        best = max(float(first["treat_all"].max()), float(known["net_benefit"].max()), 1e-6)
        ax.set(ylim=(-0.25 * best, 1.15 * best), xlim=(0, float(first["threshold"].max())))
    edges(axes, "Threshold probability", "Net benefit")
    rules = [Line2D([], [], color=GREY, label="treat all"), Line2D([], [], color="black", lw=0.8, label="treat none")]
    heading(figure, title, names, rules)
    return figure
