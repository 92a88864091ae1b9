"""The 12-lead ECG on its paper: 25 mm/s, 10 mm/mV."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from cardionets.figures.base import styled

NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MM_PER_S, MM_PER_MV, INCH = 25.0, 10.0, 25.4
ROWS, COLUMNS = 3, 4
ROW_MM, PAD_MM = 30.0, 6.0
FINE, BOLD = "#F6D5D5", "#E8A0A0"


def _paper(axes: Axes, width_mm: float, height_mm: float) -> None:
    for step, colour, line in ((1, FINE, 0.25), (5, BOLD, 0.45)):
        axes.vlines(np.arange(0, width_mm + 0.1, step), 0, height_mm, color=colour, lw=line, zorder=0)
        axes.hlines(np.arange(0, height_mm + 0.1, step), 0, width_mm, color=colour, lw=line, zorder=0)
    axes.set(xlim=(0, width_mm), ylim=(0, height_mm), aspect="equal")
    axes.axis("off")


def _pulse(axes: Axes, base: float) -> None:
    axes.plot([0.5, 1.5, 1.5, 4.0, 4.0, 5.0], base + np.array([0, 0, 10, 10, 0, 0]), color="black", lw=0.7)


@styled
def ecg(signal: NDArray[np.floating], rate_hz: float, title: str = "", rhythm: str = "II") -> Figure:
    """A 12-lead ECG (12, T) in uV as 3 x 4 strips and a rhythm strip, life-size at 25 mm/s and 10 mm/mV.

    Leads in the order I, II, III, aVR, aVL, aVF, V1-V6; up to 10 s are shown.
    """
    width, height = paper_mm(signal, rate_hz)
    figure = plt.figure(figsize=(width / INCH, (height + 14) / INCH), layout="none")
    share = height / (height + 14)
    draw_ecg(figure.add_axes((0, 5 / (height + 14), 1, share)), signal, rate_hz, rhythm)
    figure.text(0.01, 0.985, title, fontsize=9, weight="bold", va="top")
    figure.text(0.99, 0.985, "25 mm/s   10 mm/mV", fontsize=7, va="top", ha="right")
    return figure


def paper_mm(signal: NDArray[np.floating], rate_hz: float) -> tuple[float, float]:
    """Width and height of the paper that an ECG (12, T) needs, in millimetres."""
    width, height = _seconds(signal, rate_hz) * MM_PER_S + 2 * PAD_MM, (ROWS + 1) * ROW_MM
    return float(5 * np.ceil(width / 5)), float(5 * np.ceil(height / 5))


def _seconds(signal: NDArray[np.floating], rate_hz: float) -> float:
    return float(min(10.0, signal.shape[1] / rate_hz))


def draw_ecg(axes: Axes, signal: NDArray[np.floating], rate_hz: float, rhythm: str = "II") -> None:
    """Draw an ECG (12, T) in uV on axes that measure :func:`paper_mm` on the page; one unit is one millimetre."""
    seconds, (width, height) = _seconds(signal, rate_hz), paper_mm(signal, rate_hz)
    _paper(axes, width, height)
    millivolts = np.asarray(signal, dtype=float) / 1000
    for row in range(ROWS):
        base = height - (row + 0.55) * ROW_MM
        _pulse(axes, base)
        for column in range(COLUMNS):
            lead = column * ROWS + row
            part = (seconds * column / COLUMNS, seconds * (column + 1) / COLUMNS)
            _strip(axes, millivolts[lead], rate_hz, part, base, NAMES[lead])
    base = height - (ROWS + 0.55) * ROW_MM
    _pulse(axes, base)
    _strip(axes, millivolts[NAMES.index(rhythm)], rate_hz, (0, seconds), base, rhythm)


def _strip(
    axes: Axes, lead: NDArray[np.floating], rate_hz: float, part: tuple[float, float], base: float, name: str
) -> None:
    start, stop = (round(t * rate_hz) for t in part)
    time = np.arange(start, stop) / rate_hz
    axes.plot(
        PAD_MM + time * MM_PER_S, base + lead[start:stop] * MM_PER_MV, color="black", lw=0.6, solid_joinstyle="round"
    )
    label = axes.text(PAD_MM + part[0] * MM_PER_S + 1, base + 12, name, fontsize=7, weight="bold", va="center")
    label.set_path_effects([withStroke(linewidth=2, foreground="white")])  # readable where an R wave crosses it
