"""Who the people of a cohort are: distributions by sex, and what is usual in the healthy among them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cardionets import phenotypes
from cardionets.config import StudyError
from cardionets.figures.base import OKABE_ITO, styled
from cardionets.flow import BANDS

SHOWN = {"age": "Age (years)", "rate_bpm": "Heart rate (bpm)", "qrs_ms": "QRS duration (ms)"}
SHOWN |= {name: phenotypes.BY_NAME[name].title for name in ("lv_edv", "lv_mass", "lv_ef")}
STEP = {"age": 1, "rate_bpm": 1, "qrs_ms": 4}  # bins are whole steps wide, or values on a raster would look like a comb
SEXES = {"F": "women", "M": "men"}


@styled
def distributions(people: pd.DataFrame, title: str = "") -> Figure:
    """Histograms by sex of age, heart rate, QRS duration and three phenotypes: one row per person, as in the records.

    A panel says so where nothing is known.
    """
    missing = [column for column in ("sex", *SHOWN) if column not in people]
    if missing:
        raise StudyError(f"records: missing columns {', '.join(missing)}; prepare the cohort again.")
    figure, grid = plt.subplots(2, 3, figsize=(7.2, 4.0))
    sexes, palette = people["sex"].map(SEXES), dict(zip(SEXES.values(), OKABE_ITO[1::-1]))
    for ax, (column, label) in zip(grid.ravel(), SHOWN.items()):
        values = pd.to_numeric(people[column], errors="coerce")
        ax.set_xlabel(label)
        if values.notna().sum() < 2:
            ax.text(0.5, 0.5, "not measured here", ha="center", va="center", transform=ax.transAxes, fontsize=7)
            ax.set(yticks=[])
            continue
        known = pd.DataFrame({"value": values, "sex": sexes}).dropna()
        look = {"hue_order": list(palette), "palette": palette, "element": "step", "legend": False}
        edges = _edges(known["value"], STEP.get(column, 0))
        known["value"] = known["value"].clip(edges[0], edges[-1])
        sns.histplot(known, x="value", hue="sex", bins=edges, ax=ax, **look)
        ax.set(xlabel=f"{label}, n = {len(known):,}", ylabel="People")
    shown = [Patch(fc=(*to_rgb(colour), 0.25), ec=colour, label=sex) for sex, colour in palette.items()]
    figure.legend(handles=shown, loc="upper right", ncols=2)
    figure.suptitle(title or "People", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _edges(values: pd.Series, step: float) -> NDArray[np.float64]:
    """Edges of about 24 bins over the bulk of the values, whole multiples of ``step`` wide where one is given.

    Values beyond them belong to the outermost bins.
    """
    low, high = np.quantile(values, [0.002, 0.998])
    width = max((high - low) / 24, 1e-9)
    width = step * max(1, round(width / step)) if step else width
    edges: NDArray[np.float64] = np.arange(low - width / 2, high + 1.5 * width, width)
    return edges


@styled
def reference_ranges(reference: pd.DataFrame, names: Sequence[str], title: str = "") -> Figure:
    """2.5-97.5 percentiles of phenotypes by age and sex, the number of people above each bar.

    ``reference``: columns endpoint, sex (F, M, any), age_band (of :data:`cardionets.flow.BANDS`, or any), n, lower,
    upper; groups too small for a range are not in it, and have no bar.
    """
    bands = [band for band in (*BANDS, "any") if (reference["age_band"] == band).any()]
    figure, grid = plt.subplots(2, -(-len(names) // 2), figsize=(7.2, 4.4), sharex=True, squeeze=False)
    for ax, name in zip(grid.ravel(), names):
        for k, (sex, colour) in enumerate(zip(SEXES, OKABE_ITO[1::-1])):
            rows = reference[(reference["endpoint"] == name) & (reference["sex"] == sex)]
            for _, row in rows.iterrows():
                x = bands.index(row["age_band"]) + 0.34 * (k - 0.5)
                ax.vlines(x, row["lower"], row["upper"], color=colour, lw=4)
                ax.annotate(f"{row['n']:,}", (x, row["upper"]), (0, 2), "data", "offset points", ha="center", size=5)
        ax.set(ylabel=phenotypes.BY_NAME[name].title, xlim=(-0.6, len(bands) - 0.4))
        ax.set_xticks(range(len(bands)), [_years(band) for band in bands], fontsize=6)
        ax.margins(y=0.15)
    for ax in grid.ravel()[len(names) :]:
        ax.set_visible(False)
    figure.supxlabel("Age (years)", fontsize=8)
    shown = [Patch(fc=colour, label=sex) for sex, colour in zip(SEXES.values(), OKABE_ITO[1::-1])]
    figure.legend(handles=shown, loc="outside upper right", ncols=2)
    figure.suptitle(title or "Reference ranges", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure


def _years(band: str) -> str:
    low, high = BANDS.get(band, (-np.inf, np.inf))
    if np.isinf(low):
        return "any" if np.isinf(high) else f"< {high:g}"
    return f"≥ {low:g}" if np.isinf(high) else f"{low:g}–{high - 1:g}"
