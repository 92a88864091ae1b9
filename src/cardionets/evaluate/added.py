"""What a prediction adds to age, sex, height and weight: association, with standard errors clustered by person.

A linear model of the measured phenotype on the covariates, with and without the prediction (per SD of it), on test
people. This describes added information; it is no prediction model, and nothing is carried over from it.
Cluster-robust covariance: Liang & Zeger, Biometrika 1986;73:13, with the small-sample correction of Stata and
statsmodels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.evaluate.bootstrap import person_codes, person_sums
from cardionets.evaluate.estimate import Floats, two_sided_p, wald

COLUMNS = ("endpoint", "n", "beta_per_sd", "lower", "upper", "p", "r2_covariates", "r2_with_prediction", "note")
COVARIATES = ("age", "height_cm", "weight_kg")
FEWEST = 20


def added_value(
    predictions: pd.DataFrame, records: pd.DataFrame, arm: str, endpoints: Sequence[str], level: float = 0.95
) -> pd.DataFrame:
    """Association of one arm's predictions with the measured phenotypes, given the covariates, on test people.

    Args:
        predictions: tidy table with record, split, arm, fraction, endpoint, value; the full label fraction is used.
        records: the store's records.
        arm: whose predictions.
        endpoints: phenotype names.
        level: confidence level of the interval of beta.

    Returns:
        One row per endpoint, :data:`COLUMNS`; beta in units of the phenotype per SD of the prediction. What cannot be
        estimated is a row whose note says why.
    """
    wanted = (predictions["arm"] == arm) & (predictions["fraction"] == 1.0) & (predictions["split"] == "test")
    wide = predictions[wanted].pivot_table(index="record", columns="endpoint", values="value", observed=True)
    people = records.set_index("record")
    return pd.DataFrame([_one(wide, people, name, level) for name in endpoints], columns=list(COLUMNS))


def _one(wide: pd.DataFrame, people: pd.DataFrame, name: str, level: float) -> dict[str, object]:
    empty = {"endpoint": name, "n": 0}
    if name not in wide or name not in people:
        return empty | {"note": "not estimable: because the arm does not predict it here"}
    table = people.loc[wide.index, [*COVARIATES, "sex", "person", name]].assign(prediction=wide[name]).dropna()
    n, spread = table["person"].nunique(), table["prediction"].std()
    if n < FEWEST or not spread > 0 or not table[name].std() > 0:
        return empty | {"n": n, "note": f"not estimable: because {n} people, or no variation, are too few"}
    x = np.column_stack([np.ones(len(table)), table[list(COVARIATES)], table["sex"] == "M"]).astype(float)
    both = np.column_stack([x, (table["prediction"] - table["prediction"].mean()) / spread])
    y, persons = table[name].to_numpy(float), table["person"].to_numpy()
    base, (beta, covariance, r2) = least_squares(x, y, persons), least_squares(both, y, persons)
    se = float(covariance[-1, -1]) ** 0.5
    found = wald(float(beta[-1]), se, level)
    values = (name, n, found.value, found.lower, found.upper, two_sided_p(found.value / se), base[2], r2, "")
    return dict(zip(COLUMNS, values))


def least_squares(x: Floats, y: Floats, persons: NDArray[Any]) -> tuple[Floats, Floats, float]:
    """Coefficients (k,) of x (n, k) for y (n,), their covariance (k, k) clustered by person, and R2 about the mean.

    Columns may depend on each other (everybody of one sex): the shortest solution is taken.
    """
    inverse = np.linalg.pinv(x)
    beta = inverse @ y
    residual = y - x @ beta
    codes, people = person_codes(persons)
    score = person_sums(x * residual[:, None], codes, people)  # (person, k)
    few = people / (people - 1) * (len(y) - 1) / (len(y) - x.shape[1])  # small-sample correction
    bread = inverse @ inverse.T
    return beta, few * bread @ (score.T @ score) @ bread, 1 - float(residual @ residual / ((y - y.mean()) ** 2).sum())
