"""Heads against textbook solutions, and a toy study through every arm: fairness, faults, predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from cardionets import (
    arm_table,
    arms,
    diseases,
    embed,
    export,
    frozen,
    operating,
    phenotypes,
    predict,
    represent,
    screen,
    weights,
)
from cardionets.config import Study, StudyError
from cardionets.evaluate import discrimination as dis
from cardionets.evaluate import metrics
from cardionets.evaluate.metrics import evaluate
from cardionets.features import Features, People
from cardionets.models import waves
from cardionets.models.heads import Basis, HeadSettings, fit_logistic, fit_ridge
from tests.toy_study import build

CONSTANT, ABSENT, HEALTHY = phenotypes.NAMES[3], phenotypes.NAMES[7], diseases.NAMES[2]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study with a constant phenotype, one that nobody has, and a disease without cases, fitted and predicted."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = build(tmp_path_factory.mktemp("toy") / "study")
    for cohort in ("ukb", "mimic"):
        _edit(study, cohort, {CONSTANT: 42.0, ABSENT: np.nan, HEALTHY: False})
    for stage in (represent.pretrain_ecg, represent.pretrain_cmr, represent.align):
        stage(study)
    arms.fit_phenotypes(study)
    arms.fit_screening(study)
    for cohort in ("ukb", "mimic", "qph"):
        predict.predict(study, cohort)
    torch.set_num_threads(threads)
    return study


def _edit(study: Study, cohort: str, values: dict[str, object], where: str | None = None) -> None:
    path = study.path("store", cohort, "records.parquet")
    table = pd.read_parquet(path)
    rows = slice(None) if where is None else table["split"] == where
    for name, value in values.items():
        table.loc[rows, name] = value
    table.to_parquet(path, index=False)


def predictions(study: Study, cohort: str) -> pd.DataFrame:
    return pd.read_parquet(study.path("predictions", f"{cohort}.parquet"))


def test_one_person_teaches_nothing() -> None:
    one, y = np.zeros((1, 4)), np.ones((1, 1))
    fit = fit_logistic(one, y, one, y, ("a",), HeadSettings())
    assert fit.notes == ["a: 1 cases and 0 controls among training people; left out."]
    assert fit.head(torch.zeros(1, 4)).isnan().all()


def test_ridge_with_missing_values_is_ridge_on_the_known_ones() -> None:
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(60, 90)), ("a", "b", "c")
    y = x[:, :3] * 4 + 10 + rng.normal(size=(60, 3))
    y[rng.random(y.shape) < 0.3] = np.nan
    settings = HeadSettings(ridge=(1.0,))
    basis = Basis.of(x)
    fit = fit_ridge(x, y, x, y, names, settings, basis)
    out = fit.head(torch.from_numpy(x.astype(np.float32))).numpy()
    z = (x - basis.centre) / basis.scale
    for i in range(3):
        known = np.isfinite(y[:, i])
        direct = Ridge(alpha=60.0).fit(z[known], y[known, i]).predict(z)
        np.testing.assert_allclose(out[:, i], direct, atol=0.02)


def test_penalties_come_from_validation_people() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 60))
    signal, noise = x[:, :1] * 3, rng.normal(size=(40, 1))
    x_val = rng.normal(size=(200, 60))
    fit = fit_ridge(
        x,
        np.hstack([signal, noise]),
        x_val,
        np.hstack([x_val[:, :1] * 3, rng.normal(size=(200, 1))]),
        ("s", "n"),
        HeadSettings(),
    )
    assert fit.penalty[0] < fit.penalty[1]


def test_logistic_head_is_penalised_maximum_likelihood() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 4))
    y = (rng.random(300) < 1 / (1 + np.exp(-x[:, 0] * 2 + 1))).astype(float)[:, None]
    fit = fit_logistic(x, y, x, y, ("d",), HeadSettings(logistic=(0.01,)))
    basis = Basis.of(x)
    z = basis.transform(x)
    z /= z.std(0).max()
    direct = LogisticRegression(C=1 / 3.0, tol=1e-8).fit(z, y[:, 0]).predict_proba(z)[:, 1]
    out = fit.head(torch.from_numpy(x.astype(np.float32))).numpy()[:, 0]
    np.testing.assert_allclose(out, direct, atol=1e-3)
    assert abs(out.mean() - y.mean()) < 1e-3, "natural prevalence: calibrated in the large"
    balanced = fit_logistic(x, y, x, y, ("d",), HeadSettings(logistic=(0.01,), class_weight="balanced"))
    assert balanced.head(torch.from_numpy(x.astype(np.float32))).numpy().mean() > out.mean()


def test_a_missing_feature_counts_as_its_mean() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal((5, 7), 1, (50, 2))
    fit = fit_ridge(x, x.sum(1, keepdims=True), x, x.sum(1, keepdims=True), ("sum",), HeadSettings())
    x_new = torch.tensor([[6.0, torch.nan], [6.0, float(x[:, 1].mean())]])
    out = fit.head(x_new).numpy()
    assert out[0, 0] == pytest.approx(out[1, 0], abs=1e-4)


def test_blocks_keep_the_scale_of_learnt_features() -> None:
    x = np.random.default_rng(4).normal(size=(100, 4)) * [10, 1, 5, 50]
    scale = Basis.of(x, (1, 1, 0, 0)).scale
    assert (
        scale[0] == scale[1] and scale[2] == pytest.approx(x[:, 2].std()) and scale[3] == pytest.approx(x[:, 3].std())
    )


def test_every_arm_is_fitted_at_every_fraction(study: Study) -> None:
    fitted = arms.load_arms(study, "phenotypes")
    wanted = {(n, f) for n, a in arm_table.ARMS.items() if "phenotypes" in a.tasks for f in (0.5, 1.0)}
    assert set(fitted.models) == wanted
    screening = arms.load_arms(study, "screening")
    assert {n for n, _ in screening.models} == {n for n, a in arm_table.ARMS.items() if "diseases" in a.tasks}
    card = weights.read_card(study.path("weights", "phenotypes"))
    assert card.data["simulated"] is True and card.metrics["aligned@1"] > card.metrics["covariates@1"]


def test_an_endpoint_that_cannot_be_fitted_is_named_and_the_others_go_on(study: Study) -> None:
    notes = weights.read_card(study.path("weights", "phenotypes")).data["notes"]
    assert any(f"{CONSTANT}: constant (42)" in n for n in notes)
    assert any(f"{ABSENT}: only 0 training people" in n for n in notes)
    notes = weights.read_card(study.path("weights", "screening")).data["notes"]
    assert any(f"{HEALTHY}: 0 cases" in n for n in notes)
    table = predictions(study, "ukb")
    aligned = table[table["arm"] == "aligned"]
    assert set(aligned.loc[aligned["endpoint"] == CONSTANT, "value"].round(3)) == {42.0}
    ridge = table[(table["arm"] != "scratch") & table["endpoint"].isin([ABSENT, HEALTHY])]
    assert ridge.empty and phenotypes.NAMES[0] in set(aligned["endpoint"])


def test_predictions_are_tidy_and_leave_training_people_out(study: Study) -> None:
    table = predictions(study, "ukb")
    assert list(table.columns) == list(predict.COLUMNS) and table["value"].dtype == np.float32
    assert set(table["split"]) == {"val", "test"} and np.isfinite(table["value"]).all()
    assert not table.duplicated(["record", "arm", "fraction", "endpoint"]).any()
    rule = table[table["arm"].isin(["rr_rule", "aligned_rhythm"])]
    assert rule["arm"].nunique() == 2 and set(rule["endpoint"]) == set(arm_table.FIBRILLATION)
    sick = table[table["endpoint"].isin(diseases.NAMES)]
    assert sick["value"].between(0, 1).all()
    abroad = predictions(study, "qph")
    assert set(abroad["split"]) == {"test"} and set(abroad["fraction"]) == {1.0} and "cmr" in set(abroad["arm"])
    assert "cmr" not in set(predictions(study, "mimic")["arm"]), "without images the image arm is silent"


def test_label_fractions_are_nested(study: Study) -> None:
    people = People(study, ["ukb"], "phenotypes", phenotypes.NAMES)
    few, many = people.labelled(0.3), people.labelled(0.7)
    assert 0 < few.sum() < many.sum() < people.labelled(1.0).sum() == len(few)
    assert not (few & ~many).any()


def test_no_label_of_test_people_reaches_any_weight(study: Study) -> None:
    heads = ("phenotypes", "screening", "subtypes")
    before = [weights.read_card(study.path("weights", name)).sha256 for name in heads]
    chosen = operating.choose(study)
    records = study.path("store", "ukb", "records.parquet")
    kept = records.read_bytes()
    _edit(
        study,
        "ukb",
        dict.fromkeys(phenotypes.NAMES, 7.0) | dict.fromkeys(diseases.NAMES, True) | {"subtype": "rcm"},
        "test",
    )
    torch.set_num_threads(1)
    arms.fit_phenotypes(study)
    arms.fit_screening(study)
    after = [weights.read_card(study.path("weights", name)).sha256 for name in heads]
    again = operating.choose(study)
    records.write_bytes(kept)
    assert before == after
    pd.testing.assert_frame_equal(chosen, again)


@pytest.mark.parametrize("digits", [None, 2])  # of the scores: ties among them
def test_stored_thresholds_keep_their_promise(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: int | None
) -> None:
    rng, names = np.random.default_rng(4), [f"d{i}" for i in range(200)]
    labels, scores = rng.random((200, 80)) < 0.2, (1e-3 * rng.random((200, 80)) + 0.2).astype(np.float32)
    scores = scores if digits is None else scores.round(3 + digits)
    chosen = [dis.threshold_at_specificity(y, s, 0.9) for y, s in zip(labels, scores)]
    table = pd.DataFrame({"arm": "a", "fraction": 0.1, "endpoint": names, "threshold": chosen, "note": ""})
    table.loc[200] = "a", 0.1, "none", np.nan, "not estimable"
    table.loc[201] = "a", 0.1, "tiny", 1.234567890123456e-05, ""
    monkeypatch.setattr(metrics, "thresholds", lambda *_: table)
    monkeypatch.setattr(operating, "path", lambda _: tmp_path / "thresholds.csv")
    operating.choose(study)
    again = operating.load(study)
    assert (again["threshold"][:200] == chosen).all() and np.isnan(again["threshold"][200])
    assert again["threshold"][201] == 1.234567890123456e-05
    assert all((s[~y] < t).mean() >= 0.9 for y, s, t in zip(labels, scores, again["threshold"]))
    written = (tmp_path / "thresholds.csv").read_bytes()
    assert b"\na,0.1,d0,0.200" in written and screen.search("thresholds.csv", written) == [], "it may be released"


def test_subtypes_are_told_apart_among_cardiomyopathies_by_linear_arms(study: Study) -> None:
    fitted = arms.load_arms(study, "subtypes")
    assert fitted.endpoints == ("dcm", "hcm", "rcm")
    assert {name for name, _ in fitted.models} == {"covariates", "beat_ridge", "mae", "aligned", "aligned_covariates"}
    told = predictions(study, "qph").query("endpoint in ['dcm', 'hcm', 'rcm']")
    assert told["value"].between(0, 1).all()
    assert set(told["arm"]) == {name for name, _ in fitted.models}
    records = pd.read_parquet(study.path("store", "qph", "records.parquet"))
    found = evaluate(told, records, study, cohort="qph")
    assert set(found.loc[found["metric"] == "macro_auc", "arm"]) == set(told["arm"])


def test_a_study_in_which_no_subtype_is_known_says_so(study: Study) -> None:
    paths = [study.path("store", cohort, "records.parquet") for cohort in ("ukb", "mimic")]
    kept = [path.read_bytes() for path in paths]
    for cohort in ("ukb", "mimic"):
        _edit(study, cohort, {"subtype": pd.NA})
    arms.fit_subtypes(study)
    fitted = arms.load_arms(study, "subtypes")
    for path, content in zip(paths, kept):
        path.write_bytes(content)
    arms.fit_subtypes(study)
    assert not fitted.models
    assert arms.load_arms(study, "subtypes").models


def test_embeddings_are_kept_until_the_weights_change(study: Study) -> None:
    path = study.path("logs", "embeddings", "qph", "mae.npy")
    Features(study, "qph")["mae"]
    stamp = path.stat().st_mtime_ns
    Features(study, "qph")["aligned"]
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(b"torn")
    assert Features(study, "qph")["mae"].shape == (60, 32 + waves.COUNT) and path.stat().st_mtime_ns != stamp


def test_cines_are_embedded_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    home = embed.open_store(study, "ukb")
    first = embed.embed_cines_once(study, home)
    with monkeypatch.context() as never:
        never.setattr(embed, "load_cmr", None)
        again = embed.embed_cines_once(study, home)
    fresh = embed.embed_cines(embed.load_cmr(study), home)
    for view in first:
        assert np.array_equal(again[view], first[view]) and np.allclose(fresh[view], first[view], atol=1e-6)
        assert len(fresh[view]) == len({"sax": home.sax, "4ch": home.lax}[view])


def test_predictions_do_not_depend_on_the_block(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["record", "arm", "fraction", "endpoint"]
    whole = predictions(study, "qph")
    monkeypatch.setattr(predict, "BLOCK", 17)
    counts = predict.predict(study, "qph")
    parts = predictions(study, "qph")
    assert counts["records"].max() == 60 and (parts.dtypes[list(predict.WHO)] == "category").all()
    joined = whole.merge(parts, on=keys, validate="one_to_one")
    assert len(joined) == len(whole) == len(parts)
    np.testing.assert_allclose(joined["value_x"], joined["value_y"], rtol=1e-4, atol=1e-5)


def test_a_preset_that_does_not_fit_the_store_is_refused(study: Study, tmp_path: Path) -> None:
    for block, key, value, sentence in (
        ("ecg_mae", "samples", 510, "ecg_mae.encoder.samples: 510 exceeds the grid's 500"),
        ("ecg_mae", "beat_samples", 32, "ecg_mae.encoder.beat_samples: must be 0 or the grid's 40"),
        ("cmr_mae", "frames", 8, "cmr_mae.encoder: frames must be 4"),
    ):
        other = Study(study.root)
        other.preset[block]["encoder"][key] = value
        stage = represent.pretrain_ecg if block == "ecg_mae" else represent.pretrain_cmr
        with pytest.raises(StudyError, match=sentence):
            stage(other)
    other = Study(study.root)
    other.preset["ecg_mae"]["encoder"]["dim"] = 32
    with pytest.raises(StudyError, match=r"weights/ecg_mae/card.json: config: encoder differ from the preset"):
        represent.align(other)


def test_the_exported_program_says_what_the_study_predicts(study: Study, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    path = export.export(study, tmp_path / "reader.onnx")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about["phenotypes"] == {"arm": "aligned_teacher", "endpoints": list(phenotypes.NAMES)}
    assert about["simulated"] and about["contract"]["unit"] == "uV"
    features = Features(study, "qph")
    found = session.run(None, {n: np.float32(getattr(features.store, n)) for n in export.INPUTS})
    for values, (name, arm) in zip(found, (("phenotypes", "aligned_teacher"), ("screening", "aligned"))):
        fitted = arms.load_arms(study, name)
        wanted = frozen.predict_head(fitted.models[arm, 1.0], features["aligned"])
        np.testing.assert_allclose(values, wanted, rtol=1e-3, atol=1e-3)


def test_only_arms_that_read_the_ecg_alone_are_exported(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    with pytest.raises(StudyError, match="phenotypes: covariates: not an arm that reads the ECG alone; choose from"):
        export.export(study, tmp_path / "reader.onnx", arm="covariates")
    with pytest.raises(StudyError, match=r"reader.pt does not end in .onnx"):
        export.export(study, tmp_path / "reader.pt")
    assert not list(tmp_path.iterdir())
