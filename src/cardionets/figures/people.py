"""Who the people of a cohort are: distributions by sex."""

from __future__ import annotations

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
