"""Has the model seen an ECG like this? The distance of its embedding from those of training people.

Mahalanobis distance (Lee et al. 2018, arXiv 1807.03888) in the pre-trained embedding, with a covariance shrunk as by
Ledoit & Wolf (J Multivar Anal 2004;88:365), divided by the root of its dimension: about 1 for a familiar record. Beyond
the threshold lie 5 % of the development cohorts' validation people. It says nothing of whether a prediction is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from cardionets import weights
from cardionets.config import Study
from cardionets.encoders import in_blocks
from cardionets.features import Features
from cardionets.files import atomic_path
from cardionets.norms import half_width
from cardionets.stage import origin

NAME: Final = "novelty"
FAMILIAR: Final = 0.95  # of validation people lie within the threshold
Floats = NDArray[np.float32]


def fit(study: Study) -> pd.DataFrame:
    """Learn what is familiar from the development cohorts' training people, and the threshold from validation people.

    Writes ``weights/novelty`` and returns, per cohort, how many validation people lie beyond the threshold.
    """
    roles = study.protocol.study
    sources = [Features(study, name) for name in dict.fromkeys((roles.paired, roles.screening))]
    tensors = learn(np.concatenate([_embedded(source, "train") for source in sources]))
    val = {source.cohort: distance(tensors, _embedded(source, "val")) for source in sources}
    threshold = half_width(np.concatenate(list(val.values())).astype(np.float64), FAMILIAR)
    rows = [(name, len(found), float((found > threshold).mean())) for name, found in val.items()]
    card = weights.Card(
        name=NAME,
        contract=weights.contract(study),
        config=_config(study),
        data={"cohorts": [s.cohort for s in sources], "familiar": FAMILIAR} | origin(study),
        metrics={"threshold": threshold} | {f"{name}_beyond": share for name, _, share in rows},
    )
    weights.save(study.path("weights", NAME), tensors | {"threshold": torch.tensor([threshold])}, card, {})
    return pd.DataFrame(rows, columns=["cohort", "n", "beyond"])


def learn(x: Floats) -> dict[str, Tensor]:
    """Centre, scale (p,) and whitening matrix (p, p) of embeddings (n, p)."""
    centre, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit((x - centre) / scale).covariance_)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-9))
    parts = {"centre": centre, "scale": scale, "whiten": whiten}
    return {name: torch.from_numpy(np.asarray(part, np.float32)) for name, part in parts.items()}


def distance(tensors: dict[str, Tensor], x: Floats) -> Floats:
    """Distance (n,) of embeddings (n, p), in units of what is usual."""
    z = (torch.from_numpy(x) - tensors["centre"]) / tensors["scale"] @ tensors["whiten"]
    return np.asarray(z.square().mean(1).sqrt().numpy())


def score(study: Study, cohort: str) -> pd.DataFrame:
    """Write ``predictions/<cohort>_novelty.parquet``: record, person, split, novelty, beyond; people not trained on.

    Returns:
        Per split: n (records), median and the share beyond the threshold.
    """
    tensors, _ = weights.load(study.path("weights", NAME), weights.contract(study), _config(study))
    features = Features(study, cohort)
    rows = np.flatnonzero(features.records["split"] != "train")
    found = features.records.loc[rows, ["record", "person", "split"]].reset_index(drop=True)
    far = [distance(tensors, features["mae"][rows[part]]) for part in in_blocks(len(rows))]
    found["novelty"] = np.concatenate([np.zeros(0, np.float32), *far])
    found["beyond"] = found["novelty"] > float(tensors["threshold"])
    with atomic_path(study.path("predictions", f"{cohort}_novelty.parquet"), lasting=True) as path:
        found.to_parquet(path, index=False)
    by_split = found.groupby("split", observed=True)
    return by_split.agg(n=("record", "size"), median=("novelty", "median"), beyond=("beyond", "mean")).reset_index()


def _config(study: Study) -> dict[str, str]:
    """The encoder whose embedding this is."""
    return {"ecg_mae": weights.read_card(study.path("weights", "ecg_mae")).sha256}


def _embedded(source: Features, split: str) -> Floats:
    """Embedding (n, p) of one record of each person of a split, chosen by pseudonym."""
    first = ~source.records["person"].duplicated() & (source.records["split"] == split)
    rows: Sequence[int] = np.flatnonzero(first).tolist()
    return source["mae"][rows]
