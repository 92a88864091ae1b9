"""Figures of predicted risk: ROC, precision-recall, calibration, decision curves."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from cardionets.evaluate import calibration, discrimination
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.figures.base import GREY, LINES, colours, styled

Risks = Mapping[str, NDArray[np.floating]]
Labels = NDArray[np.bool_]


def _count(labels: Labels) -> str:
    return f"{int(labels.sum()):,} events / {len(labels):,}"


def _sorry(ax: Axes, reason: object) -> None:
    ax.text(0.5, 0.5, f"not estimable:\nbecause {reason}", ha="center", va="center", color=GREY, transform=ax.transAxes)


@styled
def roc(labels: Labels, risks: Risks, title: str = "ROC", level: float = 0.95) -> Figure:
    """ROC curves of each arm: labels (n,), risks arm -> (n,); AUC with DeLong interval in the legend."""
    figure, ax = plt.subplots(figsize=(3.6, 3.8))
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.6, ls=":")
    try:
        discrimination.require_classes(labels)
        for (arm, colour), line in zip(colours(list(risks)).items(), LINES * 3):
            x, y, _ = roc_curve(labels, risks[arm])
            e = discrimination.auc(labels, np.asarray(risks[arm], dtype=float), level)
            ax.plot(x, y, color=colour, ls=line, label=f"{arm}: {e.value:.3f} ({e.lower:.3f}–{e.upper:.3f})")
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.18), title=f"AUC ({level:.0%} interval)", title_fontsize=7
        )
    except NotEstimableError as error:
        _sorry(ax, error)
    ax.set(xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    ax.set_title(f"{title}\n{_count(labels)}")
    return figure


@styled
def calibration_plot(labels: Labels, risks: Risks, title: str = "Calibration") -> Figure:
    """Observed against predicted risk: tenths with intervals, flexible curve, where the risks lie."""
    figure, (ax, low) = plt.subplots(2, 1, figsize=(3.6, 4.4), height_ratios=(4, 1), sharex=True)
    top = min(1.0, max(0.05, *(1.15 * float(np.quantile(r, 0.99)) for r in risks.values())))
    try:
        discrimination.require_classes(labels)
        for arm, colour in colours(list(risks)).items():
            top = max(top, _calibrate(ax, low, labels, np.asarray(risks[arm], dtype=float), arm, colour))
    except NotEstimableError as error:
        _sorry(ax, error)
    top = min(top, 1.0)
    ax.plot([0, top], [0, top], color=GREY, lw=0.6, ls=":")
    ax.set(ylabel="Observed share", xlim=(0, top), ylim=(0, top), title=f"{title}\n{_count(labels)}")
    low.set(xlabel="Predicted risk", ylabel="People")
    handles, names = ax.get_legend_handles_labels()
    if handles:
        low.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.6))
    return figure


def _calibrate(ax: Axes, low: Axes, labels: Labels, risk: NDArray[np.floating], arm: str, colour: str) -> float:
    tenths = calibration.deciles(labels, risk)
    bars = np.stack([tenths["observed"] - tenths["lower"], tenths["upper"] - tenths["observed"]])
    ax.errorbar(tenths["predicted"], tenths["observed"], yerr=bars, fmt="o", ms=3, lw=0.7, color=colour)
    grid = np.quantile(risk, np.linspace(0.01, 0.99, 100))
    try:
        slope, oe = calibration.slope(labels, risk), calibration.observed_expected(labels, risk)
        label = f"{arm}: slope {slope.value:.2f}, O/E {oe.value:.2f}"
        ax.plot(grid, calibration.flexible_curve(labels, risk)(grid), color=colour, label=label)
    except NotEstimableError:
        ax.plot([], [], color=colour, label=f"{arm}: curve not estimable")
    low.hist(risk, bins=40, histtype="step", color=colour, lw=0.8)
    return float(tenths["upper"][tenths["n"] >= 10].max())


@styled
def decision(curves: Mapping[str, pd.DataFrame], n: int, title: str = "Decision curve") -> Figure:
    """Net benefit against threshold probability; arm -> `evaluate.utility.decision_curve`.

    Intervals are shaded for one or two arms; more would hide one another.
    """
    figure, ax = plt.subplots(figsize=(4.2, 3.0))
    first = next(iter(curves.values()))
    ax.plot(first["threshold"], first["treat_all"], color=GREY, lw=1, label="treat all")
    ax.axhline(0, color="black", lw=0.8, label="treat none")
    for (arm, colour), line in zip(colours(list(curves)).items(), LINES * 3):
        curve = curves[arm]
        ax.plot(curve["threshold"], curve["net_benefit"], color=colour, ls=line, label=arm)
        if len(curves) <= 2:
            ax.fill_between(curve["threshold"], curve["lower"], curve["upper"], color=colour, alpha=0.15, lw=0)
    best = max(float(first["treat_all"].max()), *(float(c["upper"].max()) for c in curves.values()))
    ax.set(ylim=(-0.25 * best, 1.1 * best), xlim=(0, float(first["threshold"].max())))
    ax.set(xlabel="Threshold probability", ylabel="Net benefit", title=f"{title} (n = {n:,})")
    figure.legend(loc="outside right center")
    return figure
