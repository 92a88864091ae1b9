import numpy as np
import pandas as pd
import pytest

from cardionets import disclosure
from cardionets.evaluate import pooling
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.scales import SCALES
from tests.oracles import BCG


def bcg() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b)) - np.log(c / (c + d)), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def test_bcg_matches_metafor() -> None:
    # metafor 3.8-1, rma(yi, vi, test = "knha") and predict()
    pooled = pooling.pool(*bcg())
    e = pooled.estimate
    assert (e.value, e.lower, e.upper) == pytest.approx((-0.7145, -1.1084, -0.3206), abs=5e-5)
    assert pooled.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert pooled.i2 == pytest.approx(92.22, abs=5e-3)
    assert pooled.q == pytest.approx(152.2330, abs=5e-5)
    assert pooled.se == pytest.approx(0.1808, abs=5e-5)
    half = (pooled.prediction.upper - pooled.prediction.lower) / 2  # metafor uses k - 1 df: 2.1788 where ours is 2.2010
    assert half / 2.200985 * 2.178813 == pytest.approx((0.5670 + 1.9960) / 2, abs=2e-4)
    assert pooled.note == ""


def test_leave_one_out_matches_metafor() -> None:
    effects, ses = bcg()
    z = 1.959963984540054
    table = pooling.leave_one_out(
        SCALES["mean_r2"], [str(i) for i in range(13)], effects, effects - z * ses, effects + z * ses
    )
    assert table["estimate"].iloc[[0, 7, 12]].to_numpy() == pytest.approx([-0.7071, -0.7948, -0.7775], abs=5e-5)
    assert table["lower"].iloc[[0, 7, 12]].to_numpy() == pytest.approx([-1.1341, -1.1960, -1.1859], abs=5e-5)
    assert table["tau2"].iloc[[3, 7]].to_numpy() == pytest.approx([0.2628, 0.2732], abs=5e-5)


def test_published_aucs_of_the_three_hospitals() -> None:
    # CardioNets v1: 0.851, 0.928, 0.838 in 410, 464, 338 people: wide Hartung-Knapp interval, flagged
    pooled = pooling.pool_on(
        SCALES["auc"], *np.array([[0.851, 0.928, 0.838], [0.81, 0.902, 0.795], [0.885, 0.947, 0.873]])
    )
    assert pooled.i2 > 80
    assert pooled.estimate.lower < 0.72
    assert 0.9 < pooled.estimate.upper < 1
    assert "k = 3" in pooled.note


def test_scales_are_undone_and_flags_are_raised() -> None:
    values = np.array([0.7, 0.72, 0.74, 0.71])
    for name in ("auc", "r", "oe", "r2", "mae"):
        pooled = pooling.pool_on(SCALES[name], values, values - 0.05, values + 0.05)
        assert pooled.estimate.lower < pooled.estimate.value < pooled.estimate.upper
        assert 0.7 < pooled.estimate.value < 0.74
    with pytest.raises(NotEstimableError, match="1 centre"):
        pooling.pool(np.array([0.5]), np.array([0.1]))
    two = pooling.pool(np.array([0.5, 0.6]), np.array([0.1, 0.1]))
    assert "needs 3 centres" in two.prediction.note


def coverage(ses: list[float], tau: float, floor: bool = False, replicates: int = 2000) -> float:
    rng, hits, s = np.random.default_rng(0), 0, np.array(ses)
    for _ in range(replicates):
        e = pooling.pool(1 + rng.normal(0, tau, len(s)) + rng.normal(0, s), s, floor=floor).estimate
        hits += e.lower <= 1 <= e.upper
    return hits / replicates


@pytest.mark.parametrize("tau", [0.0, 0.15])
def test_hartung_knapp_covers_centres_of_equal_size(tau: float) -> None:
    # 2,000 replicates of 5 centres, standard error 0.5 %
    assert 0.93 <= coverage([0.1] * 5, tau) <= 0.97


def test_unequal_centres_cover_less_and_the_floor_mends_it() -> None:
    # 2,000 replicates; the limit that the docstring of `pool` states
    unequal = [0.05, 0.08, 0.1, 0.15, 0.2]
    assert 0.90 <= coverage(unequal, 0.15) < 0.93
    assert 0.93 <= coverage(unequal, 0.15, floor=True) <= 0.97


def test_metrics_tables_are_pooled_and_gaps_are_said() -> None:
    rows = [("a", 0.8, 0.75, 0.84, 100, 20), ("b", 0.7, 0.64, 0.76, 90, 15), ("c", np.nan, np.nan, np.nan, 10, 0)]
    columns = ["cohort", "estimate", "lower", "upper", "n", "events"]
    table = pd.DataFrame(rows, columns=columns).assign(
        endpoint="cad", arm="x", fraction=1.0, split="test", metric="auc"
    )
    table["events"] = table["events"].astype("Int64")
    row = pooling.pool_metrics(table).iloc[0]
    assert (row["k"], row["n"], row["cohorts"]) == (2, 190, "a;b")
    assert 0.7 < row["estimate"] < 0.8
    row = pooling.pool_metrics(table[table["cohort"] == "c"]).iloc[0]
    assert np.isnan(row["estimate"])
    assert row["note"].startswith("not estimable: because")


@pytest.mark.parametrize(
    "notes", [["", "", "mean of 26 of 82 phenotypes; the others are not estimable"], [disclosure.PARTIAL] * 3, [""] * 3]
)
def test_means_over_different_phenotypes_are_pooled_with_a_word_about_it(notes: list[str]) -> None:
    table = pd.DataFrame({"cohort": ["a", "b", "c"], "estimate": [0.1, 0.12, 0.3], "n": 90, "events": pd.NA})
    table = table.assign(lower=table["estimate"] - 0.05, upper=table["estimate"] + 0.05, note=notes)
    table = table.assign(endpoint="all_phenotypes", arm="aligned", fraction=1.0, metric="mean_r2", split="test")
    said = pooling.pool_metrics(table)["note"].item().split("; ")
    assert (said[0] == pooling.DIFFERENT) == any(notes)
    assert said[-1].startswith("k = 3")


def test_all_four_measures_are_pooled_and_left_out_on_their_own_scale() -> None:
    rng = np.random.default_rng(0)
    centres = ["a", "b", "c", "d"]
    rows = []
    for metric, centre_value, scale in (
        ("auc", 0.8, "auc"),
        ("r", 0.5, "r"),
        ("oe", 1.2, "oe"),
        ("calibration_slope", 0.9, "calibration_slope"),
    ):
        s = SCALES[scale]
        for c in centres:
            z = s.forward(centre_value) + rng.normal(0, 0.05)
            bounds = [float(s.inverse(z + d)) for d in (0, -0.2, 0.2)]
            rows.append((c, metric, *bounds, 100))
    table = pd.DataFrame(rows, columns=["cohort", "metric", "estimate", "lower", "upper", "n"])
    table = table.assign(endpoint="cad", arm="x", fraction=1.0, split="test", events=pd.NA)
    found = pooling.leave_each_out(table)
    assert set(found["metric"]) == set(pooling.MEASURES) and (found.groupby("metric").size() == 4).all()
    for key, some in pooling.groups(table):
        direct = pooling.pool_rows(key["metric"], some[some["cohort"] != "b"])
        left = found[(found["metric"] == key["metric"]) & (found["left_out"] == "b")].iloc[0]
        assert left["estimate"] == pytest.approx(direct.estimate.value) and left["upper"] == direct.estimate.upper
    few = table[table["cohort"].isin(["a", "b"])]
    assert pooling.leave_each_out(few).empty and len(list(pooling.groups(few))) == 4


def test_a_centre_at_the_edge_of_the_scale_is_left_out_of_the_pool() -> None:
    rows = [("a", 0.8, 0.7, 0.87), ("b", 0.7, 0.6, 0.8), ("c", 1.0, 0.59, 1.0), ("d", 0.9, 0.0, 0.99)]
    table = pd.DataFrame(rows, columns=["cohort", "estimate", "lower", "upper"])
    table = table.assign(endpoint="cad", arm="aligned", fraction=1.0, metric="auc", split="test", n=90, events=9.0)
    row = pooling.pool_metrics(table).iloc[0]
    assert (row["k"], row["cohorts"]) == (2, "a;b") and 0.7 < row["estimate"] < 0.8
    assert row["note"].startswith("k = 2") and row["note"].endswith("without an interval within the scale: c, d")
    alone = pooling.pool_metrics(table.iloc[[0, 2]]).iloc[0]["note"]
    assert alone.startswith("not estimable: because 1 centre") and alone.endswith("scale: c")
    assert set(pooling.leave_each_out(table.iloc[[0, 1, 2]])["left_out"]) == set()
