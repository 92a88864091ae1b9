"""What every notebook shares: the study's settings, its output folder, and one way to publish a figure or a table.

Under the pipeline the folder is ``reports/<cohort>/<stage>``; a notebook that somebody opens writes to
``scratch/<cohort>/<stage>`` instead, so that exploring never disturbs a result.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

from cardionets import tables
from cardionets.config import OUT_VARIABLE, STUDY, Cohort, Study
from cardionets.figures.base import Provenance, save, smaller
from cardionets.files import atomic_path
from cardionets.store import Store


@dataclass
class Workbook:
    """Settings and output folder of one stage of one cohort (or of the study as a whole)."""

    stage: str
    cohort: str = STUDY
    study: Study = field(default_factory=Study)

    def __post_init__(self) -> None:
        who = self.settings.label if self.cohort != STUDY else "The study"
        note = " **SIMULATED data.**" if self.provenance().simulated else ""
        display(Markdown(f"{who}, preset `{self.study.protocol.preset}`.{note}"))

    @property
    def settings(self) -> Cohort:
        """The block of ``cohorts.yaml``."""
        return self.study.cohort(self.cohort)

    @cached_property
    def store(self) -> Store:
        """The cohort's harmonised store."""
        return Store.open(self.study.path("store", self.cohort), self.study.grid)

    @property
    def out(self) -> Path:
        """Where figures and tables go."""
        given = os.environ.get(OUT_VARIABLE)
        return Path(given) if given else self.study.path("scratch", self.cohort, self.stage)

    def provenance(self, n: int | None = None) -> Provenance:
        """The line that every figure carries; ``n`` people where a figure shows people."""
        return Provenance.of(self.study, self.cohort, n)

    def figure(self, figure: Figure, name: str, n: int | None = None) -> None:
        """Publish a figure as PNG (300 dpi) and SVG, and show it."""
        png, _ = save(figure, self.out / "figures" / name, self.provenance(n), (".png", ".svg"))
        display(Image(smaller(png)))

    def animation(self, gif: bytes, name: str) -> None:
        """Publish an animated GIF and show it playing."""
        with atomic_path(self.out / "figures" / f"{name}.gif") as aside:
            aside.write_bytes(gif)
        display(Image(gif, format="gif"))

    def table(self, frame: pd.DataFrame, name: str, title: str, rows: int = 30) -> None:
        """Publish a table as CSV, HTML and LaTeX, and show its first ``rows`` rows."""
        provenance = self.provenance()
        _, page, _ = tables.save_table(frame, self.out / "tables" / name, title, provenance)
        whole = len(frame) <= rows
        shown = page.read_text("utf-8") if whole else tables.to_html(frame.head(rows), title, provenance)
        display(HTML(shown))
        if len(frame) > rows:
            display(Markdown(f"{len(frame) - rows:,} more rows in `tables/{name}.csv`."))

    def results(self, frame: pd.DataFrame, name: str) -> None:
        """Hand tidy metrics to the stages that pool and report: ``results/<cohort>/<name>.csv`` under the pipeline."""
        piped = bool(os.environ.get(OUT_VARIABLE))
        folder = self.study.path("results", self.cohort) if piped else self.out / "results"
        with atomic_path(folder / f"{name}.csv") as aside:
            frame.to_csv(aside, index=False, float_format="%.8g", lineterminator="\n")
