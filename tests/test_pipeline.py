"""A tiny whole study, run as ``make study`` runs it, then brought up to date by analysts and an external site."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import yaml

from tests.tiny_study import ENVIRONMENT, added_cohort, kill_when, open_recordings, run, stages_run

pytestmark = pytest.mark.slow


def test_every_stage_left_its_notebook_and_page(study: Path) -> None:
    lock = yaml.safe_load((study / "dvc.lock").read_text())["stages"]
    assert "hashes" not in lock.pop("sources")  # the one stage without a notebook
    for stage, entry in lock.items():
        name, _, cohort = entry["cmd"].split("cardionets run ")[1].partition(" --cohort ")
        folder = study / "reports" / (cohort or "study") / name
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        assert outputs and not any(o.output_type == "error" for o in outputs), stage
        assert "SIMULATED" in (folder / f"{name}.html").read_text(), stage
    assert (study / "reports" / "index.html").is_file()


def test_people_are_in_one_split_and_truth_in_one_stage(study: Path) -> None:
    stores = sorted((study / "store").glob("*/records.parquet"))
    assert len(stores) == 5
    for path in stores:
        assert pd.read_parquet(path).groupby("person")["split"].nunique().max() == 1, path.parent.name
    lock = yaml.safe_load((study / "dvc.lock").read_text())["stages"]
    readers = {name for name, s in lock.items() if any("truth" in d["path"] for d in s.get("deps", []))}
    assert readers == {"attainable"}


def test_the_rhythm_is_known_where_a_recorder_stated_it(study: Path) -> None:
    tables = {path.parent.name: pd.read_parquet(path) for path in (study / "store").glob("*/records.parquet")}
    known = {cohort: table["af_rhythm"].dropna() for cohort, table in tables.items()}
    assert known["mimic"].nunique() == 2 and known["mimic"].mean() < 0.5
    assert all(values.empty for cohort, values in known.items() if cohort != "mimic")


def test_metrics_carry_intervals_and_counts(study: Path) -> None:
    found = pd.concat([pd.read_csv(p) for p in sorted((study / "results").glob("*/metrics.csv"))])
    assert set(found["cohort"]) == {"ukb", "mimic", "fahzu", "sahzu", "qph"}
    known = found.dropna(subset=["estimate"])
    assert len(known) and (known["n"] > 0).all()
    silent = found["estimate"].isna() & ~found["note"].fillna("").str.startswith("not estimable: because")
    assert not silent.any(), found[silent].head().to_string()
    bounded = known.dropna(subset=["lower", "upper"])
    assert (bounded["lower"] <= bounded["estimate"] + 1e-9).all()
    assert (bounded["estimate"] <= bounded["upper"] + 1e-9).all()


def test_nothing_to_do_runs_nothing(study: Path) -> None:
    assert stages_run(run(study, "dvc", "repro")) == []


def test_opening_and_saving_a_notebook_changes_nothing(study: Path) -> None:
    path = study / "notebooks" / "align.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1]["outputs"] = [nbformat.v4.new_output("stream", text="looked at")]
    notebook.metadata["widgets"] = {"seen": True}
    nbformat.write(notebook, path)
    assert "up to date" in run(study, "dvc", "status", "align")


def test_adding_a_cohort_runs_only_that_cohort(study: Path) -> None:
    block = yaml.safe_load((study / "cohorts.yaml").read_text())["cohorts"]["qph"] | {"label": "Another hospital"}
    with added_cohort(study, "again", **block):
        ran = stages_run(run(study, "dvc", "repro", "validate@again"))
        assert ran == ["prepare@again", "predict@again", "validate@again"]
        assert (study / "results" / "again" / "metrics.csv").is_file()


def test_real_recordings_as_an_external_site(study: Path, real: Path) -> None:
    with added_cohort(study, "cinc", **open_recordings(real)):
        ran = stages_run(run(study, "dvc", "repro", "validate@cinc"))
        assert ran == ["prepare@cinc", "predict@cinc", "validate@cinc"]
        found = pd.read_csv(study / "results" / "cinc" / "metrics.csv")
        af = found[(found["endpoint"] == "atrial_fibrillation") & (found["metric"] == "auc")]
        assert (af["events"] >= 2).all() and (af["n"] >= 20).all() and af["estimate"].notna().any()
        page = (study / "reports" / "cinc" / "validate" / "validate.html").read_text()
        assert str(real) not in page and "E07500" not in page


def test_open_recordings_are_judged_by_one_command(study: Path, real: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (study / "store").iterdir())
    out = tmp_path / "reality.csv"
    said = run(study, sys.executable, "-m", "benchmarks.reality", str(real), "--out", str(out))
    assert "HR06000" not in said and sorted(path.name for path in (study / "store").iterdir()) == before
    found = pd.read_csv(out).set_index(["endpoint", "arm", "metric"])
    rate = found.loc[("heart_rate", "ecg_mae", "rate_error_median")]
    assert rate["n"] >= 15 and rate["lower"] <= rate["estimate"] <= rate["upper"]
    for endpoint in ("atrial_fibrillation", "af_rhythm"):
        fibrillation = found.xs(endpoint, level="endpoint")
        aucs, gaps = (fibrillation.xs(metric, level="metric")["estimate"] for metric in ("auc", "auc_difference"))
        assert {"rr_rule", "aligned", "aligned_rhythm", "beat_ridge"} <= set(aucs.index)
        assert gaps["aligned minus rr_rule"] == pytest.approx(aucs["aligned"] - aucs["rr_rule"], abs=2e-3)


def test_killed_training_leaves_nothing_finished_and_continues(study: Path) -> None:
    short, long = "{epochs: 1, batch: 32, lr: 1.0e-3}", "{epochs: 30, batch: 32, lr: 1.0e-3, checkpoint_seconds: 0}"
    preset = study / "presets" / "tiny.yaml"
    assert preset.read_text().count(short) == 1
    preset.write_text(preset.read_text().replace(short, long))
    weights, logs = study / "weights" / "ecg_mae" / "model.safetensors", study / "logs"
    run(study, "dvc", "repro", "--single-item", "pretrain_ecg")
    unbroken = weights.read_bytes()
    command = ["dvc", "repro", "--force", "--single-item", "pretrain_ecg"]
    checkpoint = logs / "ecg_mae" / "checkpoint.safetensors"
    checkpoint.unlink(missing_ok=True)
    process = psutil.Popen(command, cwd=study, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    kill_when(process, checkpoint.is_file)
    assert not weights.exists()
    status = logs / "study" / "pretrain_ecg" / "status.json"
    assert json.loads(status.read_text())["state"] == "running"
    run(study, *command)
    assert weights.read_bytes() == unbroken
    assert json.loads(status.read_text())["state"] == "finished"
