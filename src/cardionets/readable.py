"""Everything readable in a file, whatever its format: cells, keys, outputs, comments, metadata, hidden tails.

Tables, JSON, notebooks, pages, pictures, PDFs and archives are opened down to their texts; nothing is executed.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from PIL import Image

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"sRGB", b"gAMA", b"sBIT"})
WEBP_CHUNKS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})


def texts(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """(place, text) of everything readable in a file: cells, keys, outputs, comments, metadata, hidden tails."""
    suffix = Path(name).suffix.lower()
    if data.startswith(PNG_SIGNATURE):
        yield from _png(data)
    elif data.startswith(b"%PDF"):
        yield from _pdf(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        yield from _webp(data)
    elif data.startswith((b"GIF8", b"\xff\xd8")):
        yield from _other_picture(data)
    elif data.startswith(b"PK"):
        yield from _zip(data)
    elif suffix == ".csv":
        yield from _csv(data)
    elif suffix in (".json", ".ipynb"):
        yield from _json(data)
    else:
        yield from _markup(data.decode("utf-8", "replace"))


def _csv(data: bytes) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace")))
    header = next(rows, [])
    yield from ((f"column {i}", text) for i, text in enumerate(header, 1))
    for number, row in enumerate(rows, 2):
        yield from ((f"row {number}", cell) for cell in row if cell and not _is_short_number(cell))


def _is_short_number(cell: str) -> bool:
    return bool(re.fullmatch(r"-?\d{1,6}(\.\d*)?(e[+-]?\d{1,3})?|-?inf|nan", cell, re.IGNORECASE))


def _json(data: bytes) -> Iterator[tuple[str, str]]:
    try:
        yield from _walk(json.loads(data), "")
    except (ValueError, RecursionError):
        yield from _markup(data.decode("utf-8", "replace"))


def _walk(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{place}.{key}" if place else str(key), str(key)
            yield from _walk(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        joined = "".join(value) if value and all(isinstance(v, str) for v in value) else None
        items = [joined] if joined is not None else value
        for number, item in enumerate(items):
            yield from _walk(item, f"{place}[{number}]")
    elif isinstance(value, str):
        if place.split(".")[-1].startswith(("image/", "application/pdf")):
            yield from _encoded(value, place)
        else:
            yield from ((f"{place} {where}".strip(), text) for where, text in _markup(value))
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**6:
        yield place, str(value)


_DATA: Final = re.compile(r"data:[\w/+.-]+;base64,([A-Za-z0-9+/=\s]+)")


_DRAWN: Final = re.compile(
    r'\b(?:d|points)="[MmLlHhVvCcSsQqTtAaZz\d\s.,eE+-]*"|["#](?:\w+_)?[a-zA-Z][0-9a-f]{10}\b|http://www\.w3\.org/[\w/.#-]*'
)


def _markup(text: str) -> Iterator[tuple[str, str]]:
    """Text or a page: pictures embedded as data are opened, the rest is read as it stands."""
    for match in _DATA.finditer(text):
        yield from _encoded(match[1], "embedded picture")
    plain = _DRAWN.sub("", _DATA.sub("", text))
    yield from ((f"line {n}", line) for n, line in enumerate(plain.splitlines(), 1) if line.strip())


def _encoded(text: str, place: str) -> Iterator[tuple[str, str]]:
    try:
        data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        yield from _markup(text)
        return
    yield from ((f"{place} {where}", found) for where, found in texts("embedded", data))


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of every chunk; what follows the last one comes as kind b"tail"."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size
        if kind == b"IEND":
            break
    if data[at:]:
        yield b"tail", data[at:]


def _png(data: bytes) -> Iterator[tuple[str, str]]:
    for kind, content in png_chunks(data):
        if kind in PNG_CHUNKS:
            continue
        name = kind.decode("latin-1")
        parts = [content, *_inflated(content)]
        yield from ((f"metadata {name}", text) for part in parts for text in _strings(part))


def _webp(data: bytes) -> Iterator[tuple[str, str]]:
    """Chunks of a WebP picture or animation that are no pixels, and what follows its end."""
    end, at = 8 + int.from_bytes(data[4:8], "little"), 12
    while at + 8 <= min(end, len(data)):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind not in WEBP_CHUNKS:
            name = kind.decode("latin-1").strip()
            yield from ((f"metadata {name}", text) for text in _strings(data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    yield from (("metadata tail", text) for text in _strings(data[end:]))


def _other_picture(data: bytes) -> Iterator[tuple[str, str]]:
    """Comments and metadata of a GIF or JPEG; all of its bytes where it cannot be opened."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            said = [*image.info.values(), *image.getexif().values()]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        said = [data]
    for value in said:
        parts = _strings(value) if isinstance(value, bytes) else [str(value)]
        yield from (("metadata", text) for text in parts)


def _zip(data: bytes, most: int = 50_000_000) -> Iterator[tuple[str, str]]:
    """Names and contents of an archive's members; those too large to open count by name alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                yield "member", info.filename
                if info.file_size <= most and info.file_size <= 200 * max(info.compress_size, 100):
                    yield from texts(info.filename, archive.read(info))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        yield from (("bytes", text) for text in _strings(data))


_OCTAL: Final = re.compile(rb"\\([0-7]{1,3})")


def _pdf(data: bytes) -> Iterator[tuple[str, str]]:
    """The document's own text and its streams of text; pixels, palettes, fonts and offsets say nothing."""
    silent = rb"(?<=stream)\r?\n.*?endstream|/Indexed\b.*?endobj|\b\d{10} \d{5} [nf]\b|startxref\s+\d+"
    plain = re.sub(silent, b"", data, flags=re.DOTALL)
    yield from (("metadata", text) for text in _strings(plain))
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        packed = _from_ascii(match[1])
        said = (part for part in (list(_inflated(packed)) or [packed]) if _is_text(part))
        yield from (("content", text) for part in said for text in _strings(_OCTAL.sub(_byte, part)))


def _byte(octal: re.Match[bytes]) -> bytes:
    """What a PDF's text writes as an escape of up to three octal digits."""
    return bytes([int(octal[1], 8) & 255])


def _from_ascii(data: bytes) -> bytes:
    """A stream of a PDF without its ASCII85 coat, where it wears one."""
    try:
        return base64.a85decode(data.strip().removesuffix(b"~>")) if data.rstrip().endswith(b"~>") else data
    except ValueError:
        return data


def _is_text(data: bytes) -> bool:
    """Printable, and not a font's table of characters."""
    return b"begincmap" not in data and len(re.findall(rb"[\x09\x0a\x0d\x20-\x7e]", data)) >= 0.9 * len(data)


def _inflated(data: bytes, limit: int = 10_000_000) -> Iterator[bytes]:
    """What zlib finds from the start, or after a keyword (compressed text of a PNG); bounded."""
    for start in {0, data.find(b"\0") + 2, data.find(b"\0\0\0") + 3}:
        try:
            yield zlib.decompressobj().decompress(data[start:], limit)
        except zlib.error:
            continue


def _strings(data: bytes) -> Iterator[str]:
    """Runs of four or more printable characters in any bytes, 8 bit or UTF-16."""
    for match in re.finditer(rb"[\x20-\x7e]{4,}", data):
        yield match.group().decode("ascii")
    for match in re.finditer(rb"(?:[\x20-\x7e]\x00){4,}|(?:\x00[\x20-\x7e]){4,}", data):
        yield match.group().replace(b"\0", b"").decode("ascii")
