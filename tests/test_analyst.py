"""The analyst's guide, walked through: its code runs on a toy study, its commands are understood, its claims hold."""

from __future__ import annotations

import ast
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from cardionets import run, tour
from cardionets.__main__ import parser
from cardionets.config import Study, StudyError
from tests.conftest import ROOT
from tests.test_docs import blocks
from tests.test_project import NOTEBOOKS
from tests.toy_study import build

GUIDE = ROOT / "docs" / "analyst.md"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study with the notebooks and the pipeline of this one, of which nothing has run."""
    study = build(tmp_path_factory.mktemp("analyst") / "study")
    (study.root / "notebooks").symlink_to(ROOT / "notebooks")
    (study.root / "dvc.yaml").symlink_to(ROOT / "dvc.yaml")
    return study


def test_code_of_the_guide_runs_and_does_what_it_says(study: Study) -> None:
    code = "\n".join(blocks(GUIDE, "python"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code + "\nprint(ecg.dtype, ecg.shape[1:], cine.shape[1:], len(metrics))"]
    done = subprocess.run(command, cwd=study.root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "lv_mass" in done.stdout
    grid = study.grid
    assert f"int16 (12, {grid.samples}) ({grid.frames}, {grid.size}, {grid.size})" in done.stdout
    figure = study.path("scratch", "ukb", "mine", "figures")
    assert sorted(p.name for p in figure.iterdir()) == ["ecg.png", "ecg.svg"]


def test_commands_of_the_guide_are_understood() -> None:
    lines = [line for block in blocks(GUIDE, "sh") for line in block.splitlines()]
    ours = [shlex.split(line)[3:] for line in lines if line.startswith("python -m cardionets ")]
    assert len(ours) >= 2
    assert all(callable(parser().parse_args(words).call) for words in ours)
    recipes = (ROOT / "Makefile").read_text()
    made = [line.split()[1] for line in lines if line.startswith("make ")]
    assert made and all(f"\n{target}:" in recipes for target in made)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_opens_on_its_defaults(path: Path, study: Study) -> None:
    """The cohort is one of the study, every import exists, and what it makes goes to a folder of its own name."""
    notebook = jupytext.read(path)
    values = run.defaults(notebook, path.stem)
    assert "cohort" not in values or values["cohort"] in study.cohorts
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    imports = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Import | ast.ImportFrom)]
    wanted = {(node.module or "", a.name) for node in imports if isinstance(node, ast.ImportFrom) for a in node.names}
    wanted |= {(a.name, "") for node in imports if isinstance(node, ast.Import) for a in node.names}
    for module, name in wanted:
        found = importlib.import_module(module)
        assert not name or hasattr(found, name) or importlib.import_module(f"{module}.{name}")
    assert f'Workbook("{path.stem}"' in code


def test_tour_names_every_stage_and_what_to_type(study: Study) -> None:
    table = tour.stops(study, "qph").set_index("stage")
    assert table["question"].str.endswith("?").all()
    assert table.loc["validate", "result"] == "not yet: dvc repro validate@qph"
    assert table.loc["align", "result"] == "not yet: dvc repro align"
    assert set(table.index) < {path.stem for path in NOTEBOOKS}
    tour.show(study, "qph", "images", "moving")
    tour.numbers(study, "qph", "auc", ["heart_failure"])
    study.path("reports", "study", "align").mkdir(parents=True)
    assert tour.stops(study, "qph").set_index("stage").loc["align", "result"] == "reports/study/align"


def test_tour_outside_a_clone_says_so(tiny_root: Path) -> None:
    with pytest.raises(StudyError, match=r"dvc\.yaml: missing"):
        tour.stops(Study(tiny_root), "ukb")


def test_tour_shows_an_interval_or_says_that_there_is_none() -> None:
    assert tour._cell(0.4321, 0.3, 0.51) == "0.43 (0.30 to 0.51)"
    assert tour._cell(float("nan"), 0.3, 0.51) == "not estimable"
    assert tour._cell(0.4, float("nan"), float("nan")) == "0.40"
