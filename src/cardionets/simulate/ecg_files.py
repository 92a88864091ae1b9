"""Writers of the centres' own ECG files: UK Biobank CardioSoft XML, GE MUSE XML, DICOM 12-lead waveform and WFDB.

Every writer takes the numbers a device stores: ``counts`` int (lead, T) in steps of ``lsb_uv`` microvolts, the lead
names in stored order, and ``meta`` with any of ``person`` (str), ``date`` (datetime), ``age`` (y), ``sex`` ("F"/"M"),
``height_cm``, ``weight_kg``, ``beat`` (int (lead, B): a median beat in the same steps), ``measurements`` (by name),
``device`` (the recorder's model; WFDB has no field for it) and ``comments``. The bytes depend on the arguments only,
and the instance UID of DICOM on the file name.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from cardionets.files import atomic_path

Counts = NDArray[np.integer[Any]]
Meta = Mapping[str, Any]

_SEX = {"F": "FEMALE", "M": "MALE"}


def _stored(counts: Counts) -> NDArray[np.int16]:
    """Counts as little-endian int16, saturated; -32768 is left free, since WFDB reads it as a missing sample."""
    return np.clip(counts, -32767, 32767).astype("<i2")


def _save(path: Path, content: bytes) -> None:
    with atomic_path(path) as aside:
        aside.write_bytes(content)


def _tags(pairs: Mapping[str, object], indent: str) -> str:
    return "".join(
        f"{indent}<{tag}>{escape(str(value))}</{tag}>\n" for tag, value in pairs.items() if value is not None
    )


@lru_cache(maxsize=1)
def _numerals() -> list[str]:
    return [str(n) for n in range(-32768, 32768)]


def _csv(row: NDArray[np.int16]) -> str:
    return ",".join(map(_numerals().__getitem__, (row.astype(np.int32) + 32768).tolist()))


def _notice(meta: Meta) -> str:
    """The comments of ``meta`` as XML comments, one a line."""
    return "".join(f"<!-- {escape(str(text)).replace('--', '- -')} -->\n" for text in meta.get("comments", ()))


def _waveforms(counts: Counts, leads: Sequence[str], indent: str) -> str:
    rows = zip(leads, _stored(counts))
    return "".join(f'{indent}<WaveformData lead="{escape(lead)}">{_csv(row)}</WaveformData>\n' for lead, row in rows)


def write_cardiosoft(
    path: Path, counts: Counts, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta | None = None
) -> None:
    """CardioSoft ``CardiologyXML`` as in UK Biobank field 20205: full strips, and ``meta["beat"]`` where given."""
    meta = meta or {}
    date: dt.datetime | None = meta.get("date")
    when = (
        ""
        if date is None
        else _tags({n: getattr(date, n.lower()) for n in ("Hour", "Minute", "Second", "Day", "Month", "Year")}, "\t\t")
    )
    person = {
        "PID": meta.get("person"), "Age": meta.get("age"), "Gender": _SEX.get(str(meta.get("sex"))),
        "Height": meta.get("height_cm"), "Weight": meta.get("weight_kg"),
    }  # fmt: skip
    scale = f'\t\t<SampleRate units="Hz">{rate:g}</SampleRate>\n'
    step = f'\t\t<Resolution units="uVperLsb">{lsb_uv:g}</Resolution>\n'
    beat = meta.get("beat")
    median = (
        ""
        if beat is None
        else (
            f"\t\t<MedianSamples>\n\t\t<NumberOfLeads>{len(leads)}</NumberOfLeads>\n{scale}"
            f"\t\t<ChannelSampleCountTotal>{beat.shape[1]}</ChannelSampleCountTotal>\n{step}"
            f"{_waveforms(beat, leads, chr(9) * 3)}\t\t</MedianSamples>\n"
        )
    )
    text = (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{_notice(meta)}<CardiologyXML>\n'
        "\t<ObservationType>RestECG</ObservationType>\n"
        f"\t<ObservationDateTime>\n{when}\t</ObservationDateTime>\n\t<PatientInfo>\n{_tags(person, chr(9) * 2)}"
        f"\t</PatientInfo>\n{_recorder(meta)}"
        f"\t<RestingECGMeasurements>\n{_tags(meta.get('measurements', {}), chr(9) * 2)}{median}"
        f"\t</RestingECGMeasurements>\n\t<StripData>\n\t\t<NumberOfLeads>{len(leads)}</NumberOfLeads>\n{scale}"
        f"\t\t<ChannelSampleCountTotal>{counts.shape[1]}</ChannelSampleCountTotal>\n{step}"
        f"{_waveforms(counts, leads, chr(9) * 2)}\t</StripData>\n</CardiologyXML>\n"
    )
    _save(path, text.encode("latin-1", "xmlcharrefreplace"))


def _recorder(meta: Meta) -> str:
    if not meta.get("device"):
        return ""
    described = _tags({"Desc": meta["device"]}, "\t\t\t")
    return f"\t<ClinicalInfo>\n\t\t<DeviceInfo>\n{described}\t\t</DeviceInfo>\n\t</ClinicalInfo>\n"


def _muse_lead(lead: str, row: NDArray[np.int16], lsb_uv: float) -> str:
    raw = row.tobytes()
    facts = {
        "LeadByteCountTotal": len(raw), "LeadTimeOffset": 0, "LeadSampleCountTotal": len(row),
        "LeadAmplitudeUnitsPerBit": f"{lsb_uv:g}", "LeadAmplitudeUnits": "MICROVOLTS", "LeadID": lead,
        "LeadSampleSize": 2, "LeadDataCRC32": zlib.crc32(raw),
    }  # fmt: skip
    data = base64.b64encode(raw).decode("ascii")
    return f"      <LeadData>\n{_tags(facts, ' ' * 9)}         <WaveFormData>{data}</WaveFormData>\n      </LeadData>\n"


def _muse_waveform(kind: str, counts: Counts, rate: float, lsb_uv: float, leads: Sequence[str]) -> str:
    facts = {
        "WaveformType": kind, "NumberofLeads": len(leads), "SampleType": "CONTINUOUS_SAMPLES",
        "SampleBase": f"{rate:g}", "SampleExponent": 0,
    }  # fmt: skip
    body = "".join(_muse_lead(lead, row, lsb_uv) for lead, row in zip(leads, _stored(counts)))
    return f"   <Waveform>\n{_tags(facts, ' ' * 6)}{body}   </Waveform>\n"


def write_muse(
    path: Path, counts: Counts, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta | None = None
) -> None:
    """GE MUSE ``RestingECG`` XML: usually the eight leads I, II, V1-V6 at 4.88 uV per bit, base64 of int16."""
    meta = meta or {}
    date: dt.datetime | None = meta.get("date")
    age = meta.get("age")
    person = {
        "PatientID": meta.get("person"), "PatientAge": age, "AgeUnits": None if age is None else "YEARS",
        "Gender": _SEX.get(str(meta.get("sex"))),
    }  # fmt: skip
    test = {"DataType": "RESTING", "AcquisitionDevice": meta.get("device") or None}
    if date is not None:
        test |= {"AcquisitionTime": date.strftime("%H:%M:%S"), "AcquisitionDate": date.strftime("%m-%d-%Y")}
    beat = meta.get("beat")
    text = (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{_notice(meta)}<RestingECG>\n'
        f"   <PatientDemographics>\n{_tags(person, ' ' * 6)}   </PatientDemographics>\n"
        f"   <TestDemographics>\n{_tags(test, ' ' * 6)}   </TestDemographics>\n"
        f"   <RestingECGMeasurements>\n{_tags(meta.get('measurements', {}), ' ' * 6)}   </RestingECGMeasurements>\n"
        f"{'' if beat is None else _muse_waveform('Median', beat, rate, lsb_uv, leads)}"
        f"{_muse_waveform('Rhythm', counts, rate, lsb_uv, leads)}</RestingECG>\n"
    )
    _save(path, text.encode("latin-1", "xmlcharrefreplace"))


# ISO/IEEE 11073-10101 codes of DICOM context group 3001 (ECG leads).
MDC_LEADS = {
    "I": ("2:1", "MDC_ECG_LEAD_I"), "II": ("2:2", "MDC_ECG_LEAD_II"), "III": ("2:61", "MDC_ECG_LEAD_III"),
    "aVR": ("2:62", "MDC_ECG_LEAD_AVR"), "aVL": ("2:63", "MDC_ECG_LEAD_AVL"), "aVF": ("2:64", "MDC_ECG_LEAD_AVF"),
    "V1": ("2:3", "MDC_ECG_LEAD_V1"), "V2": ("2:4", "MDC_ECG_LEAD_V2"), "V3": ("2:5", "MDC_ECG_LEAD_V3"),
    "V4": ("2:6", "MDC_ECG_LEAD_V4"), "V5": ("2:7", "MDC_ECG_LEAD_V5"), "V6": ("2:8", "MDC_ECG_LEAD_V6"),
}  # fmt: skip


def _code(value: str, scheme: str, meaning: str) -> DicomSequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return DicomSequence([item])


def _channel(lead: str, lsb_uv: float) -> Dataset:
    channel = Dataset()
    channel.ChannelSourceSequence = _code(MDC_LEADS[lead][0], "MDC", MDC_LEADS[lead][1])
    channel.ChannelSensitivity = f"{lsb_uv:g}"
    channel.ChannelSensitivityUnitsSequence = _code("uV", "UCUM", "microvolt")
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    return channel


@lru_cache(maxsize=32)
def _multiplex(leads: tuple[str, ...], samples: int, rate: float, lsb_uv: float) -> bytes:
    """The encoded waveform item up to its samples, the same for all recordings of one device."""
    item = Dataset()
    item.WaveformOriginality = "ORIGINAL"
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = len(leads), samples
    item.SamplingFrequency = f"{rate:g}"
    item.MultiplexGroupLabel = "RHYTHM"
    item.ChannelDefinitionSequence = DicomSequence([_channel(lead, lsb_uv) for lead in leads])
    item.WaveformBitsAllocated, item.WaveformSampleInterpretation = 16, "SS"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, item)
    return bytes(buffer.getvalue())


def _length(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _waveform_sequence(counts: Counts, leads: tuple[str, ...], rate: float, lsb_uv: float) -> bytes:
    # Explicit VR little endian: WaveformSequence (5400,0100), one item (FFFE,E000), at its end WaveformData (5400,1010)
    samples = np.ascontiguousarray(_stored(counts).T).tobytes()  # (T, lead)
    item = _multiplex(leads, counts.shape[1], rate, lsb_uv) + b"\x00\x54\x10\x10OW\0\0" + _length(samples)
    return b"\x00\x54\x00\x01SQ\0\0" + _length(b"\xfe\xff\x00\xe0" + _length(item))


def write_dicom_ecg(
    path: Path, counts: Counts, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta | None = None
) -> None:
    """DICOM 12-lead ECG waveform (PS3.3 A.34.3), explicit VR little endian, one multiplex group."""
    meta = meta or {}
    ds = Dataset()
    ds.SOPClassUID = TwelveLeadECGWaveformStorage
    ds.SOPInstanceUID = "2.25." + str(
        int.from_bytes(hashlib.blake2b(path.name.encode(), digest_size=16).digest(), "big")
    )
    ds.Modality, ds.PatientID, ds.PatientSex = "ECG", str(meta.get("person", "")), str(meta.get("sex") or "")
    ds.PatientAge = "" if meta.get("age") is None else f"{int(meta['age']):03d}Y"
    if meta.get("device"):
        ds.ManufacturerModelName = str(meta["device"])
    if meta.get("comments"):
        ds.PatientComments = "; ".join(map(str, meta["comments"]))
    date: dt.datetime | None = meta.get("date")
    if date is not None:
        ds.AcquisitionDateTime = date.strftime("%Y%m%d%H%M%S")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    head = io.BytesIO()
    ds.save_as(head, enforce_file_format=True)
    _save(path, head.getvalue() + _waveform_sequence(counts, tuple(leads), rate, lsb_uv))


def write_wfdb(
    path: Path, counts: Counts, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta | None = None
) -> None:
    """WFDB record of format 16: ``path`` without suffix or with ``.hea``; the samples go to ``.dat`` beside it.

    Gain in counts per mV; ``meta["comments"]`` and age and sex become comment lines as in PhysioNet's sets.
    """
    meta = meta or {}
    header = path.with_suffix(".hea")
    stored = _stored(counts)  # (lead, T)
    date: dt.datetime | None = meta.get("date")
    when = "" if date is None else date.strftime(" %H:%M:%S %d/%m/%Y")
    lines = [f"{header.stem} {len(leads)} {rate:g} {stored.shape[1]}{when}"]
    sums = stored.sum(axis=1, dtype=np.int64).astype(np.int16)
    for lead, first, total in zip(leads, stored[:, 0], sums):
        lines.append(f"{header.stem}.dat 16 {1000 / lsb_uv:.10g}(0)/mV 16 0 {first} {total} 0 {lead}")
    lines += [f"# Age: {meta['age']:g}"] if meta.get("age") is not None else []
    lines += [f"# Sex: {_SEX[meta['sex']].capitalize()}"] if meta.get("sex") in _SEX else []
    lines += [f"# {comment}" for comment in meta.get("comments", ())]
    _save(header.with_suffix(".dat"), np.ascontiguousarray(stored.T).tobytes())  # (T, lead)
    _save(header, ("\n".join(lines) + "\n").encode("utf-8"))
