"""The whole study at its tiniest, and what is done to it: commands, one more cohort, kills."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import yaml

from tests.conftest import ROOT

OURS = (sys.executable, "-m", "cardionets")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(root: Path, *command: str, timeout: int = 2400) -> str:
    """What a command said; its last words where it failed."""
    done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def stages_run(output: str) -> list[str]:
    """Stages that DVC says it has run."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def fresh_clone(target: Path) -> Path:
    """The repository as git sees it, uncommitted changes included, with a history of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and name not in ("dvc.lock", "data.dvc"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    run(target, "git", "init", "-q")
    return target


def make(root: Path) -> Path:
    """The study at its tiniest, run from nothing to its report."""
    fresh_clone(root)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("preset: demo", "preset: tiny"))
    run(root, *OURS, "simulate")
    run(root, *OURS, "repro", "--jobs", "2")
    return root


@contextmanager
def added_cohort(study: Path, name: str, **block: object) -> Iterator[None]:
    """``cohorts.yaml`` with one more block, as a site would add it."""
    cohorts = study / "cohorts.yaml"
    before = cohorts.read_text()
    added = yaml.safe_dump({name: block})
    cohorts.write_text(before + "".join(f"  {line}\n" for line in added.splitlines()))
    try:
        yield
    finally:
        cohorts.write_text(before)
        shutil.rmtree(study / "results" / name, ignore_errors=True)


def open_recordings(real: Path) -> dict[str, object]:
    """A site of open recordings."""
    block = {"label": "CinC 2021 and CPSC 2018", "path": str(real), "depends": str(real / "README.md")}
    included = ["cinc2021/*.hea", "cpsc2018_labelled/*.hea"]
    return block | {"layout": "wfdb", "role": "external", "include": included}


def kill_when(process: psutil.Popen, ready: Callable[[], bool], limit: float = 240.0) -> None:
    """``kill -9`` for the process and everything it started, as soon as ``ready``."""
    start = time.monotonic()
    while not ready():
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() - start < limit, "the stage never came to the point where it is killed"
        time.sleep(0.02)
    kill(process)


def kill(process: psutil.Popen) -> None:
    """``kill -9`` for a process and everything it started."""
    if process.poll() is None:
        for child in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()
