"""The median beat in 12 leads, thick and coloured where a prediction comes from."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets.figures.base import GREY, styled
from cardionets.figures.ecg import COLUMNS, NAMES, ROWS

SIGNED, UNSIGNED = "PuOr_r", "cividis_r"  # both legible without red and green
THIN, THICK = 0.6, 4.0


@styled
def attributed_beat(
    beat: NDArray[np.floating],
    contribution: NDArray[np.floating],
    time_s: tuple[float, float],
    title: str = "",
    label: str = "share of all contributions",
) -> Figure:
    """Median beat (12, B) in uV, ``time_s`` from and to about R, coloured by ``contribution`` (12, stretches).

    Contributions of one sign (a mean over people) are light to dark; of both signs (one person), orange raises the
    prediction and purple lowers it. Line width says the same as colour.
    """
    signed = bool(np.nanmin(contribution) < 0)
    top = max(float(np.nanmax(np.abs(contribution))), 1e-12)
    scale = Normalize(-top if signed else 0, top)
    figure, grid = plt.subplots(ROWS, COLUMNS, figsize=(7.2, 4.6), sharex=True, sharey=True)
    time = np.linspace(*time_s, beat.shape[1], endpoint=False)
    for number, name in enumerate(NAMES):
        axes: Axes = grid[number % ROWS, number // ROWS]
        axes.axvline(0, color=GREY, lw=0.4, ls=":")
        axes.plot(time, beat[number] / 1000, color="black", lw=0.5, zorder=3)
        lines = _coloured(time, beat[number] / 1000, contribution[number], scale, SIGNED if signed else UNSIGNED)
        axes.add_collection(lines)
        axes.set_title(name, loc="left", fontsize=8, weight="bold", pad=2)
    grid[0, 0].set_xlim(*time_s)
    figure.supxlabel("Time from the R peak (s)", fontsize=8)
    figure.supylabel("mV", fontsize=8)
    bar = figure.colorbar(lines, ax=grid, shrink=0.8, pad=0.01)
    bar.set_label(label, fontsize=7)
    figure.suptitle(title, fontsize=9, weight="bold")
    return figure


def _coloured(
    time: NDArray[np.floating],
    beat: NDArray[np.floating],
    contribution: NDArray[np.floating],
    scale: Normalize,
    name: str,
) -> LineCollection:
    """The beat as segments between samples, each with its stretch's colour and width."""
    width = -(-len(beat) // len(contribution))
    value = np.repeat(contribution, width)[: len(beat) - 1]
    points = np.column_stack([time, beat])
    segments = np.stack([points[:-1], points[1:]], axis=1)  # (B - 1, 2, 2)
    size = THIN + (THICK - THIN) * np.abs(value) / float(scale.vmax or 1)
    return LineCollection(list(segments), array=value, cmap=name, norm=scale, linewidths=size, capstyle="round")
