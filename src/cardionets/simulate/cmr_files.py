"""Writers of simulated cines in the centres' own formats: UK Biobank zips of DICOM, zips of a whole study, and NIfTI.

A series is many small files that differ in a few elements, so the constant elements are encoded once and the rest per
frame, by a minimal encoder of DICOM Explicit VR Little Endian (PS3.5, 7.1.2). The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import AS_IS, AXES, Turn
from cardionets.files import atomic_path

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
LONG_FORM: Final = frozenset({"OB", "OW", "SQ", "UN"})
DESCRIPTIONS: Final = {"sax": "CINE_segmented_SAX_b{slice}", "4ch": "CINE_segmented_LAX_4Ch"}
ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Scan:
    """What a scanner writes beside the pixels. ``turn`` is how this scanner stores the canonical image."""

    person: str
    scanned: date
    sex: str = "O"
    age: int | None = None
    rr_ms: float | None = None
    manufacturer: str = "SIMULATED"
    model: str = "SIMULATED"
    field_t: float = 1.5
    turn: Turn = AS_IS


def uid(*parts: object) -> str:
    """A valid, reproducible DICOM UID below the root for UUIDs (PS3.5 B.2)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"


def element(tag: int, vr: str, value: bytes | str | tuple[float, ...]) -> bytes:
    """One data element in Explicit VR Little Endian; numbers of text VRs are joined by backslashes."""
    if isinstance(value, tuple):
        value = "\\".join(f"{v:.10g}" for v in value)
    raw = value.encode("latin-1") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    length = struct.pack("<HI", 0, len(raw)) if vr in LONG_FORM else struct.pack("<H", len(raw))
    return head + length + raw


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _constant(scan: Scan, view: str, frames: int, dtype: np.dtype[Any]) -> dict[int, bytes]:
    """Elements that every file of one series shares, except the geometry."""
    day = scan.scanned.strftime("%Y%m%d")
    texts: dict[int, tuple[str, str]] = {
        0x00080005: ("CS", "ISO_IR 100"),
        0x00080008: ("CS", "DERIVED\\PRIMARY\\OTHER\\SIMULATED"),
        0x00080016: ("UI", MR_IMAGE),
        0x00080020: ("DA", day),
        0x00080021: ("DA", day),
        0x00080030: ("TM", "120000"),
        0x00080050: ("SH", ""),
        0x00080060: ("CS", "MR"),
        0x00080070: ("LO", scan.manufacturer),
        0x00080090: ("PN", ""),
        0x00081090: ("LO", scan.model),
        0x00100010: ("PN", "SIMULATED"),
        0x00100020: ("LO", scan.person),
        0x00100030: ("DA", ""),
        0x00100040: ("CS", scan.sex),
        0x00101010: ("AS", "" if scan.age is None else f"{scan.age:03d}Y"),
        0x00180020: ("CS", "GR"),
        0x00180021: ("CS", "SK"),
        0x00180022: ("CS", "CG"),
        0x00180023: ("CS", "2D"),
        0x00180087: ("DS", f"{scan.field_t:g}"),
        0x00181090: ("IS", str(frames)),
        0x00185100: ("CS", "HFS"),
        0x0020000D: ("UI", uid(scan.person, day)),
        0x00200010: ("SH", "1"),
        0x00200052: ("UI", uid(scan.person, day, "space")),
        0x00201040: ("LO", ""),
        0x00204000: ("LT", "SIMULATED"),
        0x00280004: ("CS", "MONOCHROME2"),
    }
    if scan.rr_ms is not None:
        texts[0x00181062] = ("IS", f"{scan.rr_ms:.0f}")
    bits = 8 * dtype.itemsize
    numbers = {0x00280002: 1, 0x00280100: bits, 0x00280101: bits, 0x00280102: bits - 1, 0x00280103: 0}
    encoded = {tag: element(tag, vr, value) for tag, (vr, value) in texts.items()}
    return encoded | {tag: element(tag, "US", _us(value)) for tag, value in numbers.items()}


def _geometry(
    shape: tuple[int, int], spacing: tuple[float, float], step: float, axes: Any, depth: float
) -> dict[int, bytes]:
    """Elements of one slice: size, spacing, orientation, position; ``depth`` mm from the heart's middle to the apex."""
    right, down = axes
    normal = np.cross(AXES["sax"][1], AXES["sax"][0])
    corner = depth * normal - right * spacing[1] * (shape[1] - 1) / 2 - down * spacing[0] * (shape[0] - 1) / 2
    numbers = {
        0x00180050: (min(step, 8.0),),
        0x00180088: (step,),
        0x00200032: tuple(np.round(corner, 4)),
        0x00200037: tuple(np.round([*right, *down], 8)),
        0x00201041: (round(depth, 4),),
        0x00280030: spacing,
    }
    encoded = {tag: element(tag, "DS", value) for tag, value in numbers.items()}
    return encoded | {tag: element(tag, "US", _us(n)) for tag, n in zip((0x00280010, 0x00280011), shape)}


def _file_meta(instance: str) -> bytes:
    body = (
        element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", MR_IMAGE) + element(0x00020003, "UI", instance)
    )
    body += element(0x00020010, "UI", EXPLICIT_LITTLE) + element(0x00020012, "UI", uid("cardionets"))
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(body))) + body


class _Template:
    """A file of one slice with gaps for the elements that differ from frame to frame."""

    GAPS: Final = (0x00080018, 0x00181060, 0x00200013)

    def __init__(self, constant: dict[int, bytes]) -> None:
        edges = (0, *self.GAPS, 1 << 32)
        tags = sorted(constant)
        self.parts = [b"".join(constant[t] for t in tags if low < t < high) for low, high in pairwise(edges)]

    def fill(self, instance: str, number: int, time_ms: float, pixels: Pixels) -> bytes:
        """One whole DICOM file; ``pixels`` (H, W)."""
        vr = "OB" if pixels.dtype == np.uint8 else "OW"
        gaps = (
            element(0x00080018, "UI", instance),
            element(0x00181060, "DS", (round(time_ms, 3),)),
            element(0x00200013, "IS", str(number)),
            element(0x7FE00010, vr, pixels.tobytes()),
        )
        return _file_meta(instance) + b"".join(part + gap for part, gap in zip(self.parts, gaps))


def dicom_files(
    stack: Pixels, spacing_mm: tuple[float, float], step_mm: float, times_ms: NDArray[Any], view: str, scan: Scan
) -> Iterator[tuple[str, str, str, bytes]]:
    """Encode a stack (slice, frame, H, W), base first, or (frame, H, W).

    Yields file name, series UID, series description and the bytes of one DICOM file per slice and frame.
    """
    slices = stack[None] if stack.ndim == 3 else stack
    pixels = scan.turn.pixels(slices)
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    spacing = spacing_mm[::-1] if scan.turn.transpose else spacing_mm
    axes = scan.turn.axes(AXES[view])
    common = _constant(scan, view, pixels.shape[1], pixels.dtype)
    for k, cine in enumerate(pixels):
        series = uid(scan.person, scan.scanned, view, k)
        name = DESCRIPTIONS[view].format(slice=k + 1)
        depth = step_mm * (k - (len(pixels) - 1) / 2)
        own = {0x0008103E: element(0x0008103E, "LO", name), 0x0020000E: element(0x0020000E, "UI", series)}
        own[0x00200011] = element(0x00200011, "IS", str(k + 1))
        h, w = cine.shape[-2:]
        template = _Template(common | own | _geometry((h, w), spacing, step_mm, axes, depth))
        for f, frame in enumerate(cine):
            instance = uid(series, f)
            yield f"{instance}.dcm", series, name, template.fill(instance, f + 1, float(times_ms[f]), frame)


def write_dicom_zip(
    path: Path,
    stack: Pixels,
    *,
    spacing_mm: tuple[float, float],
    step_mm: float,
    times_ms: NDArray[Any],
    view: str,
    scan: Scan,
    level: int = 0,
) -> None:
    """Write a stack (slice, frame, H, W), base first, or (frame, H, W) as a zip of DICOM files with ``manifest.csv``.

    The layout of UK Biobank fields 20208 (long axis) and 20209 (short axis). ``spacing_mm`` (between rows, between
    columns) and ``stack`` are canonical; ``scan.turn`` turns them as the scanner would. ``step_mm`` between
    slices; ``times_ms`` (frame,) after the R wave; ``level`` 0 stores, 1-9 deflates.
    """
    lines = ["filename,patientid,studyid,seriesid,series discription,date"]
    study = uid(scan.person, scan.scanned.strftime("%Y%m%d"))
    members: dict[str, bytes] = {}
    for name, series, description, raw in dicom_files(stack, spacing_mm, step_mm, times_ms, view, scan):
        members[name] = raw
        lines.append(f"{name},{scan.person},{study},{series},{description},{scan.scanned:%Y-%m-%d}")
    _write_zip(path, members | {"manifest.csv": "\n".join(lines).encode() + b"\n"}, level)


def write_dicom_study(
    path: Path,
    cines: Mapping[Any, Pixels],
    *,
    spacing_mm: tuple[float, float],
    step_mm: float,
    times_ms: NDArray[Any],
    scan: Scan,
) -> None:
    """Write all views of one study, ``cines`` by view, as one zip: what a hospital's archive hands out on request."""
    members: dict[str, bytes] = {}
    for number, (view, cine) in enumerate(cines.items(), start=1):
        files = dicom_files(cine, spacing_mm, step_mm, times_ms, view, scan)
        members |= {f"SE{number:05d}/IM{k:05d}.dcm": raw for k, (*_, raw) in enumerate(files, start=1)}
    _write_zip(path, members)


def _write_zip(path: Path, members: Mapping[str, bytes], level: int = 0) -> None:
    method = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
    buffer = io.BytesIO()  # one write to disk instead of four per member
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level or None) as archive:
        for name, raw in members.items():
            archive.writestr(_member(name, method), raw)
    with atomic_path(path) as aside:
        aside.write_bytes(buffer.getbuffer())


def _member(name: str, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, ZIP_DATE)
    info.compress_type = method
    return info


def write_nifti(
    path: Path,
    cine: Pixels,
    *,
    spacing_mm: tuple[float, float],
    dt_ms: float,
    view: str = "sax",
    step_mm: float = 10.0,
    turn: Turn = AS_IS,
    level: int = 1,
) -> None:
    """Write a cine or a mask (frame, H, W), or a stack (slice, frame, H, W), as NIfTI-1 (x, y, slice, t).

    ``path`` ends in ``.nii`` or ``.nii.gz`` (compressed at ``level``). The pixels are canonical; ``turn`` turns them.
    The affine (right, anterior, superior) carries the orientation, the fourth zoom the time between frames in ms.
    """
    stack = turn.pixels(cine[None] if cine.ndim == 3 else cine)
    right, down = turn.axes(AXES[view])
    spacing = spacing_mm[::-1] if turn.transpose else spacing_mm
    affine = np.eye(4)
    to_ras = np.array([-1.0, -1.0, 1.0])
    normal = np.cross(AXES["sax"][1], AXES["sax"][0]) if view == "sax" else np.cross(right, down)
    affine[:3, :3] = np.stack([right * spacing[1], down * spacing[0], normal * step_mm], axis=1) * to_ras[:, None]
    # (slice, frame, H, W) -> (W, H, slice, frame)
    nifti: Any = nib.Nifti1Image
    image = nifti(np.transpose(stack, (3, 2, 0, 1)), affine)
    image.header.set_zooms((spacing[1], spacing[0], step_mm, dt_ms))
    image.header.set_xyzt_units("mm", "msec")
    image.header["descrip"] = b"SIMULATED"
    raw = image.to_bytes()
    with atomic_path(path) as aside:
        aside.write_bytes(gzip.compress(raw, level, mtime=0) if path.suffix == ".gz" else raw)
