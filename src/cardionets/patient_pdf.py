"""The patient page on paper: one A3 sheet, ECG at 25 mm/s and 10 mm/mV when printed at 100 %.

Cut in the middle it is two A4 sheets: the ECG and its gates above, what the models say below.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.image as mpimg
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets import patient_page
from cardionets.config import Study
from cardionets.figures.base import GREY, METADATA, png_bytes, styled
from cardionets.figures.ecg import INCH, draw_ecg, paper_mm
from cardionets.files import atomic_path
from cardionets.patient import Answer, Recording
from cardionets.patient_drivers import Drivers, picture

WIDTH, HEIGHT, MARGIN = 297.0, 420.0, 14.0  # mm, A3
RED: Final = "#C00000"
LINE: Final = 4.6  # mm from one line of a table to the next
REASON: Final = 58  # characters in one line of a gate's reason
Cines = Mapping[str, NDArray[np.uint8]]


def write(
    path: Path, study: Study, recording: Recording, found: Answer | None, drawn: Cines, why: Drivers | None
) -> Path:
    """Write the sheet, the same bytes for the same content. Without ``found`` it says why nothing is predicted."""
    figure = sheet(study, recording, found, drawn, why)
    with atomic_path(path) as aside, mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(aside, format="pdf", metadata=METADATA[".pdf"])
    return path


@styled
def sheet(study: Study, recording: Recording, found: Answer | None, drawn: Cines, why: Drivers | None) -> Figure:
    """The sheet as a figure of its true size."""
    figure = Figure(figsize=(WIDTH / INCH, HEIGHT / INCH))
    figure.set_layout_engine("none")
    simulated = recording.simulated or (found is not None and found.simulated)
    _heading(figure, recording, simulated)
    if recording.shown is not None:
        width, height = paper_mm(recording.shown, recording.shown_rate)
        draw_ecg(_box(figure, (WIDTH - width) / 2, 260, width, height), recording.shown, recording.shown_rate)
        _text(figure, (WIDTH + width) / 2, 256, "25 mm/s   10 mm/mV at 100 %", 7, ha="right")
    known = patient_page.known(recording)
    _table(figure, MARGIN, 252, ("The ECG", ""), list(known.items()), (0, 40))
    _table(figure, 130, 252, ("Quality gate", "Result", ""), list(_gates(study, recording)), (0, 56, 78))
    if found is not None:
        _models(figure, study, found, drawn, why)
    _text(figure, MARGIN, 8, patient_page.provenance(study, recording, simulated).line(), 6, color=GREY)
    return figure


def _gates(study: Study, recording: Recording) -> Iterator[tuple[str, str, str]]:
    """The lines of the gates; a reason that is too long for the sheet goes on below."""
    for gate, result, why in patient_page.gate_rows(study, recording):
        first, *more = textwrap.wrap(why, REASON) or [""]
        yield gate, result, first
        yield from (("", "", rest) for rest in more)


def _heading(figure: Figure, recording: Recording, simulated: bool) -> None:
    _text(figure, MARGIN, 408, patient_page.TITLE, 15, weight="bold")
    _text(figure, MARGIN, 401, patient_page.USE, 10, weight="bold")
    if simulated:
        _text(figure, WIDTH - MARGIN, 408, "SIMULATED", 15, weight="bold", color=RED, ha="right")
    if recording.reasons:
        _text(figure, MARGIN, 394, "This ECG was refused, so nothing is predicted.", 10, weight="bold", color=RED)


def _models(figure: Figure, study: Study, found: Answer, drawn: Cines, why: Drivers | None) -> None:
    """The lower half: numbers to the left, pictures to the right."""
    head = study.protocol.endpoints.headline_phenotypes
    main = [e for name in head for e in found.estimates if e.phenotype.name == name]
    _text(figure, MARGIN, 199, patient_page.sees(found), 8)
    at = _table(figure, MARGIN, 192, *patient_page.estimate_rows(main), (0, 47, 74, 112, 128, 152))
    at = _table(figure, MARGIN, at - 6, *patient_page.risk_rows(found.risks), (0, 47, 81, 110, 128, 143, 159))
    if any(e.reference for e in main):
        _text(figure, 196, 76, "Estimates against the reference ranges", 8, weight="bold")
        _image(figure, 196, 14, 88, 58, png_bytes(patient_page.ruler(main), dpi=300))
    _cines(figure, drawn)
    if why is not None:
        said = f"What in the ECG drove it: orange raises, purple lowers (arm {why.arm})"
        _text(figure, MARGIN, at - 5, said, 8, weight="bold")
        _image(figure, MARGIN, 14, 160, at - 24, png_bytes(picture(why, found.estimates), dpi=300))


def _cines(figure: Figure, drawn: Cines) -> None:
    """End-diastole, and the frame that differs most from it, of each view."""
    _text(
        figure,
        196,
        180,
        "Drawn from the ECG alone" if drawn else "No cine is drawn: that takes a generator",
        8,
        weight="bold",
    )
    for row, (view, cine) in enumerate(drawn.items()):
        other = int(np.abs(cine.astype(np.int16) - cine[0]).sum((1, 2)).argmax())
        for column, frame in enumerate((0, other)):
            box = _box(figure, 196 + 44 * column, 132 - 46 * row, 42, 42)
            box.imshow(cine[frame], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
            box.axis("off")
            _text(figure, 197 + 44 * column, 175 - 46 * row, f"{view}, {frame / len(cine):.0%} RR", 6, color=GREY)


def _box(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes at a place in mm from the lower left corner of the sheet."""
    return figure.add_axes((x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT))


def _image(figure: Figure, x: float, y: float, width: float, height: float, png: bytes) -> None:
    axes = _box(figure, x, y, width, height)
    axes.imshow(mpimg.imread(io.BytesIO(png)), interpolation="lanczos")
    axes.axis("off")
    axes.set_anchor("NW")


def _text(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    figure.text(x / WIDTH, y / HEIGHT, text, fontsize=size, va="center", **style)


def _table(
    figure: Figure, x: float, y: float, head: Sequence[str], rows: Sequence[Sequence[str]], tabs: Sequence[float]
) -> float:
    """Rows of text below (x, y), columns at ``tabs`` mm; returns where it ends."""
    for i, cells in enumerate([head, *rows]):
        for tab, cell in zip(tabs, cells):
            _text(figure, x + tab, y - i * LINE, cell, 7, weight="bold" if i == 0 else "normal")
    return y - (len(rows) + 1) * LINE
