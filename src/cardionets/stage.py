"""A training stage: fit a network on two parts of a cohort, publish its weights with their card, forget the rest.

What :mod:`cardionets.represent` and :mod:`cardionets.generate` have in common, and their command line under
``torchrun``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from cardionets import data, train, weights
from cardionets.config import Settings, Study, StudyError
from cardionets.device import processes, rank
from cardionets.encoders import config_of


def fit(
    study: Study,
    name: str,
    model: nn.Module,
    part: Mapping[str, data.Table],
    loss: train.Loss,
    budget: train.TrainSettings,
    about: Mapping[str, Any],
    force: bool,
) -> train.History:
    """Train on ``part["train"]``, choose the epoch on ``part["val"]``; continues ``logs/<name>/`` unless ``force``."""
    folder, seed, identity = study.path("logs", name), study.protocol.seed, str(about)
    if force:
        train.forget(folder)
    kwargs: dict[str, Any] = {"name": name, "folder": folder, "seed": seed, "val": part["val"], "identity": identity}
    return train.fit(model, part["train"], loss, budget, **kwargs)


def publish(
    study: Study,
    name: str,
    settings: Settings,
    model: nn.Module,
    history: train.History,
    about: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
    curve: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Write ``weights/<name>/`` with its curve (that of ``history`` unless given), drop the checkpoint; the curve."""
    shown = history.curve() if curve is None else curve
    if rank() == 0:
        losses = {k: v for k, v in history.kept().items() if k.startswith("val_")}
        card = weights.Card(
            name=name,
            contract=weights.contract(study),
            config=config_of(settings),
            data=dict(about) | origin(study),
            metrics=losses | dict(metrics or {}),
        )
        weights.save(study.path("weights", name), model.state_dict(), card, {"log": shown})
        train.forget(study.path("logs", name))
    return shown


def origin(study: Study) -> dict[str, Any]:
    """What a card says about seed, preset and whether the data is simulated."""
    roles = study.protocol.study
    simulated = all(study.cohort(name).simulated for name in (roles.paired, roles.screening))
    return {"seed": study.protocol.seed, "preset": study.protocol.preset, "simulated": simulated}


def run_named(module: str, stages: Sequence[Callable[[Study], object]]) -> None:
    """Run those of ``stages`` that the command line names, in one process or in each that torchrun started."""
    known = {stage.__name__: stage for stage in stages}
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown or not sys.argv[1:]:
        raise StudyError(f"{module}: stages {unknown or 'missing'}; choose from {', '.join(known)}.")
    with processes():
        for name in sys.argv[1:]:
            known[name](Study())
