"""What each arm of the comparison may see of a record, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import data, splits
from cardionets.arm_table import Task
from cardionets.config import Study, StudyError
from cardionets.embed import embed, open_store

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
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
        """Features by name, (n, p): covariates, beat, rr, mae, aligned, cmr; what is large is memory-mapped."""
        if name not in self._made:
            self._made |= self._make(name)
        return self._made[name]

    def _make(self, name: str) -> dict[str, Floats]:
        if name == "covariates":
            return {name: covariates(self.records)}
        if name == "rr":
            return {name: data.rr_features(self.records)}
        if name == "beat":
            return {name: self.store.beat.reshape(len(self.store.beat), -1)}  # (n, 12, B) -> (n, 12 * B) uV
        return embed(self.study, self.cohort)

    def join(self, names: Sequence[str], rows: NDArray[np.int64]) -> Floats:
        """Several feature matrices side by side, at ``rows``."""
        return np.concatenate([np.asarray(self[name][rows], np.float32) for name in names], axis=1)

    def blocks(self, names: Sequence[str]) -> tuple[int, ...]:
        """Block number of every joined feature for :meth:`cardionets.models.heads.Basis.of`."""
        return sum(((LEARNT.index(n) + 1 if n in LEARNT else 0,) * self[n].shape[1] for n in names), ())


class People:
    """Training and validation people of one or more cohorts, their features, labels and label fractions."""

    def __init__(self, study: Study, cohorts: Sequence[str], task: Task, endpoints: Sequence[str]) -> None:
        self.study, self.task, self.endpoints = study, task, tuple(endpoints)
        self.sources = [Features(study, cohort) for cohort in cohorts]
        self.rows = {split: [_people_of(s.records, split) for s in self.sources] for split in ("train", "val")}
        for split, parts in self.rows.items():
            if not sum(map(len, parts)):
                raise StudyError(f"{task}: no {split} person in {', '.join(cohorts)}; check the split in params.yaml.")

    def x(self, names: Sequence[str], split: str) -> Floats:
        """Features (n, p) of one split's people."""
        return np.concatenate([s.join(names, rows) for s, rows in zip(self.sources, self.rows[split])])

    def blocks(self, names: Sequence[str]) -> tuple[int, ...]:
        """Block number of every feature."""
        return self.sources[0].blocks(names)

    def y(self, split: str) -> Doubles:
        """Labels (n, k), NaN = unknown."""
        take = data.targets if self.task == "phenotypes" else lambda r: data.labels(r, self.endpoints)
        return np.concatenate([take(s.records.iloc[rows]) for s, rows in zip(self.sources, self.rows[split])])

    def labelled(self, fraction: float) -> NDArray[np.bool_]:
        """Training people whose labels are known at this fraction, (n,); nested by a hash of the person."""
        salt = f"{self.study.protocol.split.salt}|labels"
        names = [name for s, rows in zip(self.sources, self.rows["train"]) for name in s.records["person"].iloc[rows]]
        chosen: NDArray[np.bool_] = np.array([splits.uniform(name, salt) for name in names]) < fraction
        return chosen

    def table(self, split: str, keep: NDArray[np.bool_] | None = None) -> data.Table:
        """Signals and labels for a network."""
        parts = [(s.store, s.records.iloc[rows]) for s, rows in zip(self.sources, self.rows[split])]
        table, y = data.ecg_table(parts), self.y(split).astype(np.float32)
        kept = np.arange(len(table)) if keep is None else np.flatnonzero(keep)
        columns = {name: c.pick(kept) for name, c in table.columns.items()}
        return data.Table(**columns, y=data.column(y, kept))


def _people_of(records: pd.DataFrame, split: str) -> Rows:
    """Row numbers of one record of each person of a split, chosen by pseudonym."""
    first = ~records["person"].duplicated()
    return np.flatnonzero(first & (records["split"] == split))
