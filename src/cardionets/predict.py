"""The predict stage: every arm's predictions for one cohort, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cardionets import site_heads
from cardionets.arms import frames, load_arms
from cardionets.config import Study
from cardionets.features import Features
from cardionets.files import atomic_path

COLUMNS = ("record", "person", "split", "arm", "fraction", "endpoint", "value")


def predict(study: Study, cohort: str) -> pd.DataFrame:
    """Write ``predictions/<cohort>.parquet`` and return how many records each arm and fraction predicts.

    Phenotypes in their units, diseases as probabilities, for every record that no model was fitted on: validation
    and test people of a cohort that is split, everybody of any other; a cohort that lends training people has the arm
    ``aligned_site`` as well. The paired cohort gets every label
    fraction, the others the full one. An arm is silent about records whose input is missing.
    """
    features = Features(study, cohort)
    rows = np.flatnonzero(features.records["split"] != "train")
    home = cohort == study.protocol.study.paired
    fractions = study.protocol.endpoints.label_fractions if home else (1.0,)
    fitted = [load_arms(study, name) for name in ("phenotypes", "screening")]
    wide = [part for f in fitted for part in frames(f, features, rows, fractions)]
    if study.cohort(cohort).lends_training and study.cohort(cohort).role == "external":
        wide += [part for f in fitted for part in site_heads.frames(study, f, features, rows)]
    table = tidy(features.records, wide)
    with atomic_path(study.path("predictions", f"{cohort}.parquet")) as path:
        table.to_parquet(path, index=False)
    return table.groupby(["arm", "fraction"], observed=True)["record"].nunique().rename("records").reset_index()


def tidy(records: pd.DataFrame, wide: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Wide frames per arm -> one long frame; texts are categories, or eight million strings would fill the memory."""
    who = records[["record", "person", "split"]].astype("category")
    return pd.concat([_long(who, part) for part in wide], ignore_index=True).pipe(_as_categories)


def _long(who: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    endpoints = [c for c in part.columns if c not in ("arm", "fraction")]
    values = part[endpoints].to_numpy(np.float32)  # (record, endpoint)
    row, column = np.nonzero(np.isfinite(values))
    long = who.iloc[part.index.to_numpy()[row]].reset_index(drop=True)
    long["arm"], long["fraction"] = part["arm"].iloc[0], float(part["fraction"].iloc[0])
    long["endpoint"] = pd.Categorical.from_codes(column.tolist(), categories=pd.Index(endpoints))
    long["value"] = values[row, column]
    return long[list(COLUMNS)]


def _as_categories(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"arm": "category", "endpoint": "category"})
