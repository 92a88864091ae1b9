"""The house rules that a machine can hold: arrows of the library, notebooks, settings, what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from cardionets.__main__ import parser
from cardionets.config import Study
from cardionets.run import defaults
from cardionets.sources import imports
from tests.conftest import ROOT

LIBRARY = ROOT / "src" / "cardionets"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
FORBIDDEN = {
    "evaluate": {"models", "train", "cohorts", "simulate", "torch", "papermill"},
    "cohorts": {"models", "train", "evaluate", "simulate", "torch", "papermill"},
    "models": {"cohorts", "evaluate", "simulate", "store", "papermill"},
    "simulate": {"models", "train", "evaluate", "papermill", "torch"},
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_arrows_point_one_way(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (LIBRARY / room).rglob("*.py")
        for name in imports(path)
        if set(name.removeprefix("cardionets.").split(".")[:1]) & FORBIDDEN[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_runner_knows_papermill() -> None:
    users = {p.name for p in LIBRARY.rglob("*.py") if any(n.split(".")[0] == "papermill" for n in imports(p))}
    assert users == {"run.py"}


def test_nothing_unpickles_or_evaluates() -> None:
    for path in LIBRARY.rglob("*.py"):
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert not calls & {"eval", "exec", "pickle.load", "pickle.loads", "joblib.load"}, path
        assert "allow_pickle=True" not in path.read_text(), path


MODULES = sorted(p.relative_to(LIBRARY.parent) for p in LIBRARY.rglob("*.py") if p.name != "__main__.py")


def test_every_module_imports_first() -> None:
    """No circle of imports: whichever module is asked for first, in an interpreter of its own memory of modules."""
    names = [".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in MODULES]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    for known in [m for m in sys.modules if m.startswith('cardionets')]: del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(path: Path) -> None:
    text = jupytext.read(path)
    first, *rest = text.cells
    assert first.cell_type == "markdown"
    for heading in ("**Question", "**Inputs", "**Outputs"):
        assert heading in first.source, f"{path.name}: the first cell lacks {heading}"
    assert defaults(text, path.stem), f"{path.name}: the parameters cell is empty"
    code = [cell.source for cell in rest if cell.cell_type == "code"]
    assert len(code) <= 14, f"{path.name}: {len(code)} code cells are not few"
    nodes = [node for source in code for node in ast.walk(ast.parse(source))]
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)], f"{path.name}: def or class"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_pair_agrees_and_is_stripped(path: Path) -> None:
    pair = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    text = jupytext.read(path)
    same = [c.source for c in pair.cells] == [c.source for c in text.cells]
    assert same, f"run: jupytext --sync notebooks/{path.name}"
    assert not any(c.get("outputs") or c.get("execution_count") for c in pair.cells), "run: nbstripout"


@pytest.mark.parametrize("name", ["params.yaml", "cohorts.yaml", "dvc.yaml", "environment.yml", "CITATION.cff"])
def test_yaml_loads(name: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / name).read_text()), dict)


@pytest.mark.parametrize("preset", sorted(p.stem for p in (ROOT / "presets").glob("*.yaml")))
def test_every_preset_is_a_study(preset: str, tiny_root: Path) -> None:
    params = tiny_root / "params.yaml"
    params.write_text(params.read_text().replace("preset: tiny", f"preset: {preset}"))
    assert Study().grid.samples > 0


def test_every_stage_runs_a_notebook_and_depends_on_its_text_form() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages.pop("sources")["deps"] == ["notebooks", "src/cardionets"]  # lists the code of all others
    for name, stage in stages.items():
        body = stage.get("do", stage)
        notebook = body["cmd"].split()[4]
        assert notebook == name
        assert f"notebooks/{name}.py" in body["deps"]
        assert not any(str(dep).endswith(".ipynb") for dep in body["deps"])


def test_readme_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", readme))
    assert {"study", "test", "lab", "check", "site"} <= named <= targets
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), f"README.md links to {path}, which does not exist"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("run", "simulate", "check"))


def test_environment_installs_the_same_list() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["-e .[dev]"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    extras = project["optional-dependencies"]
    assert "cardionets[export,ssh]" in extras["dev"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["export"], *extras["ssh"]]
    names = {_canonical(re.split(r"[\[>=<]", d)[0]) for d in wanted} - {"cardionets"}
    assert names <= {_canonical(name) for name in locked}


def _canonical(package: str) -> str:
    """The name by which package indexes know it."""
    return re.sub(r"[-_.]+", "-", package).lower()
