"""The site bundle: a small zip of aggregate tables and figures, its manifest, and reading one that nobody trusts.

Nothing in a bundle is executed, unpickled or extracted by name: members are read into memory, with every limit checked
before a byte is unpacked, and only names of a fixed list are accepted.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd
from PIL import Image
from pydantic import Field

from cardionets import __version__
from cardionets.config import Settings, Study, StudyError, check
from cardionets.disclosure import ESTIMATES, is_rounded, small
from cardionets.figures.base import protocol_hash
from cardionets.files import atomic_path
from cardionets.readable import PNG_CHUNKS, PNG_SIGNATURE, png_chunks
from cardionets.screen import Private, search
from cardionets.vocabulary import COLUMNS_OF, faults
from cardionets.weights import CARD, read_card

SCHEMA: Final = (1, 0)
MANIFEST: Final = "manifest.json"
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
TABLE: Final = re.compile(rf"({'|'.join(COLUMNS_OF)})\.csv")
FIGURE: Final = re.compile(r"figures/[a-z0-9_]{1,60}\.png")
MAX_ZIP, MAX_MEMBER, MAX_ALL, MAX_MEMBERS, MAX_RATIO = 50_000_000, 30_000_000, 100_000_000, 200, 200
MEASURED: Final = (*ESTIMATES, "mean", "sd", "mean_risk", "x_low", "x_high", "y_low", "y_high")
REQUIRED: Final = ("metrics.csv", "flow.csv", "people.csv")
MAX_PIXELS: Final = 30_000_000
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # every member's time: a bundle says nothing about when it was made


class Manifest(Settings):
    """What a bundle is: whose, by which software, protocol and weights, and the hash of every file."""

    schema_version: str = Field(pattern=r"^\d{1,3}\.\d{1,3}$")
    cohort: str = Field(pattern=rf"^{NAME.pattern}$")
    label: str = Field(min_length=1, max_length=60, pattern=r"^[^<>\n\r\t]*$")
    role: str = Field(pattern="^(development|external)$")
    simulated: bool
    version: str = Field(pattern=r"^\d{1,4}(\.\d{1,4}){1,3}$")
    preset: str = Field(pattern=rf"^{NAME.pattern}$")
    protocol: str = Field(pattern=r"^[0-9a-f]{8}$")
    minimum_cell: int = Field(ge=1)
    weights: dict[str, str]
    files: dict[str, str]


def manifest_of(study: Study, cohort: str, files: Mapping[str, bytes]) -> Manifest:
    """The manifest of one cohort's files. Raises StudyError for a name or label that a bundle cannot carry."""
    settings = study.cohort(cohort)
    values = {
        "schema_version": ".".join(map(str, SCHEMA)),
        "cohort": cohort,
        "label": settings.label,
        "role": settings.role,
        "simulated": settings.simulated,
        "version": __version__,
        "preset": study.protocol.preset,
        "protocol": protocol_hash(study),
        "minimum_cell": study.protocol.statistics.minimum_cell,
        "weights": weights_of(study),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    return check(Manifest, values, f"cohorts.yaml: cohorts.{cohort}")


def weights_of(study: Study) -> dict[str, str]:
    """Model -> hash of its tensors, from the cards at hand."""
    cards = sorted(study.path("weights").glob(f"[!.]*/{CARD}"))
    return {path.parent.name: read_card(path.parent).sha256 for path in cards}


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Write the zip, the same bytes for the same content, and return its SHA-256."""
    text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    with atomic_path(path) as aside:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in [(MANIFEST, text.encode()), *sorted(files.items())]:
                archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
        return hashlib.sha256(aside.read_bytes()).hexdigest()


def read(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files of a bundle. Raises StudyError with every reason why it is not one."""
    source = path.name
    if not path.is_file():
        raise StudyError(f"{source}: no such file; name the bundle that the site sent.")
    if path.stat().st_size > MAX_ZIP:
        raise StudyError(f"{source}: larger than {MAX_ZIP // 10**6} MB; a bundle of aggregates is small: ask the site.")
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse(source, _listing_faults(archive.infolist()))
            files = {info.filename: _read(archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise StudyError(
            f"{source}: damaged or no zip ({type(error).__name__}); ask the site to send it again."
        ) from None
    manifest = _manifest(source, files.pop(MANIFEST, b""))
    _refuse(source, _hash_faults(manifest, files))
    return manifest, files


def _refuse(source: str, found: list[str]) -> None:
    if found:
        raise StudyError("\n".join(f"{source}: {fault}" for fault in found))


def _listing_faults(members: list[zipfile.ZipInfo]) -> list[str]:
    """What is wrong with the table of contents, before anything is unpacked."""
    names = [info.filename for info in members]
    found = [f"{name!r}: it stands twice." for name in sorted({n for n in names if names.count(n) > 1})]
    if len(members) > MAX_MEMBERS:
        return [f"it has {len(members)} members; {MAX_MEMBERS} are the most."]
    for info in members:
        if not (info.filename == MANIFEST or TABLE.fullmatch(info.filename) or FIGURE.fullmatch(info.filename)):
            found.append(f"{info.filename[:80]!r}: a bundle holds the tables and figures of its list only.")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            found.append(f"{info.filename[:80]!r}: a link or encrypted.")
        if info.file_size > MAX_MEMBER or info.file_size > MAX_RATIO * max(info.compress_size, 100):
            found.append(f"{info.filename[:80]!r}: it unpacks to {info.file_size:,} bytes, which is too much.")
    if sum(info.file_size for info in members) > MAX_ALL:
        found.append("together the members unpack to more than a bundle may hold.")
    return found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as handle:
        data = handle.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile("a member is longer or shorter than it says")
    return data


def _manifest(source: str, data: bytes) -> Manifest:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise StudyError(f"{source}: {MANIFEST}: missing or not valid JSON; ask the site to share again.") from None
    version = str(values.get("schema_version", "")) if isinstance(values, dict) else ""
    major, _, minor = version.partition(".")
    if major.isdigit() and int(major) != SCHEMA[0]:
        raise StudyError(f"{source}: schema {version}: this software reads {SCHEMA[0]}.x; use the matching release.")
    if minor.isdigit() and int(minor) > SCHEMA[1]:
        raise StudyError(f"{source}: schema {version}: newer than this software ({SCHEMA[0]}.{SCHEMA[1]}); update it.")
    return check(Manifest, values, f"{source}: {MANIFEST}")


def _hash_faults(manifest: Manifest, files: Mapping[str, bytes]) -> list[str]:
    found = [f"{name}: named in the manifest but absent." for name in sorted(set(manifest.files) - set(files))]
    found += [f"{name}: present but not in the manifest." for name in sorted(set(files) - set(manifest.files))]
    for name in sorted(set(files) & set(manifest.files)):
        if hashlib.sha256(files[name]).hexdigest() != manifest.files[name]:
            found.append(f"{name}: its hash is not the manifest's; it was changed after sharing.")
    return found


def table(data: bytes) -> pd.DataFrame:
    """A table of a bundle; text stays text, numbers become numbers."""
    return pd.read_csv(io.BytesIO(data), dtype={"note": str, "reason": str, "level": str}, keep_default_na=True)


def violations(
    study: Study, manifest: Manifest, files: Mapping[str, bytes], private: Private | None = None
) -> list[str]:
    """Every reason why these files must not leave, or must not be taken in: the check of both ends."""
    minimum = max(study.protocol.statistics.minimum_cell, manifest.minimum_cell)
    found = [str(f) for f in search(MANIFEST, json.dumps({"label": manifest.label}).encode(), private)]
    found += [f"{name}: a name of the list was expected." for name in manifest.weights if not NAME.fullmatch(name)]
    found += [f"{name}: missing; every bundle has it." for name in REQUIRED if name not in files]
    for name, data in sorted(files.items()):
        found += [str(finding) for finding in search(name, data, private)]
        kind = TABLE.fullmatch(name)
        if kind:
            found += _table_faults(kind[1], data, study, manifest.cohort, minimum)
        elif FIGURE.fullmatch(name):
            found += _picture_faults(name, data)
        else:
            found.append(f"{name}: a bundle holds the tables and figures of its list only.")
    return found


def _table_faults(name: str, data: bytes, study: Study, cohort: str, minimum: int) -> list[str]:
    try:
        frame = table(data)
    except (ValueError, UnicodeError) as error:
        return [f"{name}.csv: not a readable table ({type(error).__name__})."]
    found = faults(name, frame, study, cohort)
    return found or _cell_faults(name, frame, minimum)


def _cell_faults(name: str, frame: pd.DataFrame, minimum: int) -> list[str]:
    """Small cells and unrounded numbers of a table whose columns and words are in order."""
    counts = {"n": frame.get("n"), "records": frame.get("records"), "persons": frame.get("persons")}
    counts |= {"events": frame.get("events"), "people": frame.get("people"), "cases": frame.get("cases")}
    found = {column: values for column, values in counts.items() if values is not None}
    for whole, part in (("n", "events"), ("people", "cases")):
        if whole in found and part in found:
            found[f"{whole} - {part}"] = found[whole] - found[part]
    wrong = [
        f"{name}.csv: {column}: a count from 1 to {minimum - 1}; it shows a group that is too small."
        for column, values in found.items()
        if small(values.dropna().to_numpy(float), minimum).any()
    ]
    exact = [c for c in MEASURED if c in frame and not is_rounded(frame[c])]
    return wrong + [f"{name}.csv: {column}: numbers with more digits than may leave." for column in exact]


def _picture_faults(name: str, data: bytes) -> list[str]:
    if not data.startswith(PNG_SIGNATURE):
        return [f"{name}: not a PNG picture."]
    extra = sorted({kind.decode("latin-1") for kind, _ in png_chunks(data)} - {k.decode() for k in PNG_CHUNKS})
    if extra:
        return [f"{name}: it carries {', '.join(extra)} beside the picture itself."]
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return [f"{name}: {image.width} x {image.height} pixels are too many."]
            image.load()
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError):
        return [f"{name}: a damaged picture."]
    return []
