"""How like the real heart could anybody draw? The ridge that draws from an ECG, shown the simulated truth instead.

Arms: ``attainable`` knows the noise-free determinants of the ECG, ``known_heart`` every true phenotype. What is missing
to 1 is what phenotypes do not fix, trabeculae, lungs, coils and noise, and what the tokenizer loses. Like
:mod:`cardionets.attainable` this reads the truth, for evaluation alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets import data, phenotypes
from cardionets.attainable import ARM, features, read_truth, unknown
from cardionets.config import Study
from cardionets.device import pick_device
from cardionets.evaluate.cines import Cines, Judge, add_pictures, picture_scores
from cardionets.evaluate.estimate import Floats
from cardionets.evaluate.rows import Rows
from cardionets.generate import blocks, canonical, cine_table, encode
from cardionets.generator import load_tokenizer
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.heads import HeadSettings, fit_ridge
from cardionets.models.tokenizer import Tokenizer
from cardionets.store import Store

KNOWN_HEART = "known_heart"
SHOWN = ("ssim", "psnr", "motion")
SPLITS = ("train", "val", "test")
ALONE = (1, 1, 1)  # tokens are not merged
Values = NDArray[np.float32]


def ceiling(study: Study, cohort: str) -> pd.DataFrame:
    """SSIM, PSNR and motion similarity of cines drawn from the truth, on test people with both views: the tidy table.

    Columns: :data:`cardionets.evaluate.rows.COLUMNS`. Fitted on training people, penalties chosen on validation people.
    Of real people the rows say why there is no number.
    """
    if not study.cohort(cohort).simulated:
        return unknown(cohort, [(f"cine_{view}", metric) for view in VIEWS for metric in SHOWN])
    truth, store, tokenizer = read_truth(study, cohort), Store.open(study.path("store", cohort)), load_tokenizer(study)
    pairs = {split: data.pairs_of(store, split) for split in SPLITS}
    pairs = {split: records[records["person"].isin(truth.index)] for split, records in pairs.items()}
    tables = {split: cine_table(tokenizer, store, records) for split, records in pairs.items()}
    tokens = {split: encode(tokenizer, tables[split], ALONE)[0] for split in ("train", "val")}
    real, rows = canonical(tables["test"]), Rows(cohort, "test")
    who = Judge(rows, pairs["test"]["person"].to_numpy(), study.protocol.statistics, study.protocol.seed)
    scores: dict[str, dict[str, dict[str, Floats]]] = {view: {} for view in VIEWS}
    for arm, known in _arms(truth):
        x = {split: np.array(known.loc[records["person"]], np.float32) for split, records in pairs.items()}
        made = _drawn(tokenizer, x, tokens)
        for view in VIEWS:
            scores[view][arm] = picture_scores(real[view], made[view], SHOWN)
    for view in VIEWS:
        add_pictures(who, view, scores[view], [(KNOWN_HEART, ARM)])
    return rows.frame()


def _arms(truth: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield ARM, features(truth)
    yield KNOWN_HEART, truth[list(phenotypes.NAMES)]


def _drawn(tokenizer: Tokenizer, x: Mapping[str, Values], tokens: Mapping[str, Values]) -> dict[str, Cines]:
    """Cines (n, frame, H, W) of test people by ridge from features (n, p) to tokens (n, token, c)."""
    shape = tokens["train"].shape[1:]
    y = {split: found.reshape(len(found), -1) for split, found in tokens.items()}
    names = tuple(f"token {i}" for i in range(y["train"].shape[1]))
    head = fit_ridge(x["train"], y["train"], x["val"], y["val"], names, HeadSettings(min_labels=2)).head
    with torch.inference_mode():
        flat = head(torch.from_numpy(x["test"]))
        parts = [tokenizer.decode(flat[r].reshape(-1, *shape).to(pick_device())) for r in blocks(len(flat))]
    return {view: torch.cat([p[view] for p in parts]).cpu().numpy() for view in VIEWS}
