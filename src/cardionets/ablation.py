"""What each ingredient is worth: the representation trained again without it, for several seeds.

A variant is the study's own preset with a few values changed, in a folder of its own under ``ablation/work`` that
shares the stores and the CMR encoders; the whole recipe at the first seed is the study itself. Nothing is copied from
the pipeline: the stages are called as the study calls them. What was trained with these settings and data is kept,
stage by stage, so that a run that is stopped continues; other settings start afresh. ``ablation_tables`` reads it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from cardionets import arms, represent, weights
from cardionets.config import Study, StudyError
from cardionets.features import Features
from cardionets.files import atomic_path
from cardionets.predict import tidy

FOLDER: Final = "ablation"
FRACTIONS: Final = (0.1, 0.25, 1.0)
HEADS: Final = ("mae", "aligned", "aligned_teacher")
RIVALS: Final = ("covariates", "beat_ridge", "beat_ridge_teacher", "scratch", "aligned_covariates")
SETTINGS: Final = "settings.json"


@dataclass(frozen=True)
class Variant:
    """Preset values that differ (``block.key.key`` -> value) and a line for the table."""

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def trains(self, block: str) -> bool:
        """Whether ``ecg_mae``, or ``align`` on top of it, must be trained again: nothing that it needs is the same."""
        blocks = {name.split(".")[0] for name in self.changes}
        return block in blocks or (block == "align" and "ecg_mae" in blocks)


_PLAIN: Final = {"ecg_mae.encoder.measurements": False}
VARIANTS: Final[dict[str, Variant]] = {
    "whole": Variant("everything, as in the study"),
    "no_mae": Variant("alignment starts from a random encoder", {"ecg_mae.train.epochs": 0}),
    "record_scale": Variant(
        "each record scaled to SD 1: absolute voltage is gone", {"ecg_mae.encoder.normalise": "record", **_PLAIN}
    ),
    "no_measurements": Variant("transformer alone, no measured waves", _PLAIN),
    "no_beat_target": Variant("masked pre-training without the median beat as a target", {"ecg_mae.beat_weight": 0.0}),
    "no_contrast": Variant("alignment by distillation alone", {"align.contrast_weight": 0.0}),
    "one_view": Variant("aligned with the short axis alone", {"align.views": ["sax"]}),
    "straight_head": Variant("a linear head in the place of the curved one", {"heads.heads.curves": 0}),
}


def train(study: Study, variant: str, seed: int, rivals: Sequence[str] = ()) -> Path:
    """Predictions of one variant and seed for validation and test people; what lies there is kept.

    ``rivals``: arms beside :data:`HEADS` that take part. Raises StudyError for an unknown variant.
    """
    if variant not in VARIANTS:
        raise StudyError(f"ablation: {variant}: no such variant; choose one of {', '.join(VARIANTS)}.")
    own, path = variant_study(study, variant, seed), predictions(study, variant, seed)
    if path.is_file():
        return path
    for name, stage in (("ecg_mae", represent.pretrain_ecg), ("align", represent.align)):
        source = _source(study, variant, seed, name)
        if source is not None:
            _share(own, name, source)
        elif not own.path("weights", name, weights.CARD).is_file():
            stage(own)
    arms.fit_phenotypes(own, only=(*HEADS, *rivals))
    features = Features(own, own.protocol.study.paired)
    rows = np.flatnonzero(features.records["split"] != "train")
    table = tidy(features.records, list(arms.frames(arms.load_arms(own, "phenotypes"), features, rows, FRACTIONS)))
    with atomic_path(path, lasting=True) as aside:
        table.to_parquet(aside, index=False)
    return path


def predictions(study: Study, variant: str, seed: int) -> Path:
    """Where the predictions of a variant and seed lie."""
    return _root(study, variant, seed) / "predictions" / f"{study.protocol.study.paired}.parquet"


def _root(study: Study, variant: str, seed: int) -> Path:
    return study.path(FOLDER, "work", f"{variant}-{seed}")


def _source(study: Study, variant: str, seed: int, name: str) -> Path | None:
    """The weights that a variant shares; None where it trains its own."""
    if VARIANTS[variant].trains(name):
        return None
    if variant != "whole":
        return _root(study, "whole", seed) / "weights" / name
    own = study.path("weights", name)
    return own if seed == 0 and all(study.path("weights", n).is_dir() for n in ("ecg_mae", "align")) else None


def variant_study(study: Study, variant: str, seed: int) -> Study:
    """The settings of a variant, written to ``ablation/work/<variant>-<seed>``, beside links to what it shares.

    What was trained there with other settings or data is removed.
    """
    root, texts = _root(study, variant, seed), _settings(study, variant, seed)
    if not _current(root, texts):
        shutil.rmtree(root, ignore_errors=True)
    (root / "presets").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / SETTINGS).write_text(json.dumps(texts), encoding="utf-8")
    own = Study(root)
    _link(own.path("store"), study.path("store"))
    _share(own, "cmr_mae", study.path("weights", "cmr_mae"))
    return own


def _settings(study: Study, variant: str, seed: int) -> dict[str, str]:
    """File name -> text of a variant's settings, and what names the data and weights it rests on."""
    protocol = study.protocol.model_dump(mode="json") | {"seed": study.protocol.seed + seed}
    protocol["endpoints"]["label_fractions"] = list(FRACTIONS)
    preset = reduce(_changed, VARIANTS[variant].changes.items(), study.preset)
    cohorts = {name: cohort.model_dump(mode="json", exclude_unset=True) for name, cohort in study.cohorts.items()}
    files = {"params": protocol, "cohorts": {"cohorts": cohorts}, f"presets/{study.protocol.preset}": preset}
    texts = {f"{name}.yaml": yaml.safe_dump(values, sort_keys=False) for name, values in files.items()}
    return texts | {"origin.txt": _origin(study)}


def _origin(study: Study) -> str:
    """Hashes of the stores' tables and of the CMR encoders."""
    roles = study.protocol.study
    stores = [study.path("store", name, "records.parquet") for name in (roles.paired, roles.screening)]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in stores if path.is_file()]
    card = study.path("weights", "cmr_mae", weights.CARD)
    return "\n".join([*digests, weights.read_card(card.parent).sha256 if card.is_file() else ""])


def _current(root: Path, texts: Mapping[str, str]) -> bool:
    path = root / SETTINGS
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == texts


def _changed(preset: dict[str, Any], change: tuple[str, Any]) -> dict[str, Any]:
    """A preset with one value changed."""
    first, _, rest = change[0].partition(".")
    value = _changed(preset.get(first, {}), (rest, change[1])) if rest else change[1]
    return {**preset, first: value}


def _share(own: Study, model: str, source: Path) -> None:
    if not source.is_dir():
        raise StudyError(f"weights/{source.name}: missing; train the whole model before its variants.")
    own.path("weights").mkdir(exist_ok=True)
    _link(own.path("weights", model), source)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target.resolve(), target_is_directory=True)


def finished(study: Study, seeds: int) -> dict[str, list[int]]:
    """Variant -> seeds whose predictions lie here and belong to the present settings."""
    kept = {v: [s for s in range(seeds) if _done(study, v, s)] for v in VARIANTS}
    return {variant: many for variant, many in kept.items() if many}


def _done(study: Study, variant: str, seed: int) -> bool:
    current = _current(_root(study, variant, seed), _settings(study, variant, seed))
    return current and predictions(study, variant, seed).is_file()
