"""What papermill and DVC add to a stage, and what fifty cohorts cost DVC with the study's own pipeline."""

from __future__ import annotations

import os
import shutil
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
    assert (tmp_path / "reports" / "study" / "empty" / "empty.html").is_file()


def _fill(root: Path, cohorts: list[str]) -> None:
    """An empty file in the place of everything that the stages of ``dvc.yaml`` need or leave."""
    for stage in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values():
        body = stage.get("do", stage)
        for name in (*body["deps"], *(next(iter(out)) if isinstance(out, dict) else out for out in body["outs"])):
            for cohort in cohorts if "$" in name else cohorts[:1]:
                path = root / name.replace("${item.depends}", f"data/{cohort}").replace("${key}", cohort)
                if not path.exists():
                    file = path if path.suffix else path / "file.txt"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()


@pytest.fixture(scope="module", params=[5, 50])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's own pipeline with so many cohorts, all up to date; what stages leave is one empty file each."""
    folder, count = tmp_path_factory.mktemp("many"), sized(5, request.param)
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("presets", "notebooks", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    cohorts = yaml.safe_load((ROOT / "cohorts.yaml").read_text())["cohorts"]
    cohorts |= {f"site{i:02d}": dict(cohorts["qph"]) for i in range(count - len(cohorts))}
    for name, block in cohorts.items():
        block["depends"] = f"data/{name}"
    (folder / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": cohorts}, sort_keys=False))
    command("git", "init", "-q", folder=folder)
    command("dvc", "init", "-q", folder=folder)
    command(sys.executable, "-m", "cardionets", "sources", folder=folder)
    _fill(folder, list(cohorts))
    command("dvc", "commit", "-f", "-q", folder=folder)
    return folder


CALLS = {
    "dvc_status": ("dvc", "status"),
    "dvc_repro": ("dvc", "repro"),
    "cardionets_repro": (sys.executable, "-m", "cardionets", "repro"),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_to_do(call: str, many: Path, measure: Measure) -> None:
    """Whole commands with 5 and with 50 cohorts in the study."""
    measure(lambda: command(*CALLS[call], folder=many), rounds=3, warm=0)
    command("dvc", "status", "-q", folder=many)  # fails when anything is to do
