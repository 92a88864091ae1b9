"""ECG in XML: UK Biobank CardioSoft, GE MUSE, Philips and HL7 aECG, told apart by their root element.

Parsed by defusedxml: entities are refused, and nothing outside the file is ever opened.
"""

from __future__ import annotations

import base64
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from defusedxml.ElementTree import parse
from numpy.typing import NDArray

from cardionets.cohorts import xli
from cardionets.cohorts.recording import Raw, age_at, corrupt, parse_age, parse_date, parse_sex, refuse_large, unit_uv
from cardionets.ecg import RecordError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Kind = Literal["rhythm", "median"]


def _local(node: Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _every(node: Element, name: str) -> Iterator[Element]:
    return (child for child in node.iter() if _local(child) == name)


def _find(node: Element | None, *names: str) -> Element | None:
    """The first descendant called ``names[0]``, in it the first called ``names[1]``, and so on."""
    for name in names:
        node = next(_every(node, name), None) if node is not None else None
    return node


def _text(node: Element | None, *names: str) -> str | None:
    found = _find(node, *names)
    return found.text.strip() if found is not None and found.text else None


def _value(node: Element | None, *names: str, attribute: str = "value") -> str | None:
    found = _find(node, *names)
    return found.get(attribute) if found is not None else None


def _need(path: Path, what: str, text: str | None) -> str:
    if text is None:
        raise RecordError("unreadable", f"{path.name}: {what} is missing; export the file anew.")
    return text


def _number(path: Path, what: str, text: str | None) -> float:
    try:
        return float(_need(path, what, text))
    except ValueError:
        raise RecordError(
            "unreadable", f"{path.name}: {what} {text!r} is not a number; export the file anew."
        ) from None


def _integers(path: Path, lead: str, text: str, separator: str) -> NDArray[np.int32]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            values = np.fromstring(text, np.int64, sep=separator)
        except (DeprecationWarning, ValueError):
            raise corrupt(path, f"lead {lead} holds something that is not a whole number") from None
    if (separator == "," and len(values) != text.count(",") + 1) or np.abs(values).max(initial=0) > 2**30:
        raise corrupt(path, f"lead {lead} holds empty or impossible samples")
    return values.astype(np.int32)


def _stack(path: Path, rows: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    if not rows or len({len(row) for row in rows}) != 1 or not len(rows[0]):
        raise corrupt(path, "the leads are missing or differ in length")
    return np.stack(rows)


def read_xml(path: Path, kind: Kind = "rhythm") -> Raw:
    """An ECG in XML of any known dialect; ``kind="median"`` gives the stored median beat of CardioSoft and MUSE."""
    root = parse(path).getroot()
    if root is None:
        raise corrupt(path, "the document is empty")
    name = _local(root)
    if name == "CardiologyXML":
        return _cardiosoft(path, root, kind)
    if name == "RestingECG":
        return _muse(path, root, kind)
    if name == "restingecgdata":
        return _philips(path, root)
    if name == "AnnotatedECG":
        return _hl7(path, root)
    raise RecordError(
        "format_unknown", f"{path.name}: XML of kind {name!r} is not an ECG format known here; convert it."
    )


def _cardiosoft(path: Path, root: Element, kind: Kind) -> Raw:
    block = _find(root, "StripData" if kind == "rhythm" else "MedianSamples")
    if block is None:
        raise RecordError("unreadable", f"{path.name}: no full strips or beats are in the file; export the file anew.")
    waves = list(_every(block, "WaveformData"))
    names = tuple(wave.get("lead", "") for wave in waves)
    signal = _stack(path, [_integers(path, n, w.text or "", ",") for n, w in zip(names, waves)])
    total = _text(block, "ChannelSampleCountTotal")
    if total is not None and total.isdigit() and int(total) != signal.shape[1]:
        raise corrupt(path, f"{signal.shape[1]} samples per lead are stored, {total} are announced")
    unit = _value(block, "Resolution", attribute="units") or ""
    if unit.lower() != "uvperlsb":
        raise RecordError(
            "unit_unknown", f"{path.name}: Resolution in {unit!r} is not uVperLsb; declare it and convert."
        )
    when = _find(root, "ObservationDateTime")
    stamp = "-".join(_text(when, part) or "0" for part in ("Year", "Month", "Day", "Hour", "Minute", "Second"))
    date = parse_date(stamp, ("%Y-%m-%d-%H-%M-%S",))
    birth = _find(root, "PatientInfo", "BirthDateTime")
    born = parse_date("-".join(_text(birth, part) or "" for part in ("Year", "Month", "Day")), ("%Y-%m-%d",))
    return Raw(
        signal,
        names,
        _number(path, "SampleRate", _text(block, "SampleRate")),
        _number(path, "Resolution", _text(block, "Resolution")),
        person=_text(root, "PatientInfo", "PID"),
        date=date,
        age=parse_age(_text(root, "PatientInfo", "Age")) or age_at(born, date),
        sex=parse_sex(_text(root, "PatientInfo", "Gender")),
        device=_text(root, "DeviceInfo", "Desc"),
    )


def _muse_lead(path: Path, lead: Element) -> NDArray[np.int32]:
    name = _text(lead, "LeadID") or "?"
    data = base64.b64decode("".join((_text(lead, "WaveFormData") or "").split()), validate=True)
    check = _text(lead, "LeadDataCRC32")
    if check is not None and int(check) != zlib.crc32(data):
        raise corrupt(path, f"the checksum of lead {name} does not fit")
    if (_text(lead, "LeadSampleSize") or "2") != "2" or len(data) % 2:
        raise corrupt(path, f"lead {name} is not stored in 16 bits")
    total = _text(lead, "LeadSampleCountTotal")
    if total is not None and int(total) != len(data) // 2:
        raise corrupt(path, f"lead {name} holds {len(data) // 2} samples, {total} are announced")
    return np.frombuffer(data, "<i2").astype(np.int32)


def _muse(path: Path, root: Element, kind: Kind) -> Raw:
    blocks = [w for w in _every(root, "Waveform") if (_text(w, "WaveformType") or "").lower() == kind]
    if len(blocks) != 1:
        raise RecordError("unreadable", f"{path.name}: {len(blocks)} {kind} waveforms instead of one; export it anew.")
    leads = list(_every(blocks[0], "LeadData"))
    units = [unit_uv(_text(lead, "LeadAmplitudeUnits") or "", path) for lead in leads]
    steps = [_number(path, "LeadAmplitudeUnitsPerBit", _text(lead, "LeadAmplitudeUnitsPerBit")) for lead in leads]
    exponent = _number(path, "SampleExponent", _text(blocks[0], "SampleExponent") or "0")
    time = f"{_text(root, 'AcquisitionDate')} {_text(root, 'AcquisitionTime')}"
    person = _find(root, "PatientDemographics")
    return Raw(
        _stack(path, [_muse_lead(path, lead) for lead in leads]),
        tuple(_text(lead, "LeadID") or "" for lead in leads),
        _number(path, "SampleBase", _text(blocks[0], "SampleBase")) * 10**exponent,
        np.multiply(units, steps),
        person=_text(person, "PatientID"),
        date=parse_date(time, ("%m-%d-%Y %H:%M:%S",)),
        age=parse_age(_text(person, "PatientAge"), _text(person, "AgeUnits")),
        sex=parse_sex(_text(person, "Gender")),
        device=_text(root, "TestDemographics", "AcquisitionDevice"),
    )


def _philips(path: Path, root: Element) -> Raw:
    block = _find(root, "parsedwaveforms")
    if block is None or not block.text:
        raise RecordError("unreadable", f"{path.name}: parsedwaveforms is missing; export the file anew.")
    rate = _number(path, "samplespersecond", block.get("samplespersecond") or _text(root, "samplingrate"))
    names = tuple((block.get("leadlabels") or "").split()[: int(block.get("numberofleads") or 12)])
    samples = round(_number(path, "durationperchannel", block.get("durationperchannel")) * rate / 1000)
    data = base64.b64decode("".join(block.text.split()), validate=True)
    method = (block.get("compression") or block.get("compressmethod") or "").upper()
    refuse_large(path, samples * len(names))
    if method not in ("XLI", "", "NONE", "UNCOMPRESSED") or samples * len(names) < 1:
        raise RecordError("unsupported", f"{path.name}: compression {method!r} is not supported; export without it.")
    plain = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    if method != "XLI" and len(plain) != samples * len(names):
        raise corrupt(path, f"{len(plain)} samples are stored instead of {samples * len(names)}")
    signal = xli.decode(data, len(names), samples) if method == "XLI" else plain.reshape(len(names), samples)
    person = _find(root, "generalpatientdata")
    moment = _find(root, "dataacquisition")
    date = parse_date(f"{_value(moment, attribute='date')} {_value(moment, attribute='time')}", ("%Y-%m-%d %H:%M:%S",))
    return Raw(
        signal,
        names,
        rate,
        _number(path, "resolution", block.get("resolution") or _text(root, "resolution")),
        person=_text(person, "patientid"),
        date=date,
        age=parse_age(_text(person, "age", "years"))
        or age_at(parse_date(_text(person, "dateofbirth"), ("%Y-%m-%d",)), date),
        sex=parse_sex(_text(person, "sex")),
    )


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_STAMPS = ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d")


def _hl7_rate(path: Path, block: Element) -> float:
    step = _find(block, "increment")
    unit = step.get("unit", "s") if step is not None else "s"
    seconds = _number(path, "increment", _value(block, "increment")) * _SECONDS.get(unit, np.nan)
    if not seconds > 0:
        raise RecordError("rate_unknown", f"{path.name}: a time step in {unit!r} is not understood; correct the file.")
    return round(1 / seconds, 6)


def _hl7(path: Path, root: Element) -> Raw:
    block = _find(root, "series", "sequenceSet")
    if block is None:
        raise RecordError("unreadable", f"{path.name}: no rhythm series is in the file; export the file anew.")
    leads = [s for s in _every(block, "sequence") if "ECG_LEAD" in (_value(s, "code", attribute="code") or "")]
    names = tuple(_value(lead, "code", attribute="code") or "" for lead in leads)
    rows = [_integers(path, n, _text(lead, "digits") or "", " ") for n, lead in zip(names, leads)]
    signal = _stack(path, rows)
    units = [unit_uv(_value(lead, "scale", attribute="unit") or "", path) for lead in leads]
    scale = np.multiply(units, [_number(path, "scale", _value(lead, "scale")) for lead in leads])
    origin = [
        _number(path, "origin", _value(lead, "origin") or "0")
        * unit_uv(_value(lead, "origin", attribute="unit") or "uV", path)
        for lead in leads
    ]
    person = _find(root, "trialSubject")
    time = _find(root, "effectiveTime")
    date = parse_date(_value(time, "low") or _value(time, "center"), _STAMPS)
    return Raw(
        signal + (np.divide(origin, scale))[:, None] if np.any(origin) else signal,
        names,
        _hl7_rate(path, block),
        scale,
        person=_value(person, "id", attribute="extension"),
        date=date,
        age=age_at(parse_date(_value(person, "birthTime"), _STAMPS), date),
        sex=parse_sex(_value(person, "administrativeGenderCode", attribute="code")),
        device=_text(root, "manufacturedSeriesDevice", "manufacturerModelName"),
    )
