"""A release holds what a site needs and nothing else, and a clone takes it in only when it is whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from cardionets import release, weights
from cardionets.config import Study, StudyError
from tests import toy_site
from tests.conftest import ROOT

TABLE = "arm,endpoint,threshold\naligned,cad,0.2\n"


def git(root: Path, *command: str) -> None:
    author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *author, *command], cwd=root, check=True, capture_output=True)


def fill(study: Study) -> None:
    for name in release.MODELS:
        card = weights.Card(name=name, contract=weights.contract(study), config={}, data={}, metrics={})
        weights.save(study.path("weights", name), {"w": torch.ones(2)}, card, {})
    for name in release.TABLES:
        study.path("weights", name).write_text(TABLE)


@pytest.fixture
def hub(tmp_path: Path) -> Study:
    """A coordinator with weights, in a git repository without uncommitted changes."""
    study = toy_site.clone(tmp_path / "hub")
    for name in release.LOCKS:
        study.path(name).write_text("numpy==2.0\n")
    study.path(".gitignore").write_text("/weights\n/release\n/data\n")
    git(study.root, "init", "-q")
    git(study.root, "add", "-A")
    git(study.root, "commit", "-qm", "x")
    fill(study)
    return study


def test_a_release_holds_all_weights_that_a_site_needs() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    per_cohort = [stage["do"]["deps"] for stage in stages.values() if "foreach" in stage]
    needed = {dep.removeprefix("weights/") for deps in per_cohort for dep in deps if dep.startswith("weights/")}
    assert len(needed) > 8
    assert needed <= {*release.MODELS, *release.TABLES}


def test_a_release_reaches_an_empty_clone(hub: Study, tmp_path: Path) -> None:
    hub.path("data").mkdir()
    hub.path("data", "patients.csv").write_text("person\n1\n")
    folder = release.release(hub)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"release.json", "code.bundle", "params.yaml", "presets/toy.yaml", "weights/thresholds.csv"} <= names
    assert not any("patients" in name or name.startswith(("data", "store", "cohorts")) for name in names)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(folder / release.CODE), str(clone)], check=True, capture_output=True)
    site = Study(clone)
    assert "commit" in release.install(site, folder)
    assert weights.load(site.path("weights", "align"), weights.contract(site))[1].name == "align"
    release.install(site, folder)  # the same again is no fault
    assert set(json.loads((folder / release.ABOUT).read_text())["files"]) == names - {release.ABOUT}


def test_what_is_not_whole_is_not_released(hub: Study) -> None:
    hub.path("weights", "reference.csv").unlink()
    (hub.path("weights", "mar")).mkdir()
    hub.path("weights", "align", "model.safetensors").write_bytes(b"x")
    hub.path("params.yaml").write_text(hub.path("params.yaml").read_text() + "\n")
    hub.path("weights", "thresholds.csv").write_text("a\nseen 2019-03-04\n")
    with pytest.raises(StudyError) as error:
        release.release(hub)
    for words in ("reference.csv: missing", "weights/align/model", "in no commit", "date"):
        assert words in str(error.value)
    assert not hub.path("release").exists()


def test_a_release_is_never_written_over(hub: Study) -> None:
    release.release(hub)
    with pytest.raises(StudyError, match="never changed"):
        release.release(hub)


@pytest.mark.parametrize("harm", ["hash", "missing", "extra", "path", "protocol", "other", "json"])
def test_a_harmed_release_is_refused(harm: str, hub: Study, tmp_path: Path) -> None:
    folder, site = release.release(hub, tmp_path / "release"), toy_site.clone(tmp_path / "site")
    about = json.loads((folder / release.ABOUT).read_text())
    if harm == "hash":
        (folder / "weights" / "thresholds.csv").write_text(TABLE + "mae,cad,0.9\n")
    elif harm == "missing":
        (folder / "weights" / "align" / "card.json").unlink()
    elif harm == "extra":
        (folder / "weights" / "evil.pkl").write_bytes(b"cos")
    elif harm == "path":
        about["files"]["../../evil"] = "0" * 64
        (folder / release.ABOUT).write_text(json.dumps(about))
    elif harm == "protocol":
        params = yaml.safe_load(site.path("params.yaml").read_text()) | {"seed": 1}
        site.path("params.yaml").write_text(yaml.safe_dump(params))
        site = Study(site.root)
    elif harm == "other":
        site.path("weights").mkdir()
        site.path("weights", "thresholds.csv").write_text("mine\n")
    else:
        (folder / release.ABOUT).write_text("{")
    words = {"hash": "hash", "missing": "missing", "extra": "not listed", "path": "outside"}
    words |= {"protocol": "copy params.yaml", "other": "--replace", "json": "not valid JSON"}
    with pytest.raises(StudyError, match=words[harm]):
        release.install(site, folder)
    assert not site.path("weights", "align").exists()


@pytest.mark.soak
def test_a_wheel_house_installs_without_any_index(hub: Study, tmp_path: Path) -> None:
    """With one package of the real lock: pip checks its hash on the way in and needs no network on the way out."""
    lock = (ROOT / "requirements.lock").read_text()
    line = re.search(r"^einops==.*?(?=\n\w)", lock, re.MULTILINE | re.DOTALL)
    assert line is not None
    hub.path("requirements.lock").write_text(line.group() + "\n")
    try:
        release.download(hub, tmp_path / "wheelhouse")
    except StudyError as error:
        pytest.skip(f"no package index in reach: {error}")
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    alone = bare | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheelhouse"), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", "--target"]
    command += [str(tmp_path / "site"), "-r", str(hub.path("requirements.lock"))]
    subprocess.run(command, env=alone, check=True, timeout=300)
    assert (tmp_path / "site" / "einops" / "__init__.py").is_file()


def test_wheel_house_is_what_the_lock_says(hub: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, called = subprocess.run, []

    def run(command: list[str], **more: object) -> object:
        if command[0] != sys.executable:
            return real(command, **more)  # type: ignore[call-overload]
        called.append(command)
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "numpy-2.0-py3-none-any.whl").write_bytes(b"wheel")
        return None

    monkeypatch.setattr(release.subprocess, "run", run)
    folder = release.release(hub, tmp_path / "r", wheelhouse=True)
    assert "--require-hashes" in called[0] and called[0][-1].endswith("requirements.lock")
    assert "wheelhouse/numpy-2.0-py3-none-any.whl" in release.read(folder).files
