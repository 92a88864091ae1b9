"""The predict stage: every arm's predictions for one cohort, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cardionets import site_heads
from cardionets.arms import Heads, frames, load_arms
from cardionets.config import Study
from cardionets.features import Features
from cardionets.files import atomic_path
from cardionets.progress import track

WHO: Final = ("record", "person", "split")
COLUMNS: Final = (*WHO, "arm", "fraction", "endpoint", "value")
BLOCK: Final = 1024
_NUMBERS: Final = {"fraction": pa.float64(), "value": pa.float32()}
SCHEMA: Final = pa.schema([(c, _NUMBERS.get(c, pa.dictionary(pa.int32(), pa.string()))) for c in COLUMNS])
"""One row group per block; each brings its own dictionaries, which readers join to categories."""


def predict(study: Study, cohort: str) -> pd.DataFrame:
    """Write ``predictions/<cohort>.parquet`` and return how many records each arm and fraction predicts.

    Phenotypes in their units, diseases and, given cardiomyopathy, its subtypes as probabilities, for every record that
    no model was fitted on: validation and test people of a cohort that is split, everybody of any other; a cohort that
    lends training people has the arm ``aligned_site`` as well. The paired cohort gets every label fraction, the others
    the full one. An arm is silent about records whose input is missing. Blocks of :data:`BLOCK` records are read,
    predicted and written one after the other, so that memory does not grow with the cohort.
    """
    features = Features(study, cohort)
    rows = np.flatnonzero(features.records["split"] != "train")
    home = cohort == study.protocol.study.paired
    fractions = study.protocol.endpoints.label_fractions if home else (1.0,)
    fitted = [load_arms(study, name) for name in get_args(Heads)]
    lends = study.cohort(cohort).lends_training and study.cohort(cohort).role == "external"
    own = [(f, head) for f in fitted[:2] if lends and (head := site_heads.learn(study, f, features))]
    counts = []
    with (
        atomic_path(study.path("predictions", f"{cohort}.parquet"), lasting=True) as path,
        pq.ParquetWriter(path, SCHEMA) as writer,
    ):
        for some in track(np.split(rows, range(BLOCK, len(rows), BLOCK)), f"predict {cohort}, blocks of {BLOCK} ECGs"):
            wide = [part for f in fitted for part in frames(f, features, some, fractions)]
            wide += [site_heads.frame(f, head, features, some) for f, head in own]
            table = tidy(features.records, wide)
            writer.write_table(pa.Table.from_pandas(table, SCHEMA, preserve_index=False))
            counts.append(table.groupby(["arm", "fraction"], observed=True, sort=False)["record"].nunique())
    total = pd.concat(counts).groupby(["arm", "fraction"], observed=True).sum()
    return total.rename("records").reset_index()


def tidy(records: pd.DataFrame, wide: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Wide frames per arm -> one long frame; texts are categories, or eight million strings would fill the memory."""
    rows = np.unique(np.concatenate([part.index.to_numpy() for part in wide]))
    who = records[list(WHO)].iloc[rows].set_axis(rows).astype("category")
    return pd.concat([_long(who, part) for part in wide], ignore_index=True).pipe(_as_categories)


def _long(who: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    endpoints = [c for c in part.columns if c not in ("arm", "fraction")]
    values = part[endpoints].to_numpy(np.float32)  # (record, endpoint)
    row, column = np.nonzero(np.isfinite(values))
    long = who.iloc[who.index.get_indexer(part.index)[row]].reset_index(drop=True)
    long["arm"], long["fraction"] = part["arm"].iloc[0], float(part["fraction"].iloc[0])
    long["endpoint"] = pd.Categorical.from_codes(column.tolist(), categories=pd.Index(endpoints))
    long["value"] = values[row, column]
    return long[list(COLUMNS)]


def _as_categories(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"arm": "category", "endpoint": "category"})
