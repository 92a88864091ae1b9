"""DICOM cines: a folder, a single-person zip of UK Biobank (fields 20208 and 20209), or any zip of one study.

A source may hold many series: the view is found by the series' description or by its plane, the slice by its position
in the stack, the phase by TriggerTime. What cannot be trusted is refused with file, field and remedy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import AXES, MIN_FRAMES, VIEWS, Cine, middle_slice, plane
from cardionets.cohorts.archive import files_in
from cardionets.cohorts.dicom_header import DEFLATED, MAGIC, NEEDED, Header, read_header
from cardionets.config import StudyError

NOT_A_CINE: Final = re.compile(r"inlinevf|scout|localizer|loc\b|flow|tagging|lge|shmolli|t1map|t2map", re.IGNORECASE)
NAMED: Final = {
    "sax": re.compile(r"sax|sa[_ ]|short", re.IGNORECASE),
    "4ch": re.compile(r"4[ _-]?ch|four|hla", re.IGNORECASE),
    "2ch": re.compile(r"2[ _-]?ch|two|vla", re.IGNORECASE),
    "3ch": re.compile(r"3[ _-]?ch|three|lvot", re.IGNORECASE),
}


@dataclass(frozen=True)
class _Plane:
    """Directions (2, 3) of growing column and row, the normal that grows towards the apex, and the view they show."""

    axes: NDArray[np.float64]
    normal: NDArray[np.float64]
    view: str


@lru_cache(maxsize=64)
def _plane(text: str) -> _Plane:
    """ImageOrientationPatient as a plane; the images of one scan share a few."""
    axes = _numbers("ImageOrientationPatient", text, 6).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        raise StudyError("ImageOrientationPatient: the directions are not orthogonal unit vectors; mend the header.")
    normal = np.cross(axes[0], axes[1])
    towards_apex = float(normal @ np.cross(AXES["sax"][1], AXES["sax"][0]))
    return _Plane(axes, normal if towards_apex >= 0 else -normal, plane(axes))


@lru_cache(maxsize=64)
def _named_view(description: str) -> str | None:
    """The view that a series' description names: "" for no cine at all, None where it names none."""
    if NOT_A_CINE.search(description):
        return ""
    named = [view for view, pattern in NAMED.items() if pattern.search(description)]
    return named[0] if len(named) == 1 else None


@dataclass(frozen=True)
class _Image:
    """One file's header; its pixels stay undecoded in ``data`` until they are wanted."""

    name: str
    data: Header
    series: str
    series_number: int
    description: str
    plane: _Plane
    depth: float
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    time_ms: float | None
    number: int

    @property
    def view(self) -> str:
        """Named by the description, else told by the plane."""
        named = _named_view(self.description)
        return self.plane.view if named is None else named


def read_dicom_series(source: Path, view: str) -> Cine:
    """The cine of one view (``"sax"``: its mid-ventricular slice; ``"4ch"``) from a folder, a zip or a file of DICOM.

    ``frames`` (frame, H, W) in the stored dtype, float32 after a rescale; spacing in mm; times in ms after the R wave.
    Raises StudyError where the source is missing, damaged, incomplete, of another view or without its geometry.
    """
    if view not in VIEWS:
        raise StudyError(f"{source.name}: view: {view!r} is unknown; use one of {', '.join(VIEWS)}.")
    images = [_header(name, raw) for name, raw in files_in(source) if _is_dicom(name, raw)]
    wanted = [image for image in images if image.view == view]
    if not wanted:
        found = sorted({f"{i.description or 'unnamed'} ({i.view or 'no cine'})" for i in images}) or ["no DICOM image"]
        raise StudyError(f"{source.name}: view: no {view} cine, only {', '.join(found)}; give the right series.")
    return _cine(*_middle(source, wanted), source, view)


def _is_dicom(name: str, raw: bytes) -> bool:
    if raw[128:132] == MAGIC:
        return not name.upper().endswith("DICOMDIR")
    if name.lower().endswith(".dcm"):
        raise StudyError(f"{name}: no DICOM header (bytes 128-132); the file is cut short or foreign, copy it again.")
    return False


def _header(name: str, raw: bytes) -> _Image:
    if DEFLATED in raw[:1024]:
        raise StudyError(
            f"{name}: transfer syntax: deflated DICOM is not read; convert it to Explicit VR Little Endian."
        )
    try:
        data = read_header(raw)
        fields = _fields(data)
    except StudyError as error:
        raise StudyError(f"{name}: {error}") from None
    except Exception as error:  # bytes from elsewhere can fail anywhere inside the parser
        raise StudyError(f"{name}: unreadable DICOM ({type(error).__name__}); copy it again from the source.") from None
    return _Image(name, data, **fields)


def _numbers(keyword: str, text: str, count: int) -> NDArray[np.float64]:
    """The decimal numbers of one element: (count,)."""
    values = np.array([float(part) for part in text.split("\\")], dtype=np.float64)
    if len(values) != count or not np.isfinite(values).all():
        raise StudyError(f"{keyword}: {count} finite numbers expected, found {len(values)}; mend the header.")
    return values


@lru_cache(maxsize=256)
def _geometry(orientation: str, position: str, spacing: str) -> tuple[_Plane, float, tuple[float, float]]:
    """Plane, depth along its normal and pixel spacing; the images of one slice share all three."""
    where = _plane(orientation)
    corner = _numbers("ImagePositionPatient", position, 3)
    rows, columns = _numbers("PixelSpacing", spacing, 2).tolist()
    return where, round(float(corner @ where.normal), 1), (rows, columns)


def _fields(data: Header) -> dict[str, Any]:
    missing = [key for key in NEEDED if key not in data.values]
    if missing:
        raise StudyError(f"{', '.join(missing)}: missing; export the original images with their geometry.")
    if int(data.text("NumberOfFrames") or 1) > 1 or data.short("SamplesPerPixel") > 1:
        raise StudyError("NumberOfFrames, SamplesPerPixel: multi-frame or colour; export single grey frames.")
    place = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    where, depth, spacing_mm = _geometry(*(data.text(key) for key in place))
    time = data.text("TriggerTime")
    return {
        "series": data.text("SeriesInstanceUID"),
        "series_number": int(data.text("SeriesNumber") or 0),
        "description": data.text("SeriesDescription"),
        "plane": where,
        "depth": depth,
        "spacing_mm": spacing_mm,
        "shape": (data.short("Rows"), data.short("Columns")),
        "time_ms": float(time) if time else None,
        "number": int(data.text("InstanceNumber") or 0),
    }


def _middle(source: Path, images: Sequence[_Image]) -> tuple[list[_Image], int]:
    """The images of the middle slice, of the last series where it was scanned again, and the number of slices."""
    groups: dict[tuple[float, int, str], list[_Image]] = defaultdict(list)
    for image in images:
        groups[image.depth, image.series_number, image.series].append(image)
    slices = {depth: group for (depth, _, _), group in sorted(groups.items()) if len(group) >= MIN_FRAMES}
    if not slices:
        most = max(map(len, groups.values()))
        raise StudyError(
            f"{source.name}: frames: at most {most} per slice, {MIN_FRAMES} needed; copy the whole series."
        )
    depths = sorted(slices)
    return slices[depths[middle_slice(depths)]], len(depths)


def _cine(images: Sequence[_Image], slices: int, source: Path, view: str) -> Cine:
    if len({(i.shape, i.spacing_mm, i.plane.axes.tobytes()) for i in images}) > 1:
        raise StudyError(
            f"{source.name}: Rows, PixelSpacing, ImageOrientationPatient: differ within one series; split it."
        )
    images, times, notes = _ordered(source, images)
    first = images[0].data
    return Cine(
        frames=np.stack([_pixels(image) for image in images]),
        spacing_mm=images[0].spacing_mm,
        times_ms=times,
        view=view,
        axes=images[0].plane.axes,
        rr_ms=_cycle(first),
        source=source.name,
        scanned=_day(first),
        slices=slices,
        notes=notes,
    )


def _ordered(
    source: Path, images: Sequence[_Image]
) -> tuple[list[_Image], NDArray[np.float64] | None, tuple[str, ...]]:
    """The frames in time, their times (frame,), and what had to be assumed."""
    given = [image.time_ms for image in images if image.time_ms is not None]
    if len(given) < len(images) or len(set(given)) == 1:
        ordered = sorted(images, key=lambda i: i.number)
        return ordered, None, ("TriggerTime is absent: frames taken by InstanceNumber, evenly spaced over one cycle",)
    ordered = sorted(images, key=lambda i: i.time_ms or 0.0)
    times = np.array([i.time_ms for i in ordered], dtype=np.float64)
    steps = np.diff(times)
    if not np.isfinite(times).all() or steps.min() <= 0:
        raise StudyError(
            f"{source.name}: TriggerTime: repeats within one slice; keep one reconstruction of the series."
        )
    declared = ordered[0].data.text("CardiacNumberOfImages")
    if steps.max() > 1.8 * np.median(steps) or (declared.isdigit() and int(declared) > len(images)):
        raise StudyError(f"{source.name}: TriggerTime: {len(images)} frames, some are missing; copy the whole series.")
    return ordered, times, ()


def _pixels(image: _Image) -> NDArray[Any]:
    """Grey values (H, W) of one file, rescaled where its header says so."""
    try:
        pixels = _plain(image)
        if pixels is None:
            pixels = np.asarray(image.data.dataset.pixel_array)
        slope = float(image.data.text("RescaleSlope") or 1)
        intercept = float(image.data.text("RescaleIntercept") or 0)
        inverted = image.data.text("PhotometricInterpretation") == "MONOCHROME1"
    except Exception as error:
        raise StudyError(
            f"{image.name}: PixelData: cannot be decoded ({type(error).__name__}); copy it again or decompress it."
        ) from None
    if pixels.shape != image.shape:
        raise StudyError(f"{image.name}: PixelData: shape {pixels.shape} instead of {image.shape}; copy it again.")
    if (slope, intercept) != (1.0, 0.0):
        pixels = (pixels * slope + intercept).astype(np.float32)
    return pixels.max() - pixels if inverted else pixels


def _plain(image: _Image) -> NDArray[Any] | None:
    """The pixels (H, W) where they lie uncompressed as unsigned 8- or 16-bit little-endian numbers, else None."""
    data = image.data
    bits = data.short("BitsAllocated")
    if not data.plain or bits not in (8, 16) or data.short("PixelRepresentation"):
        return None
    rows, columns = image.shape
    return np.frombuffer(data.values["PixelData"], f"<u{bits // 8}", rows * columns).reshape(rows, columns)


def _cycle(data: Header) -> float | None:
    """Length of the cardiac cycle in ms, from NominalInterval or HeartRate; None where both are absent or absurd."""
    try:
        interval = float(data.text("NominalInterval") or 0) or 60_000 / float(data.text("HeartRate") or np.inf)
    except (ValueError, ZeroDivisionError):
        return None
    return interval if 250 <= interval <= 3000 else None


def _day(data: Header) -> date | None:
    for key in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        try:
            return datetime.strptime(data.text(key), "%Y%m%d").date()
        except ValueError:
            continue
    return None
