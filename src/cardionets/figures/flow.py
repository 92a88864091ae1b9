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
EDGE, GAP = 0.07, 0.14  # between the text and its frame; between frames


def _count(row: pd.Series) -> str:
    people = "1 person" if int(row["persons"]) == 1 else f"{int(row['persons']):,} people"
    ecgs = "1 ECG" if int(row["records"]) == 1 else f"{int(row['records']):,} ECGs"
    return f"{ecgs}, {people}"


def _half(lines: int) -> float:
    """Half the height of a box."""
    return LINE * lines / 2 + EDGE


def _arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float]) -> None:
    axes.annotate("", xy=stop, xytext=start, arrowprops=ARROW, zorder=1)


def _box(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=7, bbox=BOX, zorder=3)


def _side(axes: Axes, y: float, lines: list[str]) -> None:
    _arrow(axes, (STEM, y), (SIDE - 0.12, y))
    axes.text(SIDE, y, "\n".join(lines), ha="left", va="center", fontsize=6.3, bbox=OUT, zorder=3)


def _left_out(head: str, rows: pd.DataFrame) -> list[str]:
    return [head, *([f"{_words(row)}: {_count(row)}" for _, row in rows.iterrows()] or ["nobody"])]


def _words(row: pd.Series) -> str:
    return str(row["reason"]).removeprefix("q_").replace("_", " ")


@styled
def stard(flow: pd.DataFrame, title: str = "Participants") -> Figure:
    """Flow diagram of one cohort from step, reason, records, persons (`cardionets.flow`).

    Source, exclusions by reason, those kept with their cines (and cines not usable) and flags, the splits that have
    people.
    """
    missing = [c for c in NEEDED if c not in flow]
    if missing:
        raise StudyError(f"flow.csv: missing columns {', '.join(missing)}; prepare the cohort again.")
    part = dict(list(flow.groupby("step", sort=False)))
    empty = flow.iloc[:0]
    lost = _left_out("Excluded", part.get("excluded", empty))
    bad = _left_out("CMR not usable (the ECG is kept)", part.get("cmr excluded", empty))
    cines = [f"with {row['reason']} cine: {_count(row)}" for _, row in part.get("cmr", empty).iterrows()]
    flags = [f"flag {_words(row)}: {_count(row)}" for _, row in part.get("flagged", empty).iterrows() if row["records"]]
    kept = ["Kept", _count(part["kept"].iloc[0]), *cines, *flags]
    splits = part.get("split", empty)
    splits = splits[splits["records"] > 0]
    first = -(_half(2) + GAP + _half(len(lost)))
    second = first - _half(len(lost)) - GAP - _half(len(kept))
    third = second - _half(len(kept)) - GAP - _half(len(bad))
    last = third - _half(len(bad)) - 3 * GAP - _half(2)
    figure, axes = plt.subplots(figsize=(7.2, 0.4 + 0.72 * (0.8 - last)))
    axes.set(xlim=(0, 10), ylim=(last - 0.35, 0.45), title=title)
    axes.axis("off")
    _box(axes, STEM, 0, f"Records at the centre\n{_count(part['source'].iloc[0])}")
    _side(axes, first, lost)
    _arrow(axes, (STEM, 0), (STEM, second + _half(len(kept))))
    _box(axes, STEM, second, "\n".join(kept))
    _side(axes, third, bad)
    _splits(axes, splits, second, last)
    return figure


def _splits(axes: Axes, splits: pd.DataFrame, top: float, y: float) -> None:
    """The boxes of the splits at height ``y``, under a line that begins at ``top``."""
    width, bar = min(2.7, 8.0 / max(len(splits), 1)), y + _half(2) + 2 * GAP
    for i, (_, row) in enumerate(splits.iterrows()):
        x = STEM + (i - (len(splits) - 1) / 2) * width if len(splits) < 3 else 1.25 + i * width
        axes.plot([STEM, STEM, x], [top, bar, bar], color="black", lw=0.7, zorder=1)
        _arrow(axes, (x, bar), (x, y + _half(2)))
        _box(axes, x, y, f"{SPLITS.get(str(row['reason']), row['reason'])}\n{_count(row)}")
