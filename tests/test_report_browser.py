"""The report and the pack as a reader opens them: a real browser, from a file, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from cardionets import figures, pack, report, tables
from cardionets.figures.base import Provenance
from tests.test_report import STUDY, metrics

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ORIGIN = Provenance.of(STUDY, "ukb", 300)


def published(root: Path) -> Path:
    """A stage with a wide figure and a table, as the runner leaves them."""
    stage = root / "reports" / "ukb" / "validate"
    plot = Figure(figsize=(7.2, 3))
    plot.subplots().plot([1, 2])
    figures.save(plot, stage / "figures" / "auc", ORIGIN, (".png",))
    frame = pd.DataFrame({"check": ["a & b"], "found": [0], "note": ["x" * 400]})
    tables.save_table(frame, stage / "tables" / "leakage", "Gate", ORIGIN)
    return root / "reports"


def test_the_report_opens_from_a_file_shows_its_pictures_and_asks_for_nothing(tmp_path: Path, browser: Browser) -> None:
    reports = published(tmp_path)
    path = report.build_study(STUDY, metrics(), reports)
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    asked, faults = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(path.as_uri())
    sizes = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0 ? i.alt.length : 0)")
    assert len(sizes) >= 2  # the stage's figure, and a forest plot
    assert all(sizes)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert faults == []
    assert tab.evaluate("getComputedStyle(document.querySelector('.simulated')).backgroundColor") == "rgb(192, 0, 0)"
    for width in (1200, 400):  # a laptop, a telephone: nothing is cut off at the side
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.click("nav a >> text=Screening")
    assert abs(tab.evaluate("document.getElementById('screening').getBoundingClientRect().top")) < 900
    tab.close()


def test_links_of_the_pack_open(tmp_path: Path, browser: Browser) -> None:
    reports = published(tmp_path)
    out = reports / "study" / "report"
    study = type(STUDY)(STUDY.root)
    assert study.grid.rate > 0  # the preset is read before the study moves to where nothing but reports lies
    study.root = tmp_path
    path = pack.build(study, ["ukb"], ["Methods in words."], out)
    tab = browser.new_page()
    tab.goto(path.as_uri())
    tab.click("#claim-2024 a >> text=ukb >> nth=0")
    assert tab.url == (reports / "ukb" / "validate" / "tables" / "leakage.html").as_uri()
    assert "a & b" in tab.inner_text("body")
    assert "SIMULATED" in tab.inner_text("body")
    tab.close()
