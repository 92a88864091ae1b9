"""What papermill and DVC add to a stage, and what fifty cohorts cost DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.conftest import ROOT, Measure, sized

NOTEBOOK = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% tags=["parameters"]
number = 1

# %%
print(number)
"""


def command(*words: str, folder: Path) -> None:
    """Run a command of this environment; an error ends the benchmark."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = os.environ | {"PATH": os.pathsep.join(places), "DVC_NO_ANALYTICS": "1"}
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=environment)


def test_stage_overhead(measure: Measure, tmp_path: Path) -> None:
    """Process, kernel, papermill and HTML of a notebook that prints one number."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "empty.py").write_text(NOTEBOOK)
    for name in ("params.yaml", "cohorts.yaml", "presets"):
        (tmp_path / name).symlink_to(ROOT / name)
    run = [sys.executable, "-m", "cardionets", "run", "empty"]
    measure(lambda: command(*run, folder=tmp_path), unit="stage", rounds=3, warm=0)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with fifty cohorts of three trivial stages each, reproduced once."""
    folder = tmp_path_factory.mktemp("many")
    command("git", "init", "-q", folder=folder)
    command("dvc", "init", "-q", folder=folder)
    cohorts = {f"site{i:02d}": {"label": i} for i in range(sized(2, 50))}
    (folder / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": cohorts}))
    stages, before = {}, "cohorts.yaml"
    for stage in ("prepare", "predict", "validate"):
        out = stage + "/${key}.txt"
        do = {"cmd": f"mkdir -p {stage} && echo ${{key}} > {out}", "deps": [before], "outs": [out]}
        stages[stage], before = {"foreach": "${cohorts}", "do": do}, out
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"vars": ["cohorts.yaml"], "stages": stages}))
    command("dvc", "repro", "-q", folder=folder)
    return folder


@pytest.mark.parametrize("what", ["status", "repro"])
def test_dvc_with_fifty_cohorts_and_nothing_to_do(what: str, many: Path, measure: Measure) -> None:
    measure(lambda: command("dvc", what, folder=many), rounds=3, warm=0)
