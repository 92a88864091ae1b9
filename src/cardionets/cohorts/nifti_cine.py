"""NIfTI cines, stacks and masks, whose labels are declared because every source has its own.

NIfTI keeps (x, y, slice, time) and directions as right, anterior, superior; here they become (slice, frame, H, W) and
DICOM's left, posterior, superior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.cmr import AXES, LA, LV, MYO, RA, RV, TURNS, Cine, middle_slice, plane
from cardionets.config import StudyError

MAX_VOXELS: Final = 2**28
TIME_BITS: Final = 0x38
MILLISECONDS: Final = {8: 1000.0, 16: 1.0, 24: 0.001}
"""The header's codes for s, ms and us."""
LABELS: Final[dict[str, dict[int, int]]] = {
    "cardionets": {LV: LV, MYO: MYO, RV: RV, LA: LA, RA: RA},
    "acdc": {1: RV, 2: MYO, 3: LV},
    "mms": {1: LV, 2: MYO, 3: RV},
    "ukbb_cardiac_sax": {1: LV, 2: MYO, 3: RV},
    "ukbb_cardiac_4ch": {1: LA, 2: RA},
    "ukdhp": {1: LV, 2: MYO, 4: RV},
}
"""Label maps of known sources: their number to ours (1 LV cavity, 2 LV myocardium, 3 RV cavity, 4 LA, 5 RA)."""


@dataclass(frozen=True)
class Stack:
    """Parallel slices over time: ``pixels`` (slice, frame, H, W) from base to apex where ``axes`` tell, else as stored.

    ``spacing_mm`` (rows, columns); ``step_mm`` from slice to slice; ``dt_ms`` between frames, None where the file is
    silent; ``axes`` (2, 3) directions of growing column and row, None where the header cannot be trusted.
    """

    pixels: NDArray[Any]
    spacing_mm: tuple[float, float]
    step_mm: float
    dt_ms: float | None
    axes: NDArray[np.float64] | None
    source: str

    def cine(self, view: str) -> Cine:
        """The middle slice as a cine."""
        slices, count = self.pixels.shape[:2]
        times = None if self.dt_ms is None else np.arange(count, dtype=np.float64) * self.dt_ms
        notes = () if times is not None else ("the time between frames is absent: frames taken as evenly spaced",)
        pixels = self.pixels[middle_slice(range(slices))]
        return Cine(pixels, self.spacing_mm, times, view, self.axes, source=self.source, slices=slices, notes=notes)


def read_nifti_stack(path: Path, view: str = "sax") -> Stack:
    """A 3-D (x, y, slice) or 4-D (x, y, slice, time) NIfTI as a stack; StudyError where damaged or absurd."""
    image = _load(path)
    header = image.header
    shape = image.shape
    if len(shape) not in (3, 4) or min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise StudyError(
            f"{path.name}: dim: shape {shape} is neither 3-D nor 4-D of usual size; give (x, y, slice, time)."
        )
    voxels = _voxels(path, image)
    # (x, y, slice, time) -> (slice, time, y, x)
    pixels = np.transpose(voxels.reshape(*shape[:3], -1), (2, 3, 1, 0))
    zooms = [float(z) for z in header.get_zooms()]
    if not all(np.isfinite(zooms[:3])) or not all(0.3 <= z <= 5 for z in zooms[:2]) or not 0 < zooms[2] <= 50:
        raise StudyError(f"{path.name}: pixdim: {zooms[:3]} mm is no pixel spacing and slice step; mend the header.")
    axes, towards_apex = _directions(image.affine, header, view)
    dt_ms = _frame_step(header, zooms[3]) if len(shape) == 4 and shape[3] > 1 else None
    return Stack(pixels if towards_apex else pixels[::-1], (zooms[1], zooms[0]), zooms[2], dt_ms, axes, path.name)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise StudyError(f"{path.name}: the file is missing; copy it again from the source or clear its name.")
    try:
        import nibabel  # half a second that a centre without NIfTI need not wait

        loader: Any = nibabel.load
        image = loader(path)
        return image if image.affine is not None else None
    except Exception as error:  # bytes from elsewhere can fail anywhere inside the parser
        raise StudyError(f"{path.name}: unreadable NIfTI ({type(error).__name__}); copy it again.") from None


def _voxels(path: Path, image: Any) -> NDArray[Any]:
    """The stored numbers, scaled only where the header says so."""
    try:
        voxels: NDArray[Any] = np.asarray(image.dataobj)
    except Exception as error:
        raise StudyError(
            f"{path.name}: voxels: cut short or damaged ({type(error).__name__}); copy it again."
        ) from None
    if voxels.dtype.kind not in "uif" or not np.isfinite(voxels).all():
        raise StudyError(
            f"{path.name}: voxels: {voxels.dtype} with gaps or no plain numbers; write finite grey values."
        )
    return voxels


def _directions(affine: NDArray[np.float64], header: Any, view: str) -> tuple[NDArray[np.float64] | None, bool]:
    """Patient directions (2, 3) of column and row, and whether slices run from base to apex.

    A header without a code, or whose plane is not the view's (converters often write the identity), tells nothing.
    """
    columns = np.asarray(affine[:3, :3], dtype=np.float64) * np.array([[-1.0], [-1.0], [1.0]])
    lengths = np.linalg.norm(columns, axis=0)
    coded = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    if not coded or not np.isfinite(columns).all() or lengths.min() <= 0:
        return None, True
    right, down, through = (columns / lengths).T
    axes = np.stack([right, down])
    if plane(axes) != view or abs(float(right @ down)) > 1e-2:
        return None, True
    return axes, float(through @ np.cross(AXES["sax"][1], AXES["sax"][0])) >= 0


def _frame_step(header: Any, zoom: float) -> float | None:
    """Time between frames in ms by the header's unit; a number without a unit is s below 1 and ms from 5 on."""
    unit = int(header["xyzt_units"]) & TIME_BITS
    factor = MILLISECONDS.get(unit, 1000.0 if zoom < 1 else 1.0)
    step = zoom * factor
    return step if 5 <= step <= 300 else None


def read_nifti_cine(path: Path, view: str) -> Cine:
    """A 4-D NIfTI (x, y, slice, time) as a cine: its middle slice; StudyError also where there is no time axis."""
    stack = read_nifti_stack(path, view)
    if stack.pixels.shape[1] == 1 and stack.pixels.shape[0] > 1:
        raise StudyError(
            f"{path.name}: dim[4]: {len(stack.pixels)} slices at one time are no cine; give all phases, 4-D."
        )
    return stack.cine(view)


def relabel(path: Path, pixels: NDArray[Any], labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Masks in the file's numbers -> ours; StudyError where a number is not declared or is no whole number."""
    found = np.unique(pixels)
    unknown = [float(v) for v in found if v != 0 and v not in labels]
    if unknown:
        raise StudyError(
            f"{path.name}: labels: {unknown[:6]} are not declared ({dict(labels)}); declare the label map."
        )
    out = np.zeros(pixels.shape, np.uint8)
    for theirs, ours in labels.items():
        out[pixels == theirs] = ours
    return out


def read_nifti_masks(path: Path, labels: Mapping[int, int], view: str = "sax") -> Stack:
    """A label map file as a stack of masks in our labels: uint8 (slice, frame, H, W)."""
    stack = read_nifti_stack(path, view)
    pixels = relabel(path, stack.pixels, labels)
    return Stack(pixels, stack.spacing_mm, stack.step_mm, stack.dt_ms, stack.axes, stack.source)


def read_pair(image: Path, mask: Path, labels: Mapping[int, int], view: str = "sax") -> tuple[Stack, Stack]:
    """Images and the masks drawn on them; StudyError where the two cannot be the same slices."""
    pictures, masks = read_nifti_stack(image, view), read_nifti_masks(mask, labels, view)
    names = ("slices", "frames", "rows", "columns")
    pairs = zip(names, pictures.pixels.shape, masks.pixels.shape)
    differing = [f"{m} {name} against {p}" for name, p, m in pairs if p != m]
    if differing:
        raise StudyError(
            f"{mask.name}: mask has {', '.join(differing)} in {image.name}; give the mask drawn on these images."
        )
    return pictures, masks


def read_mask(path: Path, cine: Cine, labels: Mapping[int, int] = LABELS["cardionets"]) -> NDArray[np.uint8]:
    """The mask (frame, H, W), in our labels, that was drawn on ``cine``: the middle slice of the file.

    Where both headers tell directions, the mask is turned to the images'. StudyError where slices, plane, size or
    frames differ; a file of one slice is the mask of the middle one.
    """
    stack = read_nifti_masks(path, labels, cine.view)
    if len(stack.pixels) not in (1, cine.slices or len(stack.pixels)):
        raise StudyError(
            f"{path.name}: mask: {len(stack.pixels)} slices against {cine.slices} of {cine.source}; "
            "give the mask of the whole stack, or of its middle slice alone."
        )
    drawn = stack.pixels[middle_slice(range(len(stack.pixels)))]
    if stack.axes is not None and cine.axes is not None:
        axes, wanted = stack.axes, cine.axes
        turn = max(TURNS, key=lambda t: float((t.axes(axes) * wanted).sum()))
        if np.abs(turn.axes(axes) - wanted).max() > 0.05:
            raise StudyError(f"{path.name}: mask: drawn on another plane than {cine.source}; give the matching mask.")
        drawn = turn.pixels(drawn)
    if drawn.shape != cine.frames.shape:
        raise StudyError(
            f"{path.name}: mask: (frame, H, W) {drawn.shape} against {cine.frames.shape} of {cine.source}; "
            "give the mask that was drawn on these images."
        )
    return np.asarray(drawn, dtype=np.uint8)
