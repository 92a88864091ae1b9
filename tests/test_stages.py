"""What a stage of ``dvc.yaml`` declares is what it rests on: code by its imports, data by a run on nothing else."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cardionets import sources
from cardionets.config import Protocol
from tests.conftest import ROOT
from tests.tiny_study import OURS, run

LIBRARY = ROOT / "src" / "cardionets"


def _stages() -> dict[str, dict[str, Any]]:
    """Every stage with a notebook by name; of a stage per cohort, its template."""
    files = (ROOT / "dvc.yaml", ROOT / "ablation" / "dvc.yaml")
    found = {k: v for path in files for k, v in yaml.safe_load(path.read_text())["stages"].items()}
    return {name: stage.get("do", stage) for name, stage in found.items() if name != sources.FOLDER}


@pytest.mark.parametrize("stage", _stages())
def test_every_stage_declares_the_code_it_rests_on(stage: str) -> None:
    """Else a stage would pass for up to date although the code of its numbers has changed."""
    declared = _stages()[stage]["deps"]
    assert {f"notebooks/{stage}.py", f"sources/{stage}.txt"} <= set(declared)
    named = {Path(d).relative_to("src/cardionets").parts[0] for d in declared if d.startswith("src/")}
    assert named <= sources.WORDS | {"assets"}, "what its notebook imports is in its list already"


def _written(root: Path) -> dict[str, dict[str, str]]:
    """Hash of every file by stage, as ``sources/`` has them."""
    sources.write(root)
    lines = {path.stem: path.read_text().splitlines() for path in (root / sources.FOLDER).iterdir()}
    return {
        stage: {name: digest for digest, _, name in (x.partition("  ") for x in each)} for stage, each in lines.items()
    }


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The code of the study."""
    for name in ("src/cardionets", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_lists_hold_what_a_notebook_imports_directly_or_not(copied: Path) -> None:
    lists = _written(copied)
    assert set(lists) == {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    prepare, mar = {"ecg.py", "gates.py", "cohorts/__init__.py", "cohorts/labels.py"}, "src/cardionets/models/mar.py"
    assert {f"src/cardionets/{name}" for name in prepare} < set(lists["prepare"])
    assert mar in lists["generator"] and mar not in lists["pretrain_ecg"]
    rooms = {Path(name).relative_to("src/cardionets").parts[0] for each in lists.values() for name in each}
    assert len(rooms) > 50 and not rooms & sources.WORDS
    for name, digest in lists["generator"].items():
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == digest


def test_a_changed_file_moves_the_lists_of_its_stages_alone(copied: Path) -> None:
    before, library = _written(copied), copied / "src" / "cardionets"
    for name in ("models/mar.py", "page.py", "figures/base.py"):
        with (library / name).open("a") as file:
            file.write("\n# another thought\n")
    after = _written(copied)
    moved = {stage for stage in before if before[stage] != after[stage]}
    assert {"generator", "images", "patient"} <= moved and not moved & {"prepare", "pretrain_ecg", "pool", "report"}


def test_imports_in_functions_and_of_packages_count(tmp_path: Path) -> None:
    library = tmp_path / "cardionets"
    for name, text in {
        "__init__.py": "A = 1",
        "first.py": "def f():\n    from cardionets.room import second",
        "room/__init__.py": "from cardionets import third",
        "room/second.py": "B = 2",
        "third.py": "import cardionets.page",
        "page.py": "from cardionets import fourth",
        "fourth.py": "C = 3",
        "words.py": '"""Nothing but words."""',
    }.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(text)
    notebook = tmp_path / "stage.py"
    notebook.write_text("from cardionets.first import f\nimport cardionets.words\n")
    found = {path.relative_to(library).as_posix() for path in sources.rests_on(notebook, library)}
    assert found == {"first.py", "room/__init__.py", "room/second.py", "third.py"}


@pytest.mark.parametrize("stage", _stages())
def test_every_stage_declares_the_settings_its_code_reads(stage: str) -> None:
    """Sections of ``params.yaml``; the preset's come through the path of its file and the weights made with it."""
    notebook = ROOT / "notebooks" / f"{stage}.py"
    files = [notebook, *sources.rests_on(notebook, LIBRARY)]
    text = "".join(path.read_text(encoding="utf-8") for path in files if path.name != "config.py")
    read = set(re.findall(r"protocol\.(\w+)", text)) & set(Protocol.model_fields) - {"preset"}
    listed = {key: keys for block in _stages()[stage]["params"] for key, keys in block.items()}["params.yaml"]
    assert {key.partition(".")[0] for key in listed} - {"preset"} == read


BESIDE = {"images": ["store/ukb"]}
"""Looked at where it lies: a site has no training people of the hub, so it cannot be asked for; a change of them comes
with other weights, which are declared."""
COHORTS = ("ukb", "fahzu")  # with cines and a split, and an external one
PIPELINE = [
    (stage, cohort)
    for stage, body in _stages().items()
    for cohort in (COHORTS if "${key}" in body["cmd"] else COHORTS[:1])
    if stage != "ablation"
]


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "cohort"), PIPELINE)
def test_every_stage_runs_on_what_it_declares_alone(study: Path, tmp_path: Path, stage: str, cohort: str) -> None:
    """In a folder with the settings and the declared data only, it leaves the files and rows of the whole study.

    What DVC watches of a centre's own files stands for all of them, so the cohort's whole folder is taken there.
    """
    body = _stages()[stage]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in body["outs"]]
    declared = [d for d in body["deps"] if not d.startswith("src/")]
    for name in (
        "params.yaml",
        "cohorts.yaml",
        "presets",
        "notebooks",
        *(_of(cohort, d) for d in declared),
        *BESIDE.get(stage, ()),
    ):
        _take(study / name, tmp_path / name)
    run(tmp_path, *OURS, *_of(cohort, body["cmd"]).split()[3:])
    for out in (_of(cohort, o) for o in outs):
        assert _shapes(tmp_path / out, tmp_path) == _shapes(study / out, study), out


def _of(cohort: str, template: str) -> str:
    """A name in ``dvc.yaml`` for one cohort."""
    return template.replace("${item.depends}", f"data/{cohort}").replace("${key}", cohort)


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def _shapes(path: Path, root: Path) -> dict[str, int]:
    """Every file below a path, with the number of its lines where it is a table."""
    files = [p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()]
    return {str(p.relative_to(root)): len(p.read_text().splitlines()) if p.suffix == ".csv" else 0 for p in files}
