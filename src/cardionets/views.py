"""The few numbers that ``dvc metrics`` and ``dvc plots`` show, and compare between two versions of the study."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from cardionets import page
from cardionets.files import atomic_path
from cardionets.report import best_arm

PLOTS = {"auc": ("auc", "endpoint"), "phenotypes": ("r2", "endpoint"), "label_fractions": ("mean_r2", "fraction")}


def summary(metrics: pd.DataFrame, arm: str) -> dict[str, dict[str, float]]:
    """The few numbers that ``dvc metrics`` compares: cohort -> name -> value, at the largest fraction."""
    top = metrics[(metrics["arm"] == arm) & (metrics["fraction"] == metrics["fraction"].max())]
    wanted = top[top["metric"].isin(["mean_r2", "auc", "ssim", "psnr"]) & top["estimate"].notna()]
    found: dict[str, dict[str, float]] = {}
    for _, row in wanted.iterrows():
        found.setdefault(str(row["cohort"]), {})[f"{row['endpoint']}_{row['metric']}"] = round(
            float(row["estimate"]), 4
        )
    return found


def write_summary(metrics: pd.DataFrame, path: Path, arm: str | None = None) -> Path:
    """Write `summary` as JSON."""
    return page.write(path, json.dumps(summary(metrics, arm or best_arm(metrics)), indent=1, sort_keys=True) + "\n")


def write_plots(metrics: pd.DataFrame, folder: Path, arm: str | None = None) -> list[Path]:
    """CSV files that ``dvc plots`` draws and compares: one metric of one arm over endpoints or label fractions."""
    chosen = metrics[metrics["arm"].eq(arm or best_arm(metrics)) & metrics["estimate"].notna()]
    written = []
    for name, (metric, axis) in PLOTS.items():
        rows = chosen[chosen["metric"] == metric]
        if axis == "endpoint":
            rows = rows[rows["fraction"] == rows["fraction"].max()]
        with atomic_path(folder / f"{name}.csv") as aside:
            rows[["cohort", axis, "estimate"]].to_csv(aside, index=False, float_format="%.4f", lineterminator="\n")
        written.append(folder / f"{name}.csv")
    return written
