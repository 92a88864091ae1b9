"""SCP-ECG (EN 1064): the rhythm data of section 6, plain or Huffman-coded with the default table.

Differences of order 0 to 2 are undone. Reference-beat subtraction, bimodal compression and custom tables are refused
by name, never half-decoded.
"""

from __future__ import annotations

import datetime as dt
import struct
from binascii import crc_hqx
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import Raw, age_at, corrupt, refuse_large
from cardionets.ecg import RecordError

DEFAULT_TABLE = 19999
_HEAD = 16
_LEADS = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF",
}  # fmt: skip


def sections(path: Path, data: bytes) -> dict[int, bytes]:
    """Bodies of the sections by number, each checked against its CRC (CCITT, start value 0xFFFF)."""
    if len(data) < 2 * _HEAD or data[16:22] != b"SCPECG":
        raise corrupt(path, "the SCP-ECG pointer section is missing")
    size = struct.unpack_from("<I", data, 10)[0]
    found = {}
    for start in range(6 + _HEAD, min(6 + size, len(data)) - 9, 10):
        number, length, index = struct.unpack_from("<HII", data, start)
        if length > _HEAD and index:
            block = data[index - 1 : index - 1 + length]
            if len(block) < length or struct.unpack_from("<H", block)[0] != crc_hqx(block[2:], 0xFFFF):
                raise corrupt(path, f"section {number} is cut off or its checksum does not fit")
            found[number] = block[_HEAD:]
    return found


def _tags(body: bytes) -> dict[int, bytes]:
    tags, at = {}, 0
    while at + 3 <= len(body) and body[at] != 255:
        length = struct.unpack_from("<H", body, at + 1)[0]
        tags[body[at]] = body[at + 3 : at + 3 + length]
        at += 3 + length
    return tags


def _date(raw: bytes | None, clock: bytes | None = None) -> dt.datetime | None:
    if raw is None or len(raw) < 4:
        return None
    year, month, day = struct.unpack_from("<HBB", raw)
    hour, minute, second = clock[:3] if clock is not None and len(clock) >= 3 else (0, 0, 0)
    try:
        return dt.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def huffman(data: bytes, samples: int) -> NDArray[np.int64]:
    """Decode ``samples`` values of the default table; raises ``ValueError`` where the data end early.

    n ones, a zero and a sign bit stand for n up to 8; nine ones and a zero go before 8 bits, ten ones before 16 bits.
    """
    bits = int.from_bytes(data, "big")
    left = 8 * len(data)
    text = f"{bits:0{left}b}" if left else ""
    out = np.empty(samples, np.int64)
    at = 0
    for i in range(samples):
        stop = text.find("0", at, at + 10)
        ones = stop - at if stop >= 0 else 10
        length = {0: 1, 8: 10, 9: 18, 10: 26}.get(ones, ones + 2)
        if at + length > left:
            raise ValueError("the coded samples end early")
        out[i] = _huffman_value(text[at : at + length], ones)
        at += length
    return out


def _huffman_value(code: str, ones: int) -> int:
    if ones == 0:
        return 0
    if ones < 9:
        return -ones if code[-1] == "1" else ones
    raw = int(code[10:], 2)
    return raw - (1 << (len(code) - 10)) if code[10] == "1" else raw


def _values(data: bytes, samples: int, order: int, coded: bool) -> NDArray[np.int64]:
    stored = huffman(data, samples) if coded else np.frombuffer(data, "<i2", samples).astype(np.int64)
    if order == 0:
        return stored
    if order == 1:
        return np.cumsum(stored)
    # Second differences: the first two samples are stored as they are
    steps = stored[1] - stored[0] + np.concatenate([[0], np.cumsum(stored[2:])])
    return np.concatenate([stored[:1], stored[0] + np.cumsum(steps)])


def _check_leads(path: Path, body: bytes) -> tuple[tuple[str, ...], int]:
    count, flags = body[0], body[1]
    if flags & 1:
        raise RecordError(
            "unsupported", f"{path.name}: reference-beat subtraction is not supported; export without it."
        )
    spans = [struct.unpack_from("<IIB", body, 2 + 9 * i) for i in range(count)]
    lengths = {end - start + 1 for start, end, _ in spans}
    if len(lengths) != 1:
        raise RecordError(
            "unsupported", f"{path.name}: leads of different length are not supported; export them whole."
        )
    refuse_large(path, count * max(lengths))
    return tuple(_LEADS.get(lead, f"lead {lead}") for *_, lead in spans), lengths.pop()


def read_scp(path: Path) -> Raw:
    """An SCP-ECG file: all leads of its rhythm section, each section checked against its checksum."""
    parts = sections(path, path.read_bytes())
    if 3 not in parts or 6 not in parts:
        raise corrupt(path, "the lead or the rhythm section is missing")
    names, samples = _check_leads(path, parts[3])
    nanovolts, micros, order, bimodal = struct.unpack_from("<HHBB", parts[6])
    table = parts.get(2)
    if bimodal or order > 2 or (table is not None and struct.unpack_from("<H", table)[0] != DEFAULT_TABLE):
        raise RecordError(
            "unsupported", f"{path.name}: bimodal or custom compression is not supported; export without it."
        )
    sizes = struct.unpack_from(f"<{len(names)}H", parts[6], 6)
    at, rows = 6 + 2 * len(names), []
    for size in sizes:
        rows.append(_values(parts[6][at : at + size], samples, order, table is not None))
        at += size
    tags = _tags(parts.get(1, b""))
    date, born = _date(tags.get(25), tags.get(26)), _date(tags.get(5))
    return Raw(
        np.stack(rows),
        names,
        1e6 / micros if micros else None,
        nanovolts / 1000,
        person=tags.get(2, b"").rstrip(b"\0").decode("latin-1") or None,
        date=date,
        age=age_at(born, date),
        sex={b"\x01": "M", b"\x02": "F"}.get(tags.get(8, b"")),
    )
