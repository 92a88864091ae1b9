"""Stages side by side: order, what is stale, failure and resumption, on a small pipeline of shell commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cardionets.conduct import _urgency, conduct
from cardionets.config import StudyError
from tests.conftest import ROOT


def _meet(own: str, other: str) -> str:
    """A command that ends only if the other stage runs at the same time; it gives up after 20 s."""
    wait = f"for i in $(seq 200); do [ -e {other}.here ] && break; sleep 0.1; done; [ -e {other}.here ]"
    return f"touch {own}.here && {wait} && echo {own} > {own}.txt"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    stages = {
        "left": {"cmd": _meet("left", "right"), "deps": ["source.txt"], "outs": ["left.txt"]},
        "right": {"cmd": _meet("right", "left"), "deps": ["source.txt"], "outs": ["right.txt"]},
        "join": {"cmd": "cat left.txt right.txt > join.txt", "deps": ["left.txt", "right.txt"], "outs": ["join.txt"]},
        "apart": {"cmd": "cp other.txt apart.txt", "deps": ["other.txt"], "outs": ["apart.txt"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "source.txt").write_text("1")
    (tmp_path / "other.txt").write_text("1")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def test_independent_stages_meet_and_only_what_is_stale_runs(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conduct(pipeline, jobs=2) == 4
    assert (pipeline / "join.txt").read_text() == "left\nright\n"
    assert "[join]" in capsys.readouterr().out
    assert conduct(pipeline, jobs=2) == 0
    assert "up to date" in capsys.readouterr().out
    (pipeline / "other.txt").write_text("2")
    assert conduct(pipeline, jobs=2) == 1
    assert (pipeline / "apart.txt").read_text() == "2"


def test_targets_and_unknown_stages(pipeline: Path) -> None:
    assert conduct(pipeline, jobs=1, targets=["apart"]) == 1
    assert not (pipeline / "left.txt").exists()
    with pytest.raises(StudyError, match="no stage nowhere"):
        conduct(pipeline, jobs=1, targets=["nowhere"])


def test_a_failed_stage_is_named_and_the_next_call_continues(pipeline: Path) -> None:
    settings = yaml.safe_load((pipeline / "dvc.yaml").read_text())
    good = settings["stages"]["join"]["cmd"]
    settings["stages"]["join"]["cmd"] = "exit 3"
    (pipeline / "dvc.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(StudyError, match="join failed"):
        conduct(pipeline, jobs=2)
    assert not (pipeline / "join.txt").exists()
    settings["stages"]["join"]["cmd"] = good
    (pipeline / "dvc.yaml").write_text(yaml.safe_dump(settings))
    conduct(pipeline, jobs=2)
    assert (pipeline / "join.txt").read_text() == "left\nright\n"


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize(
    ("told", "first"), [(signal.SIGINT, ":"), (signal.SIGTERM, ":"), (signal.SIGTERM, "trap '' INT")]
)
def test_an_end_is_passed_on_to_what_is_running(pipeline: Path, told: signal.Signals, first: str) -> None:
    """Also where a shell has put the command into the background, which then ignores Ctrl-C."""
    waits = "trap 'touch ended; exit 1' INT TERM; touch begun; sleep 100"
    stages = {"long": {"cmd": waits, "outs": ["long.txt"]}, "after": {"cmd": "touch after", "deps": ["long.txt"]}}
    (pipeline / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in ("params.yaml", "cohorts.yaml"):
        (pipeline / name).write_text("{}")
    command = ["sh", "-c", f"{first}; exec {sys.executable} -m cardionets repro"]
    process = subprocess.Popen(command, cwd=pipeline, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    while not (pipeline / "begun").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(told)
    assert process.wait(timeout=60) == 130
    assert (pipeline / "ended").exists() and not (pipeline / "after").exists()


def test_another_dvc_command_is_waited_for(pipeline: Path) -> None:
    holds = "import sys, time; from dvc.repo import Repo\nwith Repo().lock: print('held', flush=True); time.sleep(5)"
    other = subprocess.Popen([sys.executable, "-c", holds], cwd=pipeline, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    assert conduct(pipeline, jobs=1, targets=["apart"]) == 1
    assert other.wait() == 0


def test_what_holds_up_most_goes_first_and_among_equals_what_is_named_first() -> None:
    graph: dict[str, set[str]] = {
        "large": set(),
        "small": set(),
        "train": set(),
        "draw@large": {"train"},
        "draw@small": {"train"},
    }
    assert sorted(graph, key=_urgency(graph).__getitem__) == ["train", "large", "small", "draw@large", "draw@small"]
