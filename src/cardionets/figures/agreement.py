"""Figures of agreement: true against predicted, Bland-Altman, retrieval."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets import phenotypes
from cardionets.config import StudyError
from cardionets.evaluate.agreement import bland_altman as limits_of
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.regression import Moments
from cardionets.figures.base import GREY, LINES, OKABE_ITO, colours, styled
from cardionets.figures.risk import panels

MANY = 2000
SHORT = {
    "LV wall thickness": "Wall thickn.", "LV circumferential": "Circ.", "LV radial": "Radial",
    "LV longitudinal": "Long.", " segment": "",
    "ejection fraction": "EF", "volume": "vol.", "maximum": "max.", "minimum": "min.",
    "Ascending aorta": "Asc. aorta", "Descending aorta": "Desc. aorta", "distensibility": "distens.",
    "end-diastolic": "ED", "end-systolic": "ES", "myocardial": "myoc.",
}  # fmt: skip
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
def scatter_sheet(truth: Values, predicted: Values, columns: int = 8, title: str = "") -> Figure:
    """All phenotypes on one sheet: small squares of predicted against true, each from its lowest to its highest value.

    One drawing for all, so that 82 take no longer than one; R2, r, n and the range of each are in its square.
    """
    names = [name for name in truth if name in predicted]
    if not names:
        raise StudyError("scatter: no phenotype is both measured and predicted; predict this cohort again.")
    rows = -(-len(names) // columns)
    figure, ax = plt.subplots(figsize=(7.2, 1.13 * rows + 0.5))
    corners = [((i % columns) * 1.08, -(i // columns) * 1.32) for i in range(len(names))]
    clouds = [
        _square(ax, name, np.asarray(truth[name], dtype=float), np.asarray(predicted[name], dtype=float), corner)
        for name, corner in zip(names, corners)
    ]
    across, up = np.concatenate(clouds, axis=1)
    ax.scatter(across, up, s=1.2, alpha=0.35, lw=0, c=OKABE_ITO[0], rasterized=True)
    edges = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    ax.add_collection(LineCollection([edges + c for c in corners], colors="black", linewidths=0.4))
    ax.add_collection(LineCollection([edges[::2][:2] + c for c in corners], colors=GREY, linewidths=0.4, ls=":"))
    ax.set(xlim=(-0.02, columns * 1.08), ylim=(-(rows - 1) * 1.32 - 0.12, 1.32))
    ax.axis("off")
    ax.set_title(title or "Predicted (vertical) against CMR (horizontal)")
    return figure


def _square(
    ax: Axes, name: str, truth: NDArray[np.floating], made: NDArray[np.floating], corner: tuple[float, float]
) -> NDArray[np.floating]:
    """Write a square's words; returns its points (2, n) in the coordinates of the sheet."""
    x0, y0 = corner
    known = np.isfinite(truth) & np.isfinite(made)
    x, y = truth[known], made[known]
    phenotype = phenotypes.BY_NAME.get(name)
    label, unit = (_short(phenotype.label), phenotype.unit) if phenotype else (name, "")
    ax.text(x0, y0 + 1.03, label, fontsize=4.6, weight="bold", va="bottom")
    if len(x) < 3:
        ax.text(x0 + 0.5, y0 + 0.5, f"n = {len(x)}", fontsize=5, ha="center", color=GREY)
        return np.empty((2, 0))
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    span = max(high - low, 1e-9)
    found = {k: v.item() for k, v in Moments.of(x[:, None], y[:, None], np.arange(len(x))).scores().items()}
    ax.text(x0 + 0.04, y0 + 0.96, f"R² {found['r2']:.2f}\nr {found['r']:.2f}", fontsize=4.4, va="top")
    ax.text(x0 + 0.97, y0 + 0.04, f"n {len(x):,}", fontsize=4, ha="right", color=GREY)
    reach = " to ".join(f"{edge:,.0f}" if abs(edge) >= 100 else f"{edge:.3g}" for edge in (low, high))
    ax.text(x0, y0 - 0.03, f"{reach} {unit}".replace("-", "−"), fontsize=4, va="top", color=GREY)
    return np.stack([x0 + (x - low) / span, y0 + (y - low) / span])


def _short(label: str) -> str:
    """The label within the width of a square."""
    for word, brief in SHORT.items():
        label = label.replace(word, brief)
    return label


@styled
def bland_altman(
    shown: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating], str]],
    title: str = "Agreement",
    names: tuple[str, str] = ("predicted", "CMR"),
) -> Figure:
    """Difference against mean of two measurements, a panel per label -> (first (n,), second (n,), unit).

    Bias and 95 % limits of agreement with their intervals shaded.
    """
    figure, axes = panels(len(shown), 2.1)
    for ax, (label, (first, second, unit)) in zip(axes, shown.items()):
        known = np.isfinite(first) & np.isfinite(second)
        _differences(ax, np.asarray(first, dtype=float)[known], np.asarray(second, dtype=float)[known])
        ax.set_title(f"{label} (n = {int(known.sum()):,})", fontsize=7)
        ax.set_xlabel(f"Mean ({unit})", fontsize=7)
        ax.set_ylabel(f"Difference ({unit})", fontsize=7)
    figure.suptitle(f"{title}: {names[0]} − {names[1]}", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _differences(ax: Axes, first: NDArray[np.floating], second: NDArray[np.floating]) -> None:
    _cloud(ax, (first + second) / 2, first - second)
    try:
        limits = limits_of(first, second)
    except NotEstimableError as error:
        ax.text(0.5, 0.5, f"not estimable:\nbecause {error}", ha="center", transform=ax.transAxes, color=GREY)
        return
    for edge, style in ((limits.upper, "--"), (limits.bias, "-"), (limits.lower, "--")):
        ax.axhline(edge.value, color=OKABE_ITO[1], lw=0.9, ls=style)
        ax.axhspan(edge.lower, edge.upper, color=OKABE_ITO[1], alpha=0.12, lw=0)
        words = f"{edge.value:.{1 if abs(edge.value) >= 10 else 2}f}".replace("-", "−")
        ax.text(1.01, edge.value, words, transform=ax.get_yaxis_transform(), fontsize=6, va="center")


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
