"""Writes the cines of one simulated person in the files of the centre: zips of DICOM, DICOM folders or NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from cardionets.cmr import VIEWS
from cardionets.simulate import cmr_files
from cardionets.simulate.centres import Centre
from cardionets.simulate.cine import Mask, Pixels, Scanner, View, render, render_stack
from cardionets.simulate.plan import stream

STEP_MM: Final = 10.0
MAKERS: Final = {"ukb": "SIMULATED scanner A", "series": "SIMULATED scanner B", "nifti": "SIMULATED scanner C"}


def write_images(centre: Centre, person: Mapping[str, Any], folder: Path, seed: int, number: int) -> None:
    """Draw and write both views of ``person``, a row of the plan, and masks where the person is in that subset.

    ``number`` is the person's place in the centre: the images depend on the heart, the seed and this number alone.
    """
    scanner = centre.scanner
    if scanner is None:
        return
    for k, view in enumerate(VIEWS):
        rng = stream(seed, centre.index, "cine", number, k)
        cine, mask = _draw(centre, scanner, dict(person), view, rng)
        _write(centre, scanner, person, view, folder, cine)
        if person["mask"]:
            _write_mask(centre, scanner, person, view, folder, mask)


def _draw(
    centre: Centre, scanner: Scanner, heart: dict[str, Any], view: View, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Cine and labels: (slice, frame, H, W) for a short-axis stack, else (frame, H, W)."""
    if view == "sax" and centre.slices > 1:
        return render_stack(heart, scanner, centre.slices, STEP_MM, rng)
    return render(heart, view, scanner, rng)


def _write(centre: Centre, scanner: Scanner, person: Mapping[str, Any], view: View, folder: Path, cine: Pixels) -> None:
    rr_ms = 60_000 / person["rate_bpm"]
    path = folder / centre.cmr_path(person["person"], view)
    spacing = (scanner.spacing_mm, scanner.spacing_mm)
    if centre.cmr_format == "nifti":
        dt = rr_ms / scanner.frames
        cmr_files.write_nifti(path, cine, spacing_mm=spacing, dt_ms=dt, view=view, step_mm=STEP_MM, turn=centre.turn)
        return
    scan = cmr_files.Scan(
        person["person"],
        person["cmr_date"].date(),
        person["sex"],
        int(person["age"]),
        rr_ms,
        manufacturer=MAKERS[centre.cmr_format],
        field_t=scanner.field_tesla,
        turn=centre.turn,
    )
    times = np.arange(scanner.frames) * rr_ms / scanner.frames
    write = cmr_files.write_dicom_zip if centre.cmr_format == "ukb" else cmr_files.write_dicom_series
    write(path, cine, spacing_mm=spacing, step_mm=STEP_MM, times_ms=times, view=view, scan=scan)


def _write_mask(
    centre: Centre, scanner: Scanner, person: Mapping[str, Any], view: View, folder: Path, mask: Mask
) -> None:
    """Labels of the slice (the middle one of a stack) on the pixels of the cine: ``masks/<person>_<view>.nii.gz``."""
    middle = mask[len(mask) // 2] if mask.ndim == 4 else mask
    dt = 60_000 / person["rate_bpm"] / scanner.frames
    spacing = (scanner.spacing_mm, scanner.spacing_mm)
    path = folder / f"masks/{person['person']}_{view}.nii.gz"
    cmr_files.write_nifti(path, middle, spacing_mm=spacing, dt_ms=dt, view=view, step_mm=STEP_MM, turn=centre.turn)
