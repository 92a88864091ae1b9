"""Ablations on the toy study: what changes, what is shared, what is kept, and the table's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cardionets import ablation, represent
from cardionets.config import Study, StudyError
from cardionets.encoders import load_ecg
from cardionets.models.align import AlignSettings
from tests.toy_study import build


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study with its CMR encoders, and three variants trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = build(tmp_path_factory.mktemp("toy") / "study")
    represent.pretrain_cmr(study)
    for variant in ("whole", "no_mae", "one_view"):
        ablation.train(study, variant, 0)
    torch.set_num_threads(threads)
    return study


def test_a_variant_differs_in_what_it_names_and_shares_the_rest(study: Study) -> None:
    one, whole = (ablation.variant_study(study, name, 0) for name in ("one_view", "whole"))
    assert one.block("align", AlignSettings).views == ("sax",) and len(whole.block("align", AlignSettings).views) == 2
    assert one.preset["ecg_mae"] == whole.preset["ecg_mae"] == study.preset["ecg_mae"], "the study's own is untouched"
    assert one.path("weights", "ecg_mae").resolve() == whole.path("weights", "ecg_mae").resolve()
    assert one.path("weights", "align").resolve() != whole.path("weights", "align").resolve()
    assert one.path("store").resolve() == study.path("store")
    assert ablation.variant_study(study, "whole", 2).protocol.seed == study.protocol.seed + 2


def test_without_pre_training_the_encoder_stays_as_it_was_drawn(study: Study) -> None:
    trained, drawn = (load_ecg(ablation.variant_study(study, name, 0)).encoder for name in ("whole", "no_mae"))
    bias = (
        "trunk.norm.bias"
        if "trunk.norm.bias" in drawn.state_dict()
        else next(k for k in drawn.state_dict() if k.endswith("bias") and "trunk" in k)
    )
    assert not drawn.state_dict()[bias].any() and trained.state_dict()[bias].any()


def test_every_preset_value_that_a_variant_changes_exists() -> None:
    root = Path(__file__).resolve().parent.parent
    for preset in (root / "presets").glob("*.yaml"):
        blocks = yaml.safe_load(preset.read_text())
        for variant in ablation.VARIANTS.values():
            for name in variant.changes:
                assert name.split(".")[0] in blocks, f"{preset.name} has no block for {name}"


def test_what_was_trained_is_kept(study: Study) -> None:
    path = ablation.train(study, "no_mae", 0)
    stamp = path.stat().st_mtime_ns
    assert ablation.train(study, "no_mae", 0).stat().st_mtime_ns == stamp
    assert ablation.finished(study, 2) == {"whole": [0], "no_mae": [0], "one_view": [0]}
    with pytest.raises(StudyError, match="ablation: no_heart: no such variant"):
        ablation.train(study, "no_heart", 0)


def test_the_table_is_of_validation_or_test_people_and_against_the_whole(study: Study) -> None:
    found = ablation.table(study, ablation.finished(study, 1), "val").set_index(["variant", "arm", "fraction"])
    assert {arm for _, arm, _ in found.index} == set(ablation.HEADS)
    whole = found.loc["whole"]
    assert (whole["loss"] == 0).all() and (whole["seeds"] == 1).all()
    beat = found.xs("beat_ridge", level="arm")
    assert np.ptp(beat.xs(1.0, level="fraction")["r2"]) < 1e-9, "the rival reads no representation"
    one = found.loc["one_view"].loc[("aligned", 1.0)]
    assert one["loss"] == pytest.approx(whole.loc[("aligned", 1.0), "r2"] - one["r2"])
    assert one["worse"] <= one["loss"] <= one["better"]
    tested = ablation.table(study, {"whole": [0]}, "test")
    people = pd.read_parquet(study.path("store", "ukb", "records.parquet")).query("split == 'test'")["person"].nunique()
    assert (tested["n"] == people).all() and tested["lower"].le(tested["upper"]).all()
