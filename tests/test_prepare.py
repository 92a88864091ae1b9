import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cardionets import assemble, cohorts, prepare, splits
from cardionets.__main__ import main
from cardionets.assemble import ACROSS, WITHIN, duplicates, read_lines, save_lines
from cardionets.cohorts.check import check, render
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Study, StudyError
from cardionets.ecg import LEADS, RecordError
from cardionets.gates import NOISE_FLAGS
from cardionets.simulate.cmr_files import write_nifti
from cardionets.simulate.write import write_centre
from cardionets.store import Store

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = {"ukb": 12, "mimic": 24, "sahzu": 10}
MASKED_SEED = 3


@pytest.fixture(scope="module")
def centres(tmp_path_factory):
    """A repository's settings with three small simulated centres, written once."""
    root = tmp_path_factory.mktemp("study")
    shutil.copy(ROOT / "cohorts.yaml", root)
    text = (ROOT / "params.yaml").read_text().replace("preset: demo", "preset: tiny")
    (root / "params.yaml").write_text(text)
    shutil.copytree(ROOT / "presets", root / "presets")
    for name, people in PEOPLE.items():
        write_centre(name, people, MASKED_SEED, root / "data", workers=1)
    return root


@pytest.fixture
def study(centres, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(centres, tmp_path / "study")
    return Study(tmp_path / "study")


@pytest.fixture(scope="module")
def ukb(centres):
    study = Study(centres)
    someone = pd.read_csv(study.path("data", "ukb", "main.csv"), dtype=str)["eid"][0]
    with study.path("data", "ukb", "withdrawn.csv").open("a") as handle:
        handle.write(f"{someone}\n")
    return study, Store.open(prepare.prepare(study, "ukb", workers=1), study.grid)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def lines(store):
    return store.flow.set_index(["step", "reason"])["records"]


def test_a_whole_centre_becomes_a_valid_store(ukb):
    study, store = ukb
    store.validate()
    records = store.records
    assert splits.person_overlap(records) == 0
    assert store.meta["simulated"] is True
    assert store.meta["counts"]["records"] == len(records) == len(store.ecg) == len(store.beat)
    assert np.array_equal(splits.assign(records["person"], study.protocol.split), records["split"])
    assert records["lv_edv"].between(60, 400).mean() > 0.7
    assert records["rate_bpm"].between(35, 130).all()
    assert records["qrs_ms"].between(50, 220).all()
    assert (records["interval_days"].dropna() == 0).all()
    assert records["cad"].notna().all()
    assert not list((study.root / "store" / ".work").glob("ukb-*"))


def test_signals_and_images_are_what_the_contract_says(ukb):
    _, store = ukb
    spread = store.ecg.astype(float).std(axis=2)
    assert np.median(spread) == pytest.approx(150, abs=110)
    limb = store.ecg[:, :6].astype(int)
    assert np.abs(limb[:, 2] - (limb[:, 1] - limb[:, 0])).max() <= 3
    peak = np.abs(store.beat.astype(int)).sum(axis=1).argmax(axis=1) / store.grid.rate
    assert np.median(peak) == pytest.approx(0.28, abs=0.03)
    assert store.sax.shape[1:] == store.lax.shape[1:] == (16, 64, 64)
    assert len(store.sax) == len(store.lax) > 5
    assert store.sax.max() == 255
    assert set(np.unique(store.sax_mask)) <= {0, 1, 2, 3}


def test_masks_lie_on_their_cines(ukb):
    _, store = ukb
    table = store.records[store.records["sax_mask_row"] >= 0]
    assert len(table) >= 1
    for sax, mask in zip(table["sax_row"], table["sax_mask_row"]):
        cine, drawn = store.sax[sax].astype(float), store.sax_mask[mask]
        assert cine[drawn == 1].mean() > 1.3 * cine[drawn == 2].mean()
        cavity = (drawn == 1).sum(axis=(1, 2))
        assert cavity[0] >= 0.9 * cavity.max()


def test_no_identifier_of_the_centre_reaches_the_store(ukb):
    study, store = ukb
    index = cohorts.index(study.cohort("ukb")).records
    assert not set(store.records["person"]) & set(index["person"])
    for name, raw in content(store.path).items():
        if not name.endswith(".npy"):
            assert not [eid for eid in index["person"] if eid.encode() in raw], name


def test_flow_adds_up_and_the_withdrawn_are_gone(ukb):
    study, store = ukb
    index = cohorts.index(study.cohort("ukb")).records
    gone = index["person"][index["excluded"] == "withdrawn"]
    ids = splits.pseudonyms(gone, "person", "ukb", study.protocol.split.salt)
    assert not set(ids) & set(store.records["person"])
    flow = lines(store)
    assert flow[("source", "")] == len(index)
    assert flow[("excluded", "withdrawn")] == len(gone) >= 1
    assert flow[("source", "")] == flow[("kept", "")] + flow["excluded"].sum()
    assert flow["split"].sum() == flow[("kept", "")] == len(store.records)
    for flag in (name for name in store.records if name.startswith("q_")):
        assert flow[("flagged", flag)] == store.records[flag].sum()
    for flag, (name, limit) in NOISE_FLAGS.items():
        assert (store.records[name] >= 0).all()
        assert ((store.records[name] > limit) == store.records[flag]).all()
    groups = store.flow[["female", "male", "sex_unknown"]], store.flow.filter(regex="^age_")
    assert all((group.sum(axis=1) == store.flow["records"]).all() for group in groups)


def test_same_bytes_for_workers_shards_and_order_of_the_table(study, monkeypatch):
    monkeypatch.setattr(prepare, "BLOCK", 8)
    first = content(prepare.prepare(study, "mimic", workers=1))
    listed = study.path("data", "mimic", "record_list.csv")
    pd.read_csv(listed, dtype=str).sample(frac=1, random_state=0).to_csv(listed, index=False)
    assert content(prepare.prepare(study, "mimic", workers=2)) == first
    for number in (3, 1, 2):
        work = prepare.prepare(study, "mimic", workers=1, shard=(number, 3))
    assert len(list(work.glob("block-*"))) == len(prepare.make_plan(study, "mimic").blocks) >= 4
    monkeypatch.setattr(prepare, "run_block", None)
    assert content(prepare.prepare(study, "mimic", workers=1)) == first


def test_tables_read_group_by_group_give_the_same_store(study, monkeypatch):
    for name in ("ukb", "mimic"):
        monkeypatch.setattr(prepare, "BLOCK", 64)
        whole = Store.open(prepare.prepare(study, name, workers=1))
        before, records = content(whole.path), whole.records
        assert pq.ParquetFile(whole.path / "records.parquet").num_row_groups == 1
        monkeypatch.setattr(prepare, "BLOCK", 5)
        monkeypatch.setattr(assemble, "TOGETHER", 2)
        after = content(prepare.prepare(study, name, workers=1))
        assert pq.ParquetFile(whole.path / "records.parquet").num_row_groups > 1
        assert {k for k in before if before[k] != after[k]} <= {"records.parquet"}
        pd.testing.assert_frame_equal(Store.open(whole.path).records, records)
        records.to_parquet(study.root / "pandas.parquet", index=False)
        assert (study.root / "pandas.parquet").read_bytes() == before["records.parquet"]


def test_an_interrupted_run_repeats_no_finished_block(study, monkeypatch):
    monkeypatch.setattr(prepare, "BLOCK", 8)
    whole, done = prepare.run_block, []

    def killed(block, target):
        if len(done) == 2:
            (target.parent / f".{target.name}.00000000-1.part").mkdir()
            raise KeyboardInterrupt
        done.append(target.name)
        return whole(block, target)

    monkeypatch.setattr(prepare, "run_block", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(study, "mimic", workers=1)
    assert not study.path("store", "mimic").exists()
    again = []
    monkeypatch.setattr(prepare, "run_block", lambda block, target: again.append(target.name) or whole(block, target))
    store = Store.open(prepare.prepare(study, "mimic", workers=1))
    store.validate()
    assert done
    assert not set(again) & set(done)
    monkeypatch.setattr(prepare, "run_block", whole)
    before = content(store.path)
    assert content(prepare.prepare(study, "mimic", workers=1)) == before


def test_new_settings_or_files_make_old_blocks_stale(study):
    plan = prepare.make_plan(study, "sahzu")
    assert prepare.make_plan(study, "sahzu").work == plan.work
    file = plan.cohort.path / plan.listing.rows(0, 1)["ecg"][0]
    file.write_bytes(file.read_bytes() + b"\n")
    changed = prepare.make_plan(study, "sahzu").work
    params = study.path("params.yaml")
    params.write_text(params.read_text().replace("mains_hz: 50.0", "mains_hz: 60.0"))
    assert len({plan.work, changed, prepare.make_plan(Study(study.root), "sahzu").work}) == 3


def test_signals_that_were_copied_late_are_read(study):
    folder = study.path("data", "mimic")
    signals = {path: path.read_bytes() for path in folder.rglob("*.dat")}
    for path in signals:
        path.unlink()
    with pytest.raises(StudyError, match=r"not one record can be used: unreadable"):
        prepare.prepare(study, "mimic", workers=1)
    for path, raw in signals.items():
        path.write_bytes(raw)
    assert len(Store.open(prepare.prepare(study, "mimic", workers=1)).records) > 5


def test_every_file_that_is_read_under_a_name_is_stamped(tmp_path):
    """WFDB records of one file, of another name, of two segments and without a suffix; a folder of images."""
    parts = {"a.hea": ["a.dat"], "m.hea": ["m.mat"], "o.hea": ["other.dat"], "s.hea": ["s1.hea", "s1.dat", "s2.dat"],
             "plain": ["plain.hea", "plain.dat"], "d.dat": ["d.hea"], "scan": ["scan/1", "scan/deep/2"]}  # fmt: skip
    (tmp_path / "scan" / "deep").mkdir(parents=True)
    (tmp_path / "a.hea").write_text("a 1 500\na.dat 16\n")
    (tmp_path / "m.hea").write_text("m 1 500\nm.mat 16\n")
    (tmp_path / "o.hea").write_text("o 2 500\nother.dat 16\nother.dat 16\n")
    (tmp_path / "s.hea").write_text("s/2 1 500 20\ns1 10\ns2 10\n")
    for name, files in parts.items():
        for file in files:
            seen = {next(prepare._stamps(tmp_path, [name]))}
            for content in (b"1", b"22"):
                (tmp_path / file).write_bytes(content)
                seen.add(next(prepare._stamps(tmp_path, [name])))
            assert len(seen) == 3, (name, file)
    assert list(prepare._stamps(tmp_path, ["", "none\0.hea"])) == ["", "none\0.hea\tnone\0.hea -"]


def test_adding_people_moves_nobody(study):
    before = Store.open(prepare.prepare(study, "mimic", workers=1)).records.set_index("record")["split"]
    listed = study.path("data", "mimic", "record_list.csv")
    table = pd.read_csv(listed, dtype=str)
    table.tail(len(table) - 5).to_csv(listed, index=False)
    after = Store.open(prepare.prepare(study, "mimic", workers=1)).records.set_index("record")["split"]
    common = after.index.intersection(before.index)
    assert len(common) == len(after) < len(before)
    assert (before[common] == after[common]).all()


def test_damaged_files_cost_their_record_only(study):
    folder = study.path("data", "sahzu")
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    (folder / table["ecg"][0]).unlink()
    (folder / table["ecg"][1]).write_bytes(np.random.default_rng(0).bytes(900))
    imaged = table.index[(table["sax"] != "") & (table.index > 1)][0]
    (folder / table["sax"][imaged]).unlink()
    table.loc[len(table)] = table.loc[imaged].to_dict() | {"record": "copy", "person": "somebody else"}
    table.to_csv(folder / "manifest.csv", index=False)
    store = Store.open(prepare.prepare(study, "sahzu", workers=1))
    store.validate()
    flow = lines(store)
    assert flow[("excluded", "missing")] == 1
    assert flow[("excluded", "format_unknown")] == 1
    assert flow[("excluded", ACROSS)] >= 2
    assert flow[("kept", "")] == len(store.records) == len(table) - flow["excluded"].sum()
    assert (store.records["split"] == "test").all()


def test_a_lost_cine_costs_the_cine_only(study):
    folder = study.path("data", "sahzu")
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    before = lines(Store.open(prepare.prepare(study, "sahzu", workers=1)))
    table.loc[table.index[table["sax"] != ""][0], "sax"] = "cmr/lost.zip"
    table.to_csv(folder / "manifest.csv", index=False)
    after = lines(Store.open(prepare.prepare(study, "sahzu", workers=1)))
    assert after[("kept", "")] == before[("kept", "")]
    assert after[("cmr", "sax")] < before[("cmr", "sax")]
    assert after[("cmr", "4ch")] == before[("cmr", "4ch")]
    assert after["cmr excluded"].sum() > 0


def test_a_cohort_without_one_usable_record_is_an_error(study):
    for path in study.path("data", "sahzu", "ecg").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(StudyError, match=r"store/sahzu: not one record can be used: .*check sahzu"):
        prepare.prepare(study, "sahzu", workers=1)
    assert not study.path("store", "sahzu").exists()


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0", "-1/2"])
def test_shards_that_make_no_sense(text):
    with pytest.raises(StudyError, match=rf"--shard {text}: expected i/n"):
        prepare.parse_shard(text)
    assert prepare.parse_shard(" 2/8 ") == (2, 8)


def test_a_job_array_from_the_command_line(study, monkeypatch, capsys):
    monkeypatch.chdir(study.root)
    for part in ("1/2", "2/2"):
        assert main(["prepare", "sahzu", "--workers", "1", "--shard", part]) == 0
    assert not study.path("store", "sahzu").exists()
    assert main(["prepare", "sahzu", "--workers", "1"]) == 0
    Store.open(study.path("store", "sahzu")).validate()
    assert main(["prepare", "sahzu", "--shard", "3/2"]) == 2
    assert "--shard 3/2" in capsys.readouterr().err
    assert main(["check", "sahzu", "--sample", "3"]) == 0


def test_a_dask_cluster_takes_the_blocks(study, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(prepare, "BLOCK", 8)
    first = content(prepare.prepare(study, "mimic", workers=1))
    sent, submit = [], distributed.Client.submit
    monkeypatch.setattr(distributed.Client, "submit", lambda *a, **k: sent.append(1) or submit(*a, **k))
    shutil.rmtree(study.path("store"))
    settings = {"host": "127.0.0.1", "dashboard_address": None, "n_workers": 2, "threads_per_worker": 1}
    with distributed.LocalCluster(processes=False, protocol="tcp", **settings) as cluster:
        monkeypatch.setenv(prepare.SCHEDULER, cluster.scheduler_address)
        assert content(prepare.prepare(study, "mimic", workers=1)) == first
    assert len(sent) == len(prepare.make_plan(study, "mimic").blocks) >= 4


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_is_none_is_said(study, monkeypatch, address):
    distributed = pytest.importorskip("distributed")
    client = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda *a, **k: client(*a, **(k | {"timeout": "1s"})))
    monkeypatch.setenv(prepare.SCHEDULER, address)
    with pytest.raises(StudyError, match=f"{prepare.SCHEDULER}: no dask scheduler answers at '{address}'"):
        prepare.prepare(study, "sahzu", workers=1)


def test_the_number_of_workers_from_the_environment(study, monkeypatch):
    monkeypatch.setenv("CARDIONETS_WORKERS", "many")
    with pytest.raises(StudyError, match="CARDIONETS_WORKERS: 'many'"):
        prepare.prepare(study, "sahzu")


def test_phenotypes_from_masks_where_the_centre_has_none(study):
    folder = study.path("data", "sahzu")
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    chosen = table.index[table["sax"] != ""][0]
    y, x = np.mgrid[:40, :40] - 19.5
    beat = 12 - 4 * np.sin(np.pi * np.arange(10) / 10)
    radius = np.hypot(y, x)[None]
    mask = np.where(radius < beat[:, None, None], 1, np.where(radius < 16, 2, 0)).astype("u1")
    cine = np.where(mask == 1, 200, np.where(mask == 2, 60, 20)).astype("u1")
    for name, frames in (("image", cine), ("mask", mask)):
        write_nifti(
            folder / f"{name}.nii.gz", np.repeat(frames[None], 8, axis=0), spacing_mm=(2, 2), dt_ms=80, step_mm=10
        )
    table["sax_mask"] = ""
    table.loc[chosen, ["sax", "sax_mask"]] = ["image.nii.gz", "mask.nii.gz"]
    table.to_csv(folder / "manifest.csv", index=False)
    store = Store.open(prepare.prepare(study, "sahzu", workers=1))
    found = store.records[store.records["lv_edv"].notna()]
    assert found["person"].nunique() == 1
    wanted = (mask[0] == 1).sum() * 8 * 2 * 2 * 10 / 1000
    assert found["lv_edv"].iloc[0] == pytest.approx(wanted)
    assert 30 < found["lv_ef"].iloc[0] < 70
    assert found["la_max"].isna().all()
    assert len(store.sax_mask) == 1
    assert store.sax_mask[0].max() == 2


def test_blocks_of_different_columns_and_types_become_one_table(tmp_path):
    """A block where no file tells a sex stores numbers or nothing at all in that column; others store letters."""
    blocks = [tmp_path / f"block-{number}" for number in range(3)]
    silent = [{"file_sex": float("nan"), "reason": ""}, {"reason": "nan"}]
    rows = [silent, [{"file_sex": "F"}, {"file_sex": None}], [{"reason": "nan"}]]
    for block, lines in zip(blocks, rows):
        block.mkdir()
        save_lines(lines, block)
    table = read_lines(blocks)
    assert table["file_sex"].fillna("-").tolist() == ["-", "-", "F", "-", "-"]
    assert table["reason"].fillna("-").tolist() == ["", "nan", "-", "-", "nan"]
    assert table["block"].tolist() == [0, 0, 1, 1, 2]


def test_identical_signals():
    table = pd.DataFrame(
        {
            "reason": ["", "", "", "", "flat_lead", ""],
            "digest": ["x", "x", "y", "y", "z", "z"],
            "person_id": ["a", "b", "c", "c", "d", "e"],
        }
    )
    found = {reason: rows.tolist() for reason, rows in duplicates(table).items()}
    assert found == {ACROSS: [0, 1], WITHIN: [3]}


def test_reasons_never_carry_a_message():
    assert prepare.reason_of(RecordError("flat_lead", "a.xml: secret")) == "flat_lead"
    assert prepare.reason_of(StudyError("a.zip: secret")) == "unreadable"
    assert prepare.reason_of(ZeroDivisionError("secret")) == "unreadable: ZeroDivisionError"


def test_check_says_what_it_understood(centres):
    study = Study(centres)
    found = check(study, "ukb", sample=4).set_index("item")
    assert set(found["level"]) <= {"OK", "warning"}
    assert found.loc["rate", "finding"] == "500 Hz: 4"
    assert found.loc["format", "finding"] == ".xml: 4"
    assert found.loc["unit", "finding"].endswith("uV per step: 4")
    assert found.loc["QRS duration", "level"] == "OK"
    assert "frames of" in found.loc["sax cines", "finding"]
    assert found.loc["lv_edv", "level"] == "OK"
    assert "train" in found.loc["split", "finding"]
    assert not study.path("store", "check").exists()


def test_check_lists_all_faults_with_remedies(study):
    folder = study.path("data", "sahzu")
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    (folder / table["ecg"][0]).unlink()
    table["lv_ef"], table["sex"] = "0.55", table["sex"].map({"F": "M", "M": "F"})
    table.to_csv(folder / "manifest.csv", index=False)
    found = check(study, "sahzu").set_index("item")
    assert found.loc["ECG files", "level"] == "warning"
    assert "1 missing" in found.loc["ECG files", "finding"]
    assert found.loc["reading", "level"] == "warning"
    assert found.loc["identity", "level"] == "error"
    assert found.loc["lv_ef", "level"] == "error"
    assert (found.loc[found["level"] != "OK", "remedy"] != "").all()
    assert (found.loc[found["level"] == "OK", "remedy"] == "").all()
    text = render(found.reset_index())
    assert "error    identity" in text
    assert text.splitlines()[-1].endswith("error")
    table.assign(age="old").rename(columns={"height_cm": "heigth_cm"}).to_csv(folder / "manifest.csv", index=False)
    found = check(study, "sahzu")
    assert (found["level"] == "error").sum() == 2


def test_check_reads_masks(study):
    folder = study.path("data", "ukb")
    found = check(study, "ukb", sample=5).set_index("item")
    assert found.loc[["short-axis masks", "four-chamber masks"], "finding"].str.contains(" 0 missing").all()
    assert found.loc[["sax masks", "4ch masks"], "level"].eq("OK").all()
    for path in (folder / "masks").glob("*_sax.nii.gz"):
        drawn = nib.load(path)
        other = np.where(np.asarray(drawn.dataobj) == 1, 9, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(other, drawn.affine, drawn.header), path)
    found = check(study, "ukb", sample=5).set_index("item")
    assert found.loc["sax masks", "level"] == "error"
    assert "0 of 1 sampled masks can be read" in found.loc["sax masks", "finding"]
    assert "labels: [9.0] are not declared" in found.loc["sax masks", "remedy"]
    assert found.loc["sax cines", "level"] == found.loc["4ch masks", "level"] == "OK"


def test_check_misses_the_files_of_masks(study):
    folder = study.path("data", "sahzu")
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    table.assign(sax_mask=np.where(table["sax"] != "", "mask.nii", "")).to_csv(folder / "manifest.csv", index=False)
    found = check(study, "sahzu").set_index("item")
    assert found.loc["short-axis masks", "level"] == found.loc["sax masks", "level"] == "error"
    assert "1 missing (such as mask.nii)" not in found.loc["short axis", "finding"]
    assert "missing (such as mask.nii)" in found.loc["short-axis masks", "finding"]


def test_check_counts_whom_an_exclusion_list_finds(study):
    eid = pd.read_csv(study.path("data", "ukb", "main.csv"), dtype=str)["eid"]
    listed = study.path("data", "ukb", "withdrawn1.csv")
    for text, said, level in ((f"{eid[0]}\n00\n", "2 identifiers listed, 1 found", "OK"),
                              (f"0{eid[0]}\n", "1 identifiers listed, 0 found", "warning"),
                              ("", "0 identifiers listed, 0 found", "OK")):  # fmt: skip
        listed.write_text(text)
        found = check(study, "ukb", sample=1)
        line = found[found["finding"] == f"withdrawn1.csv: {said}"]
        assert line["level"].tolist() == [level]
        assert line["remedy"].str.contains("0017 is not 17").tolist() == [level == "warning"]


@pytest.mark.parametrize(("factor", "said"), [("0.2", "5 times too low"), ("5", "5 times too high")])
def test_check_doubts_the_gain_of_a_centre(study, factor, said):
    settings = study.path("cohorts.yaml")
    text = settings.read_text()
    settings.write_text(text.replace("data/sahzu\n", f"data/sahzu\n    ecg: {{gain_factor: {factor}}}\n", 1))
    assert check(study, "sahzu").set_index("item").loc["gain", "level"] == "OK"
    found = check(Study(study.root), "sahzu").set_index("item")
    assert found.loc["gain", "level"] == "error"
    assert said in found.loc["gain", "finding"]
    assert "ecg.gain_factor" in found.loc["gain", "remedy"]


def test_check_doubts_the_rate_of_a_centre(study, tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    cohort = study.cohort("mimic")
    rows = []
    for i, file in enumerate(cohorts.index(cohort).records["ecg"].head(14)):
        try:
            record = read_ecg(cohort.path / file)
        except RecordError:
            continue
        np.save(folder / f"{i}.npy", record.signal.T)
        rows.append(f"r{i},p{i},{i}.npy,2020-01-01,60,F")
    (folder / "manifest.csv").write_text("\n".join(["record,person,ecg,ecg_date,age,sex", *rows]) + "\n")
    block = (
        f"  arrays:\n    label: A\n    path: {folder}\n    depends: x\n    layout: manifest\n    role: external\n"
        f"    ecg: {{unit: uV, rate: RATE, leads: [{', '.join(LEADS)}]}}\n"
    )
    text = study.path("cohorts.yaml").read_text()
    for rate, level in (("500", "OK"), ("250", "error")):
        study.path("cohorts.yaml").write_text(text + block.replace("RATE", rate))
        found = check(Study(study.root), "arrays").set_index("item")
        assert found.loc["QRS duration", "level"] == level
        assert found.loc["unit", "finding"] == f"declared uV: {len(rows)}"


def test_exit_codes_of_the_check(study, monkeypatch, capsys):
    monkeypatch.chdir(study.root)
    assert main(["check", "ukb", "--sample", "3"]) == 0
    shutil.rmtree(study.path("data", "ukb", "ecg"))
    study.path("data", "ukb", "main.csv").unlink()
    assert main(["check", "ukb", "--sample", "3"]) == 1
    assert "error    tables" in capsys.readouterr().out
    assert main(["check", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["ukb", "mimic", "manifest", "wfdb"])
def test_every_layout_is_checked_and_scripts_learn_of_errors(study, monkeypatch, capsys, layout):
    monkeypatch.chdir(study.root)
    name = {"manifest": "sahzu", "wfdb": "tree"}.get(layout, layout)
    folder = study.path("data", {"tree": "mimic"}.get(name, name))
    block = (
        "  tree:\n    label: T\n    path: data/mimic\n    depends: data/mimic\n    layout: wfdb\n    role: external\n"
    )
    with study.path("cohorts.yaml").open("a") as handle:
        handle.write(block)
    assert main(["check", name, "--sample", "4"]) == 0
    said = capsys.readouterr().out
    for item in (
        "records",
        "ECG files",
        "reading",
        "format",
        "unit",
        "leads",
        "rate",
        "length",
        "amplitude",
        "heart rate",
    ):
        assert f" {item} " in said, item
    for path in (path for path in folder.rglob("*") if path.suffix in (".xml", ".dcm", ".hea", ".dat")):
        path.write_bytes(b"nothing")
    assert main(["check", name, "--sample", "4"]) == 1
    said = capsys.readouterr().out
    assert "error    reading" in said and "0 of 4 sampled ECGs can be read" in " ".join(said.split())


@pytest.mark.real
def test_real_recordings_go_all_the_way(real, study):
    text = study.path("cohorts.yaml").read_text()
    block = (
        f"  cinc:\n    label: CinC\n    path: {real}\n    depends: x\n    layout: wfdb\n    role: external\n"
        "    include: ['cinc2021/*.hea', 'cpsc2018_labelled/*.hea']\n"
    )
    study.path("cohorts.yaml").write_text(text + block)
    study = Study(study.root)
    store = Store.open(prepare.prepare(study, "cinc", workers=1))
    store.validate()
    flow = lines(store)
    assert flow[("source", "")] == 31
    assert flow[("excluded", "duplicate_across_people")] == 2
    assert flow[("excluded", "flat_lead")] >= 2
    assert len(store.records) >= 20
    assert store.records["atrial_fibrillation"].sum() == 2
    assert store.records["heart_failure"].isna().all()
    assert store.records["age"].notna().all()
    assert store.meta["simulated"] is False
    found = check(study, "cinc").set_index("item")
    assert found.loc["format", "level"] == "OK"
