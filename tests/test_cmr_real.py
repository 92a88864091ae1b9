"""The real cines and masks beside the repository: read, or refused for the right reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from cardionets import cmr, measure
from cardionets.cmr import Turn
from cardionets.cohorts.cines import read_cine
from cardionets.cohorts.nifti_cine import LABELS, read_nifti_masks, read_nifti_stack, read_pair
from cardionets.config import Grid, StudyError

pytestmark = pytest.mark.real
GRID = Grid(rate=250, seconds=10, frames=16, size=64, spacing_mm=2.4)
SERIES = {"sax": "Se4", "4ch": "Se6"}
RR = {"sax": 814, "4ch": 876}
# Read off the stored images: the middle of the LV cavity (sax); first and last row of the heart (4ch).
LV_MIDDLE = (103, 132)
HEART_ROWS = (82, 178)


@pytest.fixture
def patient(real: Path) -> Path:
    return real / "cmr_bivme_dicom" / "patient1"


@pytest.mark.parametrize("view", cmr.VIEWS)
def test_dicom_series_agrees_with_an_independent_reading(patient: Path, view: str) -> None:
    cine = read_cine(patient / SERIES[view], view)
    files = [pydicom.dcmread(path) for path in (patient / SERIES[view]).iterdir()]
    files.sort(key=lambda data: float(data.TriggerTime))
    assert np.array_equal(cine.frames, np.stack([data.pixel_array for data in files]))
    assert cine.times_ms is not None
    assert np.allclose(cine.times_ms, [float(data.TriggerTime) for data in files]) and cine.times_ms[0] == 0
    assert cine.spacing_mm == (1.40625, 1.40625) and cine.rr_ms == RR[view] and len(cine.frames) == 25


def test_the_patient_folder_holds_both_views_and_each_is_found(patient: Path) -> None:
    for view, series in SERIES.items():
        assert np.array_equal(read_cine(patient, view).frames, read_cine(patient / series, view).frames)
    with pytest.raises(StudyError, match="no 4ch cine, only cine_trufi_retro"):
        read_cine(patient / "Se4", "4ch")


@pytest.mark.parametrize("view", cmr.VIEWS)
@pytest.mark.parametrize("shift", [0, 5, 9, 13])
def test_end_diastole_is_found_where_the_series_starts_in_systole(patient: Path, view: str, shift: int) -> None:
    cine = read_cine(patient / SERIES[view], view)
    frames = np.roll(cine.frames, -shift, axis=0)
    start = cmr.place(replace(cine, frames=frames)).start
    real = (start + shift) % 25
    if shift in (5, 9):  # stored frames 4 to 12 lie in systole
        assert real >= 22 or real <= 1
    else:
        assert not 4 <= real <= 12
    if shift == 0:
        assert start == 0


def test_short_axis_is_upright_and_the_left_ventricle_is_whole(patient: Path) -> None:
    cine = read_cine(patient / "Se4", "sax")
    where = cmr.place(cine)
    assert where.turn == Turn()
    distance = np.subtract(where.centre, LV_MIDDLE) * 1.40625
    assert np.hypot(*distance) < 25  # the middle of both ventricles lies towards the right one
    assert distance[1] < 0
    image = cmr.to_grid(cine, GRID, where)
    row, col = (np.subtract(LV_MIDDLE, where.centre) * 1.40625 / 2.4 + 31.5).round().astype(int)
    cavity = image[:, row - 2 : row + 3, col - 2 : col + 3].mean(axis=(1, 2))
    assert cavity[0] > 120 and image.shape == (16, 64, 64)
    assert 12 < row < 52 and 12 < col < 52


def test_four_chamber_is_turned_apex_up_and_the_heart_is_whole(patient: Path) -> None:
    cine = read_cine(patient / "Se6", "4ch")
    where = cmr.place(cine)
    assert where.turn == Turn(flip_rows=True)
    top, bottom = sorted(207 - row for row in HEART_ROWS)
    reach = 32 * 2.4 / 1.40625
    assert where.centre[0] - reach <= top + 2 and where.centre[0] + reach >= bottom - 2
    assert 100 < where.centre[1] < 130


@pytest.mark.parametrize("person", ["A", "B", "C", "D"])
def test_ukdhp_masks_do_not_match_and_a_single_phase_is_no_cine(real: Path, person: str) -> None:
    folder = real / "cmr_autofd_ukdhp" / person
    images, masks = folder / "sa_ED.nii.gz", folder / "seg_sa_ED.nii.gz"
    with pytest.raises(StudyError, match="18 slices against 12"):
        read_pair(images, masks, LABELS["ukdhp"])
    with pytest.raises(StudyError, match="12 slices at one time are no cine"):
        read_cine(images, "sax")
    with pytest.raises(StudyError, match=r"labels: \[4.0\] are not declared"):
        read_nifti_masks(masks, LABELS["mms"])
    assert read_nifti_stack(images).pixels.shape[:2] == (12, 1)


@pytest.mark.parametrize("person", ["A", "B", "C", "D"])
def test_ukdhp_volumes_agree_with_a_direct_voxel_count(real: Path, person: str) -> None:
    path = real / "cmr_autofd_ukdhp" / person / "seg_sa_ED.nii.gz"
    stack = read_nifti_masks(path, LABELS["ukdhp"])
    out = measure.measure_stack(stack.pixels, stack.spacing_mm, stack.step_mm)
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    millilitre = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    for name, label, density in (("lv_edv", 1, 1.0), ("rv_edv", 4, 1.0), ("lv_mass", 2, 1.05)):
        assert out[name] == pytest.approx((voxels == label).sum() * millilitre * density, rel=1e-5)
    assert np.isnan(out["lv_ef"])
    # adults without heart failure: what the voxels say lies in the normal range
    assert 90 < out["lv_edv"] < 260 and 60 < out["lv_mass"] < 200 and 4 < out["wt_global"] < 13
    assert all(np.isfinite(out[f"wt_{i}"]) for i in range(1, 17))
