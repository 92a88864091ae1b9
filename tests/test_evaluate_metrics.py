from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from cardionets import phenotypes
from cardionets.config import Study, StudyError
from cardionets.evaluate import multiplicity, subgroups
from cardionets.evaluate.estimate import Estimate
from cardionets.evaluate.metrics import evaluate, thresholds
from cardionets.evaluate.phenotype_metrics import ALL, FEWEST, bootstrap_p
from cardionets.evaluate.regression import Moments
from cardionets.evaluate.rows import COLUMNS
from cardionets.evaluate.scales import LOGIT, SCALES, bootstrap_interval

STUDY = Study(Path(__file__).parents[1])
ARMS = ("covariates", "aligned")


def study(replicates: int = 200) -> Study:
    """The repository's study with few bootstrap samples."""
    statistics = STUDY.protocol.statistics.model_copy(update={"bootstrap": replicates})
    protocol = STUDY.protocol.model_copy(update={"statistics": statistics})
    return SimpleNamespace(protocol=protocol)  # type: ignore[return-value]


def example(
    n: int = 240, seed: int = 0, names: tuple[str, ...] = phenotypes.NAMES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of two arms (the second the better) and records: a third validation, a tenth missing."""
    rng = np.random.default_rng(seed)
    split = np.where(np.arange(n) % 3 == 0, "val", "test")
    truth = rng.normal(100, 15, (n, len(names)))
    truth[rng.random(truth.shape) < 0.1] = np.nan
    risk = rng.normal(-1, 1.5, n)
    records = pd.DataFrame(
        {"record": [f"r{i}" for i in range(n)], "person": [f"p{i}" for i in range(n)], "centre": "ukb"}
    )
    records = records.assign(split=split, sex=rng.choice(["F", "M"], n), age=rng.normal(60, 9, n))
    records = pd.concat([records, pd.DataFrame(dict(zip(names, truth.T)))], axis=1)
    records["cad"] = pd.array(rng.random(n) < expit(risk), dtype="boolean")
    records.loc[3:8, "cad"] = pd.NA
    parts = []
    for k, arm in enumerate(ARMS):
        values = 100 + 0.6 * np.nan_to_num(truth - 100) + rng.normal(0, 12 - 6 * k, truth.shape)
        values = {**dict(zip(names, values.T)), "cad": expit(risk + rng.normal(0, 2 - 1.5 * k, n))}
        table = pd.DataFrame(values).assign(record=records["record"], person=records["person"], split=split, arm=arm)
        parts.append(table.assign(fraction=1.0))
    keys = ["record", "person", "split", "arm", "fraction"]
    return pd.concat(parts).melt(keys, var_name="endpoint", value_name="value"), records


@pytest.fixture(scope="module")
def judged() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    predictions, records = example()
    return predictions, records, evaluate(predictions, records, study(), reference="aligned")


def row(table: pd.DataFrame, endpoint: str, arm: str, metric: str) -> pd.Series:
    found = table[(table["endpoint"] == endpoint) & (table["arm"] == arm) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_rows_are_tidy_and_complete(judged: tuple[pd.DataFrame, ...]) -> None:
    _, _, table = judged
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["endpoint", "arm", "fraction", "metric"]).any()
    missing = table["estimate"].isna()
    assert table.loc[missing, "note"].str.startswith("not estimable: because").all()
    assert not table["note"].isna().any()
    bounded = table.dropna(subset=["lower", "upper", "estimate"])
    assert (bounded["lower"] <= bounded["estimate"]).all()
    assert (bounded["estimate"] <= bounded["upper"]).all()


def test_values_are_those_of_scikit_learn_on_the_test_split(judged: tuple[pd.DataFrame, ...]) -> None:
    predictions, records, table = judged
    test = records[records["split"] == "test"].set_index("record")
    chosen = predictions[(predictions["arm"] == "aligned") & (predictions["split"] == "test")]
    wide = chosen.pivot(index="record", columns="endpoint", values="value").loc[test.index]
    known = test["lv_mass"].notna()
    found = row(table, "lv_mass", "aligned", "r2")
    assert found["estimate"] == pytest.approx(r2_score(test["lv_mass"][known], wide["lv_mass"][known]))
    assert found["n"] == known.sum()
    known = test["cad"].notna().to_numpy()
    labels = test["cad"][known].astype(bool)
    found = row(table, "cad", "aligned", "auc")
    assert found["estimate"] == pytest.approx(roc_auc_score(labels, wide["cad"][known]))
    assert (found["n"], found["events"]) == (known.sum(), labels.sum())
    found = row(table, "cad", "aligned", "auprc")
    assert found["estimate"] == pytest.approx(average_precision_score(labels, wide["cad"][known]))
    means = [row(table, name, "aligned", "r2")["estimate"] for name in phenotypes.NAMES]
    assert row(table, ALL, "aligned", "mean_r2")["estimate"] == pytest.approx(np.mean(means))


def test_differences_are_paired_and_signed(judged: tuple[pd.DataFrame, ...]) -> None:
    _, _, table = judged
    pair = "covariates minus aligned"
    gap = row(table, ALL, pair, "mean_r2_difference")
    means = [row(table, ALL, arm, "mean_r2") for arm in ARMS]
    assert gap["estimate"] == pytest.approx(means[0]["estimate"] - means[1]["estimate"])
    assert gap["upper"] < 0
    assert row(table, ALL, pair, "mean_r2_difference_p")["estimate"] < 0.001
    p = row(table, "cad", pair, "auc_difference_p")["estimate"]
    assert row(table, "cad", pair, "auc_difference_p_holm")["estimate"] == pytest.approx(p)  # one disease only
    each = row(table, "lv_mass", "aligned minus covariates", "r2_difference_p")["estimate"]
    assert row(table, "lv_mass", "aligned minus covariates", "r2_difference_p_holm")["estimate"] >= each


def test_threshold_is_chosen_on_validation_only(judged: tuple[pd.DataFrame, ...]) -> None:
    predictions, records, table = judged
    altered = predictions.copy()
    test = (altered["split"] == "test") & (altered["endpoint"] == "cad")
    altered.loc[test, "value"] = 0.5
    chosen = thresholds(predictions, records, study())
    pd.testing.assert_frame_equal(chosen, thresholds(altered, records, study()))
    assert row(table, "cad", "aligned", "threshold")["estimate"] == pytest.approx(
        chosen.set_index("arm").loc["aligned", "threshold"]
    )
    external = predictions[predictions["split"] == "test"]
    alone = evaluate(external, records, study(), cohort="qph")
    assert "no threshold" in row(alone, "cad", "aligned", "sensitivity")["note"]
    carried = evaluate(external, records, study(), cohort="qph", transferred=chosen)
    assert (
        row(carried, "cad", "aligned", "sensitivity")["estimate"]
        == row(table, "cad", "aligned", "sensitivity")["estimate"]
    )
    assert carried["cohort"].eq("qph").all()
    unlabelled = records.assign(cad=pd.array([pd.NA] * len(records), dtype="boolean"))
    silent = evaluate(external, unlabelled, study(), cohort="qph", transferred=chosen)
    assert "nobody has a known label" in row(silent, "cad", "aligned", "threshold")["note"]


@pytest.mark.parametrize(
    ("label", "value", "why"),
    [
        (False, None, "there are no events"),
        (True, None, "everybody has the event"),
        (pd.NA, None, "nobody has both"),
        (None, 0.3, "predictions are constant"),
    ],
)
def test_what_cannot_be_estimated_is_said_and_nothing_crashes(label: object, value: float | None, why: str) -> None:
    predictions, records = example(60, names=("lv_mass",))
    if value is None:
        records["cad"] = pd.array([label] * len(records), dtype="boolean")
    else:
        predictions.loc[predictions["endpoint"] == "cad", "value"] = value
    table = evaluate(predictions, records, study())
    found = row(table, "cad", "aligned", "auc")
    assert np.isnan(found["estimate"])
    assert found["note"].startswith("not estimable: because")
    assert why in found["note"]


def test_extremes_one_person_all_missing_constant_truth_risk_beyond_one() -> None:
    predictions, records = example(60, names=("lv_mass", "lv_ef"))
    records["lv_mass"] = np.nan
    records["lv_ef"] = 60.0
    predictions.loc[predictions["endpoint"] == "cad", "value"] *= 3
    table = evaluate(predictions, records, study())
    assert row(table, "lv_mass", "aligned", "r2")["n"] == 0
    assert "not estimable" in row(table, "lv_ef", "aligned", "r2")["note"]
    assert "not estimable" in row(table, ALL, "aligned", "mean_r2")["note"]
    assert "not probabilities" in row(table, "cad", "aligned", "brier")["note"]
    one = records["record"] == "r1"
    alone = evaluate(predictions[predictions["record"] == "r1"], records[one], study())
    assert alone["estimate"].notna().sum() <= 4  # prevalence of one person, and nothing else
    assert alone["note"].str.startswith("not estimable").any()


def test_faulty_tables_are_refused() -> None:
    predictions, records = example(30, names=("lv_mass",))
    with pytest.raises(StudyError, match="missing columns fraction, value"):
        evaluate(predictions.drop(columns=["fraction", "value"]), records, study())
    with pytest.raises(StudyError, match="two values"):
        evaluate(pd.concat([predictions, predictions.tail(1)]), records, study())
    with pytest.raises(StudyError, match="not in the test split"):
        evaluate(predictions, records.iloc[:10], study())
    with pytest.raises(StudyError, match="no row has split 'test'"):
        evaluate(predictions[predictions["split"] == "val"], records, study())


def test_r2_interval_covers_the_truth() -> None:
    # 500 x 6 intervals (standard error 0.4 %), 150 people: R2 = 1 - 36 / 225, errors independent of the truth
    hits = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        truth = rng.normal(100, 15, (150, 6))
        moments = Moments.of(truth, truth + rng.normal(0, 6, truth.shape), np.arange(150))
        point, boot = moments.scores()["r2"], moments.bootstrap(200, seed)["r2"]
        for value, replicates in zip(point, boot.T):
            found = bootstrap_interval(float(value), replicates, 0.95, SCALES["r2"])
            hits += found.lower <= 1 - 36 / 225 <= found.upper
    assert 0.93 <= hits / 3000 <= 0.97


def test_holm_and_bh_match_statsmodels_and_skip_nan() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.01, 0.04, 0.03, 0.005, 0.5])
    assert multiplicity.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert multiplicity.benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    with_gap = multiplicity.holm(np.array([0.01, np.nan, 0.02]))
    assert with_gap == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_adequacy_reads_no_prediction() -> None:
    _, records = example()
    table = multiplicity.adequacy(records, STUDY.protocol).set_index("endpoint")
    cad = table.loc["Coronary artery disease"]
    assert cad["events"] == records[records["split"] == "test"]["cad"].sum()
    assert cad["verdict"].startswith("fewer than 100")
    assert table.loc["Pericarditis", "n"] == 0
    # Hanley & McNeil, Radiology 1982;143:29: AUC 0.893 with 51 and 58 cases has SE 0.0311
    assert multiplicity.auc_width(51, 58, 0.893) / (2 * 1.959964) == pytest.approx(0.0311, abs=0.0015)


def test_adequacy_counts_people() -> None:
    _, records = example()
    copies = pd.concat([records.assign(record=records["record"] + f"_{k}") for k in range(5)])
    once, often = (multiplicity.adequacy(table, STUDY.protocol) for table in (records, copies))
    pd.testing.assert_frame_equal(once, often)


def test_subgroups_find_a_real_interaction_and_no_false_one() -> None:
    predictions, records = example(1500, 3, ("lv_mass",))
    table = subgroups.evaluate(predictions, records, STUDY.protocol, "aligned", "ukb")
    sex = table[(table["variable"] == "sex") & (table["endpoint"] == "cad")].set_index(["group", "metric"])
    assert sex.loc[("all groups", "auc_interaction_p"), "estimate"] > 0.01
    assert sex.loc[("men", "auc"), "n"] + sex.loc[("women", "auc"), "n"] == sex.loc[("all groups", "auc_gap"), "n"]
    women = records.loc[records["sex"] == "F", "record"]
    noisy = predictions["record"].isin(women) & (predictions["endpoint"] == "cad")
    rng = np.random.default_rng(0)
    predictions.loc[noisy, "value"] = rng.random(int(noisy.sum()))
    table = subgroups.evaluate(predictions, records, STUDY.protocol, "aligned", "ukb")
    sex = table[(table["variable"] == "sex") & (table["endpoint"] == "cad")].set_index(["group", "metric"])
    assert sex.loc[("all groups", "auc_interaction_p"), "estimate"] < 0.001
    assert sex.loc[("all groups", "auc_gap"), "estimate"] > 0.2


def test_a_perfect_subgroup_is_left_out_of_the_interaction_test() -> None:
    others = [Estimate(0.8, 0.7, 0.87), Estimate(0.7, 0.6, 0.79)]
    perfect = Estimate(1.0, 0.8, 1.0)
    assert subgroups.interaction([*others, perfect], LOGIT) == subgroups.interaction(others, LOGIT)
    predictions, records = example(900, 3, ("lv_mass",))
    old = records["age"] >= 75
    who = predictions["record"].isin(records.loc[old, "record"]) & (predictions["endpoint"] == "cad")
    truth = records.set_index("record")["cad"].astype("Float64").fillna(0)
    predictions.loc[who, "value"] = predictions.loc[who, "record"].map(truth).astype(float)
    table = subgroups.evaluate(predictions, records, STUDY.protocol, "aligned", "ukb")
    age = table[(table["variable"] == "age") & (table["endpoint"] == "cad")].set_index(["group", "metric"])
    assert age.loc[("75 and over", "auc"), "estimate"] == 1
    p = age.loc[("all groups", "auc_interaction_p")]
    assert 0 <= p["estimate"] <= 1 and "of 5 subgroups left out" in p["note"]


def test_an_empty_subgroup_has_a_reason() -> None:
    predictions, records = example(90, 4, ("lv_mass",))
    records["sex"] = np.where(np.arange(90) < 5, "F", "M")
    table = subgroups.evaluate(predictions, records, STUDY.protocol, "aligned", "ukb")
    women = table[(table["group"] == "women")]
    assert women["note"].str.contains("the subgroup has").all()
    both = table[(table["variable"] == "sex") & table["metric"].str.endswith("_p")]
    assert both["note"].str.contains("fewer than 2 subgroups").all()


def test_the_device_is_a_subgroup_where_a_centre_names_it() -> None:
    predictions, records = example(90, 4, ("lv_mass",))
    unnamed = subgroups.evaluate(predictions, records, STUDY.protocol, "aligned", "ukb")
    assert "device" not in set(unnamed["variable"])
    named = records.assign(device=np.where(np.arange(len(records)) % 2, "MAC 2000", "PageWriter"))
    table = subgroups.evaluate(predictions, named, STUDY.protocol, "aligned", "ukb")
    assert set(table.loc[table["variable"] == "device", "group"]) == {"MAC 2000", "PageWriter", "all groups"}


def test_arms_with_fewer_endpoints_are_compared_on_what_both_predict() -> None:
    predictions, records = example(90, names=("lv_mass", "lv_ef"))
    lost = (predictions["arm"] == "covariates") & (predictions["endpoint"] == "lv_ef")
    table = evaluate(predictions[~lost], records, study())
    both = [row(table, "lv_mass", arm, "r2")["estimate"] for arm in ARMS]
    gap = row(table, ALL, "covariates minus aligned", "mean_r2_difference")
    assert gap["estimate"] == pytest.approx(both[0] - both[1])
    assert "mean of 1 of 2" in row(table, ALL, "covariates", "mean_r2")["note"]
    no_cmr = records.assign(lv_mass=np.nan, lv_ef=np.nan)
    assert not evaluate(predictions, no_cmr, study())["metric"].str.contains("r2").any()


def test_an_arm_with_images_of_few_people_does_not_narrow_the_others() -> None:
    predictions, records = example(240, names=("lv_mass", "lv_ef"))
    imaged = predictions[predictions["arm"] == "aligned"].query("endpoint != 'cad'").assign(arm="cmr")
    some = records.loc[(records["split"] == "test") & records["lv_mass"].notna(), "record"][:30]
    both = pd.concat([predictions, imaged[imaged["record"].isin(some)]])
    alone, found = (evaluate(table, records, study(), reference="covariates") for table in (predictions, both))
    keys = ["endpoint", "arm", "fraction", "metric"]
    raw = ~found["metric"].str.endswith(("_holm", "_bh"))
    kept = found[raw & ~found["arm"].str.contains("cmr")].set_index(keys)
    pd.testing.assert_frame_equal(kept, alone.set_index(keys).loc[kept.index])
    assert row(found, "lv_mass", "aligned", "r2")["n"] > 30 == row(found, "lv_mass", "cmr", "r2")["n"]
    narrow = evaluate(both[both["record"].isin(some)], records, study(), reference="covariates")
    pair = "covariates minus cmr"
    for endpoint, metric in (("lv_mass", "r2_difference"), ("lv_mass", "r_difference"), (ALL, "mean_r2_difference")):
        one, other = row(found, endpoint, pair, metric), row(narrow, endpoint, pair, metric)
        assert one[["estimate", "lower", "upper", "n"]].tolist() == other[["estimate", "lower", "upper", "n"]].tolist()


def test_images_of_people_without_phenotypes_are_said_to_judge_nothing() -> None:
    predictions, records = example(240, names=("lv_mass", "lv_ef"))
    some = records.index[(records["split"] == "test")][:30]
    records.loc[some, ["lv_mass", "lv_ef"]] = np.nan
    imaged = predictions[predictions["arm"] == "aligned"].query("endpoint != 'cad'").assign(arm="cmr")
    both = pd.concat([predictions, imaged[imaged["record"].isin(records.loc[some, "record"])]])
    table = evaluate(both, records, study(), reference="covariates")
    for arm, metric in (("cmr", "r2"), ("covariates minus cmr", "r2_difference")):
        found = row(table, "lv_mass", arm, metric)
        assert found["n"] == 0 and found["note"].startswith("not estimable: because")
    assert np.isfinite(row(table, "lv_mass", "aligned", "r2")["estimate"])


def test_arms_that_all_read_images_are_judged_on_what_they_cover() -> None:
    predictions, records = example(90, names=("lv_mass",))
    own = predictions[predictions["arm"] == "aligned"].assign(arm="cmr").iloc[40:]
    table = evaluate(own, records, study())
    assert np.isfinite(row(table, "lv_mass", "cmr", "r2")["estimate"])


def test_a_phenotype_of_three_people_does_not_undo_the_mean() -> None:
    predictions, records = example(240, names=("lv_mass", "lv_ef"))
    rare = records.index[(records["split"] == "test") & records["lv_ef"].notna()]
    records.loc[rare[3:], "lv_ef"] = np.nan
    table = evaluate(predictions, records, study())
    pair, note = "covariates minus aligned", "mean of 1 of 2 phenotypes; the others are not estimable or known in fewer"
    for arm, metric in (("aligned", "mean_r2"), ("aligned", "mean_r"), (pair, "mean_r2_difference")):
        found = row(table, ALL, arm, metric)
        assert np.isfinite(found[["estimate", "lower", "upper"]].astype(float)).all()
        assert found["note"] == f"{note} than {FEWEST} people"
    assert row(table, ALL, "aligned", "mean_r2")["estimate"] == row(table, "lv_mass", "aligned", "r2")["estimate"]
    assert np.isfinite(row(table, ALL, pair, "mean_r2_difference_p")["estimate"])


def test_one_sample_without_a_value_does_not_undo_a_p_value() -> None:
    replicates = np.random.default_rng(0).normal(1.0, 0.5, (200, 2))
    whole = bootstrap_p(np.array([1.0, 1.0]), replicates)
    replicates[0, 0], replicates[:50, 1] = np.nan, np.nan
    found = bootstrap_p(np.array([1.0, 1.0]), replicates)
    assert found[0] == pytest.approx(whole[0], rel=0.1)
    assert np.isnan(found[1]), "a quarter is too many, as for the interval"
