"""The arms of the comparison as a table: what each may see, and a line that says it in words. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Task = Literal["phenotypes", "diseases"]


@dataclass(frozen=True)
class Arm:
    """One arm: the features its head reads (none: a network), a line for reports, and what else sets it apart.

    ``teacher``: labelled by CMR where labels are missing; ``curved``: the head reads random curves of the features.
    """

    features: tuple[str, ...]
    about: str
    teacher: bool = False
    tasks: tuple[Task, ...] = ("phenotypes", "diseases")
    endpoints: tuple[str, ...] | None = None
    curved: bool = False


FIBRILLATION: Final = ("atrial_fibrillation", "af_rhythm")
ON_ECG: Final = ("rbbb", "lbbb", "af_rhythm")  # what this ECG shows by itself, whatever the heart looks like
ONLY_PHENOTYPES: Final[tuple[Task, ...]] = ("phenotypes",)
ARMS: Final[dict[str, Arm]] = {
    "covariates": Arm(("covariates",), "age, sex, height and weight alone"),
    "beat_ridge": Arm(("beat",), "linear model on the 12-lead median beat"),
    "beat_ridge_teacher": Arm(("beat",), "the same, taught by CMR", True, ONLY_PHENOTYPES),
    "rr_rule": Arm(("rr",), "variability of RR intervals alone", False, ("diseases",), FIBRILLATION),
    "scratch": Arm((), "ECG network trained on labels alone"),
    "mae": Arm(("mae",), "ECG network pre-trained without CMR, frozen"),
    "aligned": Arm(("aligned",), "ECG network aligned with CMR, frozen"),
    "aligned_teacher": Arm(
        ("aligned",), "aligned with CMR, frozen, a curved head taught by CMR", True, ONLY_PHENOTYPES, curved=True
    ),
    "aligned_finetuned": Arm((), "aligned with CMR, then trained on labels", False, ONLY_PHENOTYPES),
    "aligned_covariates": Arm(("aligned", "covariates"), "aligned with CMR, plus age, sex, height and weight"),
    "aligned_rhythm": Arm(
        ("aligned", "rr"),
        "aligned with CMR, plus variability of RR intervals",
        False,
        ("diseases",),
        FIBRILLATION,
    ),
    "aligned_mae": Arm(
        ("aligned", "mae"), "aligned with CMR, plus the network pre-trained without it", False, ("diseases",), ON_ECG
    ),
    "cmr": Arm(("cmr",), "the CMR images themselves: the ceiling with images", False, ONLY_PHENOTYPES),
}
