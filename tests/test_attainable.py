"""The ceiling: it reads the truth of simulated people only, and finds what the determinants determine."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cardionets import attainable, phenotypes
from cardionets.config import OUT_VARIABLE, Study, StudyError
from cardionets.report import read_results
from cardionets.splits import pseudonyms
from tests.conftest import ROOT


def test_truth_is_indexed_by_the_stores_pseudonyms(tiny_root: Path) -> None:
    folder = tiny_root / "data" / "truth"
    folder.mkdir(parents=True)
    pd.DataFrame({"person": [11, 12], "ecg_qrs_ms": [90.0, 120.0]}).to_parquet(folder / "ukb.parquet")
    study = Study()
    truth = attainable.read_truth(study, "ukb")
    assert list(truth.index) == list(pseudonyms(["11", "12"], "person", "ukb", study.protocol.split.salt))


def test_missing_truth_and_real_people_are_refused(tiny_root: Path) -> None:
    with pytest.raises(StudyError, match=r"data/truth/ukb\.parquet: the file is missing; write it with `make data`"):
        attainable.read_truth(Study(), "ukb")
    cohorts = tiny_root / "cohorts.yaml"
    cohorts.write_text(cohorts.read_text().replace("simulated: true", "simulated: false", 1))
    with pytest.raises(StudyError, match="real people's truth is unknown"):
        attainable.read_truth(Study(), "ukb")


def test_of_real_people_the_stage_says_that_nobody_knows_the_truth(
    tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no store, prediction, tokenizer or truth in reach: pool and report find tables without a number."""
    cohorts = tiny_root / "cohorts.yaml"
    cohorts.write_text(cohorts.read_text().replace("simulated: true", "simulated: false", 1))
    monkeypatch.setenv(OUT_VARIABLE, str(tiny_root / "out"))
    runpy.run_path(str(ROOT / "notebooks" / "attainable.py"))
    found = read_results(tiny_root / "results")
    assert found["estimate"].isna().all() and set(found["note"]) == {f"not estimable: because {attainable.REAL}"}
    assert {"mean_r2", "r2_share", "ssim"} <= set(found["metric"]) and (found["n"] == 0).all()
    assert sorted(path.name for path in (tiny_root / "results" / "ukb").iterdir()) == ["attainable.csv", "ceiling.csv"]
    assert attainable.REAL in (tiny_root / "out" / "tables" / "ceiling.html").read_text()


def test_features_are_determinants_only() -> None:
    truth = pd.DataFrame({"lv_mass": [1.0, 2.0], "ecg_qrs_ms": [90.0, 100.0], "ecg_block": ["none", "rbbb"]})
    assert list(attainable.features(truth).columns) == ["ecg_qrs_ms", "ecg_block_none", "ecg_block_rbbb"]
    with pytest.raises(StudyError, match="no column starts with 'ecg_'"):
        attainable.features(truth[["lv_mass"]])


def test_the_chosen_regression_finds_a_curved_relation() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 3))
    y = np.column_stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2]])
    train = np.arange(600) < 400
    model = attainable._choose(x[:500], y[:500], train[:500], ~train[:500])
    left = np.mean((model.predict(x[500:]) - y[500:]) ** 2, axis=0) / y[500:].var(axis=0)
    assert (left < 0.2).all()


def test_an_arm_gets_its_share_of_the_ceiling_on_the_same_people(
    tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, rng, n = Study(), np.random.default_rng(0), 80
    truth = pd.DataFrame(rng.normal(size=(n, len(phenotypes.NAMES))), columns=list(phenotypes.NAMES))
    records = truth.assign(record=[f"r{i}" for i in range(n)])
    monkeypatch.setattr(attainable.Store, "open", lambda *_, **__: SimpleNamespace(records=records))

    def said(noise: float, arm: str) -> pd.DataFrame:
        wide = (truth + noise * rng.normal(size=truth.shape)).assign(record=records["record"], person=records["record"])
        tidy = wide.melt(["record", "person"], var_name="endpoint", value_name="value")
        return tidy.assign(arm=arm, fraction=1.0, split="test")

    top, arms = said(0.5, "attainable"), pd.concat([said(0.8, "good"), said(3.0, "bad")])
    found = attainable.shares(study, "ukb", top, arms).set_index(["endpoint", "arm"])
    assert set(found.index.get_level_values("endpoint")) == {
        attainable.ALL,
        *study.protocol.endpoints.headline_phenotypes,
    }
    good, bad = (found.loc[(attainable.ALL, arm)] for arm in ("good", "bad"))
    assert good["estimate"] == pytest.approx((1 - 0.64) / (1 - 0.25), abs=0.05) and bad["estimate"] < 0
    assert good["lower"] < good["estimate"] < good["upper"] < 1 and good["n"] == n
    assert (found["metric"] == "r2_share").all()
