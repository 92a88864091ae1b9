"""Figures of differences between people: performance in subgroups, and centres that differ from home."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardionets.figures.base import GREY, OKABE_ITO, colours, mark, styled
from cardionets.figures.performance import LABELS, bars_of


@styled
def subgroup_forest(table: pd.DataFrame, names: Mapping[str, str], metric: str = "auc", title: str = "") -> Figure:
    """One metric in every subgroup, a panel per endpoint, from `evaluate.subgroups.evaluate`.

    ``names``: endpoint -> label. Beside each variable stands the p value of its interaction test (Holm); a subgroup
    that is not estimable shows n and no mark.
    """
    rows = table[table["metric"] == metric]
    endpoints = [e for e in rows["endpoint"].unique() if rows.loc[rows["endpoint"] == e, "estimate"].notna().any()]
    keys = rows[["variable", "group"]].drop_duplicates()
    columns = min(3, max(1, len(endpoints)))
    lines = -(-max(1, len(endpoints)) // columns)
    variables = list(dict.fromkeys(keys["variable"]))
    height = 0.145 * (len(keys) + 1.6 * len(variables)) + 0.45
    figure, grid = plt.subplots(
        lines, columns, figsize=(7.2, height * lines + 0.5), squeeze=False, sharey=True, sharex=True
    )
    for ax in grid.ravel()[len(endpoints) :]:
        ax.axis("off")
    for i, (ax, endpoint) in enumerate(zip(grid.ravel(), endpoints)):
        ax.set_title(names.get(str(endpoint), str(endpoint)), fontsize=7)
        _panel(ax, table[table["endpoint"] == endpoint], keys, metric)
        if i + columns >= len(endpoints):
            ax.set_xlabel(f"{LABELS.get(metric, metric)} (95 % interval); people at the right", fontsize=6.5)
            ax.tick_params(labelbottom=True)
    figure.suptitle(title or "Subgroups", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _panel(ax: Axes, table: pd.DataFrame, keys: pd.DataFrame, metric: str) -> None:
    y, ticks, labels = 0.0, list[float](), list[str]()
    edge = ax.get_yaxis_transform()
    for k, (variable, group) in enumerate(keys.groupby("variable", sort=False)):
        part = table[table["variable"] == variable]
        p = part.loc[part["metric"] == f"{metric}_interaction_p_holm", "estimate"]
        said = f"{p.iloc[0]:.2f}" if len(p) and p.notna().all() else "–"
        ax.text(0.02, y, f"{variable}: interaction p {said}", fontsize=5.8, weight="bold", va="center", transform=edge)
        names = list(group["group"])
        place = dict(zip(names, y + 1 + np.arange(len(names))))
        ticks += place.values()
        labels += [str(name).replace("atrial fibrillation", "AF") for name in names]
        rows = part[(part["metric"] == metric) & part["group"].isin(names)]
        height = rows["group"].map(place)
        ax.errorbar(
            rows["estimate"],
            height,
            xerr=bars_of(rows),
            fmt=mark(k),
            ms=3,
            lw=0.8,
            color=OKABE_ITO[k % 5],
        )
        for n, at in zip(rows["n"], height):
            ax.text(1.0, at, f"{int(n):,}", fontsize=5.3, va="center", ha="right", transform=edge)
        y += len(names) + 1.6
    ax.set_yticks(ticks, labels, fontsize=6)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(y - 0.6, -0.8)
    ax.axvline(0.5 if metric == "auc" else 0, color=GREY, lw=0.6, ls=":")
    ax.set_xlim(-0.02 if metric == "auc" else -0.3, 1.14)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.grid(axis="x")


@styled
def case_mix(differences: pd.DataFrame, drops: pd.DataFrame, names: Mapping[str, str], home: str) -> Figure:
    """Left: standardised mean differences of each centre from home. Right: how far a metric falls there.

    differences: cohort, characteristic, smd; drops: cohort, endpoint, drop, lower, upper; ``names`` labels both.
    Differences within ±0.1 (shaded) are usually called negligible.
    """
    cohorts = list(dict.fromkeys([*differences["cohort"], *drops["cohort"]]))
    tint = colours(cohorts)
    sides = [(differences, "characteristic", "smd"), (drops, "endpoint", "drop")]
    rows = max(1, *(table[column].nunique() for table, column, _ in sides))
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 0.2 * rows + 1.2))
    for ax, (table, column, value) in zip(axes, sides):
        known = table.dropna(subset=[value])
        order = list(dict.fromkeys(known[column]))
        for k, cohort in enumerate(cohorts):
            part = known[known["cohort"] == cohort]
            y = part[column].map(order.index).astype(float) + 0.22 * (k - (len(cohorts) - 1) / 2)
            if value == "drop":
                bars = bars_of(part.rename(columns={"drop": "estimate"}))
                ax.errorbar(part[value], y, xerr=bars, fmt=mark(k), ms=3, lw=0.7, color=tint[cohort])
            else:
                ax.plot(part[value], y, mark(k), ms=3.5, color=tint[cohort], label=cohort)
        ax.axvline(0, color=GREY, lw=0.7)
        ax.set_yticks(range(len(order)), [names.get(str(name), str(name)) for name in order], fontsize=6.5)
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.grid(axis="x")
    axes[0].axvspan(-0.1, 0.1, color=GREY, alpha=0.15, lw=0)
    reach = float(np.nanmax(np.abs(differences["smd"]), initial=0.5)) * 1.1
    axes[0].set_xlim(-reach, reach)
    axes[0].set_xlabel(f"Standardised mean difference from home ({home})", fontsize=7)
    axes[1].set_xlabel("AUC at home − AUC there", fontsize=7)
    figure.legend(loc="outside upper right", ncols=5)
    figure.suptitle("Case mix and performance", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure
