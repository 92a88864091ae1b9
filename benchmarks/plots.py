"""Pictures of a run: medians of a family beside those of the run before, where a step spends its time, the study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

NOW, BEFORE, PALE = "#0072b2", "#d55e00", "#c8d6df"  # Okabe and Ito
KINDS: Final = {
    "loading": "#000000",
    "matrix products": "#0072b2",
    "attention": "#d55e00",
    "optimiser": "#009e73",
    "norms": "#cc79a7",
    "activations": "#e69f00",
    "copies and gathers": "#56b4e9",
    "other": "#bbbbbb",
}
FAMILIES: Final = {
    "prepare": "From a centre's files to its store",
    "store": "The store",
    "models": "Networks of the demonstration, one thread",
    "generator": "Drawing one heart: heads, iterations x steps",
    "statistics": "Statistics",
    "pipeline": "What a stage and a pipeline cost beside their computing",
}


def words(case: str) -> str:
    """``reader[onnx-1]`` as ``reader: onnx, 1``."""
    name, _, given = case.rstrip("]").partition("[")
    given = re.sub(r"-", ", ", given).replace("_", " ")
    return name.replace("_", " ") + (f": {given}" if given else "")


def span(milliseconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1e3), ("ms", 1.0)):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds * 1e3:.3g} µs"


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bare(axes: Axes, rows: int) -> None:
    """Rows from the top down, and no frame but the axis below."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows - 0.4, -0.6)


def family(table: pd.DataFrame, name: str, out: Path) -> None:
    """Medians on a logarithmic axis with quartile range and figure; those of the run before as hollow diamonds."""
    if table.empty:
        return
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.27 * len(table)), layout="constrained")
    rows, now, half = np.arange(len(table)), table["median_ms"].to_numpy(float), table["iqr_ms"].to_numpy(float) / 2
    before = now / table["ratio_to_before"].to_numpy(float)
    axes.hlines(rows, 0.5 * now.min(), now, color=PALE, lw=1)
    axes.errorbar(now, rows, xerr=half, fmt="o", color=NOW, ecolor=NOW, ms=6, label="this run, quartile range")
    if np.isfinite(before).any():
        axes.plot(before, rows, "D", mfc="none", mec=BEFORE, ms=7, label="the run before")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=9, reverse=True)
    for row, value in zip(rows, now):
        axes.annotate(span(value), (1, row), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8)
    labels = [f"{words(case)}  (per {unit})" for case, unit in zip(table["case"], table["unit"])]
    axes.set(xscale="log", xlim=(0.5 * now.min(), 6 * np.nanmax([now, before])), xlabel="milliseconds, median")
    axes.set_yticks(rows, labels, fontsize=8.5)
    axes.grid(axis="x", alpha=0.25)
    _bare(axes, len(table))
    figure.suptitle(FAMILIES[name], fontsize=12)
    _save(figure, out / f"{name}.png")


def steps(profiled: pd.DataFrame, out: Path) -> None:
    """Share of every kind of operator in the profiled training steps."""
    shares = profiled[profiled["of"] == "kinds"].pivot(index="step", columns="name", values="share").fillna(0.0)
    if shares.empty:
        return
    length = profiled[profiled["of"] == "kinds"].groupby("step")["ms"].sum()
    figure, axes = plt.subplots(figsize=(9, 1.8 + 0.5 * len(shares)), layout="constrained")
    left = np.zeros(len(shares))
    for kind, colour in ((kind, colour) for kind, colour in KINDS.items() if kind in shares):
        axes.barh(range(len(shares)), 100 * shares[kind], left=left, color=colour, label=kind, height=0.6)
        left = left + 100 * shares[kind].to_numpy()
    names = [f"{words(step).partition(': ')[2]}  ({span(length[step])})" for step in shares.index]
    axes.set_yticks(range(len(shares)), names)
    axes.set(xlim=(0, 100), xlabel="% of a training step: loading, loss, backward pass, optimiser")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, fontsize=8.5)
    _bare(axes, len(shares))
    figure.suptitle("Where one training step goes, one thread", fontsize=12)
    _save(figure, out / "step.png")


def study(stages: pd.DataFrame, out: Path) -> None:
    """CPU seconds of every stage of the study at hand, with its largest memory."""
    known = stages.dropna(subset=["cpu_seconds"]).sort_values("cpu_seconds", ascending=False)
    if known.empty:
        return
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.25 * len(known)), layout="constrained")
    axes.barh(range(len(known)), known["cpu_seconds"], color=[NOW if row < 5 else PALE for row in range(len(known))])
    for row, (cpu, mb) in enumerate(zip(known["cpu_seconds"], known["peak_mb"])):
        axes.annotate(
            f"{cpu:.0f} s, {mb:.0f} MB", (cpu, row), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    names = known["stage"] + known["cohort"].map(lambda cohort: "" if cohort == "study" else f"@{cohort}")
    axes.set_yticks(range(len(known)), names, fontsize=8.5)
    axes.set(xlim=(0, 1.18 * known["cpu_seconds"].max()), xlabel="CPU seconds, all processes of a stage")
    _bare(axes, len(known))
    total, held = known["cpu_seconds"].sum() / 60, known["peak_mb"].max() / 1000
    figure.suptitle(f"The study by stage: {total:.0f} CPU minutes, largest process {held:.1f} GB", fontsize=12)
    _save(figure, out / "study.png")
