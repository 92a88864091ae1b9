"""Ablations on the toy study: what changes, what is shared, what is kept, and the table's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from cardionets import ablation, ablation_tables, attainable, represent
from cardionets.config import Study, StudyError
from cardionets.encoders import load_ecg
from cardionets.evaluate.paired import Score, median
from cardionets.models.align import AlignSettings
from tests.toy_study import build


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study with its CMR encoders, and three variants trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = build(tmp_path_factory.mktemp("toy") / "study")
    represent.pretrain_cmr(study)
    ablation.train(study, "whole", 0, ["beat_ridge", "covariates"])
    for variant in ("no_mae", "one_view"):
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


def test_other_settings_start_afresh(study: Study) -> None:
    path = ablation.train(study, "no_mae", 0)
    other = Study(study.root)
    other.preset["heads"] = other.preset["heads"] | {"stretch": 0.4}
    assert "no_mae" not in ablation.finished(other, 1) and "no_mae" in ablation.finished(study, 1)
    kept = path.read_bytes()
    ablation.variant_study(other, "no_mae", 0)
    assert not path.exists()
    ablation.variant_study(study, "no_mae", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(kept)


def test_the_first_seed_of_the_whole_is_the_study_itself(study: Study, tmp_path: Path) -> None:
    assert ablation._source(study, "whole", 0, "align") is None, "nothing trained yet: it trains its own"
    for name in ("ecg_mae", "align"):
        study.path("weights", name).mkdir()
    try:
        assert ablation._source(study, "whole", 0, "align") == study.path("weights", "align")
        assert ablation._source(study, "whole", 1, "align") is None
    finally:
        for name in ("ecg_mae", "align"):
            study.path("weights", name).rmdir()
    assert ablation._source(study, "straight_head", 1, "align") == study.path("ablation/work/whole-1/weights/align")


def test_the_table_is_of_validation_or_test_people_and_against_the_whole(study: Study) -> None:
    scored = ablation_tables.Found.of(study, ablation.finished(study, 1), "val")
    found = ablation_tables.variants(scored).set_index(["variant", "arm", "fraction"])
    assert {arm for _, arm, _ in found.index} == {*ablation.HEADS, "beat_ridge", "covariates"}
    whole = found.loc["whole"]
    assert (whole["loss"] == 0).all() and (whole["seeds"] == 1).all()
    one = found.loc["one_view"].loc[("aligned", 1.0)]
    assert one["loss"] == pytest.approx(whole.loc[("aligned", 1.0), "r2"] - one["r2"])
    assert one["worse"] <= one["loss"] <= one["better"]
    people = pd.read_parquet(study.path("store", "ukb", "records.parquet"))
    tested = ablation_tables.Found.of(study, {"whole": [0]}, "test")
    rows = ablation_tables.variants(tested)
    assert (rows["n"] == people.query("split == 'test'")["person"].nunique()).all()
    assert rows["lower"].le(rows["upper"]).all()


def test_gains_are_differences_and_their_share_of_the_rival(study: Study) -> None:
    found = ablation_tables.Found.of(study, {"whole": [0]}, "val")
    gains = ablation_tables.gains(found).set_index(["arm", "minus", "fraction"])
    assert {minus for _, minus, _ in gains.index} == {"mae", "beat_ridge", "covariates"}
    row, r2 = gains.loc[("aligned", "mae", 1.0)], ablation_tables.variants(found).set_index(["arm", "fraction"])["r2"]
    assert row["gain"] == pytest.approx(r2["aligned", 1.0] - r2["mae", 1.0])
    assert row["relative"] == pytest.approx(row["gain"] / r2["mae", 1.0])
    assert row["lower"] <= row["gain"] <= row["upper"]


def test_medians_ratios_and_differences_pair_the_samples() -> None:
    one, two, three = (Score(v, np.full(5, v) + np.arange(5)) for v in (2.0, 5.0, 4.0))
    assert median([one, two, three]).value == 4 and median([one, two, three]).replicates[1] == 5
    assert one.minus(two).replicates.std() == 0, "the same people move both"
    assert two.over(one).value == 2.5 and np.isnan(two.over(Score(-1.0, np.zeros(5))).value)


def test_the_ceiling_is_shared_out_for_simulated_people_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ablation_tables.Found.of(study, {"whole": [0]}, "val")
    path = ablation.predictions(study, "whole", 0)
    tidy = pd.read_parquet(path).query("arm == 'aligned' and fraction == 1")
    monkeypatch.setattr(attainable, "attainable", lambda *_: tidy)
    shares = ablation_tables.shares(found).set_index(["endpoint", "arm"])
    mine = shares.xs("aligned", level="arm")
    assert set(mine.index) == {"all_phenotypes", *study.protocol.endpoints.headline_phenotypes}
    positive = mine[mine["attainable"] > 0]
    assert len(positive) and (positive["share"] == 1).all() and (mine["r2"] == mine["attainable"]).all()
