"""What a prediction adds to age, sex, height and weight: association, with standard errors clustered by person.

A linear model of the measured phenotype on the covariates, with and without the prediction (per SD of it), on test
people. This describes added information; it is no prediction model, and nothing is carried over from it.
Cluster-robust covariance: Liang & Zeger, Biometrika 1986;73:13, as statsmodels computes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

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
    from statsmodels.regression.linear_model import OLS  # takes seconds, and a centre without phenotypes fits nothing

    x = table[list(COVARIATES)].assign(male=(table["sex"] == "M").astype(float))
    y = table[name].to_numpy(float)
    both = x.assign(prediction=(table["prediction"] - table["prediction"].mean()) / spread)
    groups = pd.factorize(table["person"])[0]
    base = OLS(y, x.assign(const=1.0)).fit()
    full = OLS(y, both.assign(const=1.0)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    lower, upper = full.conf_int(1 - level).loc["prediction"]
    found = {"beta_per_sd": full.params["prediction"], "lower": lower, "upper": upper, "p": full.pvalues["prediction"]}
    found |= {"r2_covariates": base.rsquared, "r2_with_prediction": full.rsquared}
    return empty | {"n": n, "note": ""} | {key: float(np.asarray(value)) for key, value in found.items()}
