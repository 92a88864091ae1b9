"""The tidy predictions table as an array: arm x record x endpoint, aligned with the records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import diseases, phenotypes
from cardionets.arm_table import ARMS
from cardionets.config import StudyError
from cardionets.evaluate.estimate import Floats

PREDICTION_COLUMNS: Final = ("record", "person", "split", "arm", "fraction", "endpoint", "value")
RECORD_COLUMNS: Final = ("record", "person", "split")
IMAGED: Final = tuple(name for name, arm in ARMS.items() if "cmr" in arm.features)
"""Arms that read images, which fewer people have than an ECG."""


def check_columns(table: pd.DataFrame, needed: tuple[str, ...], source: str) -> None:
    """Refuse a table that lacks columns; all are named at once."""
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise StudyError(f"{source}: missing columns {', '.join(missing)}; write it again with the current version.")


def disease_labels(records: pd.DataFrame, name: str) -> Floats:
    """A disease of each record as 1, 0 or NaN where unknown (n,)."""
    if name not in records:
        return np.full(len(records), np.nan)
    labels = records[name].astype("boolean").astype("Float64")
    return np.asarray(labels.to_numpy(dtype=np.float64, na_value=np.nan))


def _arm_codes(rows: pd.DataFrame) -> tuple[NDArray[np.int64], list[tuple[str, float]]]:
    """Code of each row's (arm, fraction), and these pairs in order of appearance."""
    arm, arms = pd.factorize(rows["arm"])
    fraction, fractions = pd.factorize(rows["fraction"])
    code, pairs = pd.factorize(arm * len(fractions) + fraction)
    return code, [
        (str(arms[p // len(fractions)]), float(fractions[p % len(fractions)])) for p in (int(pair) for pair in pairs)
    ]


@dataclass(frozen=True, slots=True)
class Cube:
    """Predictions ``values`` (arm A, record n, endpoint E), NaN where there is none, and their records (n rows)."""

    arms: list[tuple[str, float]]
    endpoints: list[str]
    values: Floats
    records: pd.DataFrame

    @classmethod
    def of(cls, predictions: pd.DataFrame, records: pd.DataFrame, split: str) -> Cube:
        """Spread the rows of one split; a record predicted twice, or unknown, is an error."""
        check_columns(predictions, PREDICTION_COLUMNS, "predictions")
        check_columns(records, RECORD_COLUMNS, "records")
        known = records[records["split"] == split].reset_index(drop=True)
        rows = predictions[predictions["split"] == split]
        row = pd.Index(known["record"]).get_indexer(rows["record"])
        if (row < 0).any():
            stranger = rows["record"].to_numpy()[row < 0][0]
            raise StudyError(
                f"predictions: record {stranger!r} is not in the {split} split of the store; predict this cohort again."
            )
        arm_code, arms = _arm_codes(rows)
        endpoint_code, endpoints = pd.factorize(rows["endpoint"])
        values = np.full((len(arms), len(known), len(endpoints)), np.nan)
        cells = np.ravel_multi_index((arm_code, row, endpoint_code), values.shape) if len(rows) else np.array([], int)
        if len(cells) and np.bincount(cells).max() > 1:
            raise StudyError(
                "predictions: a record has two values for one arm, fraction and endpoint; predict this cohort again."
            )
        values.ravel()[cells] = rows["value"].to_numpy(np.float64)
        return cls(arms, [str(e) for e in endpoints], values, known)

    @classmethod
    def of_arm(cls, predictions: pd.DataFrame, records: pd.DataFrame, arm: str) -> Cube:
        """One arm at its largest label fraction, on the test split. Raises `StudyError` when it predicted nobody."""
        check_columns(predictions, PREDICTION_COLUMNS, "predictions")
        chosen = predictions[(predictions["arm"] == arm) & predictions["record"].isin(records["record"])]
        cube = cls.of(chosen[chosen["fraction"] == chosen["fraction"].max()], records, "test")
        if not cube.arms:
            raise StudyError(f"predictions: no test row of arm {arm!r}; predict this cohort again.")
        return cube

    def first_records(self) -> Cube:
        """One record of each person: the first in the store, whose order is that of the pseudonyms."""
        first = ~self.records["person"].duplicated().to_numpy()
        return Cube(self.arms, self.endpoints, self.values[:, first], self.records[first].reset_index(drop=True))

    @property
    def persons(self) -> NDArray[Any]:
        """Person of each record (n,)."""
        return self.records["person"].to_numpy()

    def fractions(self) -> dict[float, list[int]]:
        """Label fraction -> positions of its arms, in order of appearance."""
        found: dict[float, list[int]] = {}
        for i, (_, fraction) in enumerate(self.arms):
            found.setdefault(fraction, []).append(i)
        return found

    def phenotypes(self) -> list[str]:
        """The predicted endpoints that are phenotypes, in field order."""
        return [name for name in phenotypes.NAMES if name in self.endpoints]

    def diseases(self) -> list[str]:
        """The predicted endpoints that are diseases."""
        return [name for name in diseases.NAMES if name in self.endpoints]

    def subtypes(self) -> list[str]:
        """The predicted endpoints that are subtypes of cardiomyopathy."""
        return [name for name in diseases.SUBTYPES if name in self.endpoints]

    def column(self, endpoint: str) -> Floats:
        """Predictions (A, n) of one endpoint."""
        return np.asarray(self.values[:, :, self.endpoints.index(endpoint)])

    def truth(self, endpoint: str) -> Floats:
        """The reference standard (n,) of one endpoint, 1 / 0 for diseases, NaN where unknown."""
        if endpoint in diseases.SUBTYPES:
            known = self.records.get("subtype", pd.Series(pd.NA, self.records.index, dtype="string"))
            return diseases.is_subtype(known, endpoint)
        if endpoint in diseases.NAMES:
            return disease_labels(self.records, endpoint)
        if endpoint not in self.records:
            return np.full(len(self.records), np.nan)
        return np.asarray(self.records[endpoint].to_numpy(dtype=np.float64, na_value=np.nan))

    def common(self, endpoint: str, arms: list[int]) -> tuple[list[int], NDArray[np.bool_]]:
        """Arms that predict the endpoint at all, and the records (n,) known to the truth and to all these.

        Without such an arm no record counts.
        """
        finite = np.isfinite(self.column(endpoint)[arms])
        active = [arm for arm, row in zip(arms, finite) if row.any()]
        mask = np.isfinite(self.truth(endpoint)) & bool(active)
        for arm, row in zip(arms, finite):
            mask &= row if arm in active else True
        return active, mask

    def shared(self, endpoint: str, arms: list[int]) -> NDArray[np.bool_]:
        """Records (n,) on which arms are compared: the common ones of those that need no images, else of all."""
        active, mask = self.common(endpoint, [arm for arm in arms if self.arms[arm][0] not in IMAGED])
        return mask if active else self.common(endpoint, arms)[1]
