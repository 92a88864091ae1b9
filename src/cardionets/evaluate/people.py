"""Who the people of a centre are, as aggregates that may travel, and how far two centres differ.

Standardised mean differences need means, standard deviations and shares only, so the coordinator compares centres
without anybody's record. Austin, Stat Med 2009;28:3083.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes
from cardionets.evaluate.cube import disease_labels

NUMBERS: Final = ("age", "height_cm", "weight_kg", "rate_bpm", "qrs_ms")
COLUMNS: Final = ("cohort", "characteristic", "kind", "n", "mean", "sd")


def characteristics(records: pd.DataFrame, cohort: str, minimum: int = 1) -> pd.DataFrame:
    """Mean and SD of measurements, shares of sex and diseases, one row per characteristic: :data:`COLUMNS`.

    One record of each test person counts, chosen by pseudonym. A share resting on fewer than ``minimum`` people with or
    without the characteristic, and a mean of fewer, is withheld (NaN).
    """
    first = records[records["split"] == "test"].drop_duplicates("person")
    rows = [_share(cohort, "female", first["sex"].map({"F": 1.0, "M": 0.0}).to_numpy(float), minimum)]
    rows += [_share(cohort, name, disease_labels(first, name), minimum) for name in diseases.NAMES]
    names = [name for name in (*NUMBERS, *phenotypes.HEADLINE) if name in first]
    rows += [_number(cohort, name, first[name].to_numpy(float, na_value=np.nan), minimum) for name in names]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _share(cohort: str, name: str, values: np.ndarray, minimum: int) -> tuple[object, ...]:
    known = values[np.isfinite(values)]
    cells = (known.sum(), len(known) - known.sum())
    shown = len(known) > 0 and all(cell == 0 or cell >= minimum for cell in cells)
    mean = float(known.mean()) if shown else np.nan
    return cohort, name, "share", len(known), mean, float(np.sqrt(mean * (1 - mean))) if shown else np.nan


def _number(cohort: str, name: str, values: np.ndarray, minimum: int) -> tuple[object, ...]:
    known = values[np.isfinite(values)]
    shown = len(known) >= max(2, minimum)
    mean, sd = (float(known.mean()), float(known.std(ddof=1))) if shown else (np.nan, np.nan)
    return cohort, name, "number", len(known), mean, sd


def differences(people: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Standardised mean difference of every cohort against ``reference``: cohort, characteristic, smd, note.

    ``people`` stacks the tables of `characteristics`. NaN, with a note, where one did not measure it or does not vary.
    """
    home = people[people["cohort"] == reference].set_index("characteristic")
    rows = []
    for _, row in people[people["cohort"] != reference].iterrows():
        own = home.loc[row["characteristic"]] if row["characteristic"] in home.index else None
        smd = float("nan") if own is None else _smd(own["mean"], own["sd"], row["mean"], row["sd"])
        note = "" if np.isfinite(smd) else "not estimable: because one of the two did not measure it or does not vary"
        rows.append((row["cohort"], row["characteristic"], smd, note))
    return pd.DataFrame(rows, columns=["cohort", "characteristic", "smd", "note"])


def _smd(mean: float, sd: float, other: float, other_sd: float) -> float:
    spread = float(np.sqrt((sd**2 + other_sd**2) / 2))
    return (other - mean) / spread if spread > 0 else float("nan")


def drops(metrics: pd.DataFrame, reference: str, metric: str = "auc") -> pd.DataFrame:
    """Fall of one metric from ``reference`` to every other cohort, on independent people.

    metrics: tidy rows of several cohorts. Columns: cohort, endpoint, arm, home, away, drop, lower, upper; the interval
    combines the two intervals (Newcombe, Stat Med 1998;17:873; half-widths add in squares on each side).
    """
    rows = metrics[(metrics["metric"] == metric) & metrics["estimate"].notna()]
    columns = ["endpoint", "arm", "fraction", "estimate", "lower", "upper"]
    home = rows.loc[rows["cohort"] == reference, columns]
    both = rows[rows["cohort"] != reference].merge(home, on=columns[:3], suffixes=("", "_home"))
    value = both["estimate_home"] - both["estimate"]
    low = np.hypot(both["estimate_home"] - both["lower_home"], both["upper"] - both["estimate"])
    high = np.hypot(both["upper_home"] - both["estimate_home"], both["estimate"] - both["lower"])
    found = both[["cohort", "endpoint", "arm", "fraction"]].assign(
        home=both["estimate_home"], away=both["estimate"], drop=value, lower=value - low, upper=value + high
    )
    return found.reset_index(drop=True)
