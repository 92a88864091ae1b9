"""Two public layouts of segmented short-axis stacks: ACDC and M&Ms, each with its own labels, drawn at two phases only.

ACDC (Bernard et al., IEEE TMI 2018;37:2514): ``patient001/Info.cfg``, ``patient001_4d.nii.gz``,
``patient001_frame01_gt.nii.gz``; frames are counted from 1. M&Ms (Campello et al., IEEE TMI 2021;40:3543):
``A0S9V9/A0S9V9_sa.nii.gz``, ``A0S9V9_sa_gt.nii.gz`` and one table with columns ``External code``, ``ED``, ``ES`` and
``Pathology``; frames are counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.cmr import mask_to_grid, middle_slice, place, to_grid
from cardionets.cohorts import read_table
from cardionets.cohorts.nifti_cine import LABELS, Stack, read_nifti_masks, read_nifti_stack, read_pair
from cardionets.config import Grid, StudyError
from cardionets.measure import measure_stack

INFO: Final = {"ED": "ed", "ES": "es", "Group": "group", "Height": "height_cm", "Weight": "weight_kg"}


@dataclass(frozen=True)
class Segmented:
    """A short-axis stack, its masks (slice, frame, H, W) in our labels, and the two frames where they are drawn."""

    images: Stack
    masks: NDArray[np.uint8]
    ed: int
    es: int
    group: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None

    def phenotypes(self) -> dict[str, float]:
        """Volumes, ejection fraction, mass and wall thickness: see :func:`cardionets.measure.measure_stack`."""
        stack = self.images
        return measure_stack(self.masks, stack.spacing_mm, stack.step_mm, frames=(self.ed, self.es))

    def on_grid(self, grid: Grid) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The middle slice as the store has it, (frame, H, W) from end-diastole, and its masks (2, H, W) at ED and ES.

        The centre is that of the masks. Between the two phases nothing is drawn, so nothing is made up there.
        """
        cine = self.images.cine("sax")
        drawn = self.masks[middle_slice(range(len(self.masks)))]
        where = replace(place(cine, drawn), start=self.ed)
        stored = grid.model_copy(update={"frames": len(drawn)})
        masks = mask_to_grid(drawn, cine, stored, where)
        return to_grid(cine, grid, where), masks[[0, (self.es - self.ed) % len(drawn)]]


def read_acdc(folder: Path) -> Segmented:
    """One patient's folder of ACDC; StudyError with file, field and remedy where it is incomplete."""
    info = _info(folder / "Info.cfg")
    images = read_nifti_stack(folder / f"{folder.name}_4d.nii.gz")
    frames = images.pixels.shape[1]
    masks = np.zeros(images.pixels.shape, np.uint8)
    for phase in ("ed", "es"):
        number = info[phase]
        if not 1 <= number <= frames:
            raise StudyError(f"{folder.name}/Info.cfg: {phase.upper()}: frame {number} of {frames}; mend the number.")
        drawn = read_nifti_masks(folder / f"{folder.name}_frame{number:02d}_gt.nii.gz", LABELS["acdc"])
        if drawn.pixels.shape != (len(masks), 1, *masks.shape[2:]):
            raise StudyError(f"{drawn.source}: mask: shape {drawn.pixels.shape} against {masks.shape} of the images.")
        masks[:, number - 1] = drawn.pixels[:, 0]
    extra = {key: info.get(key) for key in ("group", "height_cm", "weight_kg")}
    return Segmented(images, masks, info["ed"] - 1, info["es"] - 1, **extra)


def _info(path: Path) -> dict[str, Any]:
    """The fields of ``Info.cfg``, lines of ``key: value``."""
    if not path.is_file():
        raise StudyError(f"{path.parent.name}/Info.cfg: the file is missing; copy the patient's whole folder.")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line)
    given = {INFO[key.strip()]: value.strip() for key, _, value in pairs if key.strip() in INFO}
    try:
        numbers = {key: int(given[key]) for key in ("ed", "es")}
        sizes = {key: float(given[key]) for key in ("height_cm", "weight_kg") if key in given}
    except (KeyError, ValueError) as error:
        raise StudyError(
            f"{path.parent.name}/Info.cfg: ED, ES, Height, Weight: not numbers ({error}); mend it."
        ) from None
    return dict(given) | numbers | sizes


def read_mms(folder: Path, table: Path) -> Segmented:
    """One subject's folder of M&Ms and the table of all; StudyError with file, field and remedy where they disagree."""
    row = _row(table, folder.name)
    image, mask = (folder / f"{folder.name}_{part}.nii.gz" for part in ("sa", "sa_gt"))
    images, masks = read_pair(image, mask, LABELS["mms"])
    for phase in ("ED", "ES"):
        if not 0 <= row[phase] < masks.pixels.shape[1] or not masks.pixels[:, row[phase]].any():
            raise StudyError(
                f"{mask.name}: {phase}: nothing is drawn at frame {row[phase]} of {table.name}; mend the table."
            )
    return Segmented(images, masks.pixels, row["ED"], row["ES"], group=row["Pathology"])


def _row(table: Path, subject: str) -> dict[str, Any]:
    rows = read_table(table, "M&Ms", ["External code", "ED", "ES"])
    own = rows[rows["External code"] == subject]
    if len(own) != 1 or not all(str(own[phase].iloc[0]).isdigit() for phase in ("ED", "ES")):
        raise StudyError(f"{table.name}: External code {subject}: {len(own)} rows with whole ED and ES; one is needed.")
    group = own["Pathology"].iloc[0] if "Pathology" in rows else None
    return {"ED": int(own["ED"].iloc[0]), "ES": int(own["ES"].iloc[0]), "Pathology": None if pd.isna(group) else group}
