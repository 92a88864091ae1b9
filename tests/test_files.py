"""Nothing half-written is taken for finished: killed writers, several writers, an interruption, a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
import torch

from cardionets import checkpoint, files, prepare, weights
from cardionets.files import atomic_path
from tests.conftest import ROOT
from tests.toy_study import build

WRITER = """
import os, sys
from pathlib import Path
from cardionets.files import atomic_path
with atomic_path(Path(sys.argv[1])) as aside:
    aside.write_text("other")
    {then}
"""


def start(target: Path, then: str) -> subprocess.Popen[str]:
    """Another process that writes ``target`` and does ``then`` before it gives it its name."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", WRITER.format(then=then), str(target)]
    return subprocess.Popen(command, text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, **pipes)  # type: ignore[call-overload,no-any-return]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    assert start(tmp_path / "old", "os.kill(os.getpid(), 9)").wait() == -9
    assert len(names(tmp_path)) == 1
    with atomic_path(tmp_path / "new") as aside:
        aside.write_text("mine")
    assert names(tmp_path) == {"new"}


def test_two_processes_may_remove_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(tmp_path / "old", "os.kill(os.getpid(), 9)").wait() == -9
    (left,) = tmp_path.iterdir()
    remove = files._remove

    def late(path: Path) -> None:
        remove(path)
        if path == left:
            raise FileNotFoundError(path)

    monkeypatch.setattr(files, "_remove", late)
    with atomic_path(tmp_path / "new") as aside:
        aside.write_text("mine")
    assert names(tmp_path) == {"new"}


def test_two_writers_of_one_target_do_not_touch_each_other(tmp_path: Path) -> None:
    target = tmp_path / "target"
    other = start(target, "print('here', flush=True); sys.stdin.readline()")
    assert other.stdout is not None and other.stdout.readline() == "here\n"
    with atomic_path(target) as aside:
        aside.write_text("mine")
    assert target.read_text() == "mine"
    other.communicate("go on\n")
    assert (other.returncode, target.read_text(), names(tmp_path)) == (0, "other", {"target"})


@pytest.fixture
def replaced(tmp_path: Path) -> Callable[[], None]:
    """Put a new folder in the place of an old one."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()

    def replace() -> None:
        with atomic_path(tmp_path / "target") as aside:
            aside.mkdir()
            (aside / "new").touch()

    return replace


def test_an_interruption_while_the_old_folder_goes_leaves_the_new_one(
    replaced: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replaced()
    assert names(tmp_path / "target") == {"new"}


def test_an_interruption_between_the_names_leaves_the_old_folder(
    replaced: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.name.endswith(".part") and not path.name.endswith(".old.part"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        replaced()
    assert names(tmp_path / "target") == {"old"}
    assert names(tmp_path) == {"target"}


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers (inodes) of the files and folders that the disk was made to hold."""
    found: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: found.add(os.fstat(handle).st_ino))
    return found


def test_what_must_last_is_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: set[int]) -> None:
    target = tmp_path / "target"
    with atomic_path(target, lasting=True) as aside:
        (aside / "inside").mkdir(parents=True)
        (aside / "inside" / "file").write_text("a")
        assert not synced
    whole = (tmp_path, target, target / "inside", target / "inside" / "file")
    assert synced == {path.stat().st_ino for path in whole}
    with atomic_path(target / "figure") as aside:
        aside.touch()
    assert len(synced) == 4


@pytest.mark.parametrize(("code", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_syncs_no_folder_will_do_and_a_broken_disk_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, passes: bool
) -> None:
    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with nullcontext() if passes else pytest.raises(OSError), atomic_path(tmp_path / "a", lasting=True) as aside:
        aside.mkdir()
    assert (tmp_path / "a").exists() is passes


def test_what_says_that_work_is_finished_lasts(tmp_path: Path, synced: set[int]) -> None:
    study = build(tmp_path / "study", people=8)
    block = prepare.Block(
        pd.DataFrame(columns=list(prepare.READ)),
        *(tmp_path, study.cohort("ukb").ecg, {}, False, study.grid, study.protocol.ecg, study.protocol.quality),
    )
    prepare.run_block(block, tmp_path / "block")
    checkpoint.write(tmp_path / "checkpoint", {}, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), {})
    card = weights.Card(name="a", contract=weights.contract(study), config={}, data={}, metrics={})
    weights.save(tmp_path / "weights", {"a": torch.zeros(1)}, card, {})
    folders = (tmp_path / "block", tmp_path / "weights", study.path("store", "ukb"))
    written = [tmp_path / "checkpoint", *(path for folder in folders for path in (folder, *folder.iterdir()))]
    assert [path for path in written if path.stat().st_ino not in synced] == []


def test_what_is_half_written_is_nothing_to_dvc(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    with atomic_path(tmp_path / "results" / "metrics.csv") as aside:
        done = subprocess.run([*dvc, "check-ignore", str(aside)], cwd=tmp_path, capture_output=True, text=True)
        aside.touch()
    assert done.stdout.strip().endswith(aside.name)
