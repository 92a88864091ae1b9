"""Figures of a site bundle, drawn from its suppressed tables alone: no point, step or cell is one person."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cardionets import diseases, phenotypes
from cardionets.evaluate.binned import roc_of
from cardionets.figures.base import GREY, LINES, colours, mark, styled

SHOWN = 6  # arms in one panel; more hide one another


@styled
def binned_risk(bins: pd.DataFrame, title: str = "") -> Figure:
    """ROC curve and calibration of each arm of one disease from arm, bin, people, cases, mean_risk."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.6))
    arms = list(dict.fromkeys(bins["arm"]))[:SHOWN]
    top = 0.0
    for k, (arm, colour) in enumerate(colours(arms).items()):
        group = bins[bins["arm"] == arm].sort_values("bin")
        left.plot(*roc_of(group), color=colour, ls=LINES[k % len(LINES)], marker=mark(k), ms=2.5, label=arm)
        share = group["cases"] / group["people"]
        right.plot(group["mean_risk"], share, color=colour, ls=LINES[k % len(LINES)], marker=mark(k), ms=2.5)
        top = max(top, float(group["mean_risk"].max()), float(share.max()))
    for axes, end in ((left, 1.0), (right, 1.05 * top)):
        axes.plot([0, end], [0, end], color=GREY, lw=0.6, ls=":")
        axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    left.set(xlabel="1 − specificity", ylabel="Sensitivity", title="ROC, in groups of people")
    right.set(xlabel="Mean predicted risk of a group", ylabel="Observed share", title="Calibration")
    first = bins[bins["arm"] == arms[0]]
    figure.legend(loc="outside upper right", ncols=3)
    label = diseases.BY_NAME[title].label if title in diseases.BY_NAME else title
    text = f"{label} ({int(first['cases'].sum()):,} events / {int(first['people'].sum()):,} people)"
    figure.suptitle(text, x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


@styled
def cloud(cells: pd.DataFrame, arm: str) -> Figure:
    """True against predicted phenotypes of one arm as counted cells (x_low ... y_high, people); empty: few or none."""
    names = [p.name for p in phenotypes.PHENOTYPES if p.name in set(cells["endpoint"])]
    rows = -(-len(names) // 3)
    figure, grid = plt.subplots(rows, 3, figsize=(7.2, 2.4 * rows + 0.4), squeeze=False)
    for axes, name in zip(grid.ravel(), names):
        part, phenotype = cells[cells["endpoint"] == name], phenotypes.BY_NAME[name]
        boxes = [Rectangle((r.x_low, r.y_low), r.x_high - r.x_low, r.y_high - r.y_low) for r in part.itertuples()]  # type: ignore[arg-type, operator]
        patches = PatchCollection(boxes, cmap="Blues")
        patches.set_array(part["people"].to_numpy(float))
        patches.set_clim(0, None)
        axes.add_collection(patches)
        span = [part[["x_low", "y_low"]].to_numpy().min(), part[["x_high", "y_high"]].to_numpy().max()]
        axes.plot(span, span, color=GREY, lw=0.7, ls=":")
        axes.set(xlim=span, ylim=span, title=phenotype.label, xlabel=f"CMR ({phenotype.unit})", ylabel="ECG")
        figure.colorbar(patches, ax=axes, label="People", fraction=0.05)
    for axes in grid.ravel()[len(names) :]:
        axes.axis("off")
    figure.suptitle(f"Predicted by {arm}, in cells of people", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


@styled
def shared_flow(flow: pd.DataFrame, title: str = "Participants") -> Figure:
    """Recordings at each step as bars from step, reason, persons; what is hidden is said, not drawn."""
    shown = flow[flow["persons"].isna() | (flow["persons"] > 0)].reset_index(drop=True)
    names = [f"{s}: {r}" if isinstance(r, str) and r else str(s) for s, r in zip(shown["step"], shown["reason"])]
    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.24 * len(shown)))
    people = shown["persons"].astype("Float64").to_numpy(float, na_value=np.nan)
    axes.barh(range(len(shown)), np.nan_to_num(people), color="#0072B2", height=0.6)
    for y, value in enumerate(people):
        text = f" {int(value):,}" if np.isfinite(value) else " kept at the site"
        axes.text(float(np.nan_to_num(value)), y, text, va="center", fontsize=7)
    axes.set_yticks(range(len(shown)), names)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="People", title=title)
    axes.set_xlim(0, 1.15 * max(float(np.nanmax(people, initial=1.0)), 1.0))
    return figure
