"""Search of files for what must not leave a site: identifiers, dates, paths, hosts, addresses, in any corner of them.

Files are opened down to their texts (:mod:`cardionets.readable`); nothing is executed. What was found is named by its
kind and place, never repeated in full.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from cardionets.config import Study, StudyError
from cardionets.readable import texts

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
