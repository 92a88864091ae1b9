"""A hospital's bad day: a full disk, data that may only be read, a run killed anywhere. Nothing is lost or touched."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cardionets import prepare
from cardionets.__main__ import main
from cardionets.config import Study
from cardionets.simulate.write import write_centre

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.utime",
)
_watched: dict[str, list[str]] = {}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: note whatever would change a file below a watched folder."""
    if not _watched or event not in ("open", *CHANGES):
        return
    changes = event != "open" or bool((arguments[2] or 0) & WRITING)
    for folder, found in _watched.items():
        if changes and any(str(a).startswith(folder) for a in arguments if isinstance(a, str | os.PathLike)):
            found.append(f"{event} {arguments[0]}")


sys.addaudithook(_watch)


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Fails when anything below ``folder`` is opened for writing, made, moved or removed: also for root."""
    _watched[str(folder)] = found = []
    try:
        yield
    finally:
        del _watched[str(folder)]
    assert found == []


@pytest.fixture
def site(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A clone with one hospital whose files lie elsewhere on the disk."""
    data = tmp_path_factory.mktemp("elsewhere") / "data"
    write_centre("sahzu", 10, 3, data, workers=1)
    block = {"label": "Our hospital", "path": str(data / "sahzu"), "depends": str(data / "sahzu" / "manifest.csv")}
    block |= {"layout": "manifest", "role": "external", "simulated": True}
    settings = yaml.safe_load((tiny_root / "cohorts.yaml").read_text())
    settings["cohorts"]["ours"] = block
    (tiny_root / "cohorts.yaml").write_text(yaml.safe_dump(settings))
    return Study(tiny_root)


def content(study: Study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(study.path("store", "ours").iterdir())}


def test_watching_notices_a_touch(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="open"), untouched(tmp_path):
        (tmp_path / "x").write_text("x")


def test_data_that_may_only_be_read_are_enough(site: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with untouched(Path(site.cohort("ours").path)):
        assert main(["check", "ours"]) == 0
        prepare.prepare(site, "ours", workers=1)
    assert not [p for p in site.root.rglob("*") if p.is_symlink() or p.suffix in (".dcm", ".nii", ".hea")]


def test_a_full_disk_is_said_and_the_same_command_goes_on(
    site: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = np.save

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    with untouched(Path(site.cohort("ours").path)):
        assert main(["prepare", "ours", "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert "free some space" in said and "Traceback" not in said
    assert not site.path("store", "ours").exists()
    monkeypatch.setattr(np, "save", save)
    assert main(["prepare", "ours", "--workers", "1"]) == 0
    assert (site.path("store", "ours") / "records.parquet").is_file()


@pytest.mark.soak
def test_killed_twenty_times_while_reading_it_ends_with_the_same_bytes(site: Study) -> None:
    start = time.monotonic()
    prepare.prepare(site, "ours", workers=1)
    once, expected, dice, whole = time.monotonic() - start, content(site), random.Random(7), 0
    with untouched(Path(site.cohort("ours").path)):
        for _ in range(20):
            shutil.rmtree(site.path("store", "ours"), ignore_errors=True)  # finished blocks stay, as after a crash
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                prepare.prepare(site, "ours", workers=1)
                os._exit(0)
            time.sleep(dice.uniform(0, once))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if site.path("store", "ours").exists():  # all of it, or none
                whole += 1
                assert content(site) == expected
    prepare.prepare(site, "ours", workers=1)
    assert content(site) == expected
    assert whole < 20
