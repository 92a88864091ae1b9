"""What one person's numbers are held against: conformal intervals, reference ranges, prevalence at development.

Three small tables of aggregates that lie beside the weights, so that a place without the development data has them:
``conformal.csv``, ``reference.csv`` and ``prevalence.csv``. A table that is absent, or belongs to other weights, is
computed from what lies here, and :class:`Norms` says so in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import phenotypes, weights
from cardionets.config import Study, StudyError
from cardionets.files import atomic_path
from cardionets.flow import BANDS

ARMS: Final = ("aligned_teacher", "aligned_covariates")
LEVEL: Final = 0.9
SMALLEST: Final = 40  # people behind a 2.5-97.5 percentile range: with fewer, its limits are single people
ADULT: Final = 18.0
ANY: Final = "any"
SEXES: Final = {"F": "women", "M": "men", ANY: "adults"}
CONFORMAL: Final = ["arm", "endpoint", "level", "half_width", "n", "weights"]
REFERENCE: Final = ["endpoint", "sex", "age_band", "n", "lower", "upper"]
PREVALENCE: Final = ["endpoint", "n", "prevalence"]


def write_phenotypes(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write and return ``weights/conformal.csv`` and ``weights/reference.csv``."""
    return _keep(study, "conformal", conformal(study)), _keep(study, "reference", reference(study))


def write_prevalence(study: Study) -> pd.DataFrame:
    """Write and return ``weights/prevalence.csv`` (:func:`prevalence`)."""
    return _keep(study, "prevalence", prevalence(study))


def conformal(study: Study) -> pd.DataFrame:
    """Half-widths of 90 % intervals of :data:`ARMS`, from validation people.

    Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 2018;113:1094): the k-th smallest absolute residual
    of n people, k = ceil((n + 1) 0.9), one record of each. The same people chose the penalty of the heads.

    Returns:
        arm, endpoint, level, half_width (the phenotype's unit; missing when n is too small), n, weights (their hash).
    """
    from cardionets.arms import frames, load_arms
    from cardionets.features import Features
    from cardionets.predict import tidy

    fitted = load_arms(study, "phenotypes")
    fitted.models = {key: model for key, model in fitted.models.items() if key[0] in ARMS}
    features = Features(study, study.protocol.study.paired)
    first = ~features.records["person"].duplicated() & (features.records["split"] == "val")
    found = tidy(features.records, list(frames(fitted, features, np.flatnonzero(first), (1.0,))))
    return half_widths(found, features.records, _stamp(study))


def reference(study: Study) -> pd.DataFrame:
    """Reference ranges: 2.5-97.5 percentiles of the CMR phenotypes of healthy training people.

    Healthy: at least one disease of the study is known to be absent and none is known to be present. Groups of fewer
    than :data:`SMALLEST` people are left out.

    Returns:
        endpoint, sex (F, M, any), age_band (of :data:`cardionets.flow.BANDS`, or any), n, lower, upper.
    """
    people = _trained(study, study.protocol.study.paired)
    diseases = people.reindex(columns=list(study.protocol.endpoints.diseases)).astype("boolean")
    ill, known = diseases.fillna(False).any(axis=1), diseases.notna().any(axis=1)
    healthy = people[(~ill & known & (people["age"] >= ADULT)).to_numpy(bool)]
    rows = [row for sex, band, group in _groups(healthy) for row in _ranges(sex, band, group)]
    return pd.DataFrame(rows, columns=REFERENCE)


def prevalence(study: Study) -> pd.DataFrame:
    """How common each disease was among the people that screening learnt from.

    Returns:
        endpoint, n (people whose status is known), prevalence; missing where a count is below the smallest cell.
    """
    roles, cell = study.protocol.study, study.protocol.statistics.minimum_cell
    people = pd.concat([_trained(study, name) for name in dict.fromkeys((roles.paired, roles.screening))])
    rows = []
    for name in study.protocol.endpoints.diseases:
        known = people.get(name, pd.Series(dtype="boolean")).dropna().astype(bool)
        few = min(known.sum(), (~known).sum()) < cell
        rows.append((name, len(known), np.nan if few else float(known.mean())))
    return pd.DataFrame(rows, columns=PREVALENCE)


def half_widths(predictions: pd.DataFrame, records: pd.DataFrame, stamp: str) -> pd.DataFrame:
    """Conformal half-widths per arm and phenotype from tidy predictions and the records that hold the truth."""
    truth = records[["record", *phenotypes.NAMES]].melt("record", var_name="endpoint", value_name="truth")
    plain = predictions.astype({"record": str, "arm": str, "endpoint": str})
    both = plain.merge(truth.astype({"record": str, "endpoint": str}), on=["record", "endpoint"])
    both["residual"] = (both["value"] - both["truth"]).abs()
    rows = []
    for (arm, endpoint), group in both.dropna(subset=["residual"]).groupby(["arm", "endpoint"], sort=False):
        rows.append((arm, endpoint, LEVEL, half_width(group["residual"].to_numpy(np.float64)), len(group), stamp))
    return pd.DataFrame(rows, columns=CONFORMAL)


def half_width(residuals: NDArray[np.float64], level: float = LEVEL) -> float:
    """The conformal quantile of absolute residuals (n,); NaN when n is too small for the level (9 for 90 %)."""
    k = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(np.sort(residuals)[k - 1]) if k <= len(residuals) else float("nan")


def _groups(healthy: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    bands = {ANY: (-np.inf, np.inf), **BANDS}
    for sex in SEXES:
        own = healthy if sex == ANY else healthy[healthy["sex"] == sex]
        for band, (low, high) in bands.items():
            yield sex, band, own[(own["age"] >= low) & (own["age"] < high)]


def _ranges(sex: str, band: str, group: pd.DataFrame) -> Iterator[tuple[str, str, str, int, float, float]]:
    for name in phenotypes.NAMES:
        values = group[name].dropna().to_numpy(np.float64)
        if len(values) >= SMALLEST:
            low, high = np.percentile(values, [2.5, 97.5])
            yield name, sex, band, len(values), float(low), float(high)


def _trained(study: Study, cohort: str) -> pd.DataFrame:
    """One record of each training person, chosen by pseudonym."""
    from cardionets.store import Store

    records = Store.open(study.path("store", cohort), study.grid, hide_test=True).records
    return records[records["split"] == "train"].drop_duplicates("person")


def _stamp(study: Study) -> str:
    return weights.read_card(study.path("weights", "phenotypes")).sha256[:16]


def _keep(study: Study, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Write a table with four digits: enough to read, too few to tell a person."""
    with atomic_path(study.path("weights", f"{name}.csv")) as aside:
        table.to_csv(aside, index=False, float_format="%.4g", lineterminator="\n")
    return table


@dataclass(frozen=True)
class Range:
    """A reference range in the phenotype's unit, and the group it describes."""

    lower: float
    upper: float
    n: int
    group: str


@dataclass
class Norms:
    """The three tables for one page, and a sentence for every one that had to be computed or is not to be had."""

    conformal: pd.DataFrame
    reference: pd.DataFrame
    prevalence: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, study: Study, arm: str) -> Norms:
        """Read the tables; what is missing is computed for this page and not written."""
        notes: list[str] = []
        return cls(
            _conformal(study, arm, notes),
            _read_or(study, "reference", reference, REFERENCE, notes),
            _read_or(study, "prevalence", prevalence, PREVALENCE, notes),
            notes,
        )

    @cached_property
    def _widths(self) -> dict[tuple[str, str], tuple[float, int]]:
        columns = (self.conformal[name] for name in ("arm", "endpoint", "half_width", "n"))
        return {(arm, endpoint): (float(half), int(n)) for arm, endpoint, half, n in zip(*columns)}

    @cached_property
    def _ranges(self) -> dict[tuple[str, str, str], Range]:
        columns = (self.reference[name] for name in ("endpoint", "sex", "age_band", "lower", "upper", "n"))
        return {
            (endpoint, sex, band): Range(float(low), float(high), int(n), group_label(sex, band))
            for endpoint, sex, band, low, high, n in zip(*columns)
        }

    def half_width(self, arm: str, endpoint: str) -> tuple[float, int]:
        """Half-width of the interval, NaN when unknown, and the number of people behind it."""
        return self._widths.get((arm, endpoint), (float("nan"), 0))

    def range(self, endpoint: str, sex: str | None, age: float | None) -> Range | None:
        """The closest group that has a range: same sex and age band, then the sex, then the age band, then everybody.

        None for children, and where no group has enough people.
        """
        if age is not None and age < ADULT:
            return None
        band = next((name for name, (low, high) in BANDS.items() if age is not None and low <= age < high), ANY)
        groups = ((sex or ANY, band), (sex or ANY, ANY), (ANY, band), (ANY, ANY))
        return next((self._ranges[endpoint, *key] for key in groups if (endpoint, *key) in self._ranges), None)

    def share(self, disease: str) -> tuple[float, int]:
        """Prevalence at development (NaN when unknown or of too few cases) and the number of people."""
        own = self.prevalence[self.prevalence["endpoint"] == disease]
        return (float(own["prevalence"].iloc[0]), int(own["n"].iloc[0])) if len(own) else (float("nan"), 0)


def group_label(sex: str, band: str) -> str:
    """``women 55-64`` and the like, for people."""
    low, high = BANDS.get(band, (-np.inf, np.inf))
    if np.isinf(low) and np.isinf(high):
        return f"{SEXES[sex]} of any age"
    if np.isinf(low):
        return f"{SEXES[sex]} under {high:g}"
    return f"{SEXES[sex]} {low:g} or older" if np.isinf(high) else f"{SEXES[sex]} {low:g}–{high - 1:g}"


def _conformal(study: Study, arm: str, notes: list[str]) -> pd.DataFrame:
    path = study.path("weights", "conformal.csv")
    if path.is_file():
        table = pd.read_csv(path, dtype={"weights": str})
        if len(table) and (table["weights"] == _stamp(study)).all():
            return table
        notes.append("The stored intervals belong to other weights and were not used.")
    try:
        table = _from_predictions(study, arm)
    except (StudyError, OSError):
        notes.append("Intervals are not given: neither the stored ones nor predictions of validation people are here.")
        return pd.DataFrame(columns=CONFORMAL)
    notes.append("Intervals were computed for this page from the stored predictions of validation people.")
    return table


def _from_predictions(study: Study, arm: str) -> pd.DataFrame:
    cohort = study.protocol.study.paired
    from cardionets.store import Store

    records = Store.open(study.path("store", cohort), study.grid, hide_test=True).records
    keep = [("split", "==", "val"), ("arm", "==", arm), ("fraction", "==", 1.0)]
    found = pd.read_parquet(study.path("predictions", f"{cohort}.parquet"), filters=keep)
    first = records.drop_duplicates("person")
    return half_widths(found[found["record"].isin(first["record"])], records, _stamp(study))


def _read_or(
    study: Study, name: str, make: Callable[[Study], pd.DataFrame], columns: list[str], notes: list[str]
) -> pd.DataFrame:
    path = study.path("weights", f"{name}.csv")
    if path.is_file():
        return pd.read_csv(path)
    try:
        return make(study)
    except (StudyError, OSError):
        notes.append(f"{name.capitalize()} is not given: neither its table nor the development data are here.")
        return pd.DataFrame(columns=columns)
