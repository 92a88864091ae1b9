"""Who the people of a cohort are: distributions by sex."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cardionets import phenotypes
from cardionets.config import StudyError
from cardionets.figures.base import OKABE_ITO, styled

SHOWN = {"age": "Age (years)", "rate_bpm": "Heart rate (bpm)", "qrs_ms": "QRS duration (ms)"}
SHOWN |= {name: phenotypes.BY_NAME[name].title for name in ("lv_edv", "lv_mass", "lv_ef")}
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
    sexes = people["sex"].map(SEXES)
    for ax, (column, label) in zip(grid.ravel(), SHOWN.items()):
        values = pd.to_numeric(people[column], errors="coerce")
        ax.set_xlabel(label)
        if values.notna().sum() < 2:
            ax.text(0.5, 0.5, "not measured here", ha="center", va="center", transform=ax.transAxes, fontsize=7)
            ax.set(yticks=[])
            continue
        palette = dict(zip(SEXES.values(), OKABE_ITO[1::-1]))
        known = pd.DataFrame({"value": values, "sex": sexes}).dropna()
        sns.histplot(known, x="value", hue="sex", hue_order=list(palette), palette=palette, element="step", ax=ax)
        ax.set(xlabel=f"{label}, n = {len(known):,}", ylabel="People")
    figure.suptitle(title or "People", x=0.01, ha="left", fontsize=9, weight="bold")
    return figure
