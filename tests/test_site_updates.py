"""Recalibration and fine-tuning at a site: apart from the released arms, never judged on who they were fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from cardionets import phenotypes, site_heads, splits
from cardionets.arms import Fitted
from cardionets.config import Cohort, Study
from cardionets.evaluate import metrics, recalibration
from cardionets.evaluate.disease_metrics import Sample
from cardionets.models.heads import LinearHead
from tests import toy_site
from tests.conftest import ROOT


def shifted(n: int = 3000, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions that are too high and too extreme by a known map, and their records, two per person."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1, n)
    records = pd.DataFrame({"record": [f"r{i}" for i in range(n)], "person": [f"p{i // 2}" for i in range(n)]})
    records = records.assign(
        split="test", centre="qph", cad=pd.array(rng.uniform(size=n) < expit(true), dtype="boolean")
    )
    said = expit(1.0 + 2.0 * true)
    predictions = records[["record", "person", "split"]].assign(arm="aligned", fraction=1.0, endpoint="cad", value=said)
    return predictions, records


def study_with(replicates: int = 100) -> Study:
    study = Study(ROOT)
    statistics = study.protocol.statistics.model_copy(update={"bootstrap": replicates})
    study.protocol = study.protocol.model_copy(update={"statistics": statistics})
    return study


def test_before_and_after_are_arms_of_their_own() -> None:
    predictions, records = shifted()
    study = study_with()
    before = metrics.evaluate(predictions, records, study, cohort="qph", transferred=toy_site.thresholds())
    after = recalibration.evaluate(predictions, records, study, "qph")
    table = pd.concat([before, after]).set_index(["metric", "arm"])["estimate"]
    assert table["calibration_slope", "aligned"] == pytest.approx(0.5, abs=0.06)
    assert table["oe", "aligned"] < 0.9
    assert table["oe", "aligned+intercept"] == pytest.approx(1, abs=0.03)
    assert table["calibration_slope", "aligned+intercept"] == pytest.approx(0.5, abs=0.06)  # a shift mends no slope
    assert table["calibration_slope", "aligned+intercept_slope"] == pytest.approx(1, abs=0.1)
    assert table["brier", "aligned+intercept_slope"] < table["brier", "aligned"]
    assert set(after["arm"]) == {"aligned+intercept", "aligned+intercept_slope"}
    assert set(after["n"]) == {3000}


def test_nobodys_outcome_moves_their_own_risk() -> None:
    predictions, records = shifted(400)
    sample = Sample(records["cad"].to_numpy(bool), predictions["value"].to_numpy()[None], records["person"].to_numpy())
    one = recalibration.updated(sample, "intercept_slope", 0)
    labels = sample.labels.copy()
    labels[:2] = ~labels[:2]  # both records of the first person
    other = recalibration.updated(replace(sample, labels=labels), "intercept_slope", 0)
    np.testing.assert_array_equal(one[:2], other[:2])
    assert (one[2:] != other[2:]).any()


def test_too_few_events_are_said_not_fitted() -> None:
    predictions, records = shifted(60)
    records["cad"] = pd.array([True] * 4 + [False] * 56, dtype="boolean")
    after = recalibration.evaluate(predictions, records, study_with(), "qph")
    assert after["estimate"].isna().all()
    assert after["note"].str.startswith("not estimable: because too few").all()


def test_later_patients_get_the_map_of_all_people_here() -> None:
    predictions, records = shifted()
    (row,) = recalibration.maps(predictions, records, ["aligned"]).itertuples(index=False)
    assert (row.arm, row.endpoint, row.method, row.n) == ("aligned", "cad", "intercept_slope", 1500)
    assert (row.intercept, row.slope) == (pytest.approx(-0.5, abs=0.15), pytest.approx(0.5, abs=0.08))
    assert row.events == records.drop_duplicates("person")["cad"].sum()
    again = records.assign(cad=records["cad"].where(~records["person"].duplicated(), ~records["cad"]))
    pd.testing.assert_frame_equal(  # one person, one voice: further recordings change nothing
        recalibration.maps(predictions, again, ["aligned"]), recalibration.maps(predictions, records, ["aligned"])
    )
    assert recalibration.maps(predictions, records, ["covariates"]).empty


@pytest.mark.parametrize(
    ("cases", "turned", "method"), [(9, False, None), (30, False, "intercept"), (80, True, "intercept")]
)
def test_few_people_or_a_turned_order_give_no_slope(cases: int, turned: bool, method: str | None) -> None:
    rng = np.random.default_rng(0)
    ill = np.arange(300) < cases
    value = expit(rng.normal(size=300) + (-2 if turned else 2) * ill)
    records = pd.DataFrame({"record": [f"r{i}" for i in range(300)], "person": [f"p{i}" for i in range(300)]})
    records = records.assign(split="test", cad=pd.array(ill, dtype="boolean"))
    predictions = records[["record", "person", "split"]].assign(
        arm="aligned", fraction=1.0, endpoint="cad", value=value
    )
    found = recalibration.maps(predictions, records, ["aligned"])
    assert list(found["method"]) == ([method] if method else [])
    if method:
        assert found["slope"].item() == 1
        mended = expit(logit(value) + found["intercept"].item())
        assert mended.mean() == pytest.approx(cases / 300, abs=1e-6)


class Source:
    """Features of a site, without an encoder: the aligned features are given."""

    def __init__(self, records: pd.DataFrame, x: np.ndarray) -> None:
        self.records, self.x = records, x.astype(np.float32)

    def join(self, names: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        assert names == ("aligned",)
        return self.x[rows]

    def blocks(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return (0,) * self.x.shape[1]


def hospital(study: Study, n: int, seed: int = 0) -> tuple[Source, Fitted, np.ndarray]:
    """A site where the released head is wrong: cad follows the second feature, the head reads the first."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    people = [f"p{i}" for i in range(n)]
    records = pd.DataFrame({"record": people, "person": people, "split": splits.assign(people, study.protocol.split)})
    for name in study.protocol.endpoints.diseases:
        records[name] = pd.array([None] * n, dtype="boolean")
    records["cad"] = pd.array(rng.uniform(size=n) < expit(2 * x[:, 1]), dtype="boolean")
    fitted = Fitted("diseases", study.protocol.endpoints.diseases)
    head = LinearHead(3, len(fitted.endpoints), logistic=True)
    head.get_buffer("weight")[0] = 1.0
    fitted.models["aligned", 1.0] = head
    return Source(records, x), fitted, x


def tuned(study: Study, fitted: Fitted, source: Source, rows: np.ndarray) -> list[pd.DataFrame]:
    """What the predict stage adds: one frame, or none where nothing could be learnt."""
    head = site_heads.learn(study, fitted, source)  # type: ignore[arg-type]
    return [] if head is None else [site_heads.frame(fitted, head, source, rows)]  # type: ignore[arg-type]


def test_site_heads_learn_from_training_people_only() -> None:
    study = study_with()
    source, fitted, x = hospital(study, 1500)
    rows = np.flatnonzero(source.records["split"] != "train")
    (found,) = tuned(study, fitted, source, rows)
    assert set(found["arm"]) == {"aligned_site"}
    assert np.corrcoef(logit(found["cad"]), 2 * x[rows, 1])[0, 1] > 0.95
    assert found["valve"].isna().all()  # no label at the site: silent
    changed = source.records["split"] == "test"
    source.records.loc[changed, "cad"] = ~source.records.loc[changed, "cad"]
    (again,) = tuned(study, fitted, source, rows)
    pd.testing.assert_frame_equal(found, again)  # test labels are not read


def test_few_people_leave_the_released_head_nearly_as_it_is() -> None:
    study = study_with()
    source, fitted, x = hospital(study, 60, seed=3)
    source.records["cad"] = pd.array(np.random.default_rng(5).uniform(size=60) < expit(x[:, 0]), dtype="boolean")
    rows = np.flatnonzero(source.records["split"] == "test")
    (found,) = tuned(study, fitted, source, rows)
    assert np.corrcoef(logit(found["cad"]), x[rows, 0])[0, 1] > 0.6


def test_noise_around_the_released_heads_leaves_them_as_they_are() -> None:
    """Of 82 phenotypes that the released heads read rightly, chance moves few; a shift of all moves all."""
    study, (n, seed) = study_with(), (600, 2)
    source, _, x = hospital(study, n, seed)
    fitted = Fitted("phenotypes", phenotypes.NAMES)
    head = LinearHead(3, len(fitted.endpoints), logistic=False)
    head.get_buffer("weight")[0] = 1.0
    fitted.models["aligned", 1.0] = head
    noise = np.random.default_rng(seed).normal(size=(n, len(fitted.endpoints)))
    for shift in (0.0, 1.0):
        truth = pd.DataFrame(x[:, :1] + noise + shift, columns=list(phenotypes.NAMES))
        source.records = pd.concat(
            [source.records.drop(columns=list(phenotypes.NAMES), errors="ignore"), truth], axis=1
        )
        (found,) = tuned(study, fitted, source, np.arange(n))
        as_released = (found[list(phenotypes.NAMES)].to_numpy() == x[:, :1].astype(np.float32)).all(axis=0)
        assert as_released.mean() > 0.8 if shift == 0 else not as_released.any()


def test_one_disease_gains_and_another_keeps_its_released_head() -> None:
    study = study_with()
    source, fitted, x = hospital(study, 1500)
    source.records["valve"] = pd.array(np.random.default_rng(1).uniform(size=1500) < expit(x[:, 0]), dtype="boolean")
    (found,) = tuned(study, fitted, source, np.arange(1500))
    np.testing.assert_allclose(found["valve"], expit(x[:, 0]), rtol=1e-5)
    assert np.corrcoef(found["cad"], expit(x[:, 0]))[0, 1] < 0.5


def test_without_training_people_the_arm_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_with()
    source, fitted, _ = hospital(study, 20)
    source.records["split"] = "test"
    assert tuned(study, fitted, source, np.arange(20)) == []
    assert "left out" in capsys.readouterr().out


def test_a_cohort_lends_training_people_only_when_it_says_so() -> None:
    block = {"label": "x", "path": "x", "depends": "x", "layout": "wfdb", "role": "external"}
    assert not Cohort.model_validate(block).is_split
    assert Cohort.model_validate(block | {"lends_training": True}).is_split
    assert Cohort.model_validate(block | {"role": "development"}).is_split
