"""The flow of participants (STARD 2015 item 19), drawn from the store's ``flow.csv``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardionets.config import StudyError
from cardionets.figures.base import styled

NEEDED = ("step", "reason", "records", "persons")
SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
BOX = {"boxstyle": "square,pad=0.5", "fc": "white", "ec": "black", "lw": 0.7}
OUT = {"boxstyle": "square,pad=0.5", "fc": "#F2F2F2", "ec": "#7F7F7F", "lw": 0.6}
ARROW = {"arrowstyle": "-|>", "lw": 0.7, "shrinkA": 0, "shrinkB": 0, "fc": "black"}
LINE, STEM, SIDE = 0.17, 2.7, 5.2


def _count(row: pd.Series) -> str:
    people = "1 person" if int(row["persons"]) == 1 else f"{int(row['persons']):,} people"
    ecgs = "1 ECG" if int(row["records"]) == 1 else f"{int(row['records']):,} ECGs"
    return f"{ecgs}, {people}"


def _arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float]) -> None:
    axes.annotate("", xy=stop, xytext=start, arrowprops=ARROW, zorder=1)


def _box(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=7, bbox=BOX, zorder=3)


def _side(axes: Axes, y: float, head: str, rows: pd.DataFrame) -> None:
    lines = [f"{row['reason']}: {_count(row)}" for _, row in rows.iterrows()] or ["nobody"]
    _arrow(axes, (STEM, y), (SIDE - 0.12, y))
    axes.text(SIDE, y, "\n".join([head, *lines]), ha="left", va="center", fontsize=6.3, bbox=OUT, zorder=3)


@styled
def stard(flow: pd.DataFrame, title: str = "Participants") -> Figure:
    """Flow diagram of one cohort from step, reason, records, persons (`cardionets.flow`).

    Source, exclusions by reason, those kept with their cines (and cines not usable), the splits that have people.
    """
    missing = [c for c in NEEDED if c not in flow]
    if missing:
        raise StudyError(f"flow.csv: missing columns {', '.join(missing)}; prepare the cohort again.")
    part = dict(list(flow.groupby("step", sort=False)))
    empty = flow.iloc[:0]
    lost, bad = part.get("excluded", empty), part.get("cmr excluded", empty)
    splits = part.get("split", empty)
    splits = splits[splits["records"] > 0]
    first = 1.0 + LINE * (len(lost) + 1)
    second = 1.0 + LINE * (len(bad) + 1)
    total = first + second + 0.9
    figure, axes = plt.subplots(figsize=(7.2, 0.4 + 0.72 * total))
    axes.set(xlim=(0, 10), ylim=(-total + 0.4, 0.5), title=title)
    axes.axis("off")
    _box(axes, STEM, 0, f"Records at the centre\n{_count(part['source'].iloc[0])}")
    _side(axes, -first / 2, "Excluded", lost)
    cines = [f"with {row['reason']} cine: {_count(row)}" for _, row in part.get("cmr", empty).iterrows()]
    kept = "\n".join([f"Kept\n{_count(part['kept'].iloc[0])}", *cines])
    _arrow(axes, (STEM, 0), (STEM, -first + 0.2 + LINE * len(cines) / 2 + 0.2))
    _box(axes, STEM, -first, kept)
    _side(axes, -first - second / 2, "CMR not usable (the ECG is kept)", bad)
    _splits(axes, splits, -first, -first - second - 0.15)
    return figure


def _splits(axes: Axes, splits: pd.DataFrame, top: float, y: float) -> None:
    width = min(2.7, 8.0 / max(len(splits), 1))
    for i, (_, row) in enumerate(splits.iterrows()):
        x = STEM + (i - (len(splits) - 1) / 2) * width if len(splits) < 3 else 1.25 + i * width
        axes.plot([STEM, STEM, x], [top, y + 0.6, y + 0.6], color="black", lw=0.7, zorder=1)
        _arrow(axes, (x, y + 0.6), (x, y + 0.25))
        _box(axes, x, y, f"{SPLITS.get(str(row['reason']), row['reason'])}\n{_count(row)}")
