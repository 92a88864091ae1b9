"""Figures of a reader study: AUC per arm and reader, accuracy by level beside the model alone, time per case."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardionets.evaluate.estimate import Estimate
from cardionets.figures.base import GREY, OKABE_ITO, colours, mark, styled


def _band(ax: Axes, model: Estimate | None) -> None:
    """The model alone as a line with its interval."""
    if model is None or not np.isfinite(model.value):
        return
    ax.axhline(model.value, color="black", lw=1.0, ls="--", label="model alone")
    if np.isfinite(model.lower):
        ax.axhspan(model.lower, model.upper, color=GREY, alpha=0.15, lw=0)


def _arms(ax: Axes, names: list[str]) -> None:
    ax.set_xticks(range(len(names)), [n.replace(" + ", "\n+ ") for n in names])
    ax.set_xlim(-0.5, len(names) - 0.5)


@styled
def reader_auc(modalities: pd.DataFrame, by_reader: pd.DataFrame, model: Estimate | None, title: str = "") -> Figure:
    """Mean AUC per arm with its interval, and every reader's AUC joined by a line.

    modalities: modality, auc, lower, upper; by_reader: modality, reader, auc.
    """
    figure, ax = plt.subplots(figsize=(4.2, 3.2))
    names = list(modalities["modality"])
    for _, part in by_reader.groupby("reader", sort=False):
        values = part.set_index("modality")["auc"].reindex(names)
        ax.plot(range(len(names)), values, color=GREY, lw=0.7, marker=".", label=None if ax.get_lines() else "readers")
    value, low, high = (modalities[c].to_numpy(float) for c in ("auc", "lower", "upper"))
    ax.errorbar(range(len(names)), value, [value - low, high - value], fmt="o", ms=6, lw=2, label="mean of readers")
    ax.axhline(0.5, color=GREY, lw=0.6, ls=":")
    _band(ax, model)
    _arms(ax, names)
    ax.set(ylabel="AUC", title=title)
    ax.legend(loc="best")
    return figure


@styled
def reader_accuracy(table: pd.DataFrame, model: Estimate | None, title: str = "") -> Figure:
    """Accuracy per arm and level of the readers with intervals: modality, level, accuracy, lower, upper."""
    figure, ax = plt.subplots(figsize=(4.2, 3.2))
    names, levels = (list(dict.fromkeys(table[c])) for c in ("modality", "level"))
    shade = colours(levels)
    for k, level in enumerate(levels):
        part = table[table["level"] == level].set_index("modality").reindex(names)
        place = np.arange(len(names)) + 0.16 * (k - (len(levels) - 1) / 2)
        value, low, high = (part[c].to_numpy(float) for c in ("accuracy", "lower", "upper"))
        bars = [value - low, high - value]
        ax.errorbar(place, value, bars, fmt=mark(k), color=shade[level], label=str(level))
    ax.axhline(0.5, color=GREY, lw=0.6, ls=":")
    _band(ax, model)
    _arms(ax, names)
    ax.set(ylabel="Accuracy", title=title)
    ax.legend(loc="best")
    return figure


@styled
def reader_times(answers: pd.DataFrame, title: str = "") -> Figure:
    """Seconds per case and arm as boxes (median, quartiles, 5th to 95th percentile): modality, seconds."""
    figure, ax = plt.subplots(figsize=(4.2, 2.8))
    names = sorted(answers["modality"].unique())
    values = [answers.loc[answers["modality"] == n, "seconds"].to_numpy(float) for n in names]
    ax.boxplot(
        values,
        positions=range(len(names)),
        whis=(5, 95),
        showfliers=False,
        widths=0.5,
        medianprops={"color": OKABE_ITO[0]},
    )
    _arms(ax, names)
    ax.set(ylabel="Seconds per case", title=title, ylim=(0, None))
    return figure
