"""One door to every cine and mask: NIfTI by its suffix, everything else (folder, zip, file) as DICOM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import LV, Cine
from cardionets.cohorts import nifti_cine
from cardionets.cohorts.dicom_cine import read_dicom_series
from cardionets.cohorts.nifti_cine import read_nifti_cine, read_nifti_masks
from cardionets.measure import measure_stack

MIN_SLICES: Final = 5
"""Slices below which a stack does not cover the ventricles, and nothing is measured from it."""


def is_nifti(path: Path) -> bool:
    """Whether a name ends in ``.nii`` or ``.nii.gz``, in any case."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_cine(path: Path, view: str) -> Cine:
    """The cine of one view ("sax" or "4ch"); StudyError with file, field and remedy where it cannot be trusted."""
    return read_nifti_cine(path, view) if is_nifti(path) else read_dicom_series(path, view)


def read_mask(path: Path, cine: Cine, labels: Mapping[int, int] | None = None) -> NDArray[np.uint8]:
    """The mask (frame, H, W) drawn on ``cine``, in our labels; ``labels`` maps the file's numbers to ours."""
    return nifti_cine.read_mask(path, cine, labels or nifti_cine.LABELS["cardionets"])


def measure_masks(path: Path, cine: Cine, labels: Mapping[int, int] | None = None) -> dict[str, float]:
    """Phenotypes from a short-axis stack of masks, end-diastole and end-systole being the largest and smallest cavity.

    Empty where the file holds fewer than ``MIN_SLICES`` slices. See :func:`cardionets.measure.measure_stack`.
    """
    stack = read_nifti_masks(path, labels or nifti_cine.LABELS["cardionets"], "sax")
    if len(stack.pixels) < MIN_SLICES:
        return {}
    cavity = (stack.pixels == LV).sum(axis=(0, 2, 3))
    frames = int(cavity.argmax()), int(np.where(cavity > 0, cavity, np.inf).argmin())
    return measure_stack(stack.pixels, stack.spacing_mm, stack.step_mm, cine.rr_ms, frames)
