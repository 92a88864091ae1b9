"""What training people of the paired cohort look like, to judge drawn cines by; kept from one centre to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets import data
from cardionets.config import Study
from cardionets.device import pick_device
from cardionets.draw import Artist
from cardionets.embed import read_arrays, stamp, write_arrays
from cardionets.encoders import load_cmr
from cardionets.evaluate.estimate import Floats
from cardionets.generate import blocks, canonical, cine_table
from cardionets.models.cmr_mae import VIEWS, CmrMae
from cardionets.models.heads import HeadSettings, LinearHead, fit_logistic
from cardionets.store import Store

KEPT = ("train", "val", "ecg", "pose")


@dataclass(frozen=True)
class Home:
    """Features (n, 2 d) and diseases (n, k) of the paired cohort's training and validation people, by split.

    Of training people also the ECG embedding ``ecg`` (n, f) and the pose of their cines (n, view, 3).
    """

    features: dict[str, Floats]
    ecg: Floats
    pose: NDArray[np.float32]
    labels: dict[str, Floats]
    names: tuple[str, ...]

    @classmethod
    def of(cls, study: Study, artist: Artist, store: Store, training: pd.DataFrame) -> Home:
        """Embed the canonical cines of both splits, or read what was kept; test people are not touched."""
        names, pairs = study.protocol.endpoints.diseases, {"train": training, "val": data.pairs_of(store, "val")}
        key = stamp(study, store, ("align", "cmr_mae", "tokenizer"))
        path = study.path("logs", "embeddings", f"home-{key}.npz")
        kept = read_arrays(path, KEPT)
        if kept is None:
            kept = _embed(study, artist, store, pairs)
            write_arrays(path, kept)
        seen = {split: kept[split] for split in pairs}
        return cls(seen, kept["ecg"], kept["pose"], {s: data.labels(r, names) for s, r in pairs.items()}, tuple(names))

    def diseases(self, cines: Floats) -> pd.DataFrame:
        """Probability of every disease by a linear head that learnt from real cines; ``cines``: features (n, 2 d)."""
        head = self._head
        with torch.inference_mode():
            return pd.DataFrame(head(torch.from_numpy(cines)).numpy(), columns=list(self.names))

    @cached_property
    def _head(self) -> LinearHead:
        x, y = self.features, self.labels
        return fit_logistic(x["train"], y["train"], x["val"], y["val"], self.names, HeadSettings()).head


@torch.inference_mode()
def features(model: CmrMae, cines: Mapping[str, NDArray[np.uint8]]) -> Floats:
    """Embedding of both views by the CMR encoders, (n, 2 d)."""
    size, both = model.settings.encoder.size, []
    for view in VIEWS:
        margin = (cines[view].shape[-1] - size) // 2
        cut = slice(margin, margin + size)
        parts = [
            model.encoders[view](
                torch.from_numpy(np.ascontiguousarray(cines[view][rows][..., cut, cut])).to(pick_device())
            )
            for rows in blocks(len(cines[view]))
        ]
        both.append(torch.cat(parts).float().cpu().numpy())
    return np.concatenate(both, axis=1)


def _embed(
    study: Study, artist: Artist, store: Store, pairs: Mapping[str, pd.DataFrame]
) -> dict[str, NDArray[np.float32]]:
    model = load_cmr(study)
    tables = {split: cine_table(artist.tokenizer, store, records) for split, records in pairs.items()}
    kept = {split: features(model, canonical(table)) for split, table in tables.items()}
    train = tables["train"]
    kept["pose"] = train.columns["pose"].take(np.arange(len(train)))
    _, kept["ecg"] = artist.reader.read(store, pairs["train"]["row"].to_numpy(np.int64))
    return kept
