"""From a run of pytest-benchmark to a table, plots and ratios against the run before."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Final

import pandas as pd
import psutil
import torch

from benchmarks import plots
from benchmarks.targets import promised

FORMATS: Final = {
    "share": "{:.1%}".format,
    "loading": "{:.2%}".format,
    "ms": "{:.1f}".format,
    "ratio_to_before": "{:.2f}".format,
}


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
        row |= {"times_reference": extra["times_reference"]} if "times_reference" in extra else {}
        rows.append(row | ({"loading": extra["kinds"]["loading"]} if "kinds" in extra else {}))
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
    """Write the tables as CSV, ``index.md`` with all of them, and the plots; the tables as text.

    ``stages.csv`` is read before it is written anew, so that the study by stage has its ratios too.
    """
    table = compared(cases(result), cases(before), ["family", "case"], "median_ms")
    study, old = stages(logs), out / "stages.csv"
    earlier = pd.read_csv(old) if old.is_file() else study.head(0)
    study = compared(study, earlier, ["stage", "cohort"], "cpu_seconds")
    profiled = compared(steps(result), steps(before), ["step", "of", "name"], "ms")
    goals = promised(table, study)
    goals.to_csv(out / "targets.csv", index=False, float_format="%.4g")
    table.to_csv(out / "benchmarks.csv", index=False, float_format="%.5g")
    study.to_csv(out / "stages.csv", index=False, float_format="%.5g")
    profiled.to_csv(out / "steps.csv", index=False, float_format="%.4f")
    for family in plots.FAMILIES:
        plots.family(table[table["family"] == family], family, out)
    plots.steps(profiled, out)
    plots.study(study, out)
    parts = {"What was promised": goals, "Cases": table, "Where a training step goes": profiled, "The study": study}
    (out / "index.md").write_text(page(parts, out), encoding="utf-8")
    shown = "\n\n".join(map(text, (table, profiled, goals)))
    return f"{machine()}\n{shown}\nwritten to {out}"


def text(table: pd.DataFrame) -> str:
    """A table for a terminal; empty columns are left out."""
    shown = table.dropna(axis=1, how="all")
    formats = {name: form for name, form in FORMATS.items() if name in shown}
    if table.empty:
        return "nothing was measured"
    return shown.to_string(index=False, na_rep="", float_format="{:.4g}".format, formatters=formats)


def page(parts: dict[str, pd.DataFrame], out: Path) -> str:
    """``index.md``: the machine, every table under its heading, every plot."""
    tables = "".join(f"\n## {title}\n\n```\n{text(table)}\n```\n" for title, table in parts.items())
    pictures = "".join(f"\n![{path.stem}]({path.name})\n" for path in sorted(out.glob("*.png")))
    note = "Medians of repeated runs; memory is anonymous and above the start; a ratio below 1 is faster than before."
    if os.environ.get("BENCHMARK_SIZE") == "small":
        note += " A first look at the smallest sizes: the figures that are promised need `--size full`."
    return f"# Benchmarks\n\n{machine()}\n\n{note}\n{tables}\n## Pictures\n{pictures}"
