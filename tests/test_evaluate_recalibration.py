"""Recalibration tables, decision curves of many diseases, panels, people: what validation shows beyond its metrics."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cardionets.config import StudyError
from cardionets.evaluate import panels, people, recalibration, utility
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.metrics import evaluate
from tests.test_evaluate_metrics import row, study

N = 600


def screened(n: int = N, shift: float = 1.0, event: object = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records and risks whose log-odds are ``shift`` too high; two recordings of every tenth person."""
    rng = np.random.default_rng(0)
    truth = rng.normal(-1, 1.2, n)
    person = [f"p{i - 1 if i % 10 == 1 else i}" for i in range(n)]
    records = pd.DataFrame({"record": [f"r{i}" for i in range(n)], "person": person, "split": "test", "centre": "qph"})
    records["sex"], records["age"] = rng.choice(["F", "M"], n), rng.normal(60, 9, n)
    records["cad"] = pd.array(rng.random(n) < expit(truth) if event is None else [event] * n, dtype="boolean")
    parts = []
    for arm, noise in (("covariates", 1.5), ("aligned", 0.0)):
        values = expit(truth + shift + noise * rng.normal(size=n))
        part = records[["record", "person", "split"]].assign(arm=arm, fraction=1.0, endpoint="cad", value=values)
        parts.append(part)
    return pd.concat(parts, ignore_index=True), records


def test_recalibration_brings_the_mean_and_the_slope_home() -> None:
    predictions, records = screened()
    cube = Cube.of_arm(predictions, records, "aligned")
    table = recalibration.before_and_after(cube, study().protocol, "qph")
    wide = table.pivot(index="recalibration", columns="metric", values="estimate")
    assert list(table["recalibration"].unique()) == list(recalibration.METHODS)
    assert wide.loc["as received", "calibration_intercept"] == pytest.approx(-1, abs=0.25)
    assert wide.loc["as received", "oe"] < 0.8
    for method in recalibration.METHODS[1:]:
        assert abs(wide.loc[method, "oe"] - 1) < 0.03
        assert wide.loc[method, "brier"] < wide.loc["as received", "brier"]
    parts = wide.loc["as received"]
    whole = parts["brier_reliability"] - parts["brier_resolution"] + parts["brier_uncertainty"]
    assert whole == pytest.approx(parts["brier"], abs=0.01)


@pytest.mark.parametrize(("event", "why"), [(True, "everybody has the event"), (False, "no events"), (pd.NA, "nobody")])
def test_one_class_is_said_in_every_table(event: object, why: str) -> None:
    predictions, records = screened(40, event=event)
    cube = Cube.of_arm(predictions, records, "aligned")
    updates = recalibration.before_and_after(cube, study().protocol, "qph")
    curves = utility.decision_curves(Cube.of(predictions, records, "test"), ["aligned", "covariates"], study().protocol)
    assert updates["estimate"].isna().all()
    assert updates["note"].str.contains(why).all()
    assert curves["note"].str.contains(why).all()
    found = evaluate(predictions, records, study(), cohort="qph")
    assert row(found, "cad", "aligned", "sensitivity_at_specificity")["note"].startswith("not estimable: because")
    assert panels.stated_prevalence(found, "aligned", [0.1])["ppv"].isna().all()
    assert panels.cross_tabulation(found, "aligned")["true_positive"].isna().all()


def test_too_few_events_are_not_recalibrated() -> None:
    predictions, records = screened(80)
    few = records["cad"].astype(bool) & (records["cad"].cumsum() <= 6)
    records["cad"] = pd.array(few, dtype="boolean")
    table = recalibration.before_and_after(Cube.of_arm(predictions, records, "aligned"), study().protocol, "qph")
    later = table[table["recalibration"] != recalibration.RECEIVED]
    assert later["note"].str.contains("10 of each").all()
    shown = panels.recalibrated(Cube.of_arm(predictions, records, "aligned"), study().protocol)
    assert list(shown["cad"][1]) == [recalibration.RECEIVED]


def test_decision_curves_are_those_of_one_disease_on_common_people() -> None:
    predictions, records = screened()
    predictions.loc[(predictions["arm"] == "covariates") & (predictions.index < 100), "value"] = np.nan
    predictions = predictions.dropna()
    curves = utility.decision_curves(Cube.of(predictions, records, "test"), ["covariates", "aligned"], study().protocol)
    assert set(curves["n"]) == {N - 100}
    own = curves[curves["arm"] == "aligned"]
    labels = records["cad"].to_numpy(bool)[100:]
    risk = predictions.loc[predictions["arm"] == "aligned", "value"].to_numpy()[100:]
    assert own["net_benefit"].to_numpy() == pytest.approx(
        utility.net_benefit(labels, risk, own["threshold"].to_numpy())
    )
    assert own["treat_all"].iloc[0] == curves.loc[curves["arm"] == "covariates", "treat_all"].iloc[0]


def test_cross_tabulation_adds_up_and_withholds_small_cells() -> None:
    predictions, records = screened()
    chosen = pd.DataFrame({"arm": ["aligned"], "fraction": [1.0], "endpoint": ["cad"], "threshold": [0.6]})
    found = evaluate(predictions, records, study(), cohort="qph", transferred=chosen)
    cells = panels.cross_tabulation(found, "aligned").iloc[0]
    called = predictions.loc[predictions["arm"] == "aligned", "value"].to_numpy() >= 0.6
    labels = records["cad"].to_numpy(bool)
    assert (cells["true_positive"], cells["false_positive"]) == ((called & labels).sum(), (called & ~labels).sum())
    assert cells["true_positive"] + cells["false_negative"] == cells["events"]
    hidden = panels.cross_tabulation(found, "aligned", minimum=N).iloc[0]
    assert pd.isna(hidden["true_negative"])
    assert "fewer than" in hidden["note"]


def test_predictive_values_at_stated_prevalence_are_bayes() -> None:
    predictions, records = screened()
    chosen = pd.DataFrame({"arm": ["aligned"], "fraction": [1.0], "endpoint": ["cad"], "threshold": [0.6]})
    found = evaluate(predictions, records, study(), cohort="qph", transferred=chosen)
    se, sp = (row(found, "cad", "aligned", m)["estimate"] for m in ("sensitivity", "specificity"))
    table = panels.stated_prevalence(found, "aligned", [0.02, 0.5]).set_index("prevalence")
    assert table.loc[0.02, "ppv"] == pytest.approx(0.02 * se / (0.02 * se + 0.98 * (1 - sp)))
    assert table.loc[0.5, "npv"] == pytest.approx(sp / (sp + 1 - se))
    assert row(found, "cad", "aligned", "ppv_balanced")["estimate"] == pytest.approx(table.loc[0.5, "ppv"])
    assert (table["ppv_lower"] < table["ppv"]).all()
    assert (table["npv_upper"] > table["npv"]).all()
    assert row(found, "cad", "aligned", "accuracy_balanced")["estimate"] == pytest.approx((se + sp) / 2)


def test_people_are_compared_from_aggregates_alone() -> None:
    _, records = screened()
    other = records.assign(age=records["age"] + 9, sex="M", person=records["person"] + "x")
    table = pd.concat([people.characteristics(records, "home"), people.characteristics(other, "away")])
    table["n"] = table["n"].astype(int)
    smd = people.differences(table, "home").set_index("characteristic")
    first = records.drop_duplicates("person")
    assert smd.loc["age", "smd"] == pytest.approx(9 / first["age"].std())
    assert smd.loc["cad", "smd"] == pytest.approx(0)
    assert smd.loc["female", "smd"] < -1
    assert smd.loc["valve", "note"].startswith("not estimable")


def test_small_cells_of_people_are_withheld() -> None:
    _, records = screened(60)
    records["cad"] = pd.array([True] * 3 + [False] * 57, dtype="boolean")
    table = people.characteristics(records, "qph", minimum=5).set_index("characteristic")
    assert np.isnan(table.loc["cad", "mean"])
    assert np.isfinite(table.loc["age", "mean"])


def test_a_drop_has_the_interval_of_a_difference() -> None:
    columns = ["cohort", "endpoint", "arm", "fraction", "metric", "estimate", "lower", "upper"]
    rows = [("home", "cad", "a", 1.0, "auc", 0.9, 0.87, 0.93), ("away", "cad", "a", 1.0, "auc", 0.8, 0.76, 0.84)]
    found = people.drops(pd.DataFrame(rows, columns=columns), "home").iloc[0]
    assert found["drop"] == pytest.approx(0.1)
    assert (found["lower"], found["upper"]) == pytest.approx((0.05, 0.15))  # 3-4-5


def test_subtypes_macro_auc_by_hand_and_its_absence() -> None:
    rng = np.random.default_rng(1)
    n = 120
    subtype = np.array(["dcm", "hcm", "rcm"])[np.arange(n) % 3]
    records = pd.DataFrame({"record": [f"r{i}" for i in range(n)], "person": [f"p{i}" for i in range(n)]})
    records = records.assign(split="test", centre="fahzu", subtype=pd.array(subtype, dtype="string"))
    parts = []
    for name in ("dcm", "hcm", "rcm"):
        value = expit((subtype == name) + rng.normal(size=n))
        keys = records[["record", "person", "split"]]
        parts.append(keys.assign(arm="aligned", fraction=1.0, endpoint=name, value=value))
    found = evaluate(pd.concat(parts), records, study(), cohort="fahzu")
    macro = row(found, "cardiomyopathy_subtypes", "aligned", "macro_auc")
    single = [row(found, name, "aligned", "auc")["estimate"] for name in ("dcm", "hcm", "rcm")]
    assert macro["estimate"] == pytest.approx(np.mean(single))
    assert macro["lower"] < macro["estimate"] < macro["upper"]
    predictions, records = screened(60)
    absent = evaluate(predictions, records, study(), cohort="qph")
    assert "no arm predicts" in row(absent, "cardiomyopathy_subtypes", "all arms", "macro_auc")["note"]


def test_missing_arm_and_method_are_refused() -> None:
    predictions, records = screened(60)
    with pytest.raises(StudyError, match="no test row of arm 'nobody'"):
        Cube.of_arm(predictions, records, "nobody")
    predictions["value"] = predictions["value"] * 3
    table = recalibration.before_and_after(Cube.of_arm(predictions, records, "aligned"), study().protocol, "qph")
    assert table["note"].str.contains("not probabilities").all()
    with pytest.raises(NotEstimableError, match="no events"):
        utility.net_benefit(np.zeros(3, bool), np.full(3, 0.1), np.array([0.1]))
