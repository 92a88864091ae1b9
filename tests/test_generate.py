"""From stores to drawn and judged cines on a miniature study: what is written, for whom, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from cardionets import ceiling, choosing, draw, generate, generator, hearts, judge, phenotypes, store, sweeps
from cardionets.__main__ import main
from cardionets.cmr import LA, LV
from cardionets.config import Grid, Study, StudyError
from cardionets.draw import Artist, Drawn
from cardionets.evaluate.images import ssim
from cardionets.evaluate.rows import COLUMNS
from cardionets.files import sha256
from cardionets.models.segment import MEASURED, Segmenter, SegmentSettings, ViewSegmenter
from tests import toy_cines

NUMBERS = {"train": 400, "val": 100}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return toy_cines.build(tmp_path_factory.mktemp("cine"))


def card(study: Study, name: str) -> dict[str, object]:
    return dict(json.loads(study.path("weights", name, "card.json").read_text()))


def test_weights_carry_their_data_and_quality(study: Study) -> None:
    records = store.Store.open(study.path("store", "ukb")).records
    counts = records["split"].value_counts()
    for name in ("tokenizer", "generator"):
        data = card(study, name)["data"]
        assert (data["pairs"], data["val_pairs"]) == (counts["train"], counts["val"])  # type: ignore[index]
        assert not study.path("logs", name, "checkpoint.safetensors").exists()
    assert {"val_psnr_sax", "val_psnr_4ch"} <= set(card(study, "tokenizer")["metrics"])  # type: ignore[call-overload]
    assert "val_dice_sax_1" in card(study, "segmenter")["metrics"]  # type: ignore[operator]


def copy_of(study: Study, folder: Path) -> Study:
    shutil.copytree(study.root, folder / "study")
    return Study(folder / "study")


def test_no_test_person_reaches_any_weight(study: Study, tmp_path: Path) -> None:
    other = copy_of(study, tmp_path)
    path = other.path("store", "ukb", "sax.npy")
    cines, records = np.load(path), store.Store.open(other.path("store", "ukb")).records
    cines[records.loc[records["split"] == "test", "sax_row"]] = 7
    np.save(path, cines)
    table = other.path("store", "ukb", "records.parquet")
    records.loc[records["split"] == "test", list(phenotypes.NAMES)] = -1.0
    records.to_parquet(table, index=False)
    for name, stage in (("tokenizer", generate.train_tokenizer), ("segmenter", generate.train_segmenter)):
        stage(other, force=True)
        assert card(other, name)["sha256"] == card(study, name)["sha256"]
    generate.train_generator(other, force=True)
    assert card(other, "generator")["sha256"] == card(study, "generator")["sha256"]


@pytest.mark.parametrize("cohort", ["ukb", "mimic", "qph"])
def test_cines_are_drawn_for_those_who_can_be_judged_or_for_a_few_no_model_was_fitted_on(
    study: Study, cohort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "SHOWN", 7)
    folder = draw.generate(study, cohort)
    drawn, records = Drawn.open(study, cohort), store.Store.open(study.path("store", cohort)).records
    wanted = records[(records["split"] == "test") & (records["sax_row"] >= 0) & (records["lax_row"] >= 0)]
    wanted = wanted.drop_duplicates("person") if cohort != "mimic" else records[records["split"] != "train"].iloc[:7]
    assert list(drawn.index["record"]) == list(wanted["record"]) and "train" not in set(drawn.index["split"])
    assert set(drawn.arrays) == {"sax", "4ch"} and drawn.arrays["sax"].shape == (len(wanted), 4, 16, 16)
    before = (folder / "cines.json").stat().st_mtime_ns
    assert draw.generate(study, cohort) == folder
    assert (folder / "cines.json").stat().st_mtime_ns == before, "what is there is not drawn again"


def test_a_record_gets_the_same_cine_in_any_company(study: Study) -> None:
    draw.generate(study, "mimic")
    drawn, here = Drawn.open(study, "mimic"), store.Store.open(study.path("store", "mimic"))
    row = drawn.index.iloc[5]
    alone = Artist(study).draw(here, here.records[here.records["record"] == row["record"]])
    assert np.abs(alone["sax"][0].numpy().astype(int) - drawn.arrays["sax"][row["row"]]).max() <= 1
    another = Artist(study).draw(here, here.records[here.records["record"] == row["record"]], sample=2)
    assert not torch.equal(another["sax"], alone["sax"])


def test_several_samples_leave_mean_and_spread(study: Study, tmp_path: Path) -> None:
    other = copy_of(study, tmp_path)
    draw.generate(other, "qph", samples=3, everybody=True)
    drawn, here = Drawn.open(other, "qph"), store.Store.open(other.path("store", "qph"))
    assert drawn.samples == 3 and set(drawn.arrays) == {
        f"{v}{k}" for v in ("sax", "4ch") for k in ("", "_sample", "_mean", "_spread")
    }
    each = np.stack(
        [Artist(other).draw(here, here.records.iloc[:4], s)["4ch"].numpy().astype(float) for s in (1, 2, 3)]
    )
    assert np.abs(drawn.arrays["4ch_mean"][:4] - each.mean(0)).max() <= 1.5
    assert np.abs(drawn.arrays["4ch_spread"][:4] - each.std(0)).max() <= 1.5
    table = judge.judge(other, "qph")
    assert {"latent_flow_sample", "generated - latent_flow"} <= set(table["arm"])
    beside = judge.side_by_side(table).set_index("what")
    for arm in ("generated", "posterior_sample", "generated_mean", "latent_flow", "training_mean"):
        row = table[(table["arm"] == arm) & (table["endpoint"] == "cine_sax") & (table["metric"] == "ssim")]
        assert beside.loc["cine_sax ssim", arm] == row["estimate"].item()
    assert np.isfinite(beside.loc["cine_sax error_over_doubt", "generated_mean"])
    assert any(label.startswith("doubt sax 0 to ") for label in judge.cases(other, "qph")["median"].cines)


def test_a_killed_run_continues_where_it_was(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw.generate(study, "mimic")
    whole = np.asarray(Drawn.open(study, "mimic").arrays["4ch"])
    other = copy_of(study, tmp_path)
    shutil.rmtree(draw.folder_of(other, "mimic"))
    monkeypatch.setattr(draw, "BLOCK", 8)
    original, calls = draw._draw_block, []

    def dies(artist: Artist, job: draw._Job, records: pd.DataFrame) -> dict[str, draw.Cine]:
        calls.append(list(records["record"]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(artist, job, records)

    monkeypatch.setattr(draw, "_draw_block", dies)
    with pytest.raises(KeyboardInterrupt):
        draw.generate(other, "mimic")
    with pytest.raises(StudyError, match=r"mimic_cines: missing or cut short; run `dvc repro images@mimic`"):
        Drawn.open(other, "mimic")
    draw.generate(other, "mimic")
    assert calls[2] == calls[1] and sum(c == calls[0] for c in calls) == 1, "the first block is not drawn twice"
    assert np.abs(Drawn.open(other, "mimic").arrays["4ch"].astype(int) - whole).max() <= 1


def test_judging_is_tidy_and_complete(study: Study) -> None:
    draw.generate(study, "ukb")
    table = judge.judge(study, "ukb")
    assert list(table.columns) == list(COLUMNS) and set(table["split"]) == {"test"}
    arms = {"generated", "latent_flow", "shuffled", "ridge", "neighbour", "training_mean", "reconstruction"}
    ssim = table[(table["endpoint"] == "cine_sax") & (table["metric"] == "ssim")].set_index("arm")
    assert arms <= set(ssim.index) and "generated - shuffled" in ssim.index
    assert ((ssim["lower"] <= ssim["estimate"]) & (ssim["estimate"] <= ssim["upper"])).all()
    tests = store.Store.open(study.path("store", "ukb")).records["split"].eq("test").sum()
    assert (ssim["n"] == tests).all()
    real = table[(table["endpoint"] == "cine") & (table["arm"] == "real")].set_index("metric")["estimate"]
    assert real["top_1"] == 1 and real["median_rank"] == 1 and real["nearest_training"] > 0
    assert set(MEASURED) <= set(table["endpoint"])
    told = table["estimate"].notna() | table["note"].str.startswith("not estimable: because")
    assert told.all()


def test_verdicts_say_what_is_better_and_what_is_not() -> None:
    gains = {"shuffled": (0.1, 0.05, 0.15), "latent_flow": (0.0, -0.1, 0.1), "ridge": (-0.2, -0.3, -0.1)}
    rows = [("cine_sax", f"generated - {arm}", "ssim", *values, 9, "") for arm, values in gains.items()]
    found = pd.DataFrame(rows, columns=["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "note"])
    assert judge.verdicts(found) == [
        "SSIM, sax, generated: better than shuffled (+0.100); no different from latent_flow (+0.000); "
        "worse than ridge (-0.200)."
    ]
    assert judge.verdicts(found.iloc[:0]) == []


def test_cases_are_chosen_by_rule_and_empty_without_cines(study: Study) -> None:
    draw.generate(study, "ukb")
    shown = judge.cases(study, "ukb")
    assert list(shown) == ["best", "median", "worst"]
    assert set(shown["best"].cines) == {"real sax", "drawn sax", "real 4ch", "drawn 4ch"}
    cines = {name: case.cines for name, case in shown.items()}
    score = {name: ssim(c["real sax"], c["drawn sax"])[::2].mean() for name, c in cines.items()}
    assert score["best"] >= score["median"] >= score["worst"]
    draw.generate(study, "mimic")
    assert judge.cases(study, "mimic") == {}


def test_a_sweep_goes_from_one_patient_to_the_other(study: Study) -> None:
    here = store.Store.open(study.path("store", "mimic"))
    a, b = here.records["record"].iloc[:2]
    way = sweeps.sweep(study, "mimic", a, b, 3)
    assert list(way.shown()) == [f"{share} {view}" for share in ("0%", "50%", "100%") for view in ("sax", "4ch")]
    own = Artist(study).draw(here, here.records.iloc[:1])
    assert np.abs(way.cines["sax"][0].astype(int) - own["sax"][0].numpy()).max() <= 1
    assert list(way.measured["towards_second"]) == [0, 0.5, 1] and set(MEASURED) <= set(way.measured)
    with pytest.raises(StudyError, match=r"records \['nobody'\] are not in store/mimic"):
        sweeps.sweep(study, "mimic", a, "nobody")


def test_a_sweep_starts_and_ends_where_the_drawn_hearts_are_extreme(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw.generate(study, "qph", everybody=True)
    names = Drawn.open(study, "qph").index["record"]
    values = pd.DataFrame({"lv_mass": np.r_[np.nan, np.linspace(300, 50, len(names) - 1)]})
    monkeypatch.setattr(sweeps, "measure", lambda *_: values)
    first, second = sweeps.extremes(study, "qph")
    low, high = (values["lv_mass"][list(names).index(name)] for name in (first, second))
    assert np.nanquantile(values, [0.05, 0.95]) == pytest.approx([low, high], abs=3)


def test_a_cohort_without_cines_says_why(study: Study) -> None:
    draw.generate(study, "mimic")
    table = judge.judge(study, "mimic")
    assert table["estimate"].isna().all() and len(table) > 20
    assert set(table["note"]) == {"not estimable: because 0 test people have both cines"}


def test_an_external_site_judges_without_the_hub(study: Study, tmp_path: Path) -> None:
    other = copy_of(study, tmp_path)
    shutil.rmtree(other.path("store", "ukb"))
    shutil.rmtree(other.path("weights", "segmenter"))
    draw.generate(other, "qph")
    table = judge.judge(other, "qph")
    assert "neighbour" not in set(table["arm"]) and {"generated", "ridge", "reconstruction"} <= set(table["arm"])
    notes = table.loc[table["endpoint"] == "lv_mass", "note"]
    assert len(notes) and notes.str.contains("there is no network to measure with").all()


def test_weights_of_another_tokenizer_are_refused(study: Study, tmp_path: Path) -> None:
    other = copy_of(study, tmp_path)
    folder = other.path("weights", "tokenizer")
    tensors = load_file(folder / "model.safetensors")
    tensors["shift"] += 0.5
    save_file(tensors, folder / "model.safetensors")
    fresh = card(other, "tokenizer") | {"sha256": sha256(folder / "model.safetensors")}
    (folder / "card.json").write_text(json.dumps(fresh))
    with pytest.raises(StudyError, match=r"weights/generator/card.json: made with another tokenizer"):
        draw.generate(other, "qph", everybody=True)


@pytest.mark.parametrize(
    ("block", "change", "message"),
    [
        ("tokenizer", {"frames": 8}, r"tokenizer: frames and size must be the grid's 4 and 16"),
        (
            "generator",
            {"patch": [1, 4, 4]},
            r"generator.patch: \(1, 4, 4\) must divide the tokenizer's grid \(1, 2, 2\)",
        ),
        ("generator", {"sample": {"iterations": 2, "steps": 0}}, r"generator: sample.steps"),
    ],
)
def test_sizes_that_do_not_fit_are_named(
    study: Study, tmp_path: Path, block: str, change: dict[str, object], message: str
) -> None:
    for name in ("params.yaml", "cohorts.yaml"):
        shutil.copy(study.root / name, tmp_path / name)
    preset = yaml.safe_load(study.path("presets", "toy.yaml").read_text())
    preset[block] = preset[block] | change
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "toy.yaml").write_text(yaml.safe_dump(preset))
    with pytest.raises(StudyError, match=message):
        generator.sizes(Study(tmp_path))


def test_too_few_samples_and_missing_masks_are_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="generate: samples: 0 makes no cine"):
        draw.generate(study, "ukb", samples=0)
    other = copy_of(study, tmp_path)
    path = other.path("store", "ukb", "records.parquet")
    pd.read_parquet(path).assign(sax_mask_row=-1).to_parquet(path, index=False)
    with pytest.raises(StudyError, match="store/ukb: no train person has masks of both views"):
        generate.train_segmenter(other, force=True)


def test_the_segmenter_reads_some_frames_as_it_reads_all() -> None:
    settings = SegmentSettings.model_validate({"width": 8, "train": toy_cines.TRAIN})
    model, cine, frames = ViewSegmenter(settings, 4, 6), torch.randn(2, 4, 16, 16), torch.tensor([3, 0])
    assert torch.allclose(model(cine, frames), model(cine)[:, :, frames], atol=1e-5)


def ruler() -> Segmenter:
    settings = SegmentSettings.model_validate({"width": 8, "train": toy_cines.TRAIN})
    return Segmenter(settings, Grid(rate=100, seconds=2, frames=4, size=16, spacing_mm=9.6))


def test_areas_are_expected_pixels() -> None:
    torch.manual_seed(0)
    model, cine = ruler(), torch.randint(0, 256, (3, 4, 16, 16), dtype=torch.uint8)
    areas = model.areas({"sax": cine, "4ch": cine.flip(0)})
    assert areas.shape == (3, 2, 6, 4) and torch.allclose(areas.sum(2), torch.tensor(256.0))
    sharp = model.view("sax").out
    with torch.no_grad():
        sharp.weight *= 1e5
        assert sharp.bias is not None
        sharp.bias *= 1e5
    counted = torch.stack([(model.segment("sax", cine) == k).sum((2, 3)) for k in range(6)], dim=1)
    assert not counted[:, 4:].any()  # no atria in a short axis
    assert torch.allclose(model.areas({"sax": cine, "4ch": cine})[:, 0], counted.float(), atol=0.5)


def test_phenotypes_are_read_off_the_areas_of_their_own_chamber() -> None:
    rng, model = np.random.default_rng(0), ruler()
    areas = {s: torch.from_numpy(rng.uniform(20, 90, (n, 2, 6, 4)).astype(np.float32)) for s, n in NUMBERS.items()}
    sax, lax = ({s: a[:, view] for s, a in areas.items()} for view in (0, 1))
    truth = {s: pd.DataFrame(rng.normal(size=(n, len(MEASURED))), columns=list(MEASURED)) for s, n in NUMBERS.items()}
    for s, table in truth.items():
        table["lv_ef"] = (sax[s][:, LV, 0] / sax[s][:, LV, 2]).log().numpy()
        table["la_max"] = np.where(table.index % 5 == 0, np.nan, lax[s][:, LA].log().mean(1).numpy())
    scores = generate.fit_heads(model, areas, truth)
    assert scores["val_r_lv_ef"] > 0.99 and scores["val_r_la_max"] > 0.99 and abs(scores["val_r_rv_ef"]) < 0.4
    read = pd.DataFrame(model.read(areas["val"]).numpy(), columns=list(MEASURED))
    without = areas["val"].clone()
    without[0, 1, LA] = 0.2
    again = pd.DataFrame(model.read(without).numpy(), columns=list(MEASURED))
    assert np.isnan(again.loc[0, "la_max"]) and np.isfinite(again.drop(columns="la_max")).all(axis=None)
    others = again.drop(columns="la_max")
    assert np.allclose(others, read[others.columns]), "one chamber says nothing of another"


def ordered(study: Study, cohort: str, out: Path, shard: tuple[int, int] | None = None, **wish: Any) -> list[str]:
    return hearts.generate(study, cohort, out, hearts.Order(**wish), shard)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_cohort_without_cmr_becomes_files(study: Study, tmp_path: Path) -> None:
    here = store.Store.open(study.path("store", "mimic"))
    notes = ordered(study, "mimic", tmp_path / "out")
    assert any("have no CMR of both views" in n for n in notes) and any("ECGs of training people" in n for n in notes)
    index = pd.read_csv(tmp_path / "out" / "index.csv")
    assert sorted(index["record"]) == sorted(here.records.loc[here.records["split"] != "train", "record"])
    row = index.iloc[0]
    stem = tmp_path / "out" / row["folder"] / row["record"]
    image = nib.load(f"{stem}_sax.nii.gz")
    beat = 60_000 / here.records.set_index("record").loc[row["record"], "rate_bpm"]
    assert image.header.get_zooms() == pytest.approx((9.6, 9.6, 9.6, beat / 4), rel=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "msec") and row["beat_ms"] == pytest.approx(beat, abs=0.01)
    own = Artist(study).draw(here, here.records[here.records["record"] == row["record"]])
    shown = np.asarray(image.dataobj)[:, :, 0].transpose(2, 1, 0)
    assert np.abs(shown.astype(int) - own["sax"][0].numpy()).max() <= 1
    about = json.loads(image.header.extensions[0].get_content())
    assert about["phase"] == [0, 0.25, 0.5, 0.75] and "not an acquired image" in about["source"]
    moving = Image.open(f"{stem}.gif")
    assert moving.n_frames == 4 and moving.info["duration"] == pytest.approx(beat / 4, abs=10)


def test_shards_and_interruptions_leave_the_same_bytes(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearts, "BLOCK", 8)
    ordered(study, "mimic", tmp_path / "whole")
    for shard in ((2, 3), (1, 3), (3, 3)):
        ordered(study, "mimic", tmp_path / "parts", shard)
    assert not (tmp_path / "parts" / "index.csv").exists()
    (gone := tmp_path / "parts" / "block-00001" / "block.json").unlink()
    shutil.rmtree(gone.parent)  # as a killed run leaves it: absent, never half
    ordered(study, "mimic", tmp_path / "parts")
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")
    with pytest.raises(StudyError, match="parts/block-00000: holds cines of other weights, records or settings"):
        ordered(study, "mimic", tmp_path / "parts", seed=5)


def test_several_samples_seeds_and_doubt_become_files(study: Study, tmp_path: Path) -> None:
    record = store.Store.open(study.path("store", "qph")).records["record"].iloc[3]
    ordered(study, "qph", tmp_path / "a", samples=3, records=(record,))
    names = {f"{record}_{v}{k}.nii.gz" for v in ("sax", "4ch") for k in ("", "_1", "_2", "_3", "_mean", "_doubt")}
    folder = tmp_path / "a" / "block-00000"
    assert {p.name for p in folder.glob("*.nii.gz")} == names
    cines = [np.asarray(nib.load(folder / f"{record}_sax_{i}.nii.gz").dataobj).astype(float) for i in (1, 2, 3)]
    doubt = np.asarray(nib.load(folder / f"{record}_sax_doubt.nii.gz").dataobj)
    assert np.abs(doubt - np.std(cines, axis=0)).max() <= 0.5
    assert Image.open(folder / f"{record}.gif").size[0] == 4 * 3 * 16, "both views, and their doubt"
    ordered(study, "qph", tmp_path / "b", records=(record,), seed=7, formats=("nifti",))
    other = np.asarray(nib.load(tmp_path / "b" / "block-00000" / f"{record}_sax.nii.gz").dataobj)
    assert not np.array_equal(other, cines[0]) and not list((tmp_path / "b").rglob("*.gif"))


def test_an_mp4_is_written_where_an_encoder_is(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.Store.open(study.path("store", "qph")).records["record"].iloc[0]
    monkeypatch.setenv("PATH", str(tmp_path))
    notes = ordered(study, "qph", tmp_path / "none", records=(record,), formats=("mp4",))
    assert any("ffmpeg is not installed" in n for n in notes) and list((tmp_path / "none").rglob("*.gif"))
    encoder = tmp_path / "ffmpeg"
    encoder.write_text('#!/bin/sh\nfor last; do :; done\n/bin/cat > "$last"\n')
    encoder.chmod(0o755)
    ordered(study, "qph", tmp_path / "some", records=(record,), formats=("mp4",))
    (made,) = (tmp_path / "some").rglob("*.mp4")
    assert made.stat().st_size == hearts.BEATS * 4 * (2 * 3 * 16) * (3 * 16 + 16) * 3  # raw frames of both views


def test_an_order_that_makes_no_sense_is_refused_whole(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as fault:
        ordered(study, "qph", tmp_path, samples=0, formats=("avi",), sampling={"guidance": -1, "steps": 0})
    for words in ("samples: 0 makes no cine", "choose from nifti, gif, mp4", "guidance", "steps"):
        assert words in str(fault.value)
    with pytest.raises(StudyError, match="store/qph: no record nobody"):
        ordered(study, "qph", tmp_path, records=("nobody",))


def test_the_command_draws_a_cohort(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.root)
    record = store.Store.open(study.path("store", "qph")).records["record"].iloc[0]
    words = ["generate", "qph", "--out", str(tmp_path / "out"), "--record", record, "--guidance", "1.5"]
    assert main([*words, "--formats", "nifti"]) == 0
    assert "Patient-level, stays here" in capsys.readouterr().out and len(list((tmp_path / "out").rglob("*.gz"))) == 2
    assert main([*words, "--shard", "3/2"]) == 2
    assert "--shard 3/2: expected i/n" in capsys.readouterr().err


def test_the_temperature_is_chosen_on_validation_people(study: Study) -> None:
    table = choosing.temperatures(study, (1.0, 0.1), people=5)
    assert list(table["arm"]) == ["ridge", "training_mean", *["generated", "latent_flow"] * 2]
    assert (table["n"] == 5).all() and table[["ssim_sax", "psnr_4ch", "variance"]].notna().all(axis=None)
    low, high = (table[(table["arm"] == "generated") & (table["temperature"] == t)] for t in (0.1, 1.0))
    assert low["variance"].item() < high["variance"].item()


def test_the_ceiling_of_pictures_is_what_the_truth_gives(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    here = store.Store.open(study.path("store", "ukb"))
    rng, people = np.random.default_rng(0), here.records["person"]
    truth = pd.DataFrame(rng.normal(size=(len(people), len(phenotypes.NAMES))), people, list(phenotypes.NAMES))
    truth["lv_edv"], truth["rv_edv"] = (np.asarray(cine).mean((1, 2, 3)) for cine in (here.sax, here.lax))
    truth["ecg_qrs_ms"] = rng.normal(size=len(people))
    monkeypatch.setattr(ceiling, "read_truth", lambda *_: truth)
    table = ceiling.ceiling(study, "ukb")
    found = table.set_index(["endpoint", "arm", "metric"])["estimate"]
    for view in ("sax", "4ch"):
        assert found[f"cine_{view}", "known_heart", "psnr"] > found[f"cine_{view}", "attainable", "psnr"]
    assert table["n"].max() == (here.records["split"] == "test").sum()


@pytest.mark.parametrize(("warm", "cold", "chosen"), [(0.5, 0.6, 1.0), (0.3, 0.5, 0.1), (0.3, 0.3, 0.1)])
def test_the_rule_takes_the_highest_temperature_that_beats_the_mean(warm: float, cold: float, chosen: float) -> None:
    rows = [("training_mean", np.nan, 0.4), ("generated", 1.0, warm), ("generated", 0.1, cold)]
    table = pd.DataFrame([(a, t, v, v) for a, t, v in rows], columns=["arm", "temperature", "ssim_sax", "ssim_4ch"])
    assert choosing.choose(table) == chosen
