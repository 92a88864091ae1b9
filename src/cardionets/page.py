"""One self-contained HTML page: text, tables, figures embedded as data, so that it opens anywhere, offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageSequence

from cardionets.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

MAX_WIDTH = 1200
MOVING_WIDTH = 800
PER_INCH = 147  # pixels of a page that show an inch of print: a figure of 7.2 inches fills the page
MOVING: dict[str, Any] = {"quality": 60, "method": 2}
PHOTOGRAPH: dict[str, Any] = {"quality": 80, "method": 2}
DRAWING: dict[str, Any] = {"lossless": True, "quality": 50, "method": 1}
TYPES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image with its caption and alternative text; ``inches``: the width it was drawn for, where that is known."""

    data: bytes
    caption: str
    kind: str = ".png"
    inches: float | None = None

    @classmethod
    def read(cls, path: Path, caption: str) -> Picture:
        """From a PNG, or a GIF that moves, as WebP of the width that a screen shows; another kind as it is."""
        data = path.read_bytes()
        small = {".png": shrink, ".gif": shrink_moving}.get(path.suffix)
        if small is None:
            return cls(data, caption, path.suffix)
        return cls(small(data), caption, ".webp", drawn_inches(data))

    def render(self) -> str:
        """As a figure element, no wider than it was drawn for."""
        mark = f' style="max-width: {self.inches * PER_INCH:.0f}px"' if self.inches else ""
        return picture(self.data, self.kind, self.caption, mark)


@dataclass(frozen=True)
class Table:
    """A table for pages and for print: its rows, its words, and the HTML fragment (trusted) that shows them."""

    frame: pd.DataFrame
    title: str
    note: str
    html: str


@dataclass
class Section:
    """A heading, paragraphs, answers to questions, pictures, tables, more HTML (trusted, not printed), remarks."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    further: str = ""
    remarks: list[str] = field(default_factory=list)
    folded: bool = False
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Its id within the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())

    def render(self) -> str:
        """As a section element; a folded one opens on demand."""
        parts = [f"<p>{html.escape(text)}</p>" for text in self.paragraphs]
        parts += [_answered(question, found) for question, found in self.answers.items()]
        parts += [picture.render() for picture in self.pictures]
        parts += [f'<div class="table">{table.html}</div>' for table in self.tables]
        parts += [f'<div class="table">{self.further}</div>'] if self.further else []
        parts += [f'<p class="dim">{html.escape(text)}</p>' for text in self.remarks]
        body = "\n".join(parts)
        if self.folded:
            body = f"<details><summary>Show</summary>\n{body}\n</details>"
        return f'<section id="{self.anchor}">\n<h2>{html.escape(self.title)}</h2>\n{body}\n</section>'


def _answered(question: str, found: Sequence[str]) -> str:
    """A question as a heading, the sentences that answer it as a list."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found)
    return f"<h3>{html.escape(question)}</h3>\n<ul>{items}</ul>"


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a data: address."""
    return f"data:{TYPES[kind]};base64,{base64.b64encode(data).decode()}"


def shrink(png: bytes) -> bytes:
    """A PNG as WebP no wider than `MAX_WIDTH`.

    A drawing keeps every line (256 colours, no loss); a sheet of hearts is stored as a photograph, in half the bytes.
    """
    with Image.open(io.BytesIO(png)) as image:
        still = _narrow(image.convert("RGB"), MAX_WIDTH)
    drawing = is_drawing(still)
    if drawing:
        still = still.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    buffer = io.BytesIO()
    still.save(buffer, "WEBP", **(DRAWING if drawing else PHOTOGRAPH))
    return buffer.getvalue()


def drawn_inches(data: bytes) -> float | None:
    """Width in inches by the resolution that an image names; None where it names none."""
    with Image.open(io.BytesIO(data)) as image:
        dpi = image.info.get("dpi")
        return image.width / float(dpi[0]) if dpi and dpi[0] > 0 else None


def is_drawing(image: Image.Image) -> bool:
    """Whether most of an image is white, as in a drawing of lines, and not a photograph."""
    return bool(image.convert("L").histogram()[255] > image.width * image.height / 2)


def shrink_moving(gif: bytes) -> bytes:
    """A GIF as WebP that moves as fast, no wider than `MOVING_WIDTH`: about a tenth of its size."""
    with Image.open(io.BytesIO(gif)) as image:
        first, *others = [_narrow(frame.convert("RGB"), MOVING_WIDTH) for frame in ImageSequence.Iterator(image)]
        each = image.info.get("duration", 60)
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=each, loop=0, **MOVING)
    return buffer.getvalue()


def _narrow(picture: Image.Image, width: int) -> Image.Image:
    if picture.width <= width:
        return picture
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def section(title: str, *parts: str) -> str:
    """A section element; ``parts`` are trusted HTML, empty ones left out."""
    anchor = "".join(c if c.isalnum() else "-" for c in title.lower())
    body = "\n".join(part for part in parts if part)
    return f'<section id="{anchor}">\n<h2>{html.escape(title)}</h2>\n{body}\n</section>'


def words(text: str) -> str:
    """A paragraph of plain text; nothing for nothing."""
    return f"<p>{html.escape(text)}</p>" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0, bad: Sequence[int] = ()) -> str:
    """A table of text; the last ``numbers`` columns are set right, rows numbered in ``bad`` in red."""
    edge = len(head) - numbers

    def line(cells: Sequence[str], tag: str, mark: str = "") -> str:
        shown = (f"<{tag}{' class=number' if i >= edge else ''}>{html.escape(c)}</{tag}>" for i, c in enumerate(cells))
        return f"<tr{mark}>{''.join(shown)}</tr>"

    body = "".join(line(cells, "td", " class=bad" if i in bad else "") for i, cells in enumerate(rows))
    top = f"<thead>{line(head, 'th')}</thead>" if any(head) else ""
    return f'<div class="table"><table class="data">{top}<tbody>{body}</tbody></table></div>'


def picture(data: bytes, kind: str, caption: str, mark: str = "") -> str:
    """An image with its caption, which is its alternative text as well; ``mark`` are attributes of the figure."""
    said = html.escape(caption)
    image = f'<img alt="{said}" src="{data_uri(data, kind)}">'
    return f"<figure{mark}>{image}<figcaption>{said}</figcaption></figure>"


def render(title: str, lead: str, body: str, contents: list[tuple[str, str]], provenance: str, simulated: bool) -> str:
    """A whole page; ``contents`` are (anchor, title) of its table of contents. ``body`` is trusted HTML."""
    style = (files("cardionets") / "assets" / "report.css").read_text(encoding="utf-8")
    banner = '<p class="simulated">SIMULATED DATA: no result below is about real people</p>' if simulated else ""
    links = "".join(f'<li><a href="#{anchor}">{html.escape(name)}</a></li>' for anchor, name in contents)
    toc = f"<nav aria-label='Contents'><ul>{links}</ul></nav>" if links else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<p>{html.escape(lead)}</p>
{banner}
{toc}
</header>
<main>
{body}
</main>
<footer><p>{html.escape(provenance)}</p></footer>
</body>
</html>
"""


def write(path: Path, text: str) -> Path:
    """Write a page aside and rename it."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path
