"""European Data Format (Kemp 1992; EDF+ 2003): continuous files, annotations and other channels left out.

Header fields are ASCII of fixed width; samples are int16, data record by data record, channel after channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import Raw, age_at, corrupt, parse_date, parse_sex, unit_uv
from cardionets.ecg import RecordError, lead_name

_WIDTHS = {
    "label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8, "digital_min": 8, "digital_max": 8,
    "filter": 80, "samples": 8, "reserved": 32,
}  # fmt: skip
_FIXED = 256


@dataclass(frozen=True)
class _Header:
    patient: str
    start: str
    records: int
    seconds: float
    fields: dict[str, list[str]]


def _header(path: Path, data: bytes) -> _Header:
    if len(data) < _FIXED or data[:8].strip() != b"0":
        raise corrupt(path, "the EDF header is cut off")
    text = data.decode("latin-1")
    count = int(text[252:256])
    if "EDF+D" in text[192:236]:
        raise RecordError("unsupported", f"{path.name}: an interrupted recording (EDF+D) is not supported; split it.")
    if not 0 < count <= 256 or len(text) < _FIXED * (count + 1):
        raise corrupt(path, f"{count} channels are announced")
    fields, at = {}, _FIXED
    for name, width in _WIDTHS.items():
        fields[name] = [text[at + i * width : at + (i + 1) * width].strip() for i in range(count)]
        at += width * count
    start = f"{text[168:176]} {text[176:184]}"
    return _Header(text[8:88], start, int(text[236:244]), float(text[244:252]), fields)


def _scaling(path: Path, head: _Header, channel: int) -> tuple[float, float]:
    # uV per step, and uV at step 0
    low, high, bottom, top = (
        float(head.fields[name][channel]) for name in ("physical_min", "physical_max", "digital_min", "digital_max")
    )
    unit = unit_uv(head.fields["unit"][channel], path)
    if top == bottom or low == high:
        raise RecordError("unit_unknown", f"{path.name}: channel {channel} has no calibration; declare it and convert.")
    step = (high - low) / (top - bottom)
    return step * unit, (low - bottom * step) * unit


def _samples(path: Path, head: _Header, data: bytes, wanted: list[int]) -> NDArray[np.int16]:
    sizes = [int(size) for size in head.fields["samples"]]
    per = {sizes[channel] for channel in wanted}
    if len(per) != 1 or min(per) < 1:
        raise RecordError("unsupported", f"{path.name}: the leads have different sampling rates; export them alike.")
    flat = np.frombuffer(data[_FIXED * (len(sizes) + 1) :], np.uint8)
    records = len(flat) // (2 * sum(sizes)) if head.records < 0 else head.records
    if records < 1 or len(flat) < 2 * records * sum(sizes):
        raise corrupt(path, f"{records} data records do not fit in {len(flat)} bytes")
    table = flat[: 2 * records * sum(sizes)].view("<i2").reshape(records, sum(sizes))
    starts = np.cumsum([0, *sizes])
    parts = [table[:, starts[c] : starts[c] + sizes[c]].reshape(-1) for c in wanted]  # (record, step) -> (T)
    return np.stack(parts)


def read_edf(path: Path) -> Raw:
    """The ECG leads of an EDF or EDF+C file."""
    data = path.read_bytes()
    head = _header(path, data)
    labels = head.fields["label"]
    wanted = [channel for channel, label in enumerate(labels) if lead_name(label)]
    if not wanted:
        raise RecordError(
            "leads_unknown", f"{path.name}: no channel is an ECG lead ({', '.join(labels)}); rename them."
        )
    signal = _samples(path, head, data, wanted)
    scale, zero = np.array([_scaling(path, head, channel) for channel in wanted]).T
    words = head.patient.split()
    date = parse_date(head.start, ("%d.%m.%y %H.%M.%S",))
    born = parse_date(words[2], ("%d-%b-%Y",)) if len(words) > 2 else None
    return Raw(
        signal * np.sign(scale)[:, None] + (zero / np.abs(scale))[:, None],
        tuple(labels[channel] for channel in wanted),
        int(head.fields["samples"][wanted[0]]) / head.seconds if head.seconds > 0 else None,
        np.abs(scale),
        person=words[0] if words and words[0] != "X" else None,
        date=date,
        age=age_at(born, date),
        sex=parse_sex(words[1]) if len(words) > 1 else None,
    )
