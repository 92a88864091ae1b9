"""The toy study with masks and the settings of tokenizer, segmenter and generator, all of it trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from cardionets import generate, represent, store
from cardionets.config import Study
from tests import toy_study

TRAIN = {"epochs": 2, "batch": 8, "lr": 1e-3, "checkpoint_seconds": 0}
BLOCKS = {
    "tokenizer": {
        **{"frames": 4, "size": 16, "time_stride": 4, "plane_stride": 8, "channels": 4, "width": 8, "train": TRAIN},
    },
    "segmenter": {"width": 8, "shift": 1, "train": TRAIN},
    "generator": {
        **{
            "dim": 16,
            "encoder_depth": 1,
            "decoder_depth": 1,
            "heads": 2,
            "head_width": 16,
            "head_depth": 1,
            "groups": 3,
        },
        "latent_flow": 2,
        "sample": {"iterations": 2, "steps": 2},
        "train": TRAIN,
    },
}


def add_masks(study: Study, most: int = 40) -> None:
    """Rewrite the paired store with masks: five boxes that grow with the cine's brightness."""
    here = store.Store.open(study.path("store", "ukb"))
    sax, lax, records = np.asarray(here.sax), np.asarray(here.lax), here.records.copy()
    records["sax_mask_row"] = records["lax_mask_row"] = np.where(
        np.arange(len(records)) < most, np.arange(len(records)), -1
    )
    mask = np.zeros(sax[:most].shape, np.uint8)
    for i, bright in enumerate(sax[:most].mean((1, 2, 3)) / 20):
        width = 1 + int(bright / 3)
        for label, (row, column) in enumerate([(2, 8), (2, 11), (2, 2), (10, 9), (10, 3)], start=1):
            mask[i, :, row : row + width + (label == 1), column : column + 2] = label
    parts = [("ecg", 0, np.asarray(here.ecg)), ("beat", 0, np.asarray(here.beat)), ("sax", 0, sax), ("4ch", 0, lax)]
    parts += [("sax_mask", 0, mask), ("4ch_mask", 0, mask)]
    meta = {"centre": "ukb", "simulated": True}
    store.write(here.path, here.grid, meta, records, pd.DataFrame({"step": []}), parts)


def build(root: Path) -> Study:
    """Train everything that draws, measures and judges cines, in seconds."""
    torch.set_num_threads(1)
    made = toy_study.build(root, people=60)
    preset = made.path("presets", "toy.yaml")
    preset.write_text(yaml.safe_dump(yaml.safe_load(preset.read_text()) | BLOCKS))
    made = Study(made.root)
    add_masks(made)
    for stage in (represent.pretrain_ecg, represent.pretrain_cmr, represent.align):
        stage(made)
    for stage in (generate.train_tokenizer, generate.train_segmenter, generate.train_generator):
        curve = stage(made)
        assert {"epoch", "loss", "val_loss"} <= set(curve.columns)
    return made
