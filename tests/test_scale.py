"""The recipes of docs/scale.md run under a stand-in for the scheduler, and a launcher starts two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cardionets import prepare, represent
from cardionets.config import Study, StudyError
from cardionets.launch import LAUNCHER
from cardionets.schedule import TrainSettings
from cardionets.simulate.write import write_centre
from tests.conftest import ROOT
from tests.test_docs import blocks
from tests.toy_study import build

PAGE = ROOT / "docs" / "scale.md"
SBATCH = """#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
text = open(script).read()
first, last = map(int, (re.search(r"--array=(\\d+)-(\\d+)", text) or re.match("(1)(1)?", "11")).groups())
with open("jobs.txt", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
tasks = [dict(os.environ, SLURM_ARRAY_TASK_ID=str(i), SLURM_ARRAY_TASK_COUNT=str(last)) for i in range(first, last + 1)]
running = [subprocess.Popen(["bash", script], env=task, stdout=sys.stderr) for task in tasks]
if any([job.wait() for job in running]):
    sys.exit(1)
print(42)
"""
DVC = """#!/bin/sh
echo "$@" > stages.txt
ls store store/.work/* > found.txt
exec python -m cardionets prepare "$COHORT"
"""


@pytest.fixture
def centre(tiny_root: Path) -> Study:
    """One small centre of two blocks."""
    write_centre("mimic", 60, 1, tiny_root / "data", workers=1)
    return Study()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def environment(folder: Path) -> dict[str, str]:
    """The environment of a job: this interpreter is ``python``; ``sbatch`` and ``dvc`` are stand-ins."""
    tools = folder / "bin"
    tools.mkdir()
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in {"python": python, "sbatch": SBATCH.replace("{python}", sys.executable), "dvc": DVC}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def test_slurm_array_gives_the_store_of_one_process(centre: Study) -> None:
    for text in blocks(PAGE, "bash"):
        name = text.splitlines()[0].removeprefix("# ")
        (centre.root / name).write_text(text.replace("1-8", "1-2"))
    assert (centre.root / "submit.sh").is_file() and (centre.root / "cohort.sbatch").is_file()
    job = environment(centre.root)
    done = subprocess.run(["sh", "submit.sh", "mimic"], cwd=centre.root, env=job, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--dependency=afterok:42 cohort.sbatch" in (centre.root / "jobs.txt").read_text()
    found = (centre.root / "found.txt").read_text().split()
    blocks_read = [path.name for path in prepare.make_plan(centre, "mimic").blocks]
    assert set(blocks_read) <= set(found) and "mimic" not in found and len(blocks_read) == 2
    assert (centre.root / "stages.txt").read_text() == f"repro --single-item {own_stages('mimic')}\n"
    by_array = content(centre.path("store", "mimic"))
    prepare.prepare(centre, "mimic", workers=1)
    assert by_array == content(centre.path("store", "mimic"))


def own_stages(cohort: str) -> str:
    """The stages of a centre, as `make site` and the recipes name them."""
    names = ["sources", *(f"{stage}@{cohort}" for stage in ("prepare", "predict", "validate", "images"))]
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name.partition("@")[0] for name in names} <= declared.keys()
    return " ".join(names)


def test_kubernetes_job_reads_every_shard(centre: Study) -> None:
    (text,) = (block for block in blocks(PAGE, "yaml") if "kind: Job" in block)
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert spec["completionMode"] == "Indexed" and int(given["SHARDS"]) == spec["completions"]
    given |= {"COHORT": "mimic", "SHARDS": "2"}
    words = [*container["command"], *container["args"]]
    job = environment(centre.root) | given
    for index in range(2):
        subprocess.run(words, cwd=centre.root, env=job | {"JOB_COMPLETION_INDEX": str(index)}, check=True)
    assert all(block.is_dir() for block in prepare.make_plan(centre, "mimic").blocks)
    assert not centre.path("store", "mimic").exists()
    assert f"dvc repro --single-item {own_stages('ukb')}`" in PAGE.read_text()


def test_settings_of_the_page_are_settings() -> None:
    (text,) = (block for block in blocks(PAGE, "yaml") if block.startswith("train:"))
    settings = TrainSettings.model_validate(yaml.safe_load(text)["train"])
    assert settings.recompute and settings.compile and settings.fused


def test_a_launcher_of_two_processes_gives_the_curve_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = build(tmp_path / "study")
    one = represent.pretrain_ecg(study)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv(LAUNCHER, f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2")
    two = represent.pretrain_ecg(study, force=True)
    assert isinstance(two, pd.DataFrame) and list(one.columns) == list(two.columns)
    np.testing.assert_allclose(one["val_loss"], two["val_loss"], rtol=1e-3)


def test_a_launcher_that_fails_or_is_absent_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = build(tmp_path / "study", people=4)
    for launcher, sentence in (("no-such-launcher", "is no program here"), ("false", "ended with 1")):
        monkeypatch.setenv(LAUNCHER, launcher)
        with pytest.raises(StudyError, match=sentence):
            represent.pretrain_ecg(study)
