"""Added value of a prediction over covariates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cardionets.evaluate.added import added_value


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
