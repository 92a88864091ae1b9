"""The arms of the comparison: what each may see, fitted on the same people at every fraction of labels.

Frozen arms are linear heads on features; ``scratch`` and ``aligned_finetuned`` are networks. A teacher arm learns from
the CMR as well: a ridge from CMR embeddings to phenotypes, fitted on the labelled people, labels every training person
with a CMR; a head learns from these, and the arm is the mean of that head and the one fitted on true labels. The rival
on the median beat gets the same teacher, so that the gain of the representation shows by itself. Fractions are nested:
whoever is labelled at 10 % is labelled at 25 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from cardionets import diseases, phenotypes, train, weights
from cardionets.arm_table import ARMS, Arm, Task
from cardionets.config import Settings, Study
from cardionets.device import pick_device
from cardionets.encoders import config_of, ecg_settings, embed_ecgs, load_align
from cardionets.features import Features, People
from cardionets.frozen import predict_head
from cardionets.models.align import AlignSettings
from cardionets.models.ecg_mae import EcgSettings
from cardionets.models.heads import Basis, Curves, Fit, HeadSettings, LinearHead, fit_logistic, fit_ridge, mean_head
from cardionets.models.supervised import EcgNetwork, supervised_loss
from cardionets.stage import origin

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]


Heads = Literal["phenotypes", "screening", "subtypes"]
SCORES: Final = ("arm", "fraction", "endpoint", "value", "penalty")


class ArmSettings(Settings):
    """Preset block ``heads``: closed-form heads, and the two networks trained on labels."""

    heads: HeadSettings = HeadSettings()
    scratch: train.TrainSettings
    finetune: train.TrainSettings
    stretch: float = Field(default=0.5, ge=0, le=1)  # epochs grow as fraction ** -stretch: few labels, more passes


@dataclass
class Fitted:
    """Heads and networks by (arm, fraction), validation scores, and a sentence for everything left out."""

    task: Task
    endpoints: tuple[str, ...]
    models: dict[tuple[str, float], nn.Module] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    curves: list[pd.DataFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fit_phenotypes(study: Study, force: bool = False, only: Sequence[str] = tuple(ARMS)) -> pd.DataFrame:
    """Fit every arm (or ``only`` some) at every label fraction on the paired cohort.

    Writes ``weights/phenotypes`` and returns mean validation R2 per arm and fraction.
    """
    people = People(study, [study.protocol.study.paired], "phenotypes", phenotypes.NAMES)
    return _fit_all(study, "phenotypes", people, study.protocol.endpoints.label_fractions, force, only)


def fit_screening(study: Study, force: bool = False) -> pd.DataFrame:
    """Fit the disease arms on both development cohorts at natural prevalence; returns their validation skill.

    Writes ``weights/screening``, and ``weights/subtypes`` by :func:`fit_subtypes`.
    """
    cohorts = list(dict.fromkeys((study.protocol.study.paired, study.protocol.study.screening)))
    people = People(study, cohorts, "diseases", study.protocol.endpoints.diseases)
    found = _fit_all(study, "screening", people, (1.0,), force, tuple(ARMS))
    fit_subtypes(study)
    return found


def fit_subtypes(study: Study) -> pd.DataFrame:
    """Fit each subtype of cardiomyopathy against the other two, among development people with a known one.

    They are few, so that linear heads on frozen features alone are fitted. Writes ``weights/subtypes``.
    """
    cohorts = list(dict.fromkeys((study.protocol.study.paired, study.protocol.study.screening)))
    people = People(study, cohorts, "diseases", tuple(diseases.SUBTYPES))
    linear = [name for name, arm in ARMS.items() if arm.features and arm.endpoints is None]
    return _fit_all(study, "subtypes", people, (1.0,), False, linear)


def _fit_all(
    study: Study, name: Heads, people: People, fractions: Sequence[float], force: bool, only: Sequence[str]
) -> pd.DataFrame:
    settings = study.block("heads", ArmSettings)
    fitted = Fitted(people.task, people.endpoints)
    bases: dict[tuple[Any, ...], Basis] = {}
    for fraction in sorted(fractions):
        labelled = people.labelled(fraction)
        for arm_name, arm in ARMS.items():
            if people.task not in arm.tasks or arm_name not in only:
                continue
            if arm.features:
                _fit_head(fitted, people, arm_name, fraction, labelled, settings.heads, bases)
            else:
                _fit_network(fitted, people, arm_name, fraction, labelled, settings, force)
        print(f"{name}: arms fitted with {fraction:.0%} of the labels ({labelled.sum():,} people)", flush=True)
    _save(study, name, fitted, people, settings)
    for note in dict.fromkeys(fitted.notes):
        print(note, flush=True)
    return summary(fitted)


def _fit_head(
    fitted: Fitted,
    people: People,
    name: str,
    fraction: float,
    labelled: NDArray[np.bool_],
    settings: HeadSettings,
    bases: dict[tuple[Any, ...], Basis],
) -> None:
    arm = ARMS[name]
    x, x_val, blocks, curves = _seen(people, arm, settings)
    read = (arm.features, arm.curved)
    y, y_val = people.y("train"), people.y("val")
    if arm.endpoints:
        y, y_val = (np.where(np.isin(people.endpoints, arm.endpoints), part, np.nan) for part in (y, y_val))

    def solve(target: Doubles, keep: NDArray[np.bool_]) -> Fit:
        basis = bases.get(read) if keep.all() else None
        basis = basis or Basis.of(x[keep], blocks)
        if keep.all():
            bases[read] = basis
        method = fit_ridge if people.task == "phenotypes" else fit_logistic
        return method(x[keep], target[keep], x_val, y_val, people.endpoints, settings, basis)

    keep = np.asarray(labelled & np.isfinite(x).any(1) & np.isfinite(y).any(1))
    if not keep.any():
        fitted.notes.append(f"{name} at {fraction:.0%}: no labelled person has its features; left out.")
        return
    fit = solve(y, keep)
    if arm.teacher:
        fit.head = mean_head(fit.head, solve(*_taught(people, y, labelled, settings)).head)
    seen = np.isfinite(x_val).any(1)
    _score(fitted, name, fraction, predict_head(fit.head, x_val[seen]), y_val[seen], fit.penalty)
    fit.head.curves = curves
    fitted.models[name, fraction] = fit.head
    fitted.notes += [f"{fraction:.0%} of labels: {note}" for note in _mine(fit, arm)]


def _seen(people: People, arm: Arm, settings: HeadSettings) -> tuple[Floats, Floats, tuple[int, ...], Curves | None]:
    """What a head reads of training (n, p) and validation people, its blocks, and the curves it was turned into."""
    x, x_val = people.x(arm.features, "train"), people.x(arm.features, "val")
    if not arm.curved or not settings.curves:
        return x, x_val, people.blocks(arm.features), None
    curves = Curves.of(x, settings.curves, settings.bend, people.study.protocol.seed)
    bent, bent_val = (np.asarray(curves(torch.from_numpy(part)).numpy()) for part in (x, x_val))
    return bent, bent_val, (1,) * settings.curves, curves


def _mine(fit: Fit, arm: Arm) -> list[str]:
    """Sentences about endpoints the arm is meant to predict."""
    return [n for n in fit.notes if arm.endpoints is None or n.split(":")[0] in arm.endpoints]


def _taught(
    people: People, y: Doubles, labelled: NDArray[np.bool_], settings: HeadSettings
) -> tuple[Doubles, NDArray[np.bool_]]:
    """Labels of everybody with a CMR: the true ones where known and allowed, else what the CMR teacher reads off."""
    cmr, cmr_val = people.x(("cmr",), "train"), people.x(("cmr",), "val")
    imaged = np.asarray(np.isfinite(cmr).all(1))
    learn = labelled & imaged
    if not learn.any():
        return np.where(labelled[:, None], y, np.nan), labelled
    teacher = fit_ridge(cmr[learn], y[learn], cmr_val, people.y("val"), people.endpoints, settings)
    taught = np.where(imaged[:, None], predict_head(teacher.head, cmr).astype(np.float64), np.nan)
    return np.where(labelled[:, None] & np.isfinite(y), y, taught), labelled | imaged


def _fit_network(
    fitted: Fitted,
    people: People,
    name: str,
    fraction: float,
    labelled: NDArray[np.bool_],
    settings: ArmSettings,
    force: bool,
) -> None:
    study = people.study
    keep: NDArray[np.bool_] = labelled & np.isfinite(people.y("train")).any(1)
    if not keep.any():
        fitted.notes.append(f"{name} at {fraction:.0%}: no labelled person; left out.")
        return
    budget = settings.scratch if name == "scratch" else settings.finetune
    budget = budget.model_copy(update={"epochs": max(1, round(budget.epochs * fraction**-settings.stretch))})
    model = _network(study, people, name, fraction, keep, fitted)
    run = f"{name}_{people.task}_{round(100 * fraction)}"
    folder = study.path("logs", run)
    if force:
        train.forget(folder)
    part, val = people.table("train", keep), people.table("val")
    identity = f"{run} {int(keep.sum())} {weights.read_card(study.path('weights', 'align')).sha256}"
    history = train.fit(
        model,
        part,
        supervised_loss,
        budget,
        name=run,
        folder=folder,
        seed=study.protocol.seed,
        val=val,
        identity=identity,
    )
    fitted.models[name, fraction] = model
    fitted.curves.append(history.curve().assign(arm=name, fraction=fraction))
    val_people = [(s, rows) for s, rows in zip(people.sources, people.rows["val"]) if len(rows)]
    chosen = np.concatenate([predict_network(model, source, rows) for source, rows in val_people])
    _score(fitted, name, fraction, chosen, people.y("val"), np.full(len(people.endpoints), np.nan))


def _network(
    study: Study, people: People, name: str, fraction: float, keep: NDArray[np.bool_], fitted: Fitted
) -> EcgNetwork:
    """A fresh network, or the aligned encoder with the aligned arm's own head to start from."""
    torch.manual_seed(study.protocol.seed)
    align = study.block("align", AlignSettings) if name == "aligned_finetuned" else None
    model = EcgNetwork(ecg_settings(study).encoder, len(people.endpoints), people.task, align)
    table = people.table("train", keep)
    model.set_statistics(table.take(np.arange(len(table))))
    if name == "aligned_finetuned":
        aligner, head = load_align(study).cpu(), fitted.models["aligned", fraction]
        assert isinstance(head, LinearHead)
        model.start_from(aligner, head)
    return model.to(pick_device())


def predict_network(model: EcgNetwork, source: Features, rows: Rows) -> Floats:
    """Predictions of the records at ``rows`` of a cohort, (n, k)."""
    model.to(pick_device()).eval()
    stored = source.records["row"].to_numpy(np.int64)[rows]
    return embed_ecgs(model, source.store, model.encoder.settings.samples, rows=stored)


def _score(fitted: Fitted, name: str, fraction: float, predicted: Floats, y: Doubles, penalty: Doubles) -> None:
    """Validation R2 (phenotypes) or log-loss skill against the prevalence (diseases) of every endpoint."""
    for i, endpoint in enumerate(fitted.endpoints):
        known = np.isfinite(y[:, i]) & np.isfinite(predicted[:, i])
        value = _skill(predicted[known, i].astype(np.float64), y[known, i], fitted.task)
        row = {"arm": name, "fraction": fraction, "endpoint": endpoint, "value": value, "penalty": penalty[i]}
        fitted.scores.append(row)


def _skill(predicted: Doubles, y: Doubles, task: Task) -> float:
    """1 - loss / loss of the mean; NaN when the labels do not vary."""
    if len(y) < 2 or y.std() == 0:
        return float("nan")
    if task == "phenotypes":
        return float(1 - np.square(predicted - y).mean() / y.var())
    p, share = np.clip(predicted, 1e-6, 1 - 1e-6), y.mean()
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    return float(1 - loss / -(share * np.log(share) + (1 - share) * np.log(1 - share)))


def summary(fitted: Fitted) -> pd.DataFrame:
    """Mean validation score per arm (rows) and fraction (columns)."""
    scores = pd.DataFrame(fitted.scores, columns=list(SCORES))
    return scores.pivot_table(index="arm", columns="fraction", values="value", sort=False)


def _save(study: Study, name: Heads, fitted: Fitted, people: People, settings: ArmSettings) -> None:
    tensors = {
        f"{arm}@{fraction:g}/{key}": value
        for (arm, fraction), model in fitted.models.items()
        for key, value in model.state_dict().items()
    }
    config = {
        "task": fitted.task,
        "endpoints": list(fitted.endpoints),
        "arms": [f"{arm}@{fraction:g}" for arm, fraction in fitted.models],
        "encoder": config_of(ecg_settings(study))["encoder"],
        "align": study.block("align", AlignSettings).model_dump(mode="json"),
    }
    scores = pd.DataFrame(fitted.scores, columns=list(SCORES))
    means = scores.groupby(["arm", "fraction"], sort=False)["value"].mean().dropna().reset_index()
    metrics = {f"{arm}@{fraction:g}": float(v) for arm, fraction, v in means.itertuples(index=False)}
    counts = {split: int(sum(map(len, rows))) for split, rows in people.rows.items()}
    about = {"cohorts": [s.cohort for s in people.sources], "people": counts, "notes": fitted.notes} | origin(study)
    card = weights.Card(name=name, contract=weights.contract(study), config=config, data=about, metrics=metrics)
    tables = {"validation": scores, "log": pd.concat(fitted.curves or [pd.DataFrame()])}
    weights.save(study.path("weights", name), tensors, card, tables)


def load_arms(study: Study, name: Heads) -> Fitted:
    """Heads and networks of ``weights/phenotypes``, ``weights/screening`` or ``weights/subtypes``."""
    tensors, card = weights.load(study.path("weights", name), weights.contract(study))
    fitted = Fitted(card.config["task"], tuple(card.config["endpoints"]))
    encoder = EcgSettings.model_validate(card.config["encoder"])
    align = AlignSettings.model_validate(card.config["align"])
    for key in card.config["arms"]:
        arm, fraction = key.split("@")
        state = {k.removeprefix(f"{key}/"): v for k, v in tensors.items() if k.startswith(f"{key}/")}
        model = _shell(arm, state, fitted, encoder, align)
        weights.fill(model, state, name)
        fitted.models[arm, float(fraction)] = model.eval()
    return fitted


def _shell(arm: str, state: dict[str, Tensor], fitted: Fitted, encoder: EcgSettings, align: AlignSettings) -> nn.Module:
    if ARMS[arm].features:
        return LinearHead.like(state, fitted.task == "diseases")
    return EcgNetwork(encoder, len(fitted.endpoints), fitted.task, align if arm == "aligned_finetuned" else None)


def frames(fitted: Fitted, features: Features, rows: Rows, fractions: Sequence[float]) -> Iterator[pd.DataFrame]:
    """Tidy predictions of each arm for the records at ``rows``, wide in endpoints: the predict stage melts them."""
    for (name, fraction), model in fitted.models.items():
        if fraction not in fractions:
            continue
        if isinstance(model, EcgNetwork):
            values = predict_network(model, features, rows)
        else:
            assert isinstance(model, LinearHead)
            x = features.join(ARMS[name].features, rows)
            values = predict_head(model, x)
            values[~np.isfinite(x).any(1)] = np.nan  # nothing seen, nothing said
        wide = pd.DataFrame(values, columns=list(fitted.endpoints), index=rows)
        yield wide.assign(arm=name, fraction=fraction)
