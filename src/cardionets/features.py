"""What each arm of the comparison may see of a record, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import data
from cardionets.config import Study
from cardionets.embed import embed, open_store

Floats = NDArray[np.float32]
LEARNT: Final = ("mae", "aligned")  # their scale is meaningful and kept; every other feature is standardised alone
COVARIATES: Final = ("age", "height_cm", "weight_kg")


def covariates(records: pd.DataFrame) -> Floats:
    """Age (y), height (cm), weight (kg) and male sex (0, 1), (n, 4); NaN where unknown."""
    male = records["sex"].map({"M": 1.0, "F": 0.0}).to_numpy(np.float32)
    return np.column_stack([records[list(COVARIATES)].to_numpy(np.float32), male])


class Features:
    """Feature matrices of one cohort, one row per record, computed when first asked for."""

    def __init__(self, study: Study, cohort: str) -> None:
        self.study, self.cohort = study, cohort
        self.store = open_store(study, cohort)
        self.records = self.store.records.reset_index(drop=True)
        self._made: dict[str, Floats] = {}

    def __getitem__(self, name: str) -> Floats:
        """Features by name, (n, p): covariates, beat, rr, mae, aligned, cmr."""
        if name not in self._made:
            self._made |= self._make(name)
        return self._made[name]

    def _make(self, name: str) -> dict[str, Floats]:
        rows = self.records["row"].to_numpy()
        if name == "covariates":
            return {name: covariates(self.records)}
        if name == "rr":
            return {name: data.rr_features(self.records)}
        if name == "beat":
            beat = np.asarray(self.store.beat[rows], np.float32)
            return {name: beat.reshape(len(beat), -1)}  # (n, 12, B) -> (n, 12 * B) uV
        return embed(self.study, self.cohort)

    def join(self, names: Sequence[str], rows: NDArray[np.int64]) -> Floats:
        """Several feature matrices side by side, at ``rows``."""
        return np.concatenate([self[name][rows] for name in names], axis=1)

    def blocks(self, names: Sequence[str]) -> tuple[int, ...]:
        """Block number of every joined feature for :meth:`cardionets.models.heads.Basis.of`."""
        return sum(((LEARNT.index(n) + 1 if n in LEARNT else 0,) * self[n].shape[1] for n in names), ())
