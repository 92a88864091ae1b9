"""R2 of many phenotypes on the same bootstrap samples of people for every arm, so that differences and ratios pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cardionets.evaluate.estimate import Estimate, Floats, percentile
from cardionets.evaluate.regression import Moments


@dataclass(frozen=True)
class Score:
    """One number and its bootstrap replicates (B,)."""

    value: float
    replicates: Floats

    def minus(self, other: Score) -> Score:
        """The difference, sample by sample."""
        return Score(self.value - other.value, self.replicates - other.replicates)

    def over(self, other: Score) -> Score:
        """The ratio, sample by sample; undefined where the other is not above zero."""
        below = np.where(other.replicates > 0, other.replicates, np.nan)
        return Score(self.value / other.value if other.value > 0 else np.nan, self.replicates / below)

    def estimate(self, level: float) -> Estimate:
        """The number with its percentile interval."""
        return percentile(self.value, self.replicates, level)


@dataclass(frozen=True)
class R2:
    """R2 of every phenotype (E,), of each bootstrap replicate (B, E), and how many people it rests on."""

    names: tuple[str, ...]
    values: Floats
    replicates: Floats
    people: int

    @classmethod
    def of(cls, predicted: pd.DataFrame, truth: pd.DataFrame, replicates: int, seed: int) -> R2:
        """From one arm's tidy predictions (record, person, endpoint, value) and measured values by record, (n, E)."""
        wide = predicted.pivot(index="record", columns="endpoint", values="value").reindex(columns=truth.columns)
        person = predicted.drop_duplicates("record").set_index("record")["person"].reindex(wide.index).astype(str)
        measured = truth.loc[wide.index].to_numpy(np.float64)
        moments = Moments.of(measured, wide.to_numpy(np.float64), person.to_numpy())
        samples = moments.bootstrap(replicates, seed)["r2"]
        people = person[np.isfinite(measured).any(axis=1)].nunique()
        return cls(tuple(truth.columns), moments.scores()["r2"], samples, int(people))

    def mean(self) -> Score:
        """The mean over all phenotypes that vary."""
        return Score(float(np.nanmean(self.values)), np.nanmean(self.replicates, axis=1))

    def of_one(self, name: str) -> Score:
        """The R2 of one phenotype."""
        place = self.names.index(name)
        return Score(float(self.values[place]), self.replicates[:, place])


def median(scores: Sequence[Score]) -> Score:
    """Median over seeds, sample by sample: the same people in every seed."""
    replicates: Floats = np.median([s.replicates for s in scores], axis=0)
    return Score(float(np.median([s.value for s in scores])), replicates)
