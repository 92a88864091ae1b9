"""Writes the cines of one simulated person as the centre keeps them: zips of DICOM by view or by study, or NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import VIEWS
from cardionets.simulate import cmr_files
from cardionets.simulate.centres import Centre
from cardionets.simulate.cine import Mask, Pixels, Scanner, View, render, render_stack
from cardionets.simulate.plan import stream

STEP_MM: Final = 10.0
MAKERS: Final = {"ukb": "SIMULATED scanner A", "study": "SIMULATED scanner B", "nifti": "SIMULATED scanner C"}


def write_images(centre: Centre, person: Mapping[str, Any], folder: Path, seed: int, number: int) -> None:
    """Draw and write both views of ``person``, a row of the plan, and masks where the person is in that subset.

    ``number`` is the person's place in the centre: the images depend on the heart, the seed and this number alone.
    """
    scanner = centre.scanner
    if scanner is None:
        return
    cines = {}
    for k, view in enumerate(VIEWS):
        rng = stream(seed, centre.index, "cine", number, k)
        cines[view], mask = _draw(centre, scanner, dict(person), view, rng)
        if person["mask"]:
            _write_mask(centre, scanner, person, view, folder, mask)
    _write(centre, scanner, person, folder, cines)


def _draw(
    centre: Centre, scanner: Scanner, heart: dict[str, Any], view: View, rng: np.random.Generator
) -> tuple[Pixels, Mask]:
    """Cine and labels: (slice, frame, H, W) for a short-axis stack, else (frame, H, W)."""
    if view == "sax" and centre.slices > 1:
        return render_stack(heart, scanner, centre.slices, STEP_MM, rng)
    return render(heart, view, scanner, rng)


def _write(
    centre: Centre, scanner: Scanner, person: Mapping[str, Any], folder: Path, cines: Mapping[View, Pixels]
) -> None:
    rr_ms = 60_000 / person["rate_bpm"]
    paths = {view: folder / centre.cmr_path(person["person"], view) for view in cines}
    common: Any = {"spacing_mm": (scanner.spacing_mm, scanner.spacing_mm), "step_mm": STEP_MM}
    if centre.cmr_format == "nifti":
        for view, cine in cines.items():
            cmr_files.write_nifti(
                paths[view], cine, dt_ms=rr_ms / scanner.frames, view=view, turn=centre.turn, **common
            )
        return
    common |= {"scan": _scan(centre, scanner, person, rr_ms), "times_ms": _times(scanner, rr_ms)}
    if centre.cmr_format == "study":
        cmr_files.write_dicom_study(paths["sax"], cines, **common)
        return
    for view, cine in cines.items():
        cmr_files.write_dicom_zip(paths[view], cine, view=view, **common)


def _times(scanner: Scanner, rr_ms: float) -> NDArray[np.float64]:
    return np.arange(scanner.frames) * rr_ms / scanner.frames


def _scan(centre: Centre, scanner: Scanner, person: Mapping[str, Any], rr_ms: float) -> cmr_files.Scan:
    return cmr_files.Scan(
        person["person"],
        person["cmr_date"].date(),
        person["sex"],
        int(person["age"]),
        rr_ms,
        manufacturer=MAKERS[centre.cmr_format],
        field_t=scanner.field_tesla,
        turn=centre.turn,
    )


def _write_mask(
    centre: Centre, scanner: Scanner, person: Mapping[str, Any], view: View, folder: Path, mask: Mask
) -> None:
    """Labels of the slice (the middle one of a stack) on the pixels of the cine: ``masks/<person>_<view>.nii.gz``."""
    middle = mask[len(mask) // 2] if mask.ndim == 4 else mask
    dt = 60_000 / person["rate_bpm"] / scanner.frames
    spacing = (scanner.spacing_mm, scanner.spacing_mm)
    path = folder / f"masks/{person['person']}_{view}.nii.gz"
    cmr_files.write_nifti(path, middle, spacing_mm=spacing, dt_ms=dt, view=view, step_mm=STEP_MM, turn=centre.turn)
