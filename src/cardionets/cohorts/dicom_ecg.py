"""DICOM waveforms of a resting ECG (PS3.3 C.10.9): 12-lead, general and ambulatory storage classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cardionets.cohorts.recording import Raw, age_at, corrupt, parse_age, parse_date, parse_sex, unit_uv
from cardionets.ecg import RecordError, lead_name

# Last part of MDC codes 2:N and of SCP-ECG codes 5.6.3-9-N (DICOM context group 3001), which share their numbers.
_LEAD_BY_NUMBER = {
    "1": "I", "2": "II", "61": "III", "62": "aVR", "63": "aVL", "64": "aVF",
    "3": "V1", "4": "V2", "5": "V3", "6": "V4", "7": "V5", "8": "V6",
}  # fmt: skip
_DTYPES = {(16, "SS"): "<i2", (16, "US"): "<u2", (8, "SB"): "i1", (8, "UB"): "u1", (32, "SL"): "<i4"}


def _lead(channel: Any) -> str:
    source = channel.ChannelSourceSequence[0]
    value, scheme = str(source.get("CodeValue", "")), str(source.get("CodingSchemeDesignator", ""))
    number = value.rpartition(":")[2] if scheme == "MDC" else value.rpartition("-")[2]
    by_code = _LEAD_BY_NUMBER.get(number) if scheme in ("MDC", "SCPECG") else None
    meaning = str(source.get("CodeMeaning", ""))
    return by_code or meaning or str(channel.get("ChannelLabel", ""))


def _rhythm(path: Path, dataset: Any) -> Any:
    """The longest multiplex group with at least eight channels (a median beat is shorter)."""
    groups = [g for g in dataset.get("WaveformSequence", []) if int(g.NumberOfWaveformChannels) >= 8]
    if not groups:
        raise RecordError(
            "unreadable", f"{path.name}: no waveform of eight leads or more is in the file; export it anew."
        )
    return max(groups, key=lambda g: int(g.NumberOfWaveformSamples) / float(g.SamplingFrequency))


def _samples(path: Path, dataset: Any, group: Any) -> NDArray[Any]:
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        raise RecordError("unsupported", f"{path.name}: big-endian DICOM is not supported; convert it.")
    kind = (int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation))
    if kind not in _DTYPES:
        raise RecordError("unsupported", f"{path.name}: samples stored as {kind} are not supported; convert them.")
    channels, samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    flat = np.frombuffer(group.WaveformData, _DTYPES[kind])
    if not channels * samples <= len(flat) <= channels * samples + 1:
        raise corrupt(path, f"{len(flat)} samples are stored instead of {channels * samples}")
    return flat[: channels * samples].reshape(samples, channels).T  # (T, lead) -> (lead, T)


def _microvolts(path: Path, channel: Any) -> tuple[float, float]:
    # uV per step and uV at step 0
    if "ChannelSensitivity" not in channel or "ChannelSensitivityUnitsSequence" not in channel:
        return float("nan"), 0.0
    unit = unit_uv(str(channel.ChannelSensitivityUnitsSequence[0].CodeValue), path)
    step = float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor", 1) or 1)
    return step * unit, float(channel.get("ChannelBaseline", 0) or 0) * unit


def read_dicom_ecg(path: Path) -> Raw:
    """The rhythm group of a DICOM ECG: leads by code, sensitivity with its correction factor, baseline applied."""
    import pydicom

    from cardionets.cohorts.dicom_header import DEFLATED

    with path.open("rb") as handle:
        if DEFLATED in handle.read(1024):
            raise RecordError("unsupported", f"{path.name}: deflated DICOM is not supported; convert it.")
    dataset = pydicom.dcmread(path)
    group = _rhythm(path, dataset)
    channels = list(group.ChannelDefinitionSequence)
    signal = _samples(path, dataset, group)
    if len(channels) != len(signal):
        raise corrupt(path, f"{len(channels)} channels are described, {len(signal)} are stored")
    scale, zero = np.array([_microvolts(path, channel) for channel in channels]).T
    stated = bool(np.isfinite(scale).all())
    moment = str(dataset.get("AcquisitionDateTime", ""))[:14]
    date = parse_date(moment, ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d"))
    born = parse_date(str(dataset.get("PatientBirthDate", "")), ("%Y%m%d",))
    names = tuple(_lead(channel) for channel in channels)
    return Raw(
        signal + (zero / scale)[:, None] if stated and zero.any() else signal,
        names if any(lead_name(name) for name in names) else None,
        float(group.SamplingFrequency),
        scale if stated else None,
        person=str(dataset.get("PatientID", "")) or None,
        date=date,
        age=parse_age(str(dataset.get("PatientAge", ""))) or age_at(born, date),
        sex=parse_sex(str(dataset.get("PatientSex", ""))),
        device=f"{dataset.get('Manufacturer', '')} {dataset.get('ManufacturerModelName', '')}",
    )
