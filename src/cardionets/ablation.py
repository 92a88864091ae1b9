"""What each ingredient is worth: the representation trained again without it, for several seeds.

A variant is the study's own preset with a few values changed, in a folder of its own under ``ablation/`` that shares
the stores and the CMR encoders. Nothing is copied from the pipeline: the stages are called as the study calls them. A
variant whose predictions are there is not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cardionets import arms, phenotypes, represent
from cardionets.config import Study, StudyError
from cardionets.evaluate.estimate import percentile
from cardionets.evaluate.regression import Moments
from cardionets.features import Features
from cardionets.files import atomic_path
from cardionets.predict import tidy
from cardionets.store import Store

FOLDER: Final = "ablation"
FRACTIONS: Final = (0.1, 0.25, 1.0)
HEADS: Final = ("beat_ridge", "beat_ridge_teacher", "mae", "aligned", "aligned_teacher")
COLUMNS: Final = [
    "variant",
    "about",
    "arm",
    "fraction",
    "seeds",
    "n",
    "r2",
    "lower",
    "upper",
    "loss",
    "worse",
    "better",
]


@dataclass(frozen=True)
class Variant:
    """Preset values that differ (``block.key.key`` -> value) and a line for the table."""

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pretrains(self) -> bool:
        """Whether the ECG encoder itself must be trained again, not only its alignment."""
        return any(name.startswith("ecg_mae") for name in self.changes)


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
}


def train(study: Study, variant: str, seed: int, networks: Sequence[str] = ()) -> Path:
    """Predictions of one variant and seed for validation and test people; what lies there is kept.

    ``networks``: arms trained from labels (``scratch``) that take part. Raises StudyError for an unknown variant.
    """
    if variant not in VARIANTS:
        raise StudyError(f"ablation: {variant}: no such variant; choose one of {', '.join(VARIANTS)}.")
    own = variant_study(study, variant, seed)
    path = own.path("predictions", f"{own.protocol.study.paired}.parquet")
    if path.is_file():
        return path
    if VARIANTS[variant].pretrains or variant == "whole":
        represent.pretrain_ecg(own)
    else:
        _share(own, "ecg_mae", variant_study(study, "whole", seed).path("weights", "ecg_mae"))
    represent.align(own)
    arms.fit_phenotypes(own, only=(*HEADS, *networks))
    features = Features(own, own.protocol.study.paired)
    rows = np.flatnonzero(features.records["split"] != "train")
    table = tidy(features.records, list(arms.frames(arms.load_arms(own, "phenotypes"), features, rows, FRACTIONS)))
    with atomic_path(path) as aside:
        table.to_parquet(aside, index=False)
    return path


def variant_study(study: Study, variant: str, seed: int) -> Study:
    """The settings of a variant, written to ``ablation/work/<variant>-<seed>``, beside links to what it shares."""
    root = study.path(FOLDER, "work", f"{variant}-{seed}")
    protocol = study.protocol.model_dump(mode="json") | {"seed": study.protocol.seed + seed}
    protocol["endpoints"]["label_fractions"] = list(FRACTIONS)
    preset = reduce(_changed, VARIANTS[variant].changes.items(), study.preset)
    cohorts = {name: cohort.model_dump(mode="json", exclude_unset=True) for name, cohort in study.cohorts.items()}
    (root / "presets").mkdir(parents=True, exist_ok=True)
    texts = {"params": protocol, "cohorts": {"cohorts": cohorts}, f"presets/{study.protocol.preset}": preset}
    for name, values in texts.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    own = Study(root)
    _link(own.path("store"), study.path("store"))
    _share(own, "cmr_mae", study.path("weights", "cmr_mae"))
    return own


def _changed(preset: dict[str, Any], change: tuple[str, Any]) -> dict[str, Any]:
    """A preset with one value changed."""
    first, _, rest = change[0].partition(".")
    value = _changed(preset[first], (rest, change[1])) if rest else change[1]
    return {**preset, first: value}


def _share(own: Study, model: str, weights: Path) -> None:
    if not weights.is_dir():
        raise StudyError(f"weights/{weights.name}: missing; train the whole model before its variants.")
    own.path("weights").mkdir(exist_ok=True)
    _link(own.path("weights", model), weights)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target.resolve(), target_is_directory=True)


def table(study: Study, seeds: Mapping[str, Sequence[int]], split: str = "test") -> pd.DataFrame:
    """Mean R2 over the phenotypes per variant, arm and fraction, and what is lost against ``whole``.

    Both are medians over the seeds, with a percentile interval of a bootstrap over people (the same people in every
    seed and variant); the loss uses the seeds that both have.

    Returns:
        variant, about, arm, fraction, seeds, n (people), r2, lower, upper, loss, worse, better (its interval).
    """
    store = Store.open(study.path("store", study.protocol.study.paired), study.grid, hide_test=split != "test")
    found = {(v, s): _scores(study, store, v, s, split) for v, many in seeds.items() for s in many}
    rows = []
    for variant, many in seeds.items():
        for key in sorted({key for seed in many for key in found[variant, seed]}):
            mine = {seed: found[variant, seed][key] for seed in many if key in found[variant, seed]}
            whole = {seed: found["whole", seed][key] for seed in seeds["whole"] if key in found["whole", seed]}
            rows.append((variant, VARIANTS[variant].about, *key, *_row(mine, whole, study)))
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class _Score:
    people: int
    value: float
    replicates: NDArray[np.float64]  # (B,)


def _row(mine: Mapping[int, _Score], whole: Mapping[int, _Score], study: Study) -> tuple[float, ...]:
    level = study.protocol.statistics.level
    own = percentile(*_median(list(mine.values())), level)
    both = [
        _Score(0, whole[s].value - mine[s].value, whole[s].replicates - mine[s].replicates) for s in mine if s in whole
    ]
    loss = percentile(*_median(both), level) if both else percentile(np.nan, [], level)
    people = next(iter(mine.values())).people
    return (len(mine), people, own.value, own.lower, own.upper, loss.value, loss.lower, loss.upper)


def _median(scores: Sequence[_Score]) -> tuple[float, NDArray[np.float64]]:
    replicates: NDArray[np.float64] = np.median([s.replicates for s in scores], axis=0)
    return float(np.median([s.value for s in scores])), replicates


def _scores(study: Study, store: Store, variant: str, seed: int, split: str) -> dict[tuple[str, float], _Score]:
    """Mean R2 of each (arm, fraction), and of each bootstrap replicate."""
    own = variant_study(study, variant, seed)
    path = own.path("predictions", f"{study.protocol.study.paired}.parquet")
    found = pd.read_parquet(path, filters=[("split", "==", split)])
    truth = store.records.set_index("record")[list(phenotypes.NAMES)]
    statistics, out = study.protocol.statistics, {}
    for (arm, fraction), group in found.groupby(["arm", "fraction"], observed=True):
        wide = group.pivot(index="record", columns="endpoint", values="value").reindex(columns=list(phenotypes.NAMES))
        person = group.drop_duplicates("record").set_index("record")["person"].reindex(wide.index).astype(str)
        moments = Moments.of(truth.loc[wide.index].to_numpy(np.float64), wide.to_numpy(np.float64), person.to_numpy())
        replicates = np.nanmean(moments.bootstrap(statistics.bootstrap, study.protocol.seed)["r2"], axis=1)
        value = float(np.nanmean(moments.scores()["r2"]))
        out[str(arm), float(str(fraction))] = _Score(person.nunique(), value, replicates)
    return out


def finished(study: Study, seeds: int) -> dict[str, list[int]]:
    """Variant -> seeds whose predictions lie here."""
    paired = study.protocol.study.paired
    kept = {v: [s for s in range(seeds) if _done(study, v, s, paired)] for v in VARIANTS}
    return {variant: many for variant, many in kept.items() if many}


def _done(study: Study, variant: str, seed: int, paired: str) -> bool:
    return study.path(FOLDER, "work", f"{variant}-{seed}", "predictions", f"{paired}.parquet").is_file()
