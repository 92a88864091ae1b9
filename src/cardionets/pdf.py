"""The report of the study as PDF, from the same sections as the HTML page: text, pictures, tables, page numbers.

Fonts are embedded, every page is marked where data are SIMULATED, and the same sections give the same bytes.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import pandas as pd
from PIL import Image
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, LongTable, PageTemplate, Paragraph, Spacer
from reportlab.platypus import Image as PlacedImage
from reportlab.platypus.tableofcontents import TableOfContents

from cardionets.files import atomic_path
from cardionets.page import Picture, Section, Table, is_drawing

MARGIN: Final = 18 * mm
WIDTH: Final = A4[0] - 2 * MARGIN
TALLEST: Final = A4[1] - 2 * MARGIN - 30 * mm
WARN: Final = colors.HexColor("#C00000")
RULE: Final = colors.HexColor("#BBBBBB")


@cache
def _fonts() -> None:
    """Register DejaVu Sans, which travels with matplotlib and has the signs that statistics need."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for name, file in (("Sans", "DejaVuSans.ttf"), ("Sans-Bold", "DejaVuSans-Bold.ttf")):
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))
    pdfmetrics.registerFontFamily("Sans", normal="Sans", bold="Sans-Bold", italic="Sans", boldItalic="Sans-Bold")


def _style(size: float, bold: bool = False, **more: Any) -> ParagraphStyle:
    name = f"text {size} {bold} {sorted(more)}"
    return ParagraphStyle(name, fontName="Sans-Bold" if bold else "Sans", fontSize=size, leading=1.3 * size, **more)


class _Report(BaseDocTemplate):  # type: ignore[misc]  # untyped library
    """A4 pages with a running footer; headings reach the contents and the outline."""

    def __init__(self, target: io.BytesIO, title: str, footer: str, simulated: bool) -> None:
        super().__init__(
            target, pagesize=A4, title=title, author="cardionets", invariant=1,
            leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
        )  # fmt: skip
        self.footer, self.simulated = footer, simulated
        body = Frame(MARGIN, MARGIN, WIDTH, A4[1] - 2 * MARGIN, 0, 0, 0, 0)
        self.addPageTemplates([PageTemplate("page", [body], onPage=self._foot)])

    def _foot(self, canvas: Any, _document: Any) -> None:
        canvas.setFont("Sans", 6)
        canvas.setFillColor(colors.grey)
        canvas.drawString(MARGIN, 10 * mm, self.footer)
        canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"{canvas.getPageNumber()}")
        if self.simulated:
            canvas.setFont("Sans-Bold", 7)
            canvas.setFillColor(WARN)
            canvas.drawRightString(A4[0] - MARGIN - 8 * mm, 10 * mm, "SIMULATED DATA")

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802  (the library's name)
        """Enter a heading in the contents."""
        anchor = getattr(flowable, "anchor", None)
        if anchor:
            words = flowable.getPlainText()
            self.canv.bookmarkPage(anchor)
            self.canv.addOutlineEntry(words, anchor, 0)
            self.notify("TOCEntry", (0, words, self.page, anchor))


def write(path: Path, title: str, lead: str, sections: Sequence[Section], provenance: str, simulated: bool) -> Path:
    """Write the report as PDF: title, contents, then every section of the page in its order."""
    _fonts()
    rl_config.useA85 = 0  # bytes as they are: text would be a quarter longer and take half of the time
    buffer = io.BytesIO()
    contents = TableOfContents(levelStyles=[_style(8)])
    story: list[Flowable] = [Paragraph(html.escape(title), _style(17, True)), Spacer(0, 3 * mm), _words(lead)]
    if simulated:
        banner = "SIMULATED DATA: no result below is about real people"
        story += [Spacer(0, 2 * mm), Paragraph(banner, _style(9, True, textColor=WARN))]
    story += [Spacer(0, 5 * mm), contents]
    for section in sections:
        story += _section(section)
    _Report(buffer, title, provenance, simulated).multiBuild(story)
    with atomic_path(path) as aside:
        aside.write_bytes(buffer.getvalue())
    return path


def _words(text: str) -> Paragraph:
    return Paragraph(html.escape(text), _style(8.5, spaceAfter=2 * mm))


def _section(section: Section) -> list[Flowable]:
    heading = Paragraph(
        html.escape(section.title), _style(12, True, spaceBefore=7 * mm, spaceAfter=3 * mm, keepWithNext=1)
    )
    heading.anchor = section.anchor
    parts: list[Flowable] = [heading, *map(_words, section.paragraphs)]
    for question, found in section.answers.items():
        parts += [Paragraph(html.escape(question), _style(9, True, spaceBefore=2 * mm, keepWithNext=1))]
        parts += [Paragraph(html.escape(text), _style(8.5, spaceAfter=1 * mm, leftIndent=3 * mm)) for text in found]
    for picture in section.pictures:
        parts += _picture(picture)
    for table in section.tables:
        parts += _table(table)
    return [*parts, *(Paragraph(html.escape(text), _style(7, textColor=colors.grey)) for text in section.remarks)]


def _picture(picture: Picture) -> list[Flowable]:
    with Image.open(io.BytesIO(picture.data)) as image:  # of a moving picture, the first frame
        still = image.convert("RGB")
    buffer = io.BytesIO()
    still.save(buffer, "PNG") if is_drawing(still) else still.save(buffer, "JPEG", quality=85)
    drawn = 72 * picture.inches / still.width if picture.inches else 0.48  # 0.48 pt per pixel is 150 pixels per inch
    scale = min(WIDTH / still.width, TALLEST / still.height, drawn)
    buffer.seek(0)
    placed = PlacedImage(buffer, still.width * scale, still.height * scale, hAlign="LEFT")
    placed.keepWithNext = 1
    return [placed, Paragraph(html.escape(picture.caption), _style(7, textColor=colors.grey, spaceAfter=4 * mm))]


def _table(table: Table) -> list[Flowable]:
    size = 6.5 if table.frame.shape[1] <= 7 else 5.2
    cell, head = _style(size), _style(size, True)
    columns = [str(c).replace("_", " ") for c in table.frame.columns]
    rows = [[Paragraph(html.escape(c), head) for c in columns]]
    texts = [[_cell(v) for v in row] for row in table.frame.itertuples(index=False)]
    rows += [[Paragraph(html.escape(text), cell) for text in row] for row in texts]
    drawn = LongTable(rows, colWidths=_widths(columns, texts), repeatRows=1, hAlign="LEFT")
    lines = [("LINEABOVE", (0, 0), (-1, 0), 0.8, colors.black), ("LINEBELOW", (0, 0), (-1, 0), 0.5, colors.black)]
    lines += [("LINEBELOW", (0, -1), (-1, -1), 0.8, colors.black), ("LINEBELOW", (0, 1), (-1, -2), 0.2, RULE)]
    pads = [(f"{side}PADDING", (0, 0), (-1, -1), 1.6) for side in ("TOP", "BOTTOM", "LEFT", "RIGHT")]
    drawn.setStyle([*lines, *pads, ("VALIGN", (0, 0), (-1, -1), "TOP")])
    title = Paragraph(html.escape(table.title), _style(8, True, spaceBefore=3 * mm, spaceAfter=1 * mm, keepWithNext=1))
    return [title, drawn, Paragraph(html.escape(table.note), _style(6, textColor=colors.grey, spaceAfter=4 * mm))]


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("-", "−") if text[:1] == "-" and text[1:2].isdigit() else text


def _widths(columns: list[str], rows: list[list[str]]) -> list[float]:
    """Column widths (points) in proportion to what they hold, long ones wrapped."""
    longest = [max([len(name) / 1.5, 4, *(len(row[i]) for row in rows)]) for i, name in enumerate(columns)]
    share = [min(length, 45) ** 0.75 for length in longest]
    return [WIDTH * part / sum(share) for part in share]
