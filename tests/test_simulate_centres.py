"""The five simulated centres: labels, ids, faults, layouts, stamps, and the same bytes however they are written."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cardionets import diseases, phenotypes
from cardionets.__main__ import main
from cardionets.cohorts import index
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Cohort, Study, StudyError
from cardionets.ecg import LEADS
from cardionets.simulate import faults, labels, write
from cardionets.simulate.centres import CENTRES
from cardionets.simulate.heart import CaseMix, sample
from cardionets.simulate.plan import Plan, make_plan, record_truth, truth
from tests.conftest import ROOT

PEOPLE, SEED = 6, 7
LAYOUT = {"ukb": "ukb", "mimic": "mimic"}


@pytest.fixture(scope="module")
def hearts() -> pd.DataFrame:
    return sample(3000, CaseMix(dcm=0.02, hcm=0.02, rcm=0.01), np.random.default_rng(3))


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {name: make_plan(centre, 1500, 11) for name, centre in CENTRES.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serial")
    for name in CENTRES:
        write.write_centre(name, PEOPLE, SEED, out, workers=1)
    return out


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def close(a: pd.Series, b: pd.Series) -> None:
    np.testing.assert_allclose(a.to_numpy(dtype=float), b.to_numpy(dtype=float), rtol=1e-9)


def test_hospitals_see_fast_sinus_rhythm_and_volunteers_rest(plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        heart = plan.hearts.iloc[plan.records["person"].to_numpy()]
        sinus = (heart["rhythm"] != "af").to_numpy()
        fast = (plan.records["rate_bpm"] > 100).to_numpy()
        share = fast[sinus].mean()
        assert share < 0.01 if name == "ukb" else share == pytest.approx(0.15, abs=0.03), name
        assert plan.records["rate_bpm"].max() <= 160
        rest = (plan.records["nth"] == 0).to_numpy() & ~fast
        np.testing.assert_allclose(plan.records["rate_bpm"][rest], heart["rate_bpm"][rest], err_msg=name)


def test_measured_phenotypes_keep_their_identities(hearts: pd.DataFrame) -> None:
    table = labels.measure(hearts, np.random.default_rng(0))
    assert list(table.columns) == list(phenotypes.NAMES)
    assert not table.isna().any().any()
    for chamber, full, empty in (
        ("lv", "edv", "esv"),
        ("rv", "edv", "esv"),
        ("la", "max", "min"),
        ("ra", "max", "min"),
    ):
        close(table[f"{chamber}_sv"], table[f"{chamber}_{full}"] - table[f"{chamber}_{empty}"])
        close(table[f"{chamber}_ef"], 100 * table[f"{chamber}_sv"] / table[f"{chamber}_{full}"])
        assert (table[f"{chamber}_sv"] > 0).all()
    close(table["lv_co"], table["lv_sv"] * hearts["rate_bpm"] / 1000)
    for prefix in ("wt", "ecc", "err", "ell"):
        close(table[f"{prefix}_global"], table[labels.global_parts(f"{prefix}_global")].mean(axis=1))
    assert (table[["aao_dist", "dao_dist"]] > 0).all().all()


def test_without_error_the_identities_give_back_the_truth(hearts: pd.DataFrame) -> None:
    pressure = {v: labels._pulse_pressure(hearts, v) for v in ("aao", "dao")}
    table = labels.with_identities(hearts[list(labels.ERRORS)], hearts["rate_bpm"].to_numpy(), pressure)
    for name in phenotypes.NAMES:
        close(table[name], hearts[name])


@pytest.mark.parametrize("name", ["lv_edv", "lv_mass", "rv_esv", "la_max", "wt_3", "ecc_7"])
def test_error_has_the_stated_size_and_no_bias(hearts: pd.DataFrame, name: str) -> None:
    table = labels.measure(hearts, np.random.default_rng(1))
    log_error = np.log(table[name] / hearts[name])
    assert log_error.std() == pytest.approx(labels.ERRORS[name].cv, rel=0.1)
    assert abs(log_error.mean()) < 4 * labels.ERRORS[name].cv / np.sqrt(len(hearts))


def test_missing_values_go_by_view(hearts: pd.DataFrame) -> None:
    table = labels.drop_values(labels.measure(hearts, np.random.default_rng(2)), np.random.default_rng(2))
    for name in phenotypes.NAMES:
        expected = labels.MISSING_VIEW[labels.view_of(name)] + labels.MISSING_VALUE
        assert 0.4 * expected < table[name].isna().mean() < 2 * expected, name
    together = table["lv_edv"].isna() & table["rv_esv"].isna()
    assert together.mean() > 0.5 * labels.MISSING_VIEW["ventricles"]


@pytest.mark.parametrize("book,vocabulary", [("icd10", "icd10"), ("icd10cm", "icd10"), ("icd9", "icd9")])
def test_every_code_means_its_disease_and_no_other(book: str, vocabulary: str) -> None:
    def meaning(code: str) -> set[str]:
        return {
            d.name
            for d in diseases.DISEASES
            if not d.this_ecg and any(code.startswith(c) for c in getattr(d, vocabulary))
        }

    for name in diseases.DIAGNOSES:
        for kind in ("none", *diseases.SUBTYPES):
            assert {frozenset(meaning(labels.code(name, kind, draw, book))) for draw in (0.0, 0.5, 0.99)} == {
                frozenset({name})
            }
    assert all(not meaning(code) for code in labels.OTHERS[book])


@given(
    st.sampled_from([*diseases.DIAGNOSES, ""]), st.floats(0, 1, exclude_max=True), st.sampled_from(["icd10", "icd9"])
)
def test_any_draw_picks_a_code(disease: str, draw: float, book: str) -> None:
    assert re.fullmatch(r"[A-Z0-9]{3,6}", labels.code(disease, "none", draw, book))


def test_some_cases_are_uncoded_and_few_codes_are_false(hearts: pd.DataFrame) -> None:
    coding = labels.Coding()
    table = labels.diagnose(hearts, coding, np.random.default_rng(5))
    true = hearts[list(diseases.DIAGNOSES)].to_numpy(dtype=bool)
    listed = table[table["disease"] != ""]
    coded = np.zeros_like(true)
    coded[listed["person"], listed["disease"].map(diseases.DIAGNOSES.index)] = True
    assert (~coded & true).sum() / true.sum() == pytest.approx(coding.uncoded, abs=0.04)
    assert (coded & ~true).sum() / (~true).sum() == pytest.approx(coding.false, abs=0.0015)
    assert (
        listed["correct"].to_numpy() == true[listed["person"], listed["disease"].map(diseases.DIAGNOSES.index)]
    ).all()
    assert (listed["days"] > 0).mean() == pytest.approx(coding.incident, abs=0.05)


def test_prevalences_are_those_of_the_case_mix(plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        mix, found = CENTRES[name].mix, plan.hearts
        expected = {
            "cardiomyopathy": mix.dcm + mix.hcm + mix.rcm + mix.other_cardiomyopathy,
            "atrial_fibrillation": mix.af,
        }
        expected |= {"cad": mix.cad, "heart_failure": mix.heart_failure, "valve": mix.valve, "rbbb": mix.rbbb}
        for disease, share in expected.items():
            spread = 4 * np.sqrt(share * (1 - share) / len(found))
            assert abs(found[disease].mean() - share) < spread, (name, disease)
    age = {name: plan.hearts["age"].mean() for name, plan in plans.items()}
    assert age["ukb"] > age["fahzu"]
    assert plans["qph"].hearts["bsa"].mean() < plans["ukb"].hearts["bsa"].mean() < plans["mimic"].hearts["bsa"].mean()
    assert plans["fahzu"].people["cmr"].mean() == pytest.approx(0.5, abs=0.06)
    assert plans["ukb"].people["cmr"].all() and not plans["mimic"].people["cmr"].any()


def test_ids_never_repeat(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        assert plan.people["person"].is_unique and plan.records["record"].is_unique
    assert plans["ukb"].people["person"].str.fullmatch(r"\d{7}").all()
    assert plans["mimic"].people["person"].str.fullmatch(r"1000\d{4}").all()
    assert plans["mimic"].records["record"].str.fullmatch(r"4\d{7}").all()
    assert plans["mimic"].records["person"].duplicated().mean() > 0.2
    assert not plans["ukb"].records["person"].duplicated().any()
    assert plans["ukb"].people["withdrawn"].any()


def test_repeats_follow_the_first_ecg(plans: dict[str, Plan]) -> None:
    records = plans["mimic"].records
    first = records.groupby("person")["date"].transform("first")
    assert (records["date"][records["nth"] > 0] > first[records["nth"] > 0]).all()
    assert (records["date"][records["nth"] == 0].dt.normalize() == plans["mimic"].people["date"].to_numpy()).all()


def test_every_kind_of_fault_is_planned_and_known(plans: dict[str, Plan]) -> None:
    for name, plan in plans.items():
        records = record_truth(plan)
        faulty = records[records["fault"] != "none"]
        assert set(faulty["fault"]) == set(faults.KINDS), name
        assert len(faulty) / len(records) == pytest.approx(0.01, abs=0.002)
        copies = records[records["signal_of"] != records["record"]]
        assert set(copies["fault"]) == {"duplicate"}
        owner = records.set_index("record")["person"]
        assert (owner[copies["signal_of"]].to_numpy() != copies["person"].to_numpy()).all()
        sources = records.set_index("record").loc[copies["signal_of"], "fault"]
        assert (sources == "none").all()


@pytest.mark.parametrize("kind", faults.KINDS)
def test_faults_do_what_they_say(kind: str) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.integers(-300, 300, (2, 50))
    limbs = [one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2]
    counts = np.stack([*limbs, *rng.integers(-300, 300, (6, 50))]).astype(np.int32)
    before = counts.copy()
    out = faults.spoil(counts, kind, rng)
    lead = {name: out[LEADS.index(name)] for name in LEADS}
    identity = (lead["III"] == lead["II"] - lead["I"]).all()
    np.testing.assert_array_equal(counts, before)
    if kind == "flat_lead":
        assert [np.ptp(row) == 0 for row in out].count(True) == 1
    elif kind == "limb_reversal":
        np.testing.assert_array_equal(lead["I"], -one)
        assert identity and (lead["aVF"] == counts[5]).all()
    elif kind == "leads_swapped":
        assert not identity
    elif kind == "wrong_gain":
        ratio = np.abs(out).sum() / np.abs(counts).sum()
        assert ratio == pytest.approx(5, rel=0.02) or ratio == pytest.approx(0.2, rel=0.02)
    else:
        np.testing.assert_array_equal(out, counts)


def test_the_truth_has_one_row_per_person(plans: dict[str, Plan]) -> None:
    table = truth(plans["sahzu"])
    assert table["person"].is_unique and len(table) == 1500
    assert {*phenotypes.NAMES, *diseases.DIAGNOSES, "torso_gain"} <= set(table.columns)
    assert sum(name.startswith("ecg_") for name in table.columns) > 20
    close(table["lv_co"], table["lv_sv"] * table["rate_bpm"] / 1000)


def test_a_duplicate_carries_the_signal_of_its_source(plans: dict[str, Plan]) -> None:
    plan = plans["mimic"]
    row = int(np.flatnonzero(plan.records["fault"] == "duplicate")[0])
    source = int(plan.records["source"].iloc[row])
    signals = plan.signal_hearts()
    pd.testing.assert_series_equal(signals.iloc[row], signals.iloc[source], check_names=False)
    assert signals["rate_bpm"].iloc[source] == plan.records["rate_bpm"].iloc[source]


def test_trees_are_complete_and_readable(written: Path) -> None:
    for name, centre in CENTRES.items():
        folder = written / name
        assert "SIMULATED" in (folder / "README.txt").read_text()
        layout = LAYOUT.get(name, "manifest")
        cohort = Cohort.model_validate(
            {"label": name, "path": folder, "depends": "", "layout": layout, "role": "external", "simulated": True}
        )
        records = index(cohort).records
        assert len(records) >= PEOPLE and records["person"].nunique() == PEOPLE
        assert set(records["record"]) == set(pd.read_parquet(written / "truth" / f"{name}_records.parquet")["record"])
        assert records["age"].between(18, 100).all() and records["sex"].notna().all()
        assert all((folder / path).is_file() for path in records["ecg"])
        images = [path for view in ("sax", "lax") for path in records[view] if path]
        assert all((folder / path).exists() for path in images)
        assert bool(images) == (centre.scanner is not None)


def test_uk_biobank_has_phenotypes_codes_and_stacks(written: Path) -> None:
    table = pd.read_csv(written / "ukb/main.csv", dtype={"eid": str})
    assert [name for name in table if name.startswith("24")] == [f"{24100 + k}-2.0" for k in range(82)]
    assert {"31-0.0", "21003-2.0", "50-2.0", "21002-2.0", "53-2.0", "41270-0.0", "41280-0.0"} <= set(table.columns)
    assert (table["41270-0.0"].notna() == table["41280-0.0"].notna()).all()
    eid = table["eid"].iloc[0]
    with zipfile.ZipFile(written / f"ukb/cmr/{eid}_20209_2_0.zip") as archive:
        names = archive.namelist()
    scanner = CENTRES["ukb"].scanner
    assert scanner is not None and "manifest.csv" in names
    assert len(names) == 1 + CENTRES["ukb"].slices * scanner.frames
    assert "SIMULATED" in (written / f"ukb/ecg/{eid}_20205_2_0.xml").read_text(encoding="latin-1")


@pytest.mark.parametrize(("name", "models"), [("ukb", 1), ("sahzu", 2), ("qph", 2)])
def test_recordings_are_signed_by_the_recorder_that_made_them(
    written: Path, plans: dict[str, Plan], name: str, models: int
) -> None:
    plan = make_plan(CENTRES[name], PEOPLE, SEED)
    owner = plan.people["person"].to_numpy()[plan.records["person"]]
    signed = [CENTRES[name].devices[number].model for number in plan.records["recorder"]]
    for person, record, fault, model in zip(owner, plan.records["record"], plan.records["fault"], signed):
        if fault == "none":
            assert read_ecg(written / name / CENTRES[name].ecg_path(person, record)).device == model
    assert len({device.model for device in CENTRES[name].devices}) == models
    many = plans[name].records
    assert many.loc[many["source"].to_numpy(), "recorder"].tolist() == many["recorder"].tolist()
    assert many["recorder"].value_counts(normalize=True).to_numpy() == pytest.approx(
        np.full(models, 1 / models), abs=0.05
    )


def test_mimic_tables_fit_together(written: Path) -> None:
    folder = written / "mimic"
    listed = pd.read_csv(folder / "record_list.csv", dtype=str)
    stays = pd.read_csv(folder / "hosp/admissions.csv", dtype=str)
    coded = pd.read_csv(folder / "hosp/diagnoses_icd.csv", dtype=str)
    patients = pd.read_csv(folder / "hosp/patients.csv", dtype=str)
    assert set(listed["subject_id"]) == set(patients["subject_id"])
    assert set(coded["hadm_id"]) <= set(stays["hadm_id"]) and stays["hadm_id"].is_unique
    assert set(coded["icd_version"]) <= {"9", "10"} and not coded.duplicated(["hadm_id", "seq_num"]).any()
    assert len(pd.read_csv(folder / "machine_measurements.csv")) == len(listed)
    for path in listed["path"]:
        assert re.fullmatch(r"files/p1000/p1000\d{4}/s4\d{7}/4\d{7}", path)
        assert (folder / f"{path}.dat").is_file()
        header = (folder / f"{path}.hea").read_text().splitlines()
        assert [line.split()[-1] for line in header[1:13]] == list(write.MIMIC_LEADS)


def test_the_same_bytes_for_two_workers_and_other_chunks(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "CHUNK", 2)
    for name in ("ukb", "fahzu"):
        write.write_centre(name, PEOPLE, SEED, tmp_path, workers=2)
        assert contents(tmp_path / name) == contents(written / name)
    assert contents(tmp_path / "truth").items() <= contents(written / "truth").items()
    write.write_centre("sahzu", PEOPLE, SEED + 1, tmp_path, workers=1)
    assert contents(tmp_path / "sahzu") != contents(written / "sahzu")


def test_the_stamp_knows_people_seed_and_simulator(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write.is_current("qph", PEOPLE, SEED, written)
    assert not write.is_current("qph", PEOPLE + 1, SEED, written)
    assert not write.is_current("qph", PEOPLE, SEED + 1, written)
    monkeypatch.setattr(write, "simulator_version", lambda: "another")
    assert not write.is_current("qph", PEOPLE, SEED, written)


def test_an_interrupted_write_leaves_nothing_that_passes_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write.write_centre("mimic", 3, 1, tmp_path, workers=1)
    before, real, calls = contents(tmp_path / "mimic"), write.write_part, []

    def breaks(part: write.Part) -> int:
        calls.append(part)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(part)

    monkeypatch.setattr(write, "CHUNK", 2)
    monkeypatch.setattr(write, "write_part", breaks)
    for name in ("mimic", "qph"):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            write.write_centre(name, 5, 1, tmp_path, workers=1)
        assert len(calls) == 2 and not write.is_current(name, 5, 1, tmp_path)
    assert contents(tmp_path / "mimic") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mimic", "truth"]


def test_checksums_name_every_file_and_find_a_changed_one(tmp_path: Path) -> None:
    folder = write.write_centre("mimic", 2, 1, tmp_path, workers=1)
    sums = dict(reversed(line.split("  ", 1)) for line in (folder / write.SUMS).read_text().splitlines())
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert sums.keys() == found.keys() - {write.SUMS, write.STAMP} and list(sums) == sorted(sums)
    assert all(hashlib.sha256(found[name].read_bytes()).hexdigest() == value for name, value in sums.items())
    other = write.write_centre("mimic", 2, 2, tmp_path / "other", workers=1)
    assert (other / write.SUMS).read_text() != (folder / write.SUMS).read_text()


def test_a_damaged_stamp_is_not_finished(tmp_path: Path) -> None:
    write.write_centre("mimic", 2, 1, tmp_path, workers=1)
    (tmp_path / "mimic" / write.STAMP).write_text('{"people": 2')
    assert not write.is_current("mimic", 2, 1, tmp_path)


def test_write_study_skips_what_is_finished(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _few_people(tiny_root)
    write.write_study(Study(), workers=1)
    assert sorted(path.name for path in (tiny_root / "data").iterdir()) == sorted([*CENTRES, "truth"])
    stamp = json.loads((tiny_root / "data/ukb" / write.STAMP).read_text())
    assert stamp == {
        "simulated": True,
        "people": 2,
        "seed": Study().protocol.seed,
        "simulator": write.simulator_version(),
    }
    capsys.readouterr()
    assert main(["simulate", "--workers", "1"]) == 0
    assert capsys.readouterr().out.count("are there already") == len(CENTRES)


def _few_people(root: Path) -> None:
    preset = root / "presets/tiny.yaml"
    preset.write_text(re.sub(r"(?m)^(  (?:ukb|mimic|fahzu|sahzu|qph): )\d+", r"\g<1>2", preset.read_text()))


def _real_folder(folder: Path) -> dict[str, str]:
    (folder / "ecg").mkdir(parents=True)
    (folder / "main.csv").write_text("eid\n1\n")
    (folder / "ecg" / "1_20205_2_0.xml").write_bytes(b"\x00real")
    return contents(folder)


@pytest.mark.parametrize("change", [("simulated: true", "simulated: false"), ("path: data/ukb", "path: /data/ukb")])
def test_real_or_other_folders_are_left_alone_and_a_line_says_so(
    tiny_root: Path, change: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _few_people(tiny_root)
    before = _real_folder(tiny_root / "data" / "ukb")
    cohorts = tiny_root / "cohorts.yaml"
    cohorts.write_text(cohorts.read_text().replace(*change, 1))
    shutil.copy(ROOT / "data.dvc", tiny_root)
    assert main(["simulate", "--workers", "1"]) == 0
    assert contents(tiny_root / "data" / "ukb") == before
    said = capsys.readouterr().out
    assert "simulate ukb: left alone, because cohorts.yaml" in said
    assert "delete the lines of data/ukb/SHA256SUMS.txt from data.dvc" in said
    assert write.is_current("qph", 2, Study().protocol.seed, tiny_root / "data")
    assert not (tiny_root / "data" / "truth" / "ukb.parquet").exists()


def test_where_everybody_is_real_the_folder_of_the_truth_is_there_all_the_same(tiny_root: Path) -> None:
    """The stage of the ceiling depends on it."""
    cohorts = tiny_root / "cohorts.yaml"
    cohorts.write_text(cohorts.read_text().replace("simulated: true", "simulated: false"))
    write.write_study(Study(), workers=1)
    assert list(contents(tiny_root / "data")) == ["truth/README.txt"]
    for path in ("dvc.yaml", "ablation/dvc.yaml"):
        needs = [stage.get("deps", []) for stage in yaml.safe_load((ROOT / path).read_text())["stages"].values()]
        assert {name for names in needs for name in names if name.startswith("data/")} == {"data/truth"}


@pytest.mark.parametrize("stamp", [None, "{}", '{"simulated": false}', "[1]", '{"people": 2'])
def test_a_folder_that_bears_no_stamp_of_the_simulator_is_never_replaced(tmp_path: Path, stamp: str | None) -> None:
    folder = tmp_path / "ukb"
    _real_folder(folder)
    if stamp is not None:
        (folder / write.STAMP).write_text(stamp)
    before = contents(folder)
    with pytest.raises(StudyError, match=r"ukb: a link, or files without the simulator's .*simulated: false"):
        write.write_centre("ukb", 2, 1, tmp_path, workers=1)
    assert contents(folder) == before and [path.name for path in tmp_path.iterdir()] == ["ukb"]


def test_a_link_is_never_replaced_and_an_empty_folder_is(tmp_path: Path) -> None:
    before = _real_folder(tmp_path / "real")
    (tmp_path / "qph").symlink_to(tmp_path / "real")
    with pytest.raises(StudyError, match="qph: a link"):
        write.write_centre("qph", 2, 1, tmp_path, workers=1)
    assert (tmp_path / "qph").is_symlink() and contents(tmp_path / "real") == before
    (tmp_path / "sahzu").mkdir()
    assert (write.write_centre("sahzu", 2, 1, tmp_path, workers=1) / write.STAMP).is_file()


def test_bad_input_is_one_sentence(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match="no such centre"):
        write.write_centre("leipzig", 3, 1, tiny_root)
    with pytest.raises(StudyError, match="--workers"):
        write.write_centre("qph", 3, 1, tiny_root, workers=0)
    with pytest.raises(StudyError, match="people"):
        write.write_centre("qph", 0, 1, tiny_root)
    params = tiny_root / "params.yaml"
    params.write_text(params.read_text().replace("preset: tiny", "preset: gigantic"))
    assert main(["simulate"]) == 2
    assert "gigantic" in capsys.readouterr().err
