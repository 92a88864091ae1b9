"""Novelty and coverage against answers known in advance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from cardionets import novelty, phenotypes, represent, weights
from cardionets.config import Study, StudyError
from cardionets.evaluate.discrimination import wilson
from cardionets.evaluate.rows import COLUMNS
from cardionets.evaluate.trust import trust
from tests.toy_study import build

NAMES = phenotypes.NAMES[:3]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = build(tmp_path_factory.mktemp("toy") / "study")
    for stage in (represent.pretrain_ecg, represent.pretrain_cmr, represent.align):
        stage(study)
    torch.set_num_threads(threads)
    return study


def test_distance_is_mahalanobis_in_units_of_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 5))
    x = (rng.normal(size=(4000, 5)) @ mix + 3).astype(np.float32)
    known = novelty.learn(x)
    found = novelty.distance(known, x)
    z = (x - x.mean(0)) @ np.linalg.inv(np.cov(x.T)) * (x - x.mean(0))
    np.testing.assert_allclose(found, np.sqrt(z.sum(1) / 5), rtol=0.03)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(1, abs=0.03)
    along, against = np.linalg.eigh(np.cov(x.T))[1][:, [-1, 0]].T.astype(np.float32)
    far = novelty.distance(known, x.mean(0) + 2 * np.stack([along, against]))
    assert far[1] > far[0], "the same step is stranger where people do not differ"


def test_the_threshold_comes_from_validation_people_and_strange_ecgs_exceed_it(study: Study) -> None:
    table = novelty.fit(study)
    assert list(table["cohort"]) == ["ukb", "mimic"] and (table["beyond"] <= 0.15).all()
    assert weights.read_card(study.path("weights", "novelty")).metrics["threshold"] > 0.5
    home = novelty.score(study, "ukb")
    assert set(home["split"]) == {"val", "test"}, "training people are not judged"
    beat = np.load(study.path("store", "qph", "beat.npy"), mmap_mode="r+")
    beat[:] = np.random.default_rng(0).integers(-3000, 3000, beat.shape)  # no heart beats like this
    beat.flush()
    abroad = novelty.score(study, "qph")
    written = pd.read_parquet(study.path("predictions", "qph_novelty.parquet"))
    assert list(written.columns) == ["record", "person", "split", "novelty", "beyond"]
    assert abroad["beyond"].iloc[0] > 0.9 > home["beyond"].max() and abroad["median"].iloc[0] > home["median"].max()


def test_another_encoder_is_refused(study: Study) -> None:
    novelty.fit(study)
    path = study.path("weights", "novelty", "card.json")
    kept = path.read_text()
    path.write_text(kept.replace(weights.read_card(study.path("weights", "ecg_mae")).sha256, "0" * 64))
    with pytest.raises(StudyError, match=r"weights/novelty/card\.json: config: ecg_mae differ"):
        novelty.score(study, "ukb")
    path.write_text(kept)


def tables(people: int = 400) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    record = [f"r{i}" for i in range(people)]
    who = {"record": record, "person": [f"p{i // 2}" for i in range(people)], "split": "test"}
    strange = rng.uniform(0.5, 2, people)
    truth = pd.DataFrame(who | {name: rng.normal(100, 10, people) for name in NAMES})
    truth.loc[:9, NAMES[0]] = np.nan
    noise = rng.normal(size=(people, len(NAMES))) * strange[:, None]
    wide = pd.DataFrame(truth[list(NAMES)].fillna(100) + noise).assign(**who, arm="a", fraction=1.0)
    predictions = wide.melt(["record", "person", "split", "arm", "fraction"], var_name="endpoint")
    widths = pd.DataFrame({"arm": "a", "endpoint": list(NAMES), "half_width": [1.0, 2.0, 100.0], "level": 0.9})
    new = pd.DataFrame({"record": record, "novelty": strange, "beyond": strange > 1.5})
    return predictions, truth, widths, new


def test_coverage_beyond_and_error_are_counted() -> None:
    predictions, truth, widths, new = tables()
    found = trust(predictions, truth, widths, new, cohort="ukb", replicates=200)
    assert tuple(found.columns) == COLUMNS
    by = found.set_index(["metric", "endpoint"])
    wide = predictions.pivot(index="record", columns="endpoint", values="value").loc[truth["record"], list(NAMES)]
    error = np.abs(wide.to_numpy() - truth[list(NAMES)].to_numpy())
    first = error[10:, 0] <= 1
    assert by.loc[("coverage", NAMES[0]), "estimate"] == pytest.approx(first.mean())
    assert by.loc[("coverage", NAMES[0]), "n"] == 195 and by.loc[("coverage", NAMES[2]), "estimate"] == 1
    assert by.loc[("beyond", "all_phenotypes"), "estimate"] == pytest.approx(new["beyond"].mean())
    assert by.loc[("coverage", NAMES[2]), "lower"] < 0.99, "400 of 400 are not everybody"
    everybody = by.loc[("coverage", "all_phenotypes")]
    assert 0 < everybody["lower"] < everybody["estimate"] < everybody["upper"] < 1
    rises = by.loc[("novelty_error", "all_phenotypes")]
    expected = spearmanr(new["novelty"], np.nanmean(error / [1, 2, 100], axis=1)).statistic
    assert rises["estimate"] == pytest.approx(expected) and rises["lower"] > 0.2


def test_shares_stay_within_0_and_1() -> None:
    predictions, truth, _, new = tables(24)
    close = pd.DataFrame({"arm": "a", "endpoint": list(NAMES), "half_width": [3.5, 100.0, 100.0], "level": 0.9})
    strange = new.assign(beyond=np.arange(24) < 1)
    found = trust(predictions, truth, close, strange, cohort="ukb", replicates=50).query("metric != 'novelty_error'")
    known = found.dropna(subset=["lower", "upper"])
    assert known["lower"].ge(0).all() and known["upper"].le(1).all() and (known["upper"] > known["lower"]).all()
    assert found.set_index(["metric", "endpoint"]).loc[("coverage", NAMES[2]), "lower"] == pytest.approx(
        wilson(1.0, 12).lower
    )  # two records each of twelve people


def test_a_centre_without_phenotypes_says_so_and_still_reports_novelty() -> None:
    predictions, truth, widths, new = tables()
    found = trust(predictions, truth.drop(columns=list(NAMES)), widths, new, cohort="mimic").set_index("metric")
    assert found.loc["coverage", "note"].str.startswith("not estimable: because").all()
    assert found.loc["coverage", "note"].str.contains("nobody's value is known").any()
    assert str(found.loc["novelty_error", "note"]).startswith("not estimable: because fewer than 3")
    assert found.loc["beyond", "estimate"] == pytest.approx(new["beyond"].mean())
