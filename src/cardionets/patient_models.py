"""What the networks say of one recording, in raw numbers: for a process that imports torch and little else."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cardionets import weights
from cardionets.arm_table import ARMS
from cardionets.config import Study
from cardionets.encoders import ecg_settings, embed_ecgs, load_align, load_ecg
from cardionets.frozen import load_head, predict_head
from cardionets.said import Said

if TYPE_CHECKING:
    from cardionets.store import Store

Floats = NDArray[np.float32]
Stored = NDArray[np.int16]
ALONE = ("aligned_teacher", "aligned")
BESIDE_COVARIATES = ("aligned_covariates", "aligned_covariates")
"""Arms of the phenotypes and of the diseases, without and with age, sex, height and weight."""
BY_THE_ECG = "aligned_mae"
"""The arm of what the ECG shows by itself; its diseases are taken from it either way."""


def say(study: Study, signal: Stored, beat: Stored, covariates: Floats | None) -> Said:
    """What the arms say of a signal (12, T) and its median beat (12, B) in uV; ``covariates`` (1, 4) where known.

    Raises StudyError for missing or foreign weights.
    """
    arm, disease_arm = ALONE if covariates is None else BESIDE_COVARIATES
    samples = ecg_settings(study).encoder.samples
    store, networks = one_store(signal, beat), {"aligned": load_align(study), "mae": load_ecg(study).encoder}
    x = {name: embed_ecgs(network, store, samples) for name, network in networks.items()}
    if covariates is not None:
        x["covariates"] = covariates
    values, card = _apply(study, "phenotypes", arm, x)
    risks: dict[str, float] = {}
    said_by: dict[str, str] = {}
    for name in (disease_arm, BY_THE_ECG):
        said, _ = _apply(study, "screening", name, x)
        risks |= said
        said_by |= dict.fromkeys(said, name)
    return Said(arm, said_by, values, risks, bool(card.data.get("simulated", False)))


def one_store(signal: Stored, beat: Stored) -> Store:
    """A recording as a store of one record, for functions that embed the ECGs of a store."""
    return cast("Store", SimpleNamespace(ecg=signal[None], beat=beat[None]))  # (1, 12, T) and (1, 12, B)


def _apply(study: Study, name: str, arm: str, x: Mapping[str, Floats]) -> tuple[dict[str, float], weights.Card]:
    """Endpoint -> prediction of one arm, fitted on all labels, of ``weights/<name>``."""
    head, card = load_head(study, name, arm)
    (row,) = predict_head(head, np.concatenate([x[part] for part in ARMS[arm].features], axis=1))
    return {endpoint: float(v) for endpoint, v in zip(card.config["endpoints"], row) if np.isfinite(v)}, card
