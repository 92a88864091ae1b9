"""Every notebook in JupyterLab, in a browser, as somebody opens it after the study has run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from cardionets.run import to_html
from tests.conftest import ROOT
from tests.test_browser import laboratory, opens_quietly, run_all

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LAST = ("pool", "report", "tour", "ablation")  # look at what others left, or train for minutes
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.py"))]


@pytest.fixture(scope="module")
def lab(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One JupyterLab for all notebooks of the study."""
    with laboratory(study, tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.mark.soak
@pytest.mark.parametrize("name", [*(name for name in NOTEBOOKS if name not in LAST), *LAST])
def test_every_notebook_runs_from_top_to_bottom_in_jupyterlab(
    study: Path, lab: str, browser: Browser, tmp_path: Path, name: str
) -> None:
    """With default parameters, as somebody would who opens it after the study has run."""
    path = study / "notebooks" / f"{name}.ipynb"
    before = path.read_bytes()
    try:
        run_all(lab, browser, name, tmp_path / "seen.png", patience_s=900)
        notebook = nbformat.read(path, as_version=4)
    finally:
        path.write_bytes(before)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs and not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    assert (tmp_path / "seen.png").stat().st_size > 20_000
    opens_quietly(browser, to_html(notebook, name), tmp_path / "page.html", "SIMULATED").close()


def test_every_notebook_has_its_turn() -> None:
    paired = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert len(paired) >= 20 and paired == set(NOTEBOOKS)
