"""Writers and readers of cines: round trips, hostile archives, damaged bytes, and refusals with their reason."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from cardionets import cmr
from cardionets.cmr import TURNS, Turn
from cardionets.cohorts import archive, dicom_cine, dicom_header
from cardionets.cohorts.archive import files_in
from cardionets.cohorts.cines import measure_masks, read_cine, read_mask
from cardionets.cohorts.dicom_cine import read_dicom_series
from cardionets.cohorts.nifti_cine import LABELS, read_nifti_cine, read_nifti_masks, read_nifti_stack, read_pair
from cardionets.cohorts.segmented import read_acdc, read_mms
from cardionets.config import Grid, StudyError
from cardionets.simulate.cmr_files import Scan, dicom_files, write_dicom_study, write_dicom_zip, write_nifti

SCAN = Scan("1000012", date(2017, 3, 4), "F", 61, rr_ms=840.0, field_t=1.5)
TIMES = np.arange(12) * 70.0
SPACING = (1.8, 1.5)


def pixels(slices: int = 3, dtype: type = np.uint16, frames: int = 12) -> np.ndarray:
    return np.random.default_rng(slices).integers(0, 250, (slices, frames, 20, 24)).astype(dtype)


def write_zip(path: Path, stack: np.ndarray, view: str = "sax", scan: Scan = SCAN, level: int = 0) -> Path:
    times = np.arange(stack.shape[-3]) * 70.0
    write_dicom_zip(path, stack, spacing_mm=SPACING, step_mm=10, times_ms=times, view=view, scan=scan, level=level)
    return path


def write_series(path: Path, stack: np.ndarray, view: str = "sax", scan: Scan = SCAN) -> Path:
    times = np.arange(stack.shape[-3]) * 70.0
    path.mkdir(parents=True)
    for number, (*_, raw) in enumerate(dicom_files(stack, SPACING, 10, times, view, scan), start=1):
        (path / f"IM{number:05d}.dcm").write_bytes(raw)
    return path


def edited(folder: Path, change: Callable[[int, pydicom.Dataset], None]) -> Path:
    """Rewrite every file of a series with pydicom after ``change(number, dataset)``."""
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        data = pydicom.dcmread(path)
        change(number, data)
        data.save_as(path)
    return folder


# ---- what is written


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("view", cmr.VIEWS)
def test_an_independent_parser_reads_every_file(tmp_path: Path, dtype: type, view: str) -> None:
    stack = pixels(2, dtype)
    write_zip(tmp_path / "a.zip", stack, view)
    with zipfile.ZipFile(tmp_path / "a.zip") as zipped:
        names = [name for name in zipped.namelist() if name.endswith(".dcm")]
        assert "manifest.csv" in zipped.namelist() and len(names) == 24
        lines = zipped.read("manifest.csv").decode().splitlines()
        assert len(lines) == 25 and all(len(line.split(",")) == 6 for line in lines)
        files = [pydicom.dcmread(io.BytesIO(zipped.read(name))) for name in names]
    for number, data in enumerate(files):
        assert np.array_equal(data.pixel_array, stack[number // 12, number % 12])
        assert data.TriggerTime == TIMES[number % 12] and data.NominalInterval == 840
        assert data.PixelSpacing == list(SPACING) and data.PatientSex == "F" and data.PatientAge == "061Y"
        assert "SIMULATED" in data.ImageType and data.ImageComments == "SIMULATED"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        right, down = np.reshape(data.ImageOrientationPatient, (2, 3)).astype(float)
        assert np.allclose([right, down], cmr.AXES[view], atol=1e-7)
    assert len({data.SOPInstanceUID for data in files}) == 24
    assert len({data.SeriesInstanceUID for data in files}) == 2 and len({data.StudyInstanceUID for data in files}) == 1
    assert all(uid.is_valid for data in files for uid in (data.SOPInstanceUID, data.SeriesInstanceUID))
    # pydicom writes the same dataset back without complaint
    files[0].save_as(tmp_path / "again.dcm", enforce_file_format=True)


def test_elements_stand_in_ascending_order() -> None:
    *_, raw = next(dicom_files(pixels(), SPACING, 10, TIMES, "sax", SCAN))
    tags = [element.tag for element in pydicom.dcmread(io.BytesIO(raw))]
    assert tags == sorted(tags)


@pytest.mark.parametrize("level", [0, 1])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, level: int) -> None:
    first, second = (write_zip(tmp_path / f"{name}.zip", pixels(), level=level) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    for name in "ab":
        write_nifti(tmp_path / f"{name}.nii.gz", pixels()[0], spacing_mm=SPACING, dt_ms=70.0)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


# ---- round trips


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("view", cmr.VIEWS)
def test_dicom_and_nifti_come_back_the_same(tmp_path: Path, turn: Turn, view: str) -> None:
    stack = pixels(3) if view == "sax" else pixels(1)
    wanted = stack[len(stack) // 2]
    scan = Scan("7", date(2020, 1, 2), turn=turn, rr_ms=840.0)
    paths = [write_zip(tmp_path / "a.zip", stack, view, scan), write_series(tmp_path / "series", stack, view, scan)]
    study = tmp_path / "study.zip"
    cines = {"sax": stack, "4ch": stack[0]} if view == "sax" else {"sax": pixels(3) // 2, "4ch": stack[0]}
    write_dicom_study(study, cines, spacing_mm=SPACING, step_mm=10, times_ms=TIMES, scan=scan)
    paths += [study, tmp_path / "a.nii", tmp_path / "a.nii.gz"]
    for path in paths[3:]:
        write_nifti(path, stack, spacing_mm=SPACING, dt_ms=70.0, view=view, turn=turn)
    for path in paths:
        cine = read_cine(path, view)
        back = cmr.canonical_turn(cine).cine(cine)
        assert np.array_equal(back.frames, wanted), path.name
        assert back.spacing_mm == pytest.approx(SPACING)
        assert back.times_ms is not None and np.allclose(back.times_ms, TIMES)
        assert back.notes == ()
    assert read_cine(paths[0], view).scanned == date(2020, 1, 2)
    assert read_cine(paths[0], view).rr_ms == 840


@settings(max_examples=15, deadline=None)
@given(
    slices=st.integers(1, 5),
    frames=st.integers(4, 9),
    deep=st.booleans(),
    spacing=st.tuples(st.floats(0.4, 4.9), st.floats(0.4, 4.9)),
    rate=st.floats(35, 180),
)
def test_any_size_spacing_and_rate(
    tmp_path_factory: pytest.TempPathFactory,
    slices: int,
    frames: int,
    deep: bool,
    spacing: tuple[float, float],
    rate: float,
) -> None:
    folder = tmp_path_factory.mktemp("cine")
    stack = pixels(slices, np.uint16 if deep else np.uint8, frames)
    times = np.arange(frames) * 60_000 / rate / frames
    scan = Scan("9", date(2019, 5, 6), rr_ms=60_000 / rate)
    write_dicom_zip(folder / "a.zip", stack, spacing_mm=spacing, step_mm=8, times_ms=times, view="sax", scan=scan)
    cine = read_dicom_series(folder / "a.zip", "sax")
    assert np.array_equal(cine.frames, stack[(slices - 1) // 2]) and cine.frames.dtype == stack.dtype
    assert cine.spacing_mm == pytest.approx(spacing)
    assert np.allclose(cine.phases, np.arange(frames) / frames, atol=2e-3)


def test_a_mask_on_turned_images_finds_its_pixels(tmp_path: Path) -> None:
    turn = Turn(transpose=True, flip_rows=True)
    mask = (pixels(3, np.uint8) % 6).astype(np.uint8)
    scan = Scan("7", date(2020, 1, 2), turn=turn)
    cine = read_cine(write_series(tmp_path / "series", pixels(3), scan=scan), "sax")
    for own in TURNS:
        write_nifti(tmp_path / "mask.nii.gz", mask, spacing_mm=SPACING, dt_ms=70.0, turn=own)
        drawn = read_mask(tmp_path / "mask.nii.gz", cine)
        assert np.array_equal(cmr.canonical_turn(cine).pixels(drawn), mask[1])


# ---- choices inside a source


def test_the_view_is_taken_by_name_among_many_series(tmp_path: Path) -> None:
    files = {}
    for view, stack in (("sax", pixels(3)), ("4ch", pixels(1))):
        files |= {name: raw for name, _, _, raw in dicom_files(stack, SPACING, 10, TIMES, view, SCAN)}
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as both:
        for name, raw in files.items():
            both.writestr(name, raw)
        both.writestr("manifest.csv", "a,b")
    assert np.array_equal(read_cine(tmp_path / "both.zip", "sax").frames, pixels(3)[1])
    assert np.array_equal(read_cine(tmp_path / "both.zip", "4ch").frames, pixels(1)[0])


@pytest.mark.parametrize("view", cmr.VIEWS)
def test_without_a_name_the_plane_tells_the_view(tmp_path: Path, view: str) -> None:
    folder = edited(
        write_series(tmp_path / "s", pixels(1), view), lambda _, d: setattr(d, "SeriesDescription", "cine_trufi")
    )
    assert read_cine(folder, view).view == view
    other = next(v for v in cmr.VIEWS if v != view)
    with pytest.raises(StudyError, match=f"no {other} cine"):
        read_cine(folder, other)


def test_inline_results_are_no_cine(tmp_path: Path) -> None:
    folder = edited(
        write_series(tmp_path / "s", pixels(1)),
        lambda _, d: setattr(d, "SeriesDescription", "CINE_segmented_SAX_InlineVF"),
    )
    with pytest.raises(StudyError, match="no sax cine"):
        read_cine(folder, "sax")


def test_a_slice_scanned_again_replaces_the_first(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1))
    again = write_series(tmp_path / "t", 255 - pixels(1))

    def later(number: int, data: pydicom.Dataset) -> None:
        data.SeriesNumber, data.SeriesInstanceUID = 9, data.SeriesInstanceUID + ".9"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{data.SeriesInstanceUID}.{number}"

    for path in edited(again, later).glob("*.dcm"):
        path.rename(folder / f"again_{path.name}")
    assert np.array_equal(read_cine(folder, "sax").frames, 255 - pixels(1)[0])


def test_order_comes_from_the_times_not_from_names_or_numbers(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1))
    edited(folder, lambda number, data: setattr(data, "InstanceNumber", (number * 5) % 12 + 1))
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        path.rename(folder / f"{(number * 7) % 12:02d}")  # other names, no suffix
    assert np.array_equal(read_cine(folder, "sax").frames, pixels(1)[0])


def test_without_times_the_numbers_order_and_a_note_says_so(tmp_path: Path) -> None:
    cine = read_cine(edited(write_series(tmp_path / "s", pixels(1)), lambda _, d: delattr(d, "TriggerTime")), "sax")
    assert cine.times_ms is None and "evenly spaced" in cine.notes[0]
    assert np.array_equal(cine.frames, pixels(1)[0])


def test_rescale_and_inverted_grey_are_applied(tmp_path: Path) -> None:
    def rescale(_: int, data: pydicom.Dataset) -> None:
        data.RescaleSlope, data.RescaleIntercept, data.PhotometricInterpretation = "2", "-10", "MONOCHROME1"

    cine = read_cine(edited(write_series(tmp_path / "s", pixels(1)), rescale), "sax")
    values = pixels(1)[0] * 2.0 - 10
    assert np.array_equal(cine.frames, values.max(axis=(1, 2), keepdims=True) - values)


def test_compressed_and_big_endian_pixels_are_decoded(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1))
    edited(folder, lambda _, d: d.compress(RLELossless, generate_instance_uid=False))
    assert np.array_equal(read_cine(folder, "sax").frames, pixels(1)[0])


# ---- refusals


def drop(key: str) -> Callable[[int, Any], None]:
    return lambda number, data: delattr(data, key) if number == 5 else None


def put(key: str, value: Any) -> Callable[[int, Any], None]:
    return lambda number, data: setattr(data, key, value) if number == 5 else None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("PixelSpacing"), "PixelSpacing: missing"),
        (drop("ImageOrientationPatient"), "ImageOrientationPatient: missing"),
        (drop("PixelData"), "PixelData: missing"),
        (put("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "not orthogonal"),
        (put("NumberOfFrames", "3"), "multi-frame"),
        (put("PixelSpacing", [1.8, 1.9]), "differ within one series"),
        (put("TriggerTime", "0"), "repeats"),
        (lambda _, d: setattr(d, "PixelSpacing", [12.0, 12.0]), "outside 0.3-5 mm"),
        (lambda _, d: setattr(d, "CardiacNumberOfImages", "25"), "missing"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    folder = edited(write_series(tmp_path / "s", pixels(1)), change)
    with pytest.raises(StudyError, match=said):
        read_cine(folder, "sax")


def test_missing_frames_are_noticed(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1))
    (folder / "IM00006.dcm").unlink()
    with pytest.raises(StudyError, match="some are missing"):
        read_cine(folder, "sax")
    edited(folder, lambda _, data: delattr(data, "CardiacNumberOfImages"))
    with pytest.raises(StudyError, match="some are missing"):
        read_cine(folder, "sax")
    for path in sorted(folder.glob("*.dcm"))[3:]:
        path.unlink()
    with pytest.raises(StudyError, match="at most 3 per slice"):
        read_cine(folder, "sax")


def test_absent_empty_and_foreign_sources(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.zip").write_text("no zip")
    (tmp_path / "short.dcm").write_bytes(b"\0" * 64)
    for name, said in (
        ("none.zip", "missing"),
        ("empty", "no DICOM image"),
        ("note.zip", "damaged zip"),
        ("short.dcm", "no DICOM header"),
        ("none.nii.gz", "missing"),
    ):
        with pytest.raises(StudyError, match=said) as error:
            read_cine(tmp_path / name, "sax")
        assert name in str(error.value)
    with pytest.raises(StudyError, match="view: '2ch'"):
        read_cine(tmp_path / "empty", "2ch")


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../b.dcm", "..\\out.dcm", "C:/out.dcm"])
def test_archive_names_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        bad.writestr(name, b"x")
    with pytest.raises(StudyError, match="leaves its folder"):
        list(files_in(tmp_path / "bad.zip"))


def test_archives_larger_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.dcm", b"\0" * 5000)
    with pytest.raises(StudyError, match="larger than it may be"):
        list(files_in(tmp_path / "bomb.zip"))
    monkeypatch.setattr(archive, "MAX_BYTES", 4000)
    with pytest.raises(StudyError, match="no single scan"):
        list(files_in(tmp_path / "bomb.zip"))


def test_deflated_dicom_is_refused_before_it_grows(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1))
    path = folder / "IM00001.dcm"
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0", 1))
    with pytest.raises(StudyError, match="deflated"):
        read_cine(folder, "sax")


# ---- damaged bytes


def damage(raw: bytes, data: st.DataObject) -> bytes:
    """Flip up to eight bytes, or cut the end off."""
    if data.draw(st.booleans(), label="cut"):
        return raw[: data.draw(st.integers(0, len(raw) - 1), label="length")]
    out = bytearray(raw)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8), label="places"):
        out[place] ^= data.draw(st.integers(1, 255), label="flip")
    return bytes(out)


FUZZ = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


def survives(path: Path, view: str = "sax") -> None:
    """Reading ends soon, in a refusal or in a cine whose geometry is possible; anything else fails the test."""
    start = time.perf_counter()
    try:
        cine = read_cine(path, view)
    except StudyError as error:
        assert ": " in str(error) and str(error).rstrip().endswith((".", ")"))
        return
    finally:
        assert time.perf_counter() - start < 5
    assert cine.frames.ndim == 3 and len(cine.frames) >= cmr.MIN_FRAMES
    assert np.isfinite(cine.frames).all() and (np.diff(cine.phases) > 0).all() and 0 <= cine.phases[-1] < 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # the parser's remarks on damaged headers
@FUZZ
@given(data=st.data())
def test_fuzzed_dicom_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "s"
    folder.mkdir()
    files = [raw for *_, raw in dicom_files(pixels(1, frames=5), SPACING, 10, TIMES[:5], "sax", SCAN)]
    header = files[2][:1300]
    files[2] = (
        damage(header, data) + files[2][1300:] if data.draw(st.booleans(), label="head") else damage(files[2], data)
    )
    for number, raw in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(raw)
    survives(folder)


@FUZZ
@given(data=st.data())
def test_fuzzed_zip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = write_zip(
        tmp_path_factory.mktemp("fuzz") / "a.zip", pixels(1, frames=4), level=data.draw(st.sampled_from([0, 1]))
    )
    path.write_bytes(damage(path.read_bytes(), data))
    survives(path)


@FUZZ
@given(data=st.data())
def test_fuzzed_nifti(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    write_nifti(path, pixels(1, np.uint8, 4), spacing_mm=SPACING, dt_ms=70.0)
    raw = path.read_bytes()
    head = damage(raw[:352], data) + raw[352:] if data.draw(st.booleans(), label="head") else damage(raw, data)
    path.write_bytes(head)
    survives(path)


# ---- NIfTI


def save(path: Path, array: np.ndarray, zooms: tuple[float, ...] = (1.5, 1.8, 10.0, 30.0), unit: str = "msec") -> Path:
    image: Any = nib.Nifti1Image(array, np.diag([*(*zooms, 8.0)[:3], 1.0]))
    image.header.set_zooms(zooms[: array.ndim])
    image.header.set_xyzt_units("mm", unit)
    image.to_filename(path)
    return path


def test_axes_of_a_foreign_nifti_are_named(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 900, (24, 20, 3, 6)).astype(np.int16)
    cine = read_nifti_cine(save(tmp_path / "a.nii", array), "sax")
    assert np.array_equal(cine.frames, array[:, :, 1].transpose(2, 1, 0))
    assert cine.spacing_mm == pytest.approx((1.8, 1.5)) and cine.axes is None  # the identity is no short axis


@pytest.mark.parametrize(
    ("zoom", "unit", "step"),
    [(30.0, "msec", 30.0), (0.03, "sec", 30.0), (0.03, "unknown", 30.0), (30.0, "unknown", 30.0), (1.0, "sec", None)],
)
def test_time_between_frames_by_its_unit(tmp_path: Path, zoom: float, unit: str, step: float | None) -> None:
    array = np.ones((20, 20, 1, 5), np.int16)
    stack = read_nifti_stack(save(tmp_path / "a.nii", array, (1.5, 1.5, 8.0, zoom), unit))
    assert stack.dt_ms == (None if step is None else pytest.approx(step, rel=1e-5))
    assert bool(stack.cine("sax").notes) == (step is None)


@pytest.mark.parametrize(
    ("array", "zooms", "said"),
    [
        (np.ones((20, 20), np.int16), (1.0, 1.0), "neither 3-D nor 4-D"),
        (np.ones((20, 20, 9), np.int16), (1.0, 1.0, 8.0), "no cine"),
        (np.ones((20, 20, 1, 3), np.int16), (1.0, 1.0, 8.0, 30.0), "at least 4 frames"),
        (np.ones((20, 20, 1, 5), np.int16), (9.0, 1.0, 8.0, 30.0), "no pixel spacing"),
        (np.full((20, 20, 1, 5), np.nan, np.float32), (1.0, 1.0, 8.0, 30.0), "finite"),
    ],
)
def test_nifti_that_is_no_cine(tmp_path: Path, array: np.ndarray, zooms: tuple[float, ...], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        read_nifti_cine(save(tmp_path / "a.nii", array, zooms), "sax")


def test_labels_are_mapped_and_strangers_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 4, (20, 20, 2, 4)).astype(np.uint8)
    path = save(tmp_path / "m.nii", array)
    ours = read_nifti_masks(path, LABELS["acdc"]).pixels
    theirs = array.transpose(2, 3, 1, 0)
    assert np.array_equal(ours, np.array([0, cmr.RV, cmr.MYO, cmr.LV])[theirs])
    with pytest.raises(StudyError, match=r"labels: \[3.0\] are not declared"):
        read_nifti_masks(path, {1: 1, 2: 2})
    with pytest.raises(StudyError, match=r"labels: \[0.5\]"):
        read_nifti_masks(save(tmp_path / "h.nii", np.full((9, 9, 1, 4), 0.5, np.float32)), LABELS["acdc"])


def test_masks_of_other_slices_frames_or_planes_are_refused(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii", np.ones((20, 24, 3, 5), np.uint8))
    mask = save(tmp_path / "m.nii", np.ones((20, 24, 4, 4), np.uint8))
    with pytest.raises(StudyError, match="4 slices against 3, 4 frames against 5 in i"):
        read_pair(image, mask, LABELS["mms"])
    write_nifti(tmp_path / "c.nii", pixels(1, np.uint8), spacing_mm=SPACING, dt_ms=70.0)
    cine = read_cine(tmp_path / "c.nii", "sax")
    with pytest.raises(StudyError, match="against"):
        read_mask(mask, cine)
    write_nifti(tmp_path / "other.nii", pixels(1, np.uint8) % 6, spacing_mm=SPACING, dt_ms=70.0, view="4ch")
    lax = read_cine(tmp_path / "other.nii", "4ch")
    assert read_mask(tmp_path / "other.nii", lax).shape == lax.frames.shape


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_a_mask_of_another_number_of_slices_is_refused(tmp_path: Path, kind: str) -> None:
    stack, drawn = pixels(5), (pixels(5, np.uint8) % 6).astype(np.uint8)
    image = tmp_path / "c.nii"
    if kind == "nifti":
        write_nifti(image, stack, spacing_mm=SPACING, dt_ms=70.0)
    else:
        image = write_zip(tmp_path / "c.zip", stack)
    cine = read_cine(image, "sax")
    assert cine.slices == 5
    for part, whose in ((drawn, drawn[2]), (drawn[2:3], drawn[2]), (drawn[:4], None), (drawn[1:4], None)):
        write_nifti(tmp_path / "m.nii", part, spacing_mm=SPACING, dt_ms=70.0)
        if whose is not None:
            assert np.array_equal(read_mask(tmp_path / "m.nii", cine), whose)
            continue
        with pytest.raises(StudyError, match=rf"m.nii: mask: {len(part)} slices against 5 of {image.name}; give"):
            read_mask(tmp_path / "m.nii", cine)


def test_header_fields_are_taken_without_the_parser_converting_them() -> None:
    *_, raw = next(dicom_files(pixels(), SPACING, 10, TIMES + 3.5, "sax", SCAN))
    image = dicom_cine._header("a.dcm", raw)
    data = pydicom.dcmread(io.BytesIO(raw))
    assert image.shape == (data.Rows, data.Columns) and image.time_ms == data.TriggerTime == 3.5
    assert image.series == data.SeriesInstanceUID and image.description == data.SeriesDescription
    normal = np.cross(data.ImageOrientationPatient[:3], data.ImageOrientationPatient[3:])
    assert abs(image.depth) == pytest.approx(abs(np.dot(normal, data.ImagePositionPatient)), abs=0.06)


def both_ways(raw: bytes) -> bool:
    """Whether the plain walk takes the file; where it does, the general parser must give the same."""
    try:
        values = dicom_header.scan(raw)
    except (dicom_header._IrregularError, struct.error):
        return False
    library = dicom_header._by_library(raw)
    assert values == {keyword: value for keyword, value in library.values.items() if value is not None}
    assert library.plain and library.order == "little"
    return True


@pytest.mark.filterwarnings("ignore::UserWarning")
@FUZZ
@given(data=st.data())
def test_the_plain_walk_agrees_with_the_parser_on_damaged_bytes(data: st.DataObject) -> None:
    *_, raw = next(dicom_files(pixels(1, frames=4), SPACING, 10, TIMES[:4], "sax", SCAN))
    assert both_ways(raw)
    start = data.draw(st.sampled_from([0, 132, 300]), label="start")
    both_ways(raw[:start] + damage(raw[start:1300], data) + raw[1300:])


@pytest.mark.parametrize("defined", [True, False])
def test_the_plain_walk_passes_nested_sequences(tmp_path: Path, defined: bool) -> None:
    def nest(_: int, data: pydicom.Dataset) -> None:
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.PixelSpacing, inner.Rows = [9.0, 9.0], 7  # another image's: must not be taken for this one's
        outer.ReferencedSOPInstanceUID, outer.SourceImageSequence = "1.2.3", [inner, inner]
        data.ReferencedImageSequence = [outer, pydicom.Dataset()]
        for sequence in (data["ReferencedImageSequence"], outer["SourceImageSequence"]):
            sequence.is_undefined_length = not defined
            for item in sequence.value:
                item.is_undefined_length_sequence_item = not defined

    folder = edited(write_series(tmp_path / "s", pixels(1)), nest)
    assert all(both_ways(path.read_bytes()) for path in folder.iterdir())
    cine = read_cine(folder, "sax")
    assert np.array_equal(cine.frames, pixels(1)[0]) and cine.spacing_mm == pytest.approx(SPACING)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_plain_walk_leaves_other_syntaxes_and_signed_pixels_to_the_parser(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", pixels(1, np.uint8))
    for change in (
        lambda data: setattr(data.file_meta, "TransferSyntaxUID", ImplicitVRLittleEndian),
        lambda data: setattr(data, "PixelRepresentation", 1),
        lambda data: setattr(data, "SpecificCharacterSet", "ISO_IR 999"),
    ):
        data = pydicom.dcmread(folder / "IM00001.dcm")
        change(data)
        data.save_as(tmp_path / "other.dcm", implicit_vr=data.file_meta.TransferSyntaxUID.is_implicit_VR)
        assert not both_ways((tmp_path / "other.dcm").read_bytes())


def test_signed_pixels_are_read_signed(tmp_path: Path) -> None:
    folder = edited(write_series(tmp_path / "s", pixels(1)), lambda _, data: setattr(data, "PixelRepresentation", 1))
    assert np.array_equal(read_cine(folder, "sax").frames, pixels(1)[0].astype(np.int16))


@pytest.mark.parametrize("level", [0, 6])
def test_members_come_out_the_same_without_the_library(
    tmp_path: Path, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "a.zip", pixels(), level=level)
    with zipfile.ZipFile(path) as zipped:
        wanted = {f"a.zip/{name}": zipped.read(name) for name in zipped.namelist()}
    monkeypatch.setattr(archive, "_read_member", None)
    assert dict(files_in(path)) == wanted


@pytest.mark.parametrize("place", [0, 6, 8, 30, 60])  # mark, flags, method, name and content of the first member
def test_a_member_that_contradicts_its_entry_is_refused(tmp_path: Path, place: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("a.dcm", bytes(range(100)))
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[place] ^= 1
    (tmp_path / "a.zip").write_bytes(raw)
    if place in (6, 8):  # the library goes by the entry in the directory here, and the checksum fits
        assert [raw for _, raw in files_in(tmp_path / "a.zip")] == [bytes(range(100))]
        return
    with pytest.raises(StudyError, match="damaged zip"):
        list(files_in(tmp_path / "a.zip"))


# ---- ACDC and M&Ms


def segmented(frames: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks in our labels, (x, y, slice, time), drawn at frames 1 and 4 of ``frames``."""
    rng = np.random.default_rng(4)
    images = rng.integers(0, 900, (24, 20, 5, frames)).astype(np.int16)
    masks = np.zeros(images.shape, np.uint8)
    for frame, half in ((1, 6), (4, 4)):
        masks[12 - half - 2 : 12 + half + 2, 2:18, :, frame] = cmr.MYO
        masks[12 - half : 12 + half, 4:16, :, frame] = cmr.LV
        masks[0:4, 4:16, :, frame] = cmr.RV
    return images, masks


def in_labels(masks: np.ndarray, source: str) -> np.ndarray:
    theirs = {ours: number for number, ours in LABELS[source].items()}
    return np.vectorize(lambda v: theirs.get(int(v), 0))(masks).astype(np.uint8)


def acdc(folder: Path, info: str = "ED: 2\nES: 5\nGroup: DCM\nHeight: 180.0\nNbFrame: 6\nWeight: 81.5\n") -> Path:
    folder.mkdir()
    images, masks = segmented()
    save(folder / f"{folder.name}_4d.nii.gz", images)
    for frame in (1, 4):
        drawn = in_labels(masks[..., frame], "acdc")
        save(folder / f"{folder.name}_frame{frame + 1:02d}_gt.nii.gz", drawn, (1.5, 1.8, 10.0))
    (folder / "Info.cfg").write_text(info)
    return folder


def mms(folder: Path, ed: str = "1") -> tuple[Path, Path]:
    folder.mkdir()
    images, masks = segmented()
    save(folder / f"{folder.name}_sa.nii.gz", images)
    save(folder / f"{folder.name}_sa_gt.nii.gz", in_labels(masks, "mms"))
    table = folder.parent / "table.csv"
    table.write_text(f",External code,VendorName,Pathology,ED,ES\n0,A0S9V9,SIMULATED,HCM,{ed},4\n1,B1,SIMULATED,,0,3\n")
    return folder, table


def test_acdc_and_mms_agree_with_a_direct_voxel_count(tmp_path: Path) -> None:
    voxel = 1.5 * 1.8 * 10 / 1000
    _, masks = segmented()
    for read in (read_acdc(acdc(tmp_path / "patient007")), read_mms(*mms(tmp_path / "A0S9V9"))):
        assert (read.ed, read.es) == (1, 4) and read.images.pixels.shape == (5, 6, 20, 24)
        out = read.phenotypes()
        volume = [np.count_nonzero(masks[..., frame] == cmr.LV) * voxel for frame in (1, 4)]
        assert out["lv_edv"] == pytest.approx(volume[0]) and out["lv_esv"] == pytest.approx(volume[1])
        assert out["lv_ef"] == pytest.approx(100 * (1 - volume[1] / volume[0]))
        assert out["rv_edv"] == pytest.approx(np.count_nonzero(masks[..., 1] == cmr.RV) * voxel)
        assert out["lv_mass"] == pytest.approx(np.count_nonzero(masks[..., 1] == cmr.MYO) * voxel * 1.05)
    first, second = read_acdc(tmp_path / "patient007"), read_mms(tmp_path / "A0S9V9", tmp_path / "table.csv")
    assert (first.group, first.height_cm, first.weight_kg, second.group) == ("DCM", 180.0, 81.5, "HCM")


def test_acdc_and_mms_come_to_the_grid_from_end_diastole(tmp_path: Path) -> None:
    """Masks as drawn at both phases, in millimetres and in the middle; the image is the one they were drawn on."""
    grid = Grid(rate=250, seconds=10, frames=8, size=48, spacing_mm=1.0)
    for read in (read_acdc(acdc(tmp_path / "patient007")), read_mms(*mms(tmp_path / "A0S9V9"))):
        image, masks = read.on_grid(grid)
        assert image.shape == (8, 48, 48) and masks.shape == (2, 48, 48) and image.dtype == masks.dtype == np.uint8
        for drawn, half in zip(masks, (6, 4)):
            assert (drawn == cmr.LV).sum() == pytest.approx(2 * half * 1.5 * 12 * 1.8, rel=0.1)
        assert np.abs(np.argwhere(masks[0] > 0).mean(axis=0) - 23.5).max() < 2
        later = replace(read, ed=read.es, es=read.ed).on_grid(grid)
        assert np.array_equal(later[1], masks[::-1]) and not np.array_equal(later[0], image)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ("ED: 2\n", "ED, ES"),
        ("ED: two\nES: 5\n", "ED, ES"),
        ("ED: 2\nES: 9\n", "ES: frame 9 of 6"),
        ("ED: 1\nES: 5\n", "frame01"),
    ],
)
def test_acdc_faults(tmp_path: Path, info: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        read_acdc(acdc(tmp_path / "patient007", info))


@pytest.mark.parametrize(
    ("ed", "said"), [("0", "nothing is drawn"), ("77", "nothing is drawn"), ("x", "rows with whole")]
)
def test_mms_faults(tmp_path: Path, ed: str, said: str) -> None:
    folder, table = mms(tmp_path / "A0S9V9", ed)
    with pytest.raises(StudyError, match=said):
        read_mms(folder, table)
    with pytest.raises(StudyError, match="the file is missing"):
        read_mms(folder, tmp_path / "absent.csv")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@FUZZ
@given(data=st.data())
def test_fuzzed_masks_and_layouts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    write_nifti(folder / "c.nii", pixels(5, np.uint8), spacing_mm=SPACING, dt_ms=70.0)
    cine = read_cine(folder / "c.nii", "sax")
    write_nifti(folder / "m.nii.gz", pixels(5, np.uint8) % 6, spacing_mm=SPACING, dt_ms=70.0)
    patient, (subject, table) = acdc(folder / "patient007"), mms(folder / "A0S9V9")
    calls: dict[Path, Callable[[], Any]] = {
        folder / "m.nii.gz": lambda: (read_mask(folder / "m.nii.gz", cine), measure_masks(folder / "m.nii.gz", cine)),
        table: lambda: read_mms(subject, table).phenotypes(),
        subject / "A0S9V9_sa_gt.nii.gz": lambda: read_mms(subject, table).phenotypes(),
        patient / "Info.cfg": lambda: read_acdc(patient).phenotypes(),
        patient / "patient007_frame02_gt.nii.gz": lambda: read_acdc(patient).phenotypes(),
    }
    victim = data.draw(st.sampled_from(sorted(calls)), label="file")
    victim.write_bytes(damage(victim.read_bytes(), data))
    start = time.perf_counter()
    with suppress(StudyError):
        calls[victim]()
    assert time.perf_counter() - start < 5
