"""Shared parts of the tests: a miniature repository to run notebooks in, and the folder of real recordings."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync")  # beside those of playwright itself
HEADER = "# ---\n# jupyter:\n#   jupytext:\n#     formats: ipynb,py:percent\n# ---\n\n"


@pytest.fixture
def tiny_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the study's settings at the tiny preset and no data; the working directory is inside it."""
    for name in ("params.yaml", "cohorts.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("preset: demo", "preset: tiny"))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """SIGINT interrupts this process and what it starts, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def notebook(tiny_root: Path) -> Callable[[str, str], Path]:
    """Write a notebook ``name`` from percent-format text into the miniature repository."""

    def write(name: str, text: str) -> Path:
        path = tiny_root / "notebooks" / f"{name}.py"
        path.write_text(HEADER + text)
        return path

    return write


@pytest.fixture(scope="session")
def real() -> Path:
    """The real recordings beside the repository."""
    folder = Path(os.environ.get("CARDIONETS_REAL", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("the folder of real recordings (../shared/real, or CARDIONETS_REAL) is absent")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole pipeline runs first: beside them the short tests fill the other core."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine with a fresh profile: ``browser.new_page()``.

    One per file of tests and not one per session: while it is open, ``asyncio.run`` cannot be called in this process.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser on this machine: install one of {', '.join(BROWSERS)}")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install -e '.[dev]'")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run from nothing to its report; a copy of the one at CARDIONETS_TINY_STUDY where that is set."""
    from tests import tiny_study

    root = tmp_path_factory.mktemp("study")
    if made := os.environ.get("CARDIONETS_TINY_STUDY"):
        return Path(shutil.copytree(made, root, symlinks=True, dirs_exist_ok=True))
    return tiny_study.make(root)
