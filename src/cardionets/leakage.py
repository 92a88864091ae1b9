"""The gate against leakage, as a table that a reader can check: who could have seen what before validation.

It computes; it does not declare. Any check that fails stops the stage that asks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes, splits
from cardionets.config import StudyError
from cardionets.store import Store

COLUMNS: Final = ("check", "found", "expected", "passed")


def proof(store: Store, predictions: pd.DataFrame, external: bool) -> pd.DataFrame:
    """What is computed about one cohort: :data:`COLUMNS`.

    Persons in two splits; persons trained on where the cohort is ``external``; labels of test people that a stage
    before validation reads (they open the store as here, with ``hide_test``); predictions whose person or split differ
    from the store's. Raises `StudyError` naming every check that fails.
    """
    records = store.records
    early = Store.open(store.path, store.grid, hide_test=True).records
    names = [n for n in (*phenotypes.NAMES, *diseases.NAMES, "subtype") if n in early]
    test = early["split"] == "test"
    seen = int(early.loc[test, names].notna().to_numpy().sum())
    counts = records.groupby("split")["person"].nunique()
    rows = [("persons in more than one split", splits.person_overlap(records), 0)]
    if external:
        rows += [("persons of this external centre in training or validation", _apart(counts), 0)]
    rows += [
        ("labels of test people that stages before validation can read", seen, 0),
        ("predictions whose person or split differs from the store", _strangers(predictions, records), 0),
    ]
    table = pd.DataFrame([(*row, row[1] == row[2]) for row in rows], columns=list(COLUMNS))
    failed = table.loc[~table["passed"], ["check", "found"]]
    if len(failed):
        told = "; ".join(f"{row['check']}: {row['found']}" for _, row in failed.iterrows())
        raise StudyError(f"store/{store.path.name}: leakage: {told}; prepare and predict this cohort again.")
    return table


def _apart(counts: pd.Series) -> int:
    return int(sum(counts.get(split, 0) for split in ("train", "val")))


def _strangers(predictions: pd.DataFrame, records: pd.DataFrame) -> int:
    """Predicted records that the store knows under another person or split, or not at all."""
    stated = predictions[["record", "person", "split"]].drop_duplicates()
    known = records.set_index("record").reindex(stated["record"])
    same = (known["person"].to_numpy() == stated["person"].to_numpy()) & (
        known["split"].to_numpy() == stated["split"].to_numpy()
    )
    return int(np.count_nonzero(~same))
