"""What people see: notebooks run from top to bottom in JupyterLab, and pages open without any network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from cardionets import figures, page, patient, patient_page, phenotypes
from cardionets.config import Study
from cardionets.figures.base import Provenance
from cardionets.run import to_html
from tests.conftest import ROOT
from tests.toy_study import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "of-this-test-alone"
PATIENCE_S = 180  # for a machine that is busy with other tests
CHEAP = ("tour", "pretrain_ecg")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study with its notebooks, of which one stage has left a figure and one cohort its metrics."""
    study = build(tmp_path_factory.mktemp("lab") / "study")
    shutil.copytree(ROOT / "notebooks", study.root / "notebooks")
    shutil.copy(ROOT / "dvc.yaml", study.root / "dvc.yaml")
    shown = figures.ecg(np.zeros((12, 5000)), 500.0)
    figures.save(shown, study.path("reports", "ukb", "prepare", "figures", "ecg"), Provenance.of(study, "ukb"))
    row = {"endpoint": "lv_mass", "arm": "aligned", "fraction": 1.0, "metric": "r2", "estimate": 0.4321, "n": 60}
    study.path("results", "ukb").mkdir(parents=True)
    pd.DataFrame([{**row, "lower": 0.30, "upper": 0.51}]).to_csv(study.path("results", "ukb", "metrics.csv"))
    return study


@contextmanager
def laboratory(root: Path, home: Path) -> Iterator[str]:
    """JupyterLab on loopback; its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "OMP_NUM_THREADS": "1"}
    flags = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    flags += [
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
    ]
    flags += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = (home / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *flags], env={**os.environ, **own}, stdout=log, stderr=log
    )
    try:
        _answers(f"http://127.0.0.1:{port}/api?token={TOKEN}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
        log.close()


def _answers(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError("JupyterLab did not start")


OPEN = "window.jupyterapp?.shell?.currentWidget?.context?.path === 'notebooks/{name}.ipynb'"
IDLE = "window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'"
ENDED = """() => {
    const code = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code');
    const faults = code.flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type === 'error');
    if (faults.length) return faults[0].ename + ': ' + faults[0].evalue;
    return code.every(cell => cell.executionCount !== null) ? 'done' : '';
}"""
SAVED = "!window.jupyterapp.shell.currentWidget.context.model.dirty"


def run_all(lab: str, browser: Browser, name: str, picture: Path, patience_s: float = PATIENCE_S) -> None:
    """Open a notebook, run all cells, wait until they are done, save it and take a picture."""
    with closing(browser.new_page(viewport={"width": 1280, "height": 1600})) as tab:
        tab.set_default_timeout(1000 * patience_s)
        tab.goto(f"{lab}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}")
        for ready in (OPEN.format(name=name), IDLE):
            tab.wait_for_function(ready)
        tab.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        assert tab.wait_for_function(ENDED).json_value() == "done", name
        tab.evaluate("() => { window.jupyterapp.commands.execute('docmanager:save'); }")
        tab.wait_for_function(SAVED)
        tab.screenshot(path=picture)
        tab.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")


def _texts(notebook: Any) -> str:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return json.dumps([o.get("data", o.get("text", "")) for o in outputs])


@pytest.mark.soak
def test_notebooks_run_from_top_to_bottom_in_jupyterlab(study: Study, browser: Browser, tmp_path: Path) -> None:
    with laboratory(study.root, tmp_path) as lab:
        for name in CHEAP:
            run_all(lab, browser, name, tmp_path / f"{name}.png")
    for name in CHEAP:
        notebook = nbformat.read(study.path("notebooks", f"{name}.ipynb"), as_version=4)
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        assert outputs and not [o["evalue"] for o in outputs if o["output_type"] == "error"]
        assert "SIMULATED" in _texts(notebook)
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
        opens_quietly(browser, to_html(notebook, name), tmp_path / f"{name}.html", "SIMULATED")
    tour = _texts(nbformat.read(study.path("notebooks", "tour.ipynb"), as_version=4))
    for said in ("image/png", "0.43 (0.30 to 0.51)", "dvc repro validate@ukb", "Which recordings of this centre"):
        assert said in tour
    assert study.path("scratch", "study", "pretrain_ecg", "figures", "curve.png").is_file()
    assert not study.path("reports", "study").exists()


def opens_quietly(browser: Browser, text: str, path: Path, said: str) -> Page:
    """Open a page in a browser that refuses every other request: nothing may be asked for or complained of."""
    page.write(path, text)
    tab, asked, complaints = browser.new_page(), [], []
    tab.route("**/*", lambda route: route.continue_() if route.request.url == path.as_uri() else route.abort())
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(path.as_uri(), wait_until="load")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert complaints == []
    assert said in tab.inner_text("body")
    return tab


def test_patient_page_needs_no_network_and_keeps_its_scale(study: Study, browser: Browser, tmp_path: Path) -> None:
    found = patient.of_record(study, "ukb")
    estimates = [patient.Estimate(phenotypes.BY_NAME["lv_mass"], 100.0, 80.0, 120.0, None)]
    said = patient.Answer("aligned_teacher", {}, estimates, [], 60, True, [])
    moving = np.random.default_rng(1).integers(0, 255, (4, 16, 16), np.uint8)
    text = patient_page.render(study, found, said, {"sax": moving, "4ch": moving})
    tab = opens_quietly(browser, text, tmp_path / "page.html", patient_page.USE)
    width = tab.locator(".paper img").evaluate("image => image.getBoundingClientRect().width")
    assert width / 96 * 25.4 == pytest.approx(10 * 25 + 12, abs=5)  # CSS pixels are 1/96 inch; paper ends on 5 mm
    frames = tab.locator("img[src^='data:image/gif']").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert frames == [2 * 16 * 3]  # both views beside each other
    tab.close()
