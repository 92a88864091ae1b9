"""Representation stages: pre-train ECG and CMR encoders, align them, and embed cohorts with the results.

Each stage reads stores, writes ``weights/<model>/`` (weights, card, learning curve) and returns its learning curve.
Labels play no part here. Several processes: ``torchrun --nproc_per_node=4 -m cardionets.represent pretrain_ecg``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cardionets import data, stage, train
from cardionets.config import Study
from cardionets.device import pick_device
from cardionets.embed import embed_cines_once, open_store, views_of
from cardionets.encoders import Floats, cmr_settings, ecg_settings, embed_ecgs, load_ecg
from cardionets.launch import launchable
from cardionets.models.align import Aligner, AlignSettings, align_loss
from cardionets.models.cmr_mae import CmrMae, cmr_mae_loss
from cardionets.models.ecg_mae import EcgMae, ecg_mae_loss
from cardionets.models.heads import Basis, HeadSettings, LinearHead, fit_ridge
from cardionets.store import Store


@launchable("ecg_mae")
def pretrain_ecg(study: Study, force: bool = False) -> pd.DataFrame:
    """Masked pre-training on the ECGs of all development people but the test people; returns the learning curve."""
    settings = ecg_settings(study)
    names = list(dict.fromkeys((study.protocol.study.paired, study.protocol.study.screening)))
    stores = {name: open_store(study, name) for name in names}
    part = {s: data.ecg_table([(st, _split(st, s)) for st in stores.values()]) for s in ("train", "val")}
    torch.manual_seed(study.protocol.seed)
    model = EcgMae(settings, study.grid.beat_samples)
    model.set_statistics(part["train"].take(_some(len(part["train"]), study.protocol.seed)))
    about = {"cohorts": names, "records": len(part["train"]), "val_records": len(part["val"])}
    return _stage(study, "ecg_mae", settings, model, part, ecg_mae_loss, about, force)


@launchable("cmr_mae")
def pretrain_cmr(study: Study, force: bool = False) -> pd.DataFrame:
    """Masked and contrastive pre-training of both CMR encoders on training people; returns the learning curve."""
    settings = cmr_settings(study)
    store = open_store(study, study.protocol.study.paired)
    part = {s: data.Table(**data.cine_columns(store, data.pairs_of(store, s))) for s in ("train", "val")}
    torch.manual_seed(study.protocol.seed)
    model = CmrMae(settings)
    model.learn_wide(part["train"].take(_some(len(part["train"]), study.protocol.seed, 4_000)))
    about = {"cohorts": [study.protocol.study.paired], "pairs": len(part["train"]), "val_pairs": len(part["val"])}
    return _stage(study, "cmr_mae", settings, model, part, cmr_mae_loss, about, force)


@launchable("align")
def align(study: Study, force: bool = False) -> pd.DataFrame:
    """Align the pre-trained ECG encoder with the frozen CMR encoders on paired training people; returns the curve."""
    settings, ecg, cmr = study.block("align", AlignSettings), ecg_settings(study), cmr_settings(study)
    store = open_store(study, study.protocol.study.paired)
    seen = embed_cines_once(study, store)
    pairs = {s: data.pairs_of(store, s) for s in ("train", "val")}
    components = _components(seen, pairs, settings)
    part = {s: _aligned_table(store, r, seen, c) for (s, r), c in zip(pairs.items(), components)}
    torch.manual_seed(study.protocol.seed)
    model = Aligner(settings, ecg.encoder, cmr.encoder.features).to(pick_device())
    model.encoder.load_state_dict(load_ecg(study).encoder.state_dict())
    model.start_from(*_closed_form(model, store, pairs, components))
    about = {"cohorts": [study.protocol.study.paired], "pairs": len(part["train"]), "val_pairs": len(part["val"])}
    return _stage(study, "align", settings, model, part, align_loss, about, force)


def _stage(
    study: Study,
    name: str,
    settings: Any,
    model: nn.Module,
    part: dict[str, data.Table],
    loss: train.Loss,
    about: dict[str, Any],
    force: bool,
) -> pd.DataFrame:
    history = stage.fit(study, name, model, part, loss, settings.train, about, force)
    return stage.publish(study, name, settings, model, history, about)


def _split(store: Store, split: str) -> pd.DataFrame:
    return store.records[store.records["split"] == split]


def _some(count: int, seed: int, most: int = 20_000) -> NDArray[np.int64]:
    """At most ``most`` rows, for statistics."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _components(seen: Mapping[str, Floats], pairs: Mapping[str, pd.DataFrame], settings: AlignSettings) -> list[Floats]:
    """Whitened principal components (n, k) of the CMR embeddings of all views, learnt on training people, per part."""
    both = {
        part: np.concatenate([v for name, v in views_of(records, seen).items() if name in settings.views], axis=1)
        for part, records in pairs.items()
    }
    basis = Basis.of(both["train"])
    k = min(settings.components, len(basis.power))
    scale = np.sqrt(basis.power[:k] / len(both["train"]))
    wide = []
    for x in both.values():
        whole = np.full((len(x), settings.components), np.nan, np.float32)  # with few people some stay unknown
        whole[:, :k] = basis.transform(x)[:, :k] / scale
        wide.append(whole)
    return wide


def _closed_form(
    model: Aligner, store: Store, pairs: Mapping[str, pd.DataFrame], components: Sequence[Floats]
) -> tuple[LinearHead, Tensor]:
    """Ridge from the frozen encoder's embedding to the CMR components, and the share of each it explains.

    Penalties and shares come from validation pairs.
    """
    embedding = embed_ecgs(model.encoder.eval(), store, model.encoder.settings.samples)
    x, x_val = (embedding[records["row"]] for records in pairs.values())
    names = tuple(f"component {i + 1}" for i in range(components[0].shape[1]))
    basis = Basis.of(x, (1,) * x.shape[1])
    head = fit_ridge(x, components[0], x_val, components[1], names, HeadSettings(), basis).head
    target = torch.from_numpy(components[1])
    explained = 1 - (head(torch.from_numpy(x_val)) - target).square().mean(0) / target.var(0)
    return head, explained


def _aligned_table(store: Store, records: pd.DataFrame, seen: Mapping[str, Floats], components: Floats) -> data.Table:
    cmr = {view: data.column(embedding) for view, embedding in views_of(records, seen).items()}
    return data.Table(**data.ecg_table([(store, records)]).columns, **cmr, components=data.column(components))


if __name__ == "__main__":
    stage.run_named("represent", (pretrain_ecg, pretrain_cmr, align))
