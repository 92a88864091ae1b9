"""Search of files for what must not leave a site: identifiers, dates, paths, hosts, addresses, in any corner of them.

Tables, JSON, notebooks, pages, pictures and their metadata are opened down to their texts; nothing is executed. What
was found is named by its kind and place, never repeated in full.
"""

from __future__ import annotations

import base64
import binascii
import csv
import getpass
import io
import json
import re
import socket
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image

from cardionets.config import Study, StudyError

MONTHS: Final = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_ROOTS = "home|Users|mnt|media|data|srv|tmp|root|var|opt|scratch|work|private|Volumes|workspace|lustre|nfs|etc|usr"
PATTERNS: Final[dict[str, re.Pattern[str]]] = {
    "date": re.compile(
        rf"(?<![\d.]){_YEAR}[-/.:]{_MONTH}[-/.:]{_DAY}(?!\d)|(?<![\d.]){_DAY}[-/.]{_MONTH}[-/.]{_YEAR}(?!\d)"
        rf"|(?<![\d.]){_MONTH}[-/]{_DAY}[-/]{_YEAR}(?!\d)|(?<![\d.]){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
        rf"|\b\d{{1,2}}\.? (?:{MONTHS})[a-z]*\.? {_YEAR}\b|\b(?:{MONTHS})[a-z]*\.? \d{{1,2}},? {_YEAR}\b",
        re.IGNORECASE,
    ),
    "path": re.compile(rf"(?<![\w/.:])/(?:{_ROOTS})/[\w.~-]+|\b[A-Za-z]:\\[\w.~ -]+|\\\\[\w.-]+\\[\w$.-]+|file://"),
    "e-mail address": re.compile(r"\b[\w.+-]+@[\w-]+\.[a-z]{2,}\b", re.IGNORECASE),
    "network address": re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
    "DICOM identifier": re.compile(r"(?<![\d.])(?:1\.[23]|2\.(?:16|25))(?:\.\d+){3,}"),
    "pseudonym": re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{16}\b"),
    "long number": re.compile(r"(?<![\da-f.])\d{7,}(?![\da-f]|\.\d)"),
}
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"sRGB", b"gAMA", b"sBIT"})
SHORTEST: Final = 4  # characters of an identifier that can be told from an ordinary number or word
_WORD: Final = re.compile(r"[\w.-]+")
_PART: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Private:
    """What a site knows to be private: its identifiers and dates (lower case), its folders, its host and user."""

    words: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()
    host: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()  # what looks private and is not, such as the hash of a model

    @classmethod
    def of(cls, study: Study, cohort: str) -> Private:
        """Of one cohort: from its store and, where they can be read, its own tables. Never raises for missing data."""
        words: set[str] = set()
        store = study.path("store", cohort, "records.parquet")
        if store.is_file():
            words.update(_texts(pd.read_parquet(store, columns=["record", "person"])))
        words.update(_own_words(study, cohort))
        settings = study.cohort(cohort)
        places = {str(study.root), str(settings.path), str(settings.depends), str(Path.home())}
        host = {socket.gethostname().lower(), socket.gethostname().split(".")[0].lower(), _user()}
        known = frozenset(w.lower() for w in words if len(w) >= SHORTEST)
        long = tuple(p for p in places if len(p) > SHORTEST and Path(p).is_absolute())
        names = frozenset(h for h in host if len(h) >= SHORTEST and h not in ("root", "localhost"))
        return cls(known, long, names, frozenset({str(study.protocol.seed)}))

    def kind(self, text: str) -> str:
        """What of the site's own a text repeats, or ""."""
        if any(place in text for place in self.places):
            return "path"
        words = {w.strip(".-_").lower() for w in (*_WORD.findall(text), *_PART.findall(text))}
        if words & self.words:
            return "identifier or date"
        return "host or user name" if words & self.host else ""


def _user() -> str:
    try:
        return getpass.getuser().lower()
    except (OSError, KeyError, ImportError):
        return ""


def _texts(table: pd.DataFrame) -> Iterator[str]:
    for column in table:
        yield from (str(v) for v in table[column].dropna().unique())


def _own_words(study: Study, cohort: str) -> Iterator[str]:
    """Identifiers, file names and dates of the centre's own tables."""
    from cardionets import cohorts

    try:
        records = cohorts.index(study.cohort(cohort)).records
    except StudyError:
        return
    yield from _texts(records[["record", "person"]])
    yield from (Path(str(name).split("#")[0]).stem for name in records["ecg"].unique())
    for column in ("ecg_date", "cmr_date"):
        for day in records[column].dropna().unique():
            yield from (pd.Timestamp(day).strftime(form) for form in ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y"))


@dataclass(frozen=True)
class Finding:
    """One private thing: the file and place it stands in, what kind it is, and its first two characters."""

    file: str
    place: str
    kind: str
    start: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.file}: {self.place}: {self.kind} ({self.start}…); it must not leave."


def search(name: str, data: bytes, private: Private | None = None) -> list[Finding]:
    """Everything private in one file, whatever its format; ``private`` adds what the site itself knows."""
    found: dict[Finding, None] = {}
    for place, text in texts(name, data):
        for kind, start in _kinds(text, private or Private()):
            found[Finding(name, place, kind, start)] = None
    return list(found)


def search_files(paths: Iterable[Path], private: Private | None = None) -> list[Finding]:
    """:func:`search` of files on disk, folders included; names are checked like texts."""
    found = []
    for path in paths:
        for file in sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()):
            found += search(file.name, file.read_bytes(), private)
            found += [
                Finding(file.name, "name", kind, start) for kind, start in _kinds(file.name, private or Private())
            ]
    return found


def _kinds(text: str, private: Private) -> Iterator[tuple[str, str]]:
    for kind, pattern in PATTERNS.items():
        match = next((m for m in pattern.finditer(text) if m.group() not in private.public), None)
        if match:
            yield kind, match.group()[:2]
    own = private.kind(text)
    if own:
        yield own, ""


def texts(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """(place, text) of everything readable in a file: cells, keys, outputs, comments, metadata, hidden tails."""
    suffix = Path(name).suffix.lower()
    if data.startswith(SIGNATURE):
        yield from _png(data)
    elif data.startswith(b"%PDF"):
        yield from _pdf(data)
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
    at = len(SIGNATURE)
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


def _pdf(data: bytes) -> Iterator[tuple[str, str]]:
    """The document's own text and its streams of text; pixels, palettes, fonts and offsets say nothing."""
    silent = rb"(?<=stream)\r?\n.*?endstream|/Indexed\b.*?endobj|\b\d{10} \d{5} [nf]\b|startxref\s+\d+"
    plain = re.sub(silent, b"", data, flags=re.DOTALL)
    yield from (("metadata", text) for text in _strings(plain))
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        packed = _from_ascii(match[1])
        said = (part for part in (list(_inflated(packed)) or [packed]) if _is_text(part))
        yield from (("content", text) for part in said for text in _strings(part))


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
