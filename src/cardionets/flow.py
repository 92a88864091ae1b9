"""The participant flow (STARD 2015 item 19): how many records and people each step has, by sex and age band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

BANDS: Final = {
    "age_under_45": (-np.inf, 45.0),
    "age_45_54": (45.0, 55.0),
    "age_55_64": (55.0, 65.0),
    "age_65_74": (65.0, 75.0),
    "age_75_over": (75.0, np.inf),
}
STEPS: Final = ("source", "excluded", "kept", "flagged", "split", "cmr", "cmr excluded")
COLUMNS: Final = ("step", "reason", "records", "persons", "female", "male", "sex_unknown", *BANDS, "age_unknown")


def count(step: str, reason: str, records: pd.DataFrame) -> dict[str, object]:
    """One line of the flow: ``records`` needs person, sex and age; sexes and age bands count records."""
    sex, age = records["sex"], records["age"]
    line: dict[str, object] = {"step": step, "reason": reason, "records": len(records)}
    line |= {"persons": records["person"].nunique(), "female": int((sex == "F").sum()), "male": int((sex == "M").sum())}
    line |= {"sex_unknown": int(sex.isna().sum())}
    line |= {name: int(((age >= low) & (age < high)).sum()) for name, (low, high) in BANDS.items()}
    return line | {"age_unknown": int(age.isna().sum())}


def by_value(
    step: str, records: pd.DataFrame, values: pd.Series, order: tuple[str, ...] = ()
) -> list[dict[str, object]]:
    """A line per value of ``values`` ("" = not counted), the commonest first unless ``order`` names them all."""
    sizes = values[values != ""].value_counts()
    names = order or tuple(sorted(sizes.index, key=lambda name: (-sizes[name], name)))
    return [count(step, str(name), records[(values == name).to_numpy()]) for name in names]


def table(
    source: pd.DataFrame,
    reason: pd.Series,
    split: pd.Series,
    cines: Mapping[str, pd.Series],
    bad: Mapping[str, pd.Series],
    flags: Mapping[str, pd.Series] | None = None,
) -> pd.DataFrame:
    """The whole flow of a cohort.

    ``source``: every indexed record (person, sex, age); ``reason`` why it was left out, "" = kept; ``split`` of the
    kept ones. ``cines``: per view, whether a kept record has one; ``bad``: per view, why a named one could not be used
    ("" = none). ``flags``: per quality flag, whether a kept record carries it.
    """
    kept = source[(reason == "").to_numpy()]
    lines = [count("source", "", source), *by_value("excluded", source, reason), count("kept", "", kept)]
    lines += [count("flagged", name, kept[has.to_numpy()]) for name, has in (flags or {}).items()]
    lines += by_value("split", kept, split, ("train", "val", "test"))
    lines += [count("cmr", view, kept[has.to_numpy()]) for view, has in cines.items()]
    for view, why in bad.items():
        lines += by_value("cmr excluded", kept, why.where(why == "", view + ": " + why))
    return pd.DataFrame(lines, columns=list(COLUMNS))
