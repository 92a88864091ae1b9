"""Figures of performance: phenotype bars, AUC per disease, label fractions, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardionets import diseases, phenotypes
from cardionets.config import StudyError
from cardionets.figures.base import GREY, LINES, colours, mark, styled

LABELS = {"r2": "R² (1 − SSE/SST)", "r": "Pearson r", "mae": "Mean absolute error", "ccc": "Concordance (CCC)"}
LABELS |= {"auc": "AUC", "auprc": "AUPRC", "mean_r2": "Mean R² of the phenotypes", "mean_r": "Mean r of the phenotypes"}
COLUMNS = 2


def choose(metrics: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """Rows of the tidy table with one metric, further narrowed by column = value; none is an error."""
    keep = metrics["metric"] == metric
    for column, value in where.items():
        keep &= metrics[column] == value
    if not keep.any():
        asked = ", ".join(f"{k} = {v}" for k, v in where.items())
        raise StudyError(
            f"metrics: no row has metric = {metric}{', ' if asked else ''}{asked}; evaluate this cohort again."
        )
    return metrics[keep]


def bars_of(table: pd.DataFrame) -> np.ndarray:
    """Error-bar lengths (2, n) from the columns estimate, lower, upper; zero where an interval is missing."""
    low = (table["estimate"] - table["lower"]).fillna(0).clip(lower=0)
    high = (table["upper"] - table["estimate"]).fillna(0).clip(lower=0)
    return np.stack([low.to_numpy(float), high.to_numpy(float)])


def _plain_arms(table: pd.DataFrame) -> list[str]:
    return [str(a) for a in table["arm"].unique() if " minus " not in str(a)]


@styled
def phenotype_bars(
    metrics: pd.DataFrame, metric: str = "r2", fraction: float = 1.0, arms: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """One metric of the 82 phenotypes with intervals, grouped as in UK Biobank; a row each, a mark per arm."""
    table = choose(metrics, metric, fraction=fraction)
    table = table[table["endpoint"].isin(phenotypes.NAMES)]
    arms = list(arms or _plain_arms(table))
    shown = [p for p in phenotypes.PHENOTYPES if p.name in set(table["endpoint"])]
    groups = list(dict.fromkeys(p.group for p in shown))
    sizes = {g: sum(p.group == g for p in shown) for g in groups}
    left: list[str] = []
    while groups and (
        not left or sum(sizes[g] + 2 for g in left) + sizes[groups[0]] / 2 < (len(shown) + 2 * len(sizes)) / 2
    ):
        left.append(groups.pop(0))
    rows = max(sum(sizes[g] + 1.6 for g in part) for part in (left, groups))
    figure, axes = plt.subplots(1, COLUMNS, figsize=(7.2, 0.9 + 0.135 * rows), sharex=True)
    tint = colours(arms)
    for ax, part in zip(axes, (left, groups)):
        _bar_column(ax, table, [[p for p in shown if p.group == g] for g in part], arms, tint)
        ax.set_xlabel(LABELS.get(metric, metric))
        ax.set_ylim(rows - 0.4, -0.9)
    handles = [Line2D([], [], marker=mark(i), ls="", color=tint[a], label=a) for i, a in enumerate(arms)]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(len(arms), 6))
    n = table["n"].max()
    figure.suptitle(
        f"{title or 'CMR phenotypes'} (n ≤ {n:,}; {fraction:.0%} of labels)",
        x=0.01,
        ha="left",
        fontsize=9,
        weight="bold",
    )
    return figure


def _bar_column(
    ax: Axes, table: pd.DataFrame, groups: list[list[phenotypes.Phenotype]], arms: Sequence[str], tint: dict[str, str]
) -> None:
    place: dict[str, float] = {}
    labels: list[str] = []
    y = 0.0
    shift = np.linspace(-0.28, 0.28, len(arms)) if len(arms) > 1 else np.zeros(1)
    edge = ax.get_yaxis_transform()
    for group in groups:
        ax.text(-0.01, y, group[0].group, transform=edge, weight="bold", fontsize=7, va="center", ha="right")
        place |= {phenotype.name: y + i for i, phenotype in enumerate(group, 1)}
        labels += [phenotype.label for phenotype in group]
        y += len(group) + 1.6
    for k, arm in enumerate(arms):
        rows = table[(table["arm"] == arm) & table["endpoint"].isin(place)]
        height = rows["endpoint"].map(place).astype(float) + shift[k]
        ax.errorbar(rows["estimate"], height, xerr=bars_of(rows), fmt=mark(k), ms=2.2, lw=0.6, color=tint[arm])
    ticks = list(place.values())
    ax.set_yticks(ticks, labels, fontsize=5.8)
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color=GREY, lw=0.6)
    ax.grid(axis="x")


@styled
def auc_forest(metrics: pd.DataFrame, fraction: float = 1.0, metric: str = "auc", title: str = "") -> Figure:
    """AUC per disease and arm with intervals; events and n beside each disease; what is not estimable is said."""
    table = choose(metrics, metric, fraction=fraction)
    arms, endpoints = _plain_arms(table), list(dict.fromkeys(table["endpoint"]))
    tint = colours(arms)
    step = 1 + 0.12 * max(0, len(arms) - 3)
    figure, ax = plt.subplots(figsize=(7.2, 1.1 + 0.42 * step * len(endpoints)))
    shift = np.linspace(-0.3, 0.3, len(arms)) if len(arms) > 1 else np.zeros(1)
    for k, arm in enumerate(arms):
        rows = table[table["arm"] == arm].set_index("endpoint").reindex(endpoints)
        place = np.arange(len(endpoints)) + shift[k]
        ax.errorbar(rows["estimate"], place, xerr=bars_of(rows), fmt=mark(k), color=tint[arm], label=arm, lw=1)
    for i, endpoint in enumerate(endpoints):
        rows = table[table["endpoint"] == endpoint]
        if rows["estimate"].isna().all():
            ax.text(0.5, i, f" {rows['note'].iloc[0]}", fontsize=6, color=GREY, va="center")
    ax.set_yticks(range(len(endpoints)), [_disease_label(table, e) for e in endpoints])
    ax.set(ylim=(len(endpoints) - 0.5, -0.5), xlabel=f"{LABELS.get(metric, metric)} (95 % interval)")
    ax.axvline(0.5, color=GREY, lw=0.6, ls=":") if metric == "auc" else None
    ax.grid(axis="x")
    ax.annotate(
        "cases / recordings", (0, 1), (-4, 2), "axes fraction", "offset points", ha="right", fontsize=6, color=GREY
    )
    figure.legend(loc="outside right upper", ncols=1)
    figure.suptitle(title or "Screening", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _disease_label(table: pd.DataFrame, endpoint: str) -> str:
    row = table[table["endpoint"] == endpoint].iloc[0]
    labels = {name: disease.label for name, disease in diseases.BY_NAME.items()} | diseases.SUBTYPE_LABELS
    name = labels.get(endpoint, endpoint)
    events = 0 if pd.isna(row["events"]) else int(row["events"])
    return f"{name}\n{events:,} / {int(row['n']):,}"


@styled
def label_fractions(
    metrics: pd.DataFrame,
    endpoint: str = "all_phenotypes",
    metric: str = "mean_r2",
    title: str = "",
    labelled: int | None = None,
) -> Figure:
    """One metric against the fraction of labels, per arm; ``labelled`` people at 100 % label the axis."""
    table = choose(metrics, metric, endpoint=endpoint)
    figure, ax = plt.subplots(figsize=(4.2, 3.0))
    arms = _plain_arms(table)
    tint = colours(arms)
    fractions = np.sort(table["fraction"].unique())
    for k, arm in enumerate(arms):
        rows = table[table["arm"] == arm].sort_values("fraction")
        ax.errorbar(
            rows["fraction"] * 1.02 ** (k - len(arms) / 2), rows["estimate"], yerr=bars_of(rows),
            color=tint[arm], ls=LINES[k % len(LINES)], marker=mark(k), label=arm,
        )  # fmt: skip
    ax.set_xscale("log")
    names = [f"{f:.0%}" + (f"\n{round(f * labelled):,}" if labelled else "") for f in fractions]
    ax.set_xticks(fractions, names)
    ax.minorticks_off()
    ax.set(
        xlabel="Labelled people used for training" if labelled else "Fraction of labels",
        ylabel=LABELS.get(metric, metric),
    )
    ax.set_title(f"{title or 'Label efficiency'} (n = {table['n'].max():,})")
    ax.grid(axis="y")
    figure.legend(loc="outside right center")
    return figure


@styled
def learning_curves(history: pd.DataFrame, title: str = "", y: str = "loss") -> Figure:
    """Training log: columns epoch (or step), train, and any of val or further numeric curves, one line each."""
    x = next((c for c in ("epoch", "step") if c in history), None)
    if x is None:
        raise StudyError("training log: neither column epoch nor step is there; train again with the current version.")
    figure, ax = plt.subplots(figsize=(4.2, 2.6))
    curves = [c for c in history.columns if c != x and pd.api.types.is_numeric_dtype(history[c])]
    for (name, colour), line in zip(colours(curves).items(), LINES * 3):
        known = history[[x, name]].dropna()
        ax.plot(known[x], known[name], color=colour, ls=line, label=name)
    ax.set(xlabel=x.capitalize(), ylabel=y, title=title or "Training")
    ax.grid(axis="y")
    ax.legend()
    return figure
