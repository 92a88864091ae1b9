"""WFDB records: headers as PhysioNet specifies them; samples of format 16 are read here, every other format by wfdb.

Header specification: https://physionet.org/physiotools/wag/header-5.htm. MIMIC-IV-ECG, PTB-XL, PTB, CPSC and CinC 2020
and 2021 all use format 16, in ``.dat`` or in ``.mat`` (the same samples after a header of 24 bytes).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import (
    MAX_BYTES,
    Raw,
    corrupt,
    parse_age,
    parse_date,
    parse_sex,
    refuse_large,
    unit_uv,
)
from cardionets.ecg import RecordError

SIGNALS: Final = (".dat", ".mat")
SUFFIXES: Final = (".hea", *SIGNALS)
"""Under which a record may be named; without any suffix too."""
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_GAIN = re.compile(r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)?(?:\(([-+]?\d+)\))?(?:/(\S+))?$")
MISSING = {
    **dict.fromkeys((80, 508), -(2**7)), **dict.fromkeys((310, 311), -(2**9)), 212: -(2**11),
    **dict.fromkeys((16, 61, 160, 516), -(2**15)), **dict.fromkeys((24, 524), -(2**23)), 32: -(2**31),
}  # fmt: skip
"""The lowest number of each signal format stands for a missing sample (signal(5) of the WFDB manual)."""


@dataclass(frozen=True)
class Form:
    """How samples are stored: what the signal lines of one source share."""

    format: int
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str


class Channel(NamedTuple):
    """One signal line of a header; ``checksum`` None where the header stops short of it."""

    file: str
    form: Form
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """A single-segment header."""

    record: str
    rate: float
    samples: int
    date: dt.datetime | None
    channels: tuple[Channel, ...]
    comments: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Parse the ``.hea`` of one segment; raises ``RecordError`` (``header_invalid``) naming the line."""
    return _header(path, *_lines(path))


def _lines(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """Comments, and the words of every other line; the record line has two or more."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = tuple(line.lstrip("# ").rstrip() for line in lines if line.startswith("#"))
    body = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not body or len(body[0]) < 2:
        raise _bad(path, "the record line is missing")
    return comments, body


def _header(path: Path, comments: tuple[str, ...], body: list[list[str]]) -> Header:
    first = body[0]
    if not re.fullmatch(_NAME, first[0]):
        raise _bad(path, f"record name {first[0]!r} is not allowed (a name, without suffix)")
    count = int(first[1])
    if len(body) - 1 < count or count < 1:
        raise _bad(path, f"{count} signals are announced but {len(body) - 1} are described")
    rate = float(first[2].split("/")[0].split("(")[0]) if len(first) > 2 else 250.0
    samples = int(first[3]) if len(first) > 3 else 0
    channels = tuple(_channel(path, parts) for parts in body[1 : count + 1])
    return Header(first[0], rate, samples, _base_date(first[4:], comments), channels, comments)


def _bad(path: Path, what: str) -> RecordError:
    return RecordError("header_invalid", f"{path.name}: {what}; correct the header.")


def _base_date(rest: list[str], comments: tuple[str, ...]) -> dt.datetime | None:
    if len(rest) > 1:
        return parse_date(" ".join(rest[:2]), ("%H:%M:%S %d/%m/%Y", "%H:%M:%S.%f %d/%m/%Y", "%H:%M %d/%m/%Y"))
    return parse_date(_comment(comments, "ecg date"), ("%d/%m/%Y",))


def _comment(comments: tuple[str, ...], key: str) -> str | None:
    for comment in comments:
        name, _, value = comment.partition(":")
        if name.strip().lower() == key:
            return value.strip()
    return None


def codes(header: Header) -> tuple[str, ...]:
    """Diagnosis codes of the ``Dx`` comment (SNOMED CT in the CinC sets)."""
    return tuple(code.strip() for code in (_comment(header.comments, "dx") or "").split(",") if code.strip())


@lru_cache(maxsize=1024)
def _form(kind: str, gain: str, zero: str) -> Form | str:
    """Format, gain and ADC zero as written ("" = not there), or what is wrong with them."""
    form, size = _FORMAT.match(kind), _GAIN.match(gain)
    if form is None:
        return f"format {kind!r} is not understood"
    if size is None:
        return f"gain {gain!r} is not understood"
    numbers = (int(form[1]), int(form[2] or 1), int(form[3] or 0), int(form[4] or 0))
    return Form(*numbers, float(size[1] or 0), int(size[2] or zero or 0), size[3] or "mV")


def _channel(path: Path, parts: list[str]) -> Channel:
    file, kind, gain, _, zero, _, checksum, _, *name = [*parts, *[""] * (8 - len(parts))]
    if "/" in file or "\\" in file or file in (".", ".."):
        raise _bad(path, f"signal file {file!r} leaves the folder")
    form = _form(kind, gain, zero)
    if isinstance(form, str):
        raise _bad(path, form)
    return Channel(file, form, int(checksum) if checksum else None, " ".join(name) or f"channel {file}")


def _format16(path: Path, header: Header) -> NDArray[np.int16]:
    """Samples of every channel, (lead, T) int16, file by file; checked against length and checksums."""
    rows: list[NDArray[np.int16]] = []
    for file in dict.fromkeys(channel.file for channel in header.channels):
        group = [channel for channel in header.channels if channel.file == file]
        source = path.with_name(file)
        data = np.fromfile(source, "<i2", offset=group[0].form.offset)
        length = header.samples or len(data) // len(group)
        if len(data) < length * len(group):
            raise corrupt(path, f"{file} holds {len(data) // len(group)} samples per lead instead of {length}")
        rows.append(data[: length * len(group)].reshape(length, len(group)).T)  # (T, lead) -> (lead, T)
    signal = np.ascontiguousarray(rows[0]) if len(rows) == 1 else np.concatenate(rows)
    _verify(path, header, signal)
    return signal


def _verify(path: Path, header: Header, signal: NDArray[np.int16]) -> None:
    sums = signal.view(np.uint16).sum(axis=1, dtype=np.uint16)  # a checksum has 16 bits: overflow is meant
    for channel, total in zip(header.channels, sums.tolist()):
        if channel.checksum is not None and (total - channel.checksum) % 65536:
            raise corrupt(path, f"the checksum of lead {channel.name} does not fit")


def _physical(header: Header, digital: NDArray[Any]) -> NDArray[np.float32]:
    signal = digital.astype(np.float32)
    if any(channel.form.baseline for channel in header.channels):
        signal -= np.array([[channel.form.baseline] for channel in header.channels], np.float32)
    if digital.min(initial=0) == MISSING[16]:
        signal[digital == MISSING[16]] = np.nan
    return signal


def _by_library(path: Path, header: Header) -> NDArray[np.float64]:
    """(lead, T) without baselines, missing samples as NaN; of several samples in a frame the mean."""
    import wfdb

    stored = wfdb.rdrecord(str(path.with_suffix("")), physical=False, smooth_frames=False, return_res=64).e_d_signal
    rows = []
    for channel, digital in zip(header.channels, stored, strict=True):
        total = int(digital.sum(dtype=np.int64))
        if channel.checksum is not None and (total - channel.checksum) % 65536:
            raise corrupt(path, f"the checksum of lead {channel.name} does not fit")
        signal = digital.astype(np.float64) - channel.form.baseline
        signal[digital == MISSING.get(channel.form.format)] = np.nan
        rows.append(signal.reshape(-1, channel.form.per_frame).mean(axis=1))
    return np.stack(rows)


def _check_files(path: Path, header: Header) -> None:
    """Every signal file must lie beside the header and be no larger than one recording is."""
    for file in dict.fromkeys(channel.file for channel in header.channels):
        source = path.with_name(file)
        try:
            found = source.stat()
        except OSError:
            found = None
        if found is None or not S_ISREG(found.st_mode):
            raise RecordError(
                "unreadable", f"{path.name}: its signal file {file} is missing; copy it beside the header."
            )
        if found.st_size > MAX_BYTES:
            raise RecordError("too_large", f"{file}: more than {MAX_BYTES >> 20} MiB are not one recording; check it.")


def read_wfdb(path: Path) -> Raw:
    """A WFDB record given its ``.hea``, ``.dat`` or ``.mat``: any unit, several signal files, several segments."""
    path = path.with_suffix(".hea")
    comments, body = _lines(path)
    return _joined(path, comments, body) if "/" in body[0][0] else _one_segment(path, _header(path, comments, body))


def beside(file: Path) -> list[Path]:
    """The other files of a record that is named by its header, ``.dat`` or ``.mat``, or without a suffix.

    Only where neither signal file bears the header's name is the header opened for the files and segments that it
    names: this is asked of every record of a cohort.
    """
    header = file if file.suffix == ".hea" else file.with_suffix(".hea")
    own = [] if header is file else [header]
    if file.suffix in SIGNALS:
        return own
    if (samples := file.with_suffix(".dat")).exists():
        return [*own, samples]
    if not header.exists():
        return []
    return [*own, other] if (other := file.with_suffix(".mat")).exists() else [*own, *_named(header)]


def _named(header: Path) -> list[Path]:
    """What the lines of a header name: signal files, or header and signals of each segment."""
    try:
        _, body = _lines(header)
    except (OSError, ValueError, RecordError):
        return []
    ends = SUFFIXES if "/" in body[0][0] else ("",)
    names = dict.fromkeys(words[0] for words in body[1:])
    return [header.parent / f"{name}{end}" for name in names for end in ends]


def _one_segment(path: Path, header: Header) -> Raw:
    _check_files(path, header)
    forms = [channel.form for channel in header.channels]
    simple = all(form.format == 16 and form.per_frame == 1 and form.skew == 0 for form in forms)
    signal = _physical(header, _format16(path, header)) if simple else _by_library(path, header)
    uncalibrated = any(form.gain == 0 for form in forms)
    step = {form: unit_uv(form.unit, path) / form.gain for form in dict.fromkeys(forms) if not uncalibrated}
    scale = None if uncalibrated else np.array([step[form] for form in forms])
    return Raw(
        signal,
        tuple(channel.name for channel in header.channels),
        header.rate,
        scale,
        date=header.date,
        age=parse_age(_comment(header.comments, "age")),
        sex=parse_sex(_comment(header.comments, "sex")),
    )


def _joined(path: Path, comments: tuple[str, ...], body: list[list[str]]) -> Raw:
    """The segments of a master header one after the other: the same leads, rate and unit throughout, without gaps."""
    parts = []
    for name, length in _segments(path, body):
        part = _one_segment(path.with_name(f"{name}.hea"), read_header(path.with_name(f"{name}.hea")))
        if part.signal.shape[1] != length:
            raise corrupt(path, f"segment {name} holds {part.signal.shape[1]} samples instead of {length}")
        parts.append(part)
    first = parts[0]
    rates = {float(body[0][2].split("/")[0].split("(")[0]) if len(body[0]) > 2 else 250.0, *(p.rate for p in parts)}
    if len({part.names for part in parts}) > 1 or len(rates) > 1 or len({p.scale_uv is None for p in parts}) > 1:
        text = "its segments differ in leads, rate or calibration; split them into records of their own."
        raise RecordError("unsupported", f"{path.name}: {text}")
    steps = [np.ones(len(p.signal)) if p.scale_uv is None else np.asarray(p.scale_uv) for p in parts]
    scaled = [p.signal * (step / steps[0]).astype(np.float32)[:, None] for p, step in zip(parts, steps)]
    date = _base_date(body[0][4:], comments) or first.date
    age, sex = parse_age(_comment(comments, "age")), parse_sex(_comment(comments, "sex"))
    return replace(first, signal=np.concatenate(scaled, axis=1), date=date, age=age or first.age, sex=sex or first.sex)


def _segments(path: Path, body: list[list[str]]) -> list[tuple[str, int]]:
    """Name and length of every segment; all lie beside the master header. Header specification: section Segments."""
    count = body[0][0].partition("/")[2]
    if not count.isdigit() or not 0 < int(count) == len(body) - 1:
        raise _bad(path, f"{count} segments are announced but {len(body) - 1} are listed")
    if any(len(words) != 2 or not words[1].isdigit() for words in body[1:]):
        raise _bad(path, "a segment line is not a name and a number of samples")
    found = [(name, int(length)) for name, length in body[1:]]
    if any(name == "~" or not length for name, length in found):
        text = "a layout that varies, or a gap between segments, is not supported; cut out the segments you need."
        raise RecordError("unsupported", f"{path.name}: {text}")
    if not all(re.fullmatch(_NAME, name) for name, _ in found):
        raise _bad(path, "a segment's name is not allowed (a name, without suffix or folder)")
    refuse_large(path, sum(length for _, length in found) * max(1, int(body[0][1])))
    total = int(body[0][3]) if len(body[0]) > 3 else 0
    if total not in (0, sum(length for _, length in found)):
        raise _bad(path, f"{total} samples are announced, the segments add up to another number")
    return found
