"""The linear heads that were fitted for the arms, as they are stored; imports torch and little else."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cardionets import weights
from cardionets.config import Study, StudyError
from cardionets.models.heads import LinearHead

Floats = NDArray[np.float32]


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
