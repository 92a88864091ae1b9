"""What a stage of ``dvc.yaml`` declares is what it rests on: code by its imports, data by a run on nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cardionets.config import Protocol
from tests.conftest import ROOT
from tests.test_project import LIBRARY, imports
from tests.tiny_study import OURS, run

WORDS = {"figures", "page.py", "pdf.py", "tables.py", "workbook.py", "views.py", "glossary.py"} | {
    "progress.py",
    "errors.py",
    "files.py",
    "launch.py",
}
"""Rooms that draw, word, lay out, write or start: no number comes from them; a new colour trains no network again."""


def _stages() -> dict[str, dict[str, Any]]:
    """Every stage by name; of a stage per cohort, its template."""
    files = (ROOT / "dvc.yaml", ROOT / "ablation" / "dvc.yaml")
    found = {k: v for path in files for k, v in yaml.safe_load(path.read_text())["stages"].items()}
    return {name: stage.get("do", stage) for name, stage in found.items()}


def _imported(path: Path) -> Iterator[Path]:
    """Files of this library that a file imports, wherever in it; packages without code are left out."""
    for name in imports(path):
        if name.startswith("cardionets."):
            place = LIBRARY.joinpath(*name.split(".")[1:])
            yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())


def _rests_on(notebook: Path) -> set[str]:
    """Files of the library from which numbers of a notebook can come."""
    found: set[Path] = set()
    waiting = [notebook]
    while waiting:
        new = {p for p in _imported(waiting.pop()) if p.relative_to(LIBRARY).parts[0] not in WORDS} - found
        found |= new
        waiting += new
    return {str(p.relative_to(ROOT)) for p in found if "import" in p.read_text(encoding="utf-8")}


def _covers(declared: str, path: str) -> bool:
    return path == declared or path.startswith(f"{declared}/")


@pytest.mark.parametrize("stage", _stages())
def test_every_stage_declares_the_code_it_rests_on(stage: str) -> None:
    """Else a stage would pass for up to date although the code of its numbers has changed."""
    declared = [d for d in _stages()[stage]["deps"] if d.startswith("src/")]
    needed = _rests_on(ROOT / "notebooks" / f"{stage}.py")
    missing = sorted(path for path in needed if not any(_covers(d, path) for d in declared))
    assert not missing, f"dvc.yaml, deps of {stage}, lack: {', '.join(missing)}"


@pytest.mark.parametrize("stage", _stages())
def test_no_stage_declares_what_it_does_not_import(stage: str) -> None:
    """Else a stage would run again for nothing."""
    declared = [d for d in _stages()[stage]["deps"] if d.startswith("src/") and d != "src/cardionets/assets"]
    needed = _rests_on(ROOT / "notebooks" / f"{stage}.py")
    spare = [d for d in declared if Path(d).name not in WORDS and not any(_covers(d, path) for path in needed)]
    assert not spare, f"dvc.yaml, deps of {stage}, name for nothing: {', '.join(spare)}"


@pytest.mark.parametrize("stage", _stages())
def test_every_stage_declares_the_settings_its_code_reads(stage: str) -> None:
    """Sections of ``params.yaml``; the preset's come through the path of its file and the weights made with it."""
    notebook = ROOT / "notebooks" / f"{stage}.py"
    files = [notebook, *(ROOT / path for path in _rests_on(notebook))]
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
