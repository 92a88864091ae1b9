"""How well could anybody do? The ceiling that noise-free knowledge of everything that shapes the simulated ECG allows.

Only simulated centres have a truth, and only this module reads it; of real people :func:`unknown` says so. A kernel
ridge regression from the true electrical determinants of the ECG to the true phenotypes, fitted on training people and
chosen on validation people, is held against the measured phenotypes like every other arm. It bounds what a network can
learn from the noisy recordings of these people: the rest of the variance never reached the electrodes, or is error of
the CMR measurement itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from cardionets import phenotypes
from cardionets.config import Study, StudyError
from cardionets.evaluate.estimate import not_estimable
from cardionets.evaluate.paired import R2
from cardionets.evaluate.rows import Rows, attempt
from cardionets.splits import pseudonyms
from cardionets.store import Store

ARM = "attainable"
ALL = "all_phenotypes"
DETERMINANT = "ecg_"  # prefix of the truth's columns that the ECG is made from
GAMMAS = (0.1, 0.3, 1.0)  # in units of 1 / number of features
REAL = "the people are real, so nobody knows the truth"
ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0)

Floats = NDArray[np.float64]


def read_truth(study: Study, cohort: str) -> pd.DataFrame:
    """True determinants of each person's ECG, indexed by the pseudonym the store uses.

    Raises:
        StudyError: when the cohort is not simulated, or its truth has not been written.
    """
    path = study.path("data", "truth", f"{cohort}.parquet")
    if not study.cohort(cohort).simulated:
        raise StudyError(
            f"cohorts.yaml: cohorts.{cohort}.simulated: real people's truth is unknown; choose another cohort."
        )
    if not path.is_file():
        raise StudyError(f"data/truth/{cohort}.parquet: the file is missing; write it with `make data`.")
    truth = pd.read_parquet(path)
    truth.index = pd.Index(
        pseudonyms(truth["person"].astype(str), "person", cohort, study.protocol.split.salt), name="person"
    )
    return truth


def unknown(cohort: str, wanted: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """What a cohort of real people has in the place of numbers: a row per (endpoint, metric) with the reason."""
    rows = Rows(cohort, "test")
    for endpoint, metric in wanted:
        rows.add(endpoint, ARM, 1.0, metric, not_estimable(REAL), 0)
    return rows.frame()


def features(truth: pd.DataFrame) -> pd.DataFrame:
    """The determinants as numbers: categories become indicator columns."""
    columns = [c for c in truth.columns if c.startswith(DETERMINANT)]
    if not columns:
        raise StudyError(
            f"truth: no column starts with {DETERMINANT!r}; write the simulated data again with `make data`."
        )
    return pd.get_dummies(truth[columns], dtype=float)


def _fit(x: Floats, y: Floats, gamma: float, alpha: float) -> KernelRidge:
    return KernelRidge(kernel="rbf", gamma=gamma / x.shape[1], alpha=alpha).fit(x, y)


def _choose(x: Floats, y: Floats, train: NDArray[np.bool_], val: NDArray[np.bool_]) -> KernelRidge:
    """The width and penalty with the least squared error on validation people, over all z-scored phenotypes at once."""

    def error(pair: tuple[float, float]) -> float:
        return float(np.mean((_fit(x[train], y[train], *pair).predict(x[val]) - y[val]) ** 2))

    return _fit(x[train], y[train], *min(product(GAMMAS, ALPHAS), key=error))


def attainable(study: Study, cohort: str) -> pd.DataFrame:
    """Predictions of the 82 phenotypes from the true determinants, tidy as every arm's.

    Returns:
        One row per record with CMR phenotypes and endpoint: record, person, split, arm, fraction, endpoint, value.
    """
    records = Store.open(study.path("store", cohort)).records
    truth = read_truth(study, cohort)
    names = list(phenotypes.NAMES)
    kept = records[records["person"].isin(truth.index) & records[names].notna().any(axis=1)]
    truth = truth.loc[kept["person"]]
    x = StandardScaler().fit_transform(features(truth).to_numpy())  # (record, determinant)
    train, val = (kept["split"] == "train").to_numpy(), (kept["split"] == "val").to_numpy()
    scaler = StandardScaler().fit(truth[names].to_numpy(dtype=float)[train])
    y = scaler.transform(truth[names].to_numpy(dtype=float))  # (record, phenotype), z-scored on training people
    predicted = scaler.inverse_transform(_choose(x, y, train, val).predict(x))
    wide = pd.DataFrame(predicted, columns=names, index=kept.index)
    tidy = pd.concat([kept[["record", "person", "split"]], wide], axis=1)
    tidy = tidy.melt(["record", "person", "split"], var_name="endpoint", value_name="value")
    return tidy.assign(arm=ARM, fraction=1.0, value=tidy["value"].astype(np.float32))


def shares(study: Study, cohort: str, ceiling: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """R2 of every arm at full labels as a share of the attainable R2, on the same test people.

    ``ceiling`` is :func:`attainable`'s table, ``predictions`` the predict stage's; both sides of a share see the same
    bootstrap samples. Returns `rows.COLUMNS` with metric ``r2_share``, for the headline phenotypes and the mean of all.
    """
    truth = Store.open(study.path("store", cohort)).records.set_index("record")[list(phenotypes.NAMES)]
    statistics, rows = study.protocol.statistics, Rows(cohort, "test")

    def scored(tidy: pd.DataFrame) -> R2:
        return R2.of(tidy[tidy["split"] == "test"], truth, statistics.bootstrap, study.protocol.seed)

    top = scored(ceiling)
    whole = predictions[(predictions["fraction"] == 1.0) & predictions["endpoint"].isin(phenotypes.NAMES)]
    for arm, tidy in whole.groupby("arm", observed=True, sort=False):
        own = scored(tidy)
        for name in (ALL, *study.protocol.endpoints.headline_phenotypes):
            mine, best = (r2.mean() if name == ALL else r2.of_one(name) for r2 in (own, top))
            share = attempt(partial(mine.over(best).estimate, statistics.level))
            rows.add(name, str(arm), 1.0, "r2_share", share, min(own.people, top.people))
    return rows.frame()
