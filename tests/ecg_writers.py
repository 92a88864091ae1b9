"""Writers of the formats that no simulated centre uses, with the signature of ``cardionets.simulate.ecg_files``.

Every one is written from the format's description and shares nothing with the reader it tests.
"""

from __future__ import annotations

import base64
import struct
from binascii import crc_hqx
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import wfdb
from numpy.typing import NDArray
from scipy.io import savemat

Ints = NDArray[np.int64]
Meta = Mapping[str, Any]
SCP_NUMBERS = {"I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8}
SCP_NUMBERS |= {"III": 61, "aVR": 62, "aVL": 63, "aVF": 64}
LIMBS = ("I", "II", "III", "aVR", "aVL", "aVF")


def _bits(text: str) -> bytes:
    """A string of 0 and 1, filled up to whole bytes."""
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


# ---- EDF


def write_edf(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """EDF+C of one data record: all channels alike, digital range -10000 to 10000."""
    n, samples = len(leads), counts.shape[1]
    born = meta["date"].year - meta["age"]
    who, seconds = f"{meta['person']} {meta['sex']} 01-JAN-{born} X", f"{samples / rate:.6f}"[:8]
    head = f"{'0':8}{who:80}{'Startdate X':80}" + meta["date"].strftime("%d.%m.%y%H.%M.%S")
    head += f"{256 * (n + 1):<8}{meta.get('reserved', 'EDF+C'):44}{1:<8}{seconds:8}{n:<4}"
    ends = [f"{lsb_uv * end:g}" for end in (-10_000, 10_000)]
    columns = [(16, leads), (80, [""] * n), (8, ["uV"] * n), (8, [ends[0]] * n), (8, [ends[1]] * n)]
    columns += [(8, ["-10000"] * n), (8, ["10000"] * n), (80, [""] * n), (8, [str(samples)] * n), (32, [""] * n)]
    head += "".join(f"{value:{width}}" for width, values in columns for value in values)
    path.write_bytes(head.encode("ascii") + counts.astype("<i2").tobytes())


# ---- SCP-ECG


def huffman(values: Sequence[int]) -> bytes:
    """The default table of SCP-ECG."""
    text = ""
    for value in values:
        if value == 0:
            text += "0"
        elif abs(value) <= 8:
            text += "1" * abs(value) + "0" + ("1" if value < 0 else "0")
        elif -128 <= value < 128:
            text += "1111111110" + f"{value & 0xFF:08b}"
        else:
            text += "1" * 10 + f"{value & 0xFFFF:016b}"
    return _bits(text)


def _tag(number: int, body: bytes) -> bytes:
    return struct.pack("<BH", number, len(body)) + body


def _section(number: int, body: bytes) -> bytes:
    block = struct.pack("<HIBB6s", number, len(body) + 16, 20, 20, b"\0" * 6) + body
    return struct.pack("<H", crc_hqx(block, 0xFFFF)) + block


def write_scp(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """SCP-ECG with pointers and the sections 1, 2, 3 and 6: second differences under the default Huffman table."""
    date, samples = meta["date"], counts.shape[1]
    who = _tag(2, meta["person"].encode() + b"\0") + _tag(5, struct.pack("<HBB", date.year - meta["age"], 1, 1))
    who += _tag(8, {"M": b"\1", "F": b"\2"}[meta["sex"]]) + _tag(25, struct.pack("<HBB", *date.timetuple()[:3]))
    who += _tag(26, bytes(date.timetuple()[3:6])) + b"\xff\0\0"
    described = b"".join(struct.pack("<IIB", 1, samples, SCP_NUMBERS[lead]) for lead in leads)
    second = [np.concatenate([row[:2], row[2:] - 2 * row[1:-1] + row[:-2]]).tolist() for row in counts]
    coded = [huffman(row) for row in second]
    rhythm = struct.pack("<HHBB", round(lsb_uv * 1000), round(1e6 / rate), 2, 0)
    rhythm += struct.pack(f"<{len(coded)}H", *map(len, coded)) + b"".join(coded)
    parts = {1: who, 2: struct.pack("<H", 19999), 3: bytes([len(leads), 0]) + described, 6: rhythm}
    blocks = {number: _section(number, body) for number, body in parts.items()}
    at, entries = 6 + 16 + 10 * (len(blocks) + 1) + 1, struct.pack("<HII", 0, 16 + 10 * (len(blocks) + 1), 7)
    for number, block in blocks.items():
        entries += struct.pack("<HII", number, len(block), at)
        at += len(block)
    pointers = struct.pack("<HIBB6s", 0, len(entries) + 16, 20, 20, b"SCPECG") + entries
    body = struct.pack("<H", crc_hqx(pointers, 0xFFFF)) + pointers + b"".join(blocks.values())
    content = struct.pack("<I", len(body) + 6) + body
    path.write_bytes(struct.pack("<H", crc_hqx(content, 0xFFFF)) + content)


# ---- Philips


def lzw(data: bytes) -> bytes:
    """LZW of 10-bit codes, ended by 1023."""
    table = {bytes([i]): i for i in range(256)}
    codes, held = [], b""
    for byte in data:
        grown = held + bytes([byte])
        if grown in table:
            held = grown
            continue
        codes.append(table[held])
        if len(table) < 1023:
            table[grown] = len(table)
        held = bytes([byte])
    return _bits("".join(f"{code:010b}" for code in [*codes, table[held], 1023]))


def xli_lead(lead: Ints) -> bytes:
    """One lead as XLI stores it: second differences of the third sample on, high bytes before low bytes."""
    second = 2 * lead[1:-1] - lead[:-2] - lead[2:]
    stored = np.concatenate([lead[:2], second[1:] + 64, [64]]).astype("<i2").view("<u2")
    packed = lzw((stored >> 8).astype(np.uint8).tobytes() + (stored & 255).astype(np.uint8).tobytes())
    return struct.pack("<iHh", len(packed), 1, int(second[0])) + packed


def _limb_residuals(limbs: Mapping[str, Ints]) -> list[Ints]:
    one, two, three = (limbs[lead] for lead in LIMBS[:3])
    rest = [two - one - three, -limbs["aVR"] - (one + two) // 2, (one - three) // 2 - limbs["aVL"]]
    return [one, two, *rest, (two + three) // 2 - limbs["aVF"]]


def write_philips(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """Philips XML with XLI; the format begins with the six limb leads in their usual order."""
    named = dict(zip(leads, counts))
    chest = [lead for lead in leads if lead not in LIMBS]
    rows = [*_limb_residuals(named), *(named[lead] for lead in chest)]
    data = base64.b64encode(b"".join(map(xli_lead, rows))).decode()
    date, samples = meta["date"], counts.shape[1]
    text = f"""<?xml version="1.0" encoding="utf-16"?>
<restingecgdata xmlns="http://www3.medical.philips.com">
 <dataacquisition date="{date:%Y-%m-%d}" time="{date:%H:%M:%S}"><signalcharacteristics>
  <samplingrate>{rate:g}</samplingrate><resolution>{lsb_uv:g}</resolution></signalcharacteristics></dataacquisition>
 <patient><generalpatientdata><patientid>{meta["person"]}</patientid><age><years>{meta["age"]}</years></age>
  <sex>{meta["sex"]}</sex></generalpatientdata></patient>
 <waveforms><parsedwaveforms dataencoding="Base64" compression="XLI" numberofleads="{len(rows)}"
  leadlabels="{" ".join([*LIMBS, *chest])}" durationperchannel="{1000 * samples / rate!r}"
  samplespersecond="{rate:g}" resolution="{lsb_uv:g}">{data}</parsedwaveforms></waveforms></restingecgdata>"""
    path.write_bytes(text.encode("utf-16"))


# ---- HL7 aECG


def write_hl7(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """HL7 annotated ECG: one series of one sequence set."""
    sequence = '<component><sequence><code code="{code}"/><value>{value}</value></sequence></component>'
    time = sequence.format(code="TIME_ABSOLUTE", value=f'<increment value="{1 / rate!r}" unit="s"/>')
    scale = f'<origin value="0" unit="uV"/><scale value="{lsb_uv:g}" unit="uV"/>'
    digits = (f"{scale}<digits>{' '.join(map(str, row))}</digits>" for row in counts.tolist())
    body = "".join(sequence.format(code=f"MDC_ECG_LEAD_{n.upper()}", value=v) for n, v in zip(leads, digits))
    date = meta["date"]
    path.write_text(f"""<AnnotatedECG xmlns="urn:hl7-org:v3"><effectiveTime><low value="{date:%Y%m%d%H%M%S}"/>
</effectiveTime><trialSubject><id extension="{meta["person"]}"/><subjectDemographicPerson>
<administrativeGenderCode code="{meta["sex"]}"/><birthTime value="{date.year - meta["age"]}0101"/>
</subjectDemographicPerson></trialSubject><component><series><component><sequenceSet>{time}{body}
</sequenceSet></component></series></component></AnnotatedECG>""")


# ---- WFDB in a packed signal format


def write_wfdb_212(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """WFDB of format 212, by the library: two samples of 12 bits in three bytes."""
    wfdb.wrsamp(
        path.stem, fs=rate, units=["uV"] * len(leads), sig_name=list(leads), d_signal=counts.T,
        fmt=["212"] * len(leads), adc_gain=[1 / lsb_uv] * len(leads), baseline=[0] * len(leads),
        write_dir=str(path.parent), comments=[f"Age: {meta['age']}", f"Sex: {meta['sex']}"],
        base_date=meta["date"].date(), base_time=meta["date"].time(),
    )  # fmt: skip


# ---- bare arrays, which say nothing but their numbers


def write_npy(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """(T, lead) in uV."""
    np.save(path, counts.T * lsb_uv)


def write_csv(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """A column per lead in uV under its name."""
    np.savetxt(path, counts.T * lsb_uv, delimiter=";", header=";".join(leads), comments="")


def write_hdf5(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """One recording (T, lead) in uV and its rate."""
    with h5py.File(path, "w") as file:
        file["tracings"], file["fs"] = counts.T * lsb_uv, float(rate)


def write_mat(path: Path, counts: Ints, rate: float, lsb_uv: float, leads: Sequence[str], meta: Meta) -> None:
    """MATLAB 5, compressed."""
    savemat(path, {"feats": counts * lsb_uv, "fs": float(rate)}, do_compression=True)
