"""WFDB records: headers as PhysioNet specifies them; samples of format 16 are read here, every other format by wfdb.

Header specification: https://physionet.org/physiotools/wag/header-5.htm. MIMIC-IV-ECG, PTB-XL, PTB, CPSC and CinC 2020
and 2021 all use format 16, in ``.dat`` or in ``.mat`` (the same samples after a header of 24 bytes).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import MAX_BYTES, Raw, corrupt, parse_age, parse_date, parse_sex, unit_uv
from cardionets.ecg import RecordError

_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_GAIN = re.compile(r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)?(?:\(([-+]?\d+)\))?(?:/(\S+))?$")
MISSING = {
    **dict.fromkeys((80, 508), -(2**7)), **dict.fromkeys((310, 311), -(2**9)), 212: -(2**11),
    **dict.fromkeys((16, 61, 160, 516), -(2**15)), **dict.fromkeys((24, 524), -(2**23)), 32: -(2**31),
}  # fmt: skip
"""The lowest number of each signal format stands for a missing sample (signal(5) of the WFDB manual)."""


@dataclass(frozen=True)
class Channel:
    """One signal line of a header; ``checksum`` None where the header stops short of it."""

    file: str
    format: int
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
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
    """Parse ``.hea``; raises ``RecordError`` (``header_invalid``) naming the line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = tuple(line.lstrip("# ").rstrip() for line in lines if line.startswith("#"))
    body = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not body or len(body[0]) < 2:
        raise _bad(path, "the record line is missing")
    first = body[0]
    if "/" in first[0]:
        raise RecordError(
            "unsupported", f"{path.name}: multi-segment records are not supported; join the segments first."
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", first[0]):
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


def _channel(path: Path, parts: list[str]) -> Channel:
    kind = _FORMAT.match(parts[1]) if len(parts) > 1 else None
    if kind is None or Path(parts[0]).name != parts[0]:
        raise _bad(path, f"signal line {' '.join(parts)!r} is not understood or leaves the folder")
    gain = _GAIN.match(parts[2]) if len(parts) > 2 else None
    if len(parts) > 2 and gain is None:
        raise _bad(path, f"gain {parts[2]!r} is not understood")
    size = float(gain[1]) if gain and gain[1] else 0.0
    zero = int(parts[4]) if len(parts) > 4 else 0
    return Channel(
        file=parts[0],
        format=int(kind[1]),
        per_frame=int(kind[2] or 1),
        skew=int(kind[3] or 0),
        offset=int(kind[4] or 0),
        gain=size,
        baseline=int(gain[2]) if gain and gain[2] else zero,
        unit=gain[3] if gain and gain[3] else "mV",
        checksum=int(parts[6]) if len(parts) > 6 else None,
        name=" ".join(parts[8:]) or f"channel {parts[0]}",
    )


def _format16(path: Path, header: Header) -> NDArray[np.int16]:
    """Samples of every channel, (lead, T) int16, file by file; checked against length and checksums."""
    rows: list[NDArray[np.int16]] = []
    for file in dict.fromkeys(channel.file for channel in header.channels):
        group = [channel for channel in header.channels if channel.file == file]
        source = path.with_name(file)
        data = np.fromfile(source, "<i2", offset=group[0].offset)
        length = header.samples or len(data) // len(group)
        if len(data) < length * len(group):
            raise corrupt(path, f"{file} holds {len(data) // len(group)} samples per lead instead of {length}")
        rows += list(data[: length * len(group)].reshape(length, len(group)).T)  # (T, lead) -> (lead, T)
    signal = np.stack(rows)
    _verify(path, header, signal)
    return signal


def _verify(path: Path, header: Header, signal: NDArray[np.int16]) -> None:
    sums = signal.sum(axis=1, dtype=np.int64)
    for channel, total in zip(header.channels, sums):
        if channel.checksum is not None and (int(total) - channel.checksum) % 65536:
            raise corrupt(path, f"the checksum of lead {channel.name} does not fit")


def _physical(header: Header, digital: NDArray[Any]) -> NDArray[np.float32]:
    baseline = np.array([channel.baseline for channel in header.channels], np.float32)
    signal = digital.astype(np.float32) - baseline[:, None] if baseline.any() else digital.astype(np.float32)
    if (lost := digital == MISSING[16]).any():
        signal[lost] = np.nan
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
        signal = digital.astype(np.float64) - channel.baseline
        signal[digital == MISSING.get(channel.format)] = np.nan
        rows.append(signal.reshape(-1, channel.per_frame).mean(axis=1))
    return np.stack(rows)


def _check_files(path: Path, header: Header) -> None:
    """Every signal file must lie beside the header and be no larger than one recording is."""
    for file in dict.fromkeys(channel.file for channel in header.channels):
        source = path.with_name(file)
        if not source.is_file():
            raise RecordError(
                "unreadable", f"{path.name}: its signal file {file} is missing; copy it beside the header."
            )
        if source.stat().st_size > MAX_BYTES:
            raise RecordError("too_large", f"{file}: more than {MAX_BYTES >> 20} MiB are not one recording; check it.")


def read_wfdb(path: Path) -> Raw:
    """A WFDB record given its ``.hea``, ``.dat`` or ``.mat``: any unit spelling, several signal files."""
    path = path.with_suffix(".hea")
    header = read_header(path)
    _check_files(path, header)
    simple = all(c.format == 16 and c.per_frame == 1 and c.skew == 0 for c in header.channels)
    signal = _physical(header, _format16(path, header)) if simple else _by_library(path, header)
    uncalibrated = any(channel.gain == 0 for channel in header.channels)
    scale = None if uncalibrated else np.array([unit_uv(c.unit, path) / c.gain for c in header.channels if c.gain])
    return Raw(
        signal,
        tuple(channel.name for channel in header.channels),
        header.rate,
        scale,
        date=header.date,
        age=parse_age(_comment(header.comments, "age")),
        sex=parse_sex(_comment(header.comments, "sex")),
    )
