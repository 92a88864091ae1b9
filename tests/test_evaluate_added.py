"""Added value of a prediction over covariates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cardionets.evaluate.added import added_value, least_squares


def _tables(signal: float, n: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(5)
    z = rng.normal(size=n)
    frame = {"record": [f"r{i}" for i in range(n)], "person": [f"p{i // 2}" for i in range(n)], "sex": "M"}
    records = pd.DataFrame(frame | {c: rng.normal(size=n) for c in ("age", "height_cm", "weight_kg")})
    records.loc[::3, "sex"] = "F"
    records["lv_mass"] = 100 + 5 * records["weight_kg"] + signal * z + rng.normal(size=n)
    predictions = pd.DataFrame({"record": records["record"], "value": 7 * z, "endpoint": "lv_mass"})
    return predictions.assign(arm="aligned", fraction=1.0, split="test"), records


def test_a_planted_association_is_found_per_sd() -> None:
    predictions, records = _tables(signal=3.0)
    row = added_value(predictions, records, "aligned", ["lv_mass"]).iloc[0]
    assert row["lower"] < 3.0 < row["upper"] and abs(row["beta_per_sd"] - 3.0) < 0.4
    assert row["r2_with_prediction"] > row["r2_covariates"] + 0.1
    assert row["p"] < 1e-6 and row["n"] == 200


def test_no_association_and_no_prediction_are_said() -> None:
    predictions, records = _tables(signal=0.0)
    found = added_value(predictions, records, "aligned", ["lv_mass", "lv_edv"]).set_index("endpoint")
    assert found.loc["lv_mass", "lower"] < 0 < found.loc["lv_mass", "upper"]
    assert found.loc["lv_edv", "note"].startswith("not estimable: because")
    few = added_value(predictions[:10], records, "aligned", ["lv_mass"]).iloc[0]
    assert few["note"].startswith("not estimable: because")


def test_least_squares_matches_statsmodels_with_its_clustered_covariance() -> None:
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(2)
    x = np.column_stack([np.ones(90), rng.normal(size=(90, 2))])
    x = np.column_stack([x, x[:, 1] + x[:, 2]])  # a column that depends on others
    y, persons = x @ [1, 2, -1, 0] + rng.normal(size=90), np.arange(90) // 3
    known = OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": persons})
    beta, covariance, r2 = least_squares(x, y, persons)
    np.testing.assert_allclose(beta, known.params, rtol=1e-10)
    np.testing.assert_allclose(covariance, known.cov_params(), rtol=1e-8, atol=1e-12)
    assert abs(r2 - known.rsquared) < 1e-12
