"""From a run of pytest-benchmark to a table, plots and ratios against the run before."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import psutil
import torch

FAMILIES = ("prepare", "store", "models", "step", "generator", "statistics", "pipeline")


def cases(path: Path) -> pd.DataFrame:
    """One row per case: family, case, median, spread and peak memory."""
    if not path.is_file() or not path.stat().st_size:
        return pd.DataFrame(columns=["family", "case", "unit", "median_ms", "iqr_ms", "rounds", "peak_MB"])
    rows = []
    for bench in json.loads(path.read_text())["benchmarks"]:
        extra, stats = bench["extra_info"], bench["stats"]
        scale = 1000 / extra.get("per", 1)
        family = Path(bench["fullname"].split("::")[0]).stem.removeprefix("bench_")
        row = {"family": family, "case": bench["name"].removeprefix("test_"), "unit": extra.get("unit", "run")}
        row |= {"median_ms": stats["median"] * scale, "iqr_ms": stats["iqr"] * scale, "rounds": stats["rounds"]}
        row |= {"peak_MB": extra.get("peak_mb", float("nan"))}
        rows.append(row | ({"times_reference": extra["times_reference"]} if "times_reference" in extra else {}))
    return pd.DataFrame(rows)


def steps(path: Path) -> pd.DataFrame:
    """Share and milliseconds of every kind of operator, and of the five largest, in the profiled training steps."""
    rows = []
    for bench in json.loads(path.read_text())["benchmarks"] if path.is_file() and path.stat().st_size else []:
        extra = bench["extra_info"]
        for group in ("kinds", "largest"):
            for name, share in extra.get(group, {}).items():
                row = {"step": bench["name"].removeprefix("test_"), "of": group, "name": name, "share": share}
                rows.append(row | {"ms": share * extra["step_ms"]})
    return pd.DataFrame(rows, columns=["step", "of", "name", "share", "ms"])


def compared(table: pd.DataFrame, old: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """``table`` with the ratio of ``value`` to that of the run before, where it had the same case."""
    earlier = old.set_index(keys)[value]
    ratio = table[value].to_numpy(float) / earlier.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy(float)
    return table.assign(ratio_to_before=ratio)


def machine() -> str:
    """The machine in one line; its name and user stay out."""
    memory = psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{system}; Python {platform.python_version()}, torch {torch.__version__}; one thread; load {load:.1f}"


def stages(logs: Path) -> pd.DataFrame:
    """Seconds, CPU seconds and MB of every finished stage of the study at hand, from its status files."""
    rows: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(logs.glob("*/*/status.json"))]
    table = pd.DataFrame(rows, columns=["stage", "cohort", "state", "seconds", "cpu_seconds", "peak_mb"])
    return table[table["state"] == "finished"].drop(columns="state").sort_values("seconds", ascending=False)


def write(result: Path, before: Path, logs: Path, out: Path) -> str:
    """Write ``benchmarks.csv``, ``stages.csv``, ``steps.csv``, ``index.md``, a plot per family; the tables as text."""
    table, study = compared(cases(result), cases(before), ["family", "case"], "median_ms"), stages(logs)
    table.to_csv(out / "benchmarks.csv", index=False, float_format="%.5g")
    study.to_csv(out / "stages.csv", index=False)
    profiled = compared(steps(result), steps(before), ["step", "of", "name"], "ms")
    profiled.to_csv(out / "steps.csv", index=False, float_format="%.4f")
    for family in FAMILIES:
        plot(table[table["family"] == family], family, out)
    text = table.to_string(index=False, float_format="{:.4g}".format)
    shown = study.to_string(index=False)
    as_text = {"share": "{:.1%}".format, "ms": "{:.1f}".format, "ratio_to_before": "{:.2f}".format}
    where = profiled.to_string(index=False, formatters=as_text) if len(profiled) else "no step was profiled"
    tables = "".join(f"\n```\n{part}\n```\n" for part in (text, where, shown))
    (out / "index.md").write_text(f"# Benchmarks\n\n{machine()}\n{tables}")
    return f"{machine()}\n{text}\n{where}\nwritten to {out}"


def plot(table: pd.DataFrame, family: str, out: Path) -> None:
    """Medians of a family on a logarithmic axis, the quartile range as a line."""
    if table.empty:
        return
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.28 * len(table)), layout="constrained")
    names = table["case"] + " (per " + table["unit"] + ")"
    axes.errorbar(table["median_ms"], names, xerr=table["iqr_ms"] / 2, fmt="o", color="#0072b2", ecolor="#999999")
    axes.set(xscale="log", xlabel="milliseconds, median", title=family)
    axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    figure.savefig(out / f"{family}.png", dpi=120)
    plt.close(figure)
