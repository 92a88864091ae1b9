"""The arms of the comparison as a table, and the linear heads fitted for them; imports torch and little else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from cardionets import weights
from cardionets.config import Study, StudyError
from cardionets.models.heads import LinearHead
from cardionets.models.supervised import Task

Floats = NDArray[np.float32]


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


def load_head(study: Study, name: str, arm: str) -> tuple[LinearHead, weights.Card]:
    """One frozen arm at full labels of ``weights/<name>``, without building the others, and their card.

    Raises StudyError when these weights do not hold it.
    """
    tensors, card = weights.load(study.path("weights", name), weights.contract(study))
    state = {key.removeprefix(f"{arm}@1/"): value for key, value in tensors.items() if key.startswith(f"{arm}@1/")}
    if not state:
        raise StudyError(f"weights/{name}/card.json: arm {arm}: not in these weights; fit them again.")
    head = LinearHead.like(state, card.config["task"] == "diseases")
    weights.fill(head, state, name)
    return head.eval(), card


def predict_head(head: LinearHead, x: Floats) -> Floats:
    """Predictions (n, k) of a linear head on host features (n, p)."""
    with torch.inference_mode():
        return np.asarray(head.cpu()(torch.from_numpy(np.require(x, np.float32, "W"))).numpy())
