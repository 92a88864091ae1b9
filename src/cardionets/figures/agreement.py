"""Figures of agreement: true against predicted, Bland-Altman, retrieval."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets import phenotypes
from cardionets.config import StudyError
from cardionets.evaluate.agreement import bland_altman as limits_of
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.regression import Moments
from cardionets.figures.base import GREY, LINES, OKABE_ITO, colours, styled

MANY = 2000
Values = Mapping[str, NDArray[np.floating]]


def _cloud(ax: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    if len(x) > MANY:
        ax.hexbin(x, y, gridsize=45, cmap="Blues", mincnt=1, bins="log", lw=0.1)
    else:
        ax.scatter(x, y, s=5, alpha=0.45, lw=0, color=OKABE_ITO[0], rasterized=len(x) > 300)


@styled
def scatter(truth: Values, predicted: Values, columns: int = 3, title: str = "") -> Figure:
    """True (x) against predicted (y) for each phenotype name -> (n,), identity line, R2, r, n; density when many."""
    names = [name for name in truth if name in predicted]
    if not names:
        raise StudyError("scatter: no phenotype is both measured and predicted; predict this cohort again.")
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.35 * rows + 0.3), squeeze=False)
    for ax, name in zip(grid.ravel(), names):
        _panel(ax, name, np.asarray(truth[name], dtype=float), np.asarray(predicted[name], dtype=float))
    for ax in grid.ravel()[len(names) :]:
        ax.axis("off")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _panel(ax: Axes, name: str, truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> None:
    known = np.isfinite(truth) & np.isfinite(predicted)
    x, y = truth[known], predicted[known]
    phenotype = phenotypes.BY_NAME.get(name)
    unit = f" ({phenotype.unit})" if phenotype else ""
    ax.set_title(phenotype.label if phenotype else name, fontsize=7.5)
    if len(x) < 3:
        ax.text(0.5, 0.5, f"n = {len(x)}", transform=ax.transAxes, ha="center", color=GREY)
        return
    _cloud(ax, x, y)
    span = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
    ax.plot(span, span, color=GREY, lw=0.7, ls=":")
    found = {k: v.item() for k, v in Moments.of(x[:, None], y[:, None], np.arange(len(x))).scores().items()}
    text = f"R² {found['r2']:.2f}   r {found['r']:.2f}\nn = {len(x):,}"
    ax.text(
        0.04,
        0.96,
        text,
        transform=ax.transAxes,
        va="top",
        fontsize=6.5,
        bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1},
    )
    ax.set(xlabel=f"CMR{unit}", ylabel=f"ECG{unit}")


@styled
def bland_altman(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    unit: str,
    title: str = "",
    names: tuple[str, str] = ("predicted", "CMR"),
) -> Figure:
    """Difference against mean of two measurements (n,), with bias and 95 % limits and their intervals (shaded)."""
    figure, ax = plt.subplots(figsize=(4.4, 3.0))
    known = np.isfinite(first) & np.isfinite(second)
    first, second = np.asarray(first, dtype=float)[known], np.asarray(second, dtype=float)[known]
    _cloud(ax, (first + second) / 2, first - second)
    try:
        limits = limits_of(first, second)
        for edge, name in ((limits.upper, "+1.96 SD"), (limits.bias, "bias"), (limits.lower, "−1.96 SD")):
            ax.axhline(edge.value, color=OKABE_ITO[1], lw=0.9, ls="-" if name == "bias" else "--")
            ax.axhspan(edge.lower, edge.upper, color=OKABE_ITO[1], alpha=0.12, lw=0)
            ax.text(
                1.01,
                edge.value,
                f"{name}\n{edge.value:.1f}".replace("-", "−"),
                transform=ax.get_yaxis_transform(),
                fontsize=6.5,
                va="center",
            )
    except NotEstimableError as error:
        ax.text(0.5, 0.5, f"not estimable:\nbecause {error}", ha="center", transform=ax.transAxes, color=GREY)
    ax.set(xlabel=f"Mean of {names[0]} and {names[1]} ({unit})", ylabel=f"{names[0]} − {names[1]} ({unit})")
    ax.set_title(f"{title or 'Agreement'} (n = {len(first):,})")
    return figure


@styled
def retrieval(ranks: Mapping[str, NDArray[np.integer]], gallery: int, title: str = "Retrieval") -> Figure:
    """Share of queries whose partner is within the first k: name -> ranks (n,) from 1, of ``gallery`` items."""
    figure, ax = plt.subplots(figsize=(4.2, 2.8))
    k = np.unique(np.geomspace(1, gallery, 120).astype(int))
    ax.plot(k, k / gallery, color=GREY, ls=":", lw=0.9, label="chance")
    for (name, colour), line in zip(colours(list(ranks)).items(), LINES * 3):
        own = np.asarray(ranks[name])
        top = f"{(own <= 10).mean():.0%}"
        ax.plot(
            k,
            (own[:, None] <= k).mean(axis=0),
            color=colour,
            ls=line,
            label=f"{name} (top 10: {top}, n = {len(own):,})",
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(
        xscale="log", xlabel=f"Rank k of {gallery:,}", ylabel="Found within the first k", ylim=(0, 1.02), title=title
    )
    ax.grid(axis="y")
    ax.legend(loc="upper left")
    return figure
