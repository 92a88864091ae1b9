import gzip
import shutil
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardionets import cohorts
from cardionets.cohorts import labels, ukb, wfdb_tree
from cardionets.config import Cohort, StudyError


def cohort(path, layout, **more):
    return Cohort(label="Here", path=path, depends="x", layout=layout, role="development", **more)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def ukb_folder(tmp_path):
    touch(
        tmp_path,
        "ecg/11_20205_2_0.xml",
        "ecg/22_20205_2_0.xml",
        "ecg/22_20205_3_0.xml",
        "ecg/99_20205_2_0.xml",
        "ecg/notes.txt",
        "cmr/11_20208_2_0.zip",
        "cmr/11_20209_2_0.zip",
        "cmr/22_20209_3_0.zip",
        "masks/11_sax.nii.gz",
    )
    rows = {
        "eid": ["11", "22"],
        "31-0.0": ["0", "1"],
        "21003-2.0": ["60", "55"],
        "21003-3.0": ["", "58"],
        "50-2.0": ["165", "180"],
        "53-2.0": ["2016-03-01", "2017-01-02"],
        "53-3.0": ["", "2020-01-02"],
        "24100-2.0": ["141.5", ""],
        "24105-2.0": ["", "99"],
        "41270-0.0": ["I420", "I10"],
        "41270-0.1": ["I48", ""],
        "41280-0.0": ["2010-01-01", "2011-01-01"],
        "41280-0.1": ["2018-01-01", ""],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "main.csv", index=False)
    (tmp_path / "withdrawn.csv").write_text("eid\n22\n")
    return tmp_path


def test_uk_biobank_folder(ukb_folder):
    index = cohorts.index(cohort(ukb_folder, "ukb"))
    table = index.records.set_index("record")
    first = table.loc["11_20205_2_0"]
    assert (first["person"], first["sex"], first["age"], first["lv_edv"]) == ("11", "F", 60, 141.5)
    assert (first["sax"], first["lax"]) == ("cmr/11_20209_2_0.zip", "cmr/11_20208_2_0.zip")
    assert (first["sax_mask"], first["lax_mask"]) == ("masks/11_sax.nii.gz", "")
    assert first["ecg_date"] == first["cmr_date"] == pd.Timestamp("2016-03-01")
    assert np.isnan(first["lv_mass"])
    repeat = table.loc["22_20205_3_0"]
    assert (repeat["age"], repeat["sex"], repeat["sax"]) == (58, "M", "cmr/22_20209_3_0.zip")
    assert np.isnan(repeat["lv_mass"])
    assert table.loc["22_20205_2_0", "lv_mass"] == 99
    assert table["excluded"].tolist() == ["", "withdrawn", "withdrawn", ""]
    assert table.loc["99_20205_2_0", "coded"] == "none"
    assert index.notes == ("1 ECG files have no row in main.csv",)
    wanted = labels.disease_table(index, ["cardiomyopathy", "atrial_fibrillation"], "prevalent")
    assert wanted["cardiomyopathy"].tolist() == [True, False, False, pd.NA]
    assert wanted["atrial_fibrillation"].tolist() == [False, False, False, pd.NA]


def test_uk_biobank_other_spellings(ukb_folder):
    assert ukb.canonical("f.24100.2.0") == ukb.canonical("p24100_i2") == "24100-2.0"
    assert ukb.canonical("p41270_a3") == "41270-0.3"
    assert ukb.canonical("p31") == "31-0.0"
    assert ukb.canonical("eid") == "eid"
    before = cohorts.index(cohort(ukb_folder, "ukb")).records
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str)
    renamed = main.rename(columns=lambda name: "f." + name.replace("-", "."))
    renamed.to_csv(ukb_folder / "main.csv", index=False)
    pd.testing.assert_frame_equal(cohorts.index(cohort(ukb_folder, "ukb")).records, before)


def test_uk_biobank_codes_joined_in_one_cell(ukb_folder):
    plain = cohorts.index(cohort(ukb_folder, "ukb")).codes
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str)
    main["p41270"] = ['["I420", "I48"]', "I10"]
    main = main.drop(columns=["41270-0.0", "41270-0.1"])
    main.rename(columns={"41280-0.0": "p41280_a0", "41280-0.1": "p41280_a1"}).to_csv(
        ukb_folder / "main.csv", index=False
    )
    joined = cohorts.index(cohort(ukb_folder, "ukb")).codes
    keys = ["person", "code", "date"]
    assert len(plain) == 3
    pd.testing.assert_frame_equal(*(table[keys].sort_values(keys, ignore_index=True) for table in (plain, joined)))


@pytest.mark.parametrize("words", [("Female", "Male"), (" FEMALE", "male "), ("0", "1"), ("0.0", "1.0")])
def test_uk_biobank_sex_in_words_of_any_case(ukb_folder, words):
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str)
    main.assign(**{"31-0.0": words}).to_csv(ukb_folder / "main.csv", index=False)
    assert cohorts.index(cohort(ukb_folder, "ukb")).records["sex"].tolist() == ["F", "M", "M", pd.NA]


def test_uk_biobank_faults(ukb_folder):
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str)
    main.drop(columns=["31-0.0", "53-2.0"]).to_csv(ukb_folder / "main.csv", index=False)
    with pytest.raises(StudyError, match=r"main.csv: missing columns 31-0.0, 53-2.0; extract"):
        cohorts.index(cohort(ukb_folder, "ukb"))
    pd.concat([main, main.head(1)]).to_csv(ukb_folder / "main.csv", index=False)
    with pytest.raises(StudyError, match="participants stand more than once"):
        cohorts.index(cohort(ukb_folder, "ukb"))
    (ukb_folder / "main.csv").unlink()
    with pytest.raises(StudyError, match=r"main.csv: the file is missing"):
        cohorts.index(cohort(ukb_folder, "ukb"))


def test_one_field_in_two_spellings_of_a_column_is_a_fault(ukb_folder):
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str)
    main.assign(**{"f.24105.2.0": "80", "p24105_i2": "81"}).to_csv(ukb_folder / "main.csv", index=False)
    said = r"main.csv: columns '24105-2.0' and 'f.24105.2.0' and 'p24105_i2' mean the same, 24105-2.0; keep one"
    with pytest.raises(StudyError, match=said):
        cohorts.index(cohort(ukb_folder, "ukb"))


@pytest.mark.parametrize("folder", ["ecg", "ECG recordings"])
def test_uk_biobank_without_one_ecg(ukb_folder, folder):
    shutil.rmtree(ukb_folder / "ecg")
    touch(ukb_folder, f"{folder}/notes.txt")
    with pytest.raises(StudyError, match=r"no ECG of layout 'ukb' was found under .*; copy the files"):
        cohorts.index(cohort(ukb_folder, "ukb"))


def test_uk_biobank_visit_without_its_date(ukb_folder):
    for path in (ukb_folder / "ecg").glob("*_20205_2_0.xml"):
        path.unlink()
    main = pd.read_csv(ukb_folder / "main.csv", dtype=str).drop(columns="53-3.0")
    main.to_csv(ukb_folder / "main.csv", index=False)
    table = cohorts.index(cohort(ukb_folder, "ukb")).records
    assert table["record"].tolist() == ["22_20205_3_0"]
    assert table[["ecg_date", "cmr_date"]].isna().all(axis=None)


@pytest.fixture
def mimic_folder(tmp_path):
    (tmp_path / "hosp").mkdir()
    tables = {
        "record_list.csv": "subject_id,study_id,file_name,ecg_time,path\n"
        "10,401,401,2180-05-01 09:00:00,files/p1000/p10/s401/401\n"
        "10,402,402,2183-05-01 09:00:00,files/p1000/p10/s402/402\n"
        "20,403,403,2150-01-01 00:00:00,files/p1000/p20/s403/403\n",
        "hosp/patients.csv": "subject_id,gender,anchor_age,anchor_year\n10,F,50,2179\n20,M,91,2150\n",
        "hosp/admissions.csv": "subject_id,hadm_id,admittime\n10,7,2180-05-01 23:00:00\n10,8,2182-01-01 00:00:00\n",
        "hosp/diagnoses_icd.csv": "subject_id,hadm_id,seq_num,icd_code,icd_version\n10,7,1,42731,9\n10,8,1,I5020,10\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_mimic_tree(mimic_folder):
    diagnoses = mimic_folder / "hosp/diagnoses_icd.csv"
    (mimic_folder / "hosp/diagnoses_icd.csv.gz").write_bytes(gzip.compress(diagnoses.read_bytes()))
    diagnoses.unlink()
    index = cohorts.index(cohort(mimic_folder, "mimic"))
    table = index.records
    assert table["ecg"][0] == "files/p1000/p10/s401/401.hea"
    assert table["age"].tolist() == [51, 54, 91]
    assert table["sex"].tolist() == ["F", "F", "M"]
    got = labels.disease_table(index, ["atrial_fibrillation", "heart_failure"], "prevalent")
    assert got["atrial_fibrillation"].tolist() == [True, True, pd.NA]
    assert got["heart_failure"].tolist() == [False, True, pd.NA]
    with (mimic_folder / "hosp/admissions.csv").open("a") as handle:
        handle.write("20,9,2150-01-01 00:00:00\n")
    index = cohorts.index(cohort(mimic_folder, "mimic", exclude="hosp/admissions.csv"))
    assert (index.records["excluded"] == "site exclusion list").all()
    assert labels.disease_table(index, ["valve"], "any")["valve"].tolist() == [False, False, False]


@pytest.mark.parametrize(
    "statements, rhythm",
    [
        (("Atrial fibrillation with rapid ventricular response", "Left axis deviation"), True),
        (("Atrial flutter with variable AV block", ""), True),
        (("Sinus tachycardia", "Cannot rule out anterior infarct"), False),
        (("Possible atrial fibrillation", "Tachycardia"), pd.NA),
        (("Undetermined rhythm", "Low QRS voltages"), pd.NA),
        (("", "Left axis deviation"), pd.NA),
    ],
)
def test_rhythm_by_the_statements_of_the_recorder(mimic_folder, statements, rhythm):
    head, row = "subject_id,study_id,report_0,report_1,rr_interval", f"10,402,{statements[0]},{statements[1]},800"
    (mimic_folder / "machine_measurements.csv").write_text(f"{head}\n{row}\n")
    table = labels.disease_table(cohorts.index(cohort(mimic_folder, "mimic")), ["af_rhythm"], "any")
    assert table["af_rhythm"].tolist() == [pd.NA, rhythm, pd.NA]


def test_rows_of_a_mimic_tree_made_part_by_part_are_the_same(mimic_folder, monkeypatch):
    whole = cohorts.index(cohort(mimic_folder, "mimic"))
    assert len(whole.records) > 2
    monkeypatch.setattr("cardionets.cohorts.mimic.ROWS_AT_ONCE", 2)
    parts = cohorts.index(cohort(mimic_folder, "mimic"))
    pd.testing.assert_frame_equal(parts.records, whole.records)
    pd.testing.assert_frame_equal(parts.codes, whole.codes)


def test_mimic_faults_come_all_at_once(mimic_folder):
    (mimic_folder / "hosp/patients.csv").unlink()
    (mimic_folder / "hosp/admissions.csv").write_text("subject,hadm_id\n")
    with pytest.raises(StudyError) as fault:
        cohorts.index(cohort(mimic_folder, "mimic"))
    first, second = str(fault.value).splitlines()
    assert "patients.csv: the file is missing" in first
    assert "admissions.csv: missing columns subject_id, admittime" in second


MANIFEST = {
    "record": ["a1", "b1"],
    "person": ["a", "b"],
    "ecg": ["ecg/a1.xml", "ecg/b1.xml"],
    "ecg_date": ["2020-01-01", ""],
    "age": ["60", ""],
    "sex": ["f", ""],
}


def write(folder, **columns):
    pd.DataFrame(MANIFEST | columns).to_csv(folder / "manifest.csv", index=False)
    return cohort(folder, "manifest")


def test_manifest(tmp_path):
    settings = write(
        tmp_path,
        icd10=["I42.1;I48", ""],
        coded=["1", "0"],
        subtype=["hcm", "none"],
        sax=["cmr/a", ""],
        lv_mass=["99.5", ""],
        ward=["x", "y"],
        **{"24100-2.0": ["150", "160"], "f.24101.2.0": ["50", ""], "p24103_i2": ["61", "62"]},
    )
    index = cohorts.index(settings)
    assert index.records["sex"].tolist() == ["F", pd.NA]
    assert index.records["lv_edv"].tolist() == [150, 160]
    assert index.records["lv_mass"][0] == 99.5
    assert (index.records["lv_esv"][0], index.records["lv_ef"][1]) == (50, 62)
    assert index.records["sax"].tolist() == ["cmr/a", ""]
    assert index.notes == ("columns ignored: ward",)
    got = labels.disease_table(index, ["cardiomyopathy", "valve"], "any")
    assert got["cardiomyopathy"].tolist() == [True, pd.NA]
    assert got["valve"].tolist() == [False, pd.NA]
    assert labels.subtypes(index).tolist() == ["hcm", pd.NA]


@pytest.mark.parametrize(
    "day", ["03/04/2021", "13/04/2021", "04.03.2021", "2021-3-4", "20210304", "2021-02-30", "2021-03-04T10:00:00Z"]
)
def test_a_day_that_is_not_written_year_first_is_a_fault(tmp_path, day):
    said = rf"manifest.csv: {{}}: must be a date, YYYY-MM-DD, .*; 1 rows do not \(first: '{day}' in data row 2\)"
    for name in ("ecg_date", "cmr_date"):
        with pytest.raises(StudyError, match=said.format(name)):
            cohorts.index(write(tmp_path, **{name: ["2020-01-01", day]}))
    write(tmp_path)
    (tmp_path / "dx.csv").write_text(f"person,vocabulary,code,date\na,icd10,I42,2021-03-04\na,icd10,I50,{day}\n")
    with pytest.raises(StudyError, match=rf"dx.csv: date: must be a date, .*; 1 rows do not \(first: '{day}'"):
        cohorts.index(cohort(tmp_path, "manifest", codes="dx.csv"))


def test_a_time_of_day_may_follow_the_day(tmp_path):
    found = cohorts.index(write(tmp_path, ecg_date=["2021-03-04 10:20", "2021-03-04T10:20:30.5"])).records["ecg_date"]
    assert found.tolist() == [pd.Timestamp("2021-03-04 10:20"), pd.Timestamp("2021-03-04 10:20:30.5")]


def test_dates_with_zones_are_utc_and_no_order_of_day_and_month_is_guessed():
    text = ["2021-03-04T10:00:00Z", "2021-03-04T10:00:00+08:00", "2150-01-01 10:20:00", "03/04/2021", None]
    wanted = ["2021-03-04 10:00", "2021-03-04 02:00", "2150-01-01 10:20", None, None]
    assert cohorts.dates(pd.Series(text)).tolist() == pd.to_datetime(wanted).tolist()


def test_two_columns_of_one_name_are_a_fault(tmp_path):
    settings = write(tmp_path, age_at_ecg=["61", ""], **{"24105-2.0": ["80", ""], "24105-3.0": ["81", ""]})
    with pytest.raises(StudyError) as fault:
        cohorts.index(settings.model_copy(update={"columns": {"age": "age_at_ecg"}}))
    assert str(fault.value).splitlines() == [
        f"{tmp_path.name}/manifest.csv: columns {two} mean the same, {name}; keep one of them."
        for two, name in (("'age' and 'age_at_ecg'", "age"), ("'24105-2.0' and '24105-3.0'", "lv_mass"))
    ]


def test_an_empty_code_cell_is_unknown_where_coding_is_not_declared(tmp_path):
    index = cohorts.index(write(tmp_path, icd10=["I10", ""]))
    assert labels.disease_table(index, ["valve"], "any")["valve"].tolist() == [False, pd.NA]


def test_what_only_the_ecg_tells_is_said_of_that_ecg_alone(tmp_path):
    settings = write(tmp_path, person=["a", "a"], snomed=["164889003", ""], coded=["ecg", "ECG"])
    index = cohorts.index(settings)
    assert index.records["coded"].tolist() == ["ecg", "ecg"]
    for window in ("any", "prevalent"):
        got = labels.disease_table(index, ["atrial_fibrillation", "valve"], window)
        assert got["atrial_fibrillation"].tolist() == [True, False]
        assert got["valve"].isna().all()


def test_dated_diagnoses_of_a_hospital_decide_every_window(tmp_path):
    days = ["2020-01-01", "2020-01-01", ""]
    settings = write(tmp_path, record=["a", "b", "c"], person=["a", "b", "c"], ecg=["x", "y", "z"], ecg_date=days,
                     age=["", "", ""], sex=["", "", ""], coded=["1", "1", "1"])  # fmt: skip
    settings = settings.model_copy(update={"codes": "dx.csv"})
    rows = ["a,ICD10,I42.0,2019-05-01", "b,icd9,425.4,2021-05-01", "c,icd10,I42,2019-05-01", "z,icd10,I42,2019-01-01"]
    (tmp_path / "dx.csv").write_text("\n".join(["person,vocabulary,code,date", *rows, "a,icd10,I48,"]) + "\n")
    index = cohorts.index(settings)
    assert set(index.codes["person"]) == {"a", "b", "c"}
    got = {
        w: labels.disease_table(index, ["cardiomyopathy", "atrial_fibrillation"], w)
        for w in ("any", "prevalent", "incident")
    }
    assert got["any"]["cardiomyopathy"].tolist() == [True, True, True]
    assert got["prevalent"]["cardiomyopathy"].tolist() == [True, False, pd.NA]
    assert got["incident"]["cardiomyopathy"].tolist() == [pd.NA, True, pd.NA]
    assert got["any"]["atrial_fibrillation"].tolist() == [True, False, False]
    assert got["prevalent"]["atrial_fibrillation"].tolist() == [pd.NA, False, False]
    (tmp_path / "dx.csv").write_text("person,vocabulary,code,date\na,icd11,X,soon\n")
    with pytest.raises(StudyError) as fault:
        cohorts.index(settings)
    first, second = str(fault.value).splitlines()
    assert "dx.csv: vocabulary: must be one of icd10, icd9, snomed; 1 rows do not (first: 'icd11')" in first
    assert "dx.csv: date: must be a date" in second


def test_a_coding_that_is_no_answer_is_a_fault(tmp_path):
    with pytest.raises(StudyError, match="coded: must be 0, 1 or ecg; 1 rows do not"):
        cohorts.index(write(tmp_path, coded=["yes", "0"]))


def test_manifest_names_every_fault_at_once(tmp_path):
    settings = write(
        tmp_path,
        record=["a1", "a1"],
        sex=["F", "2"],
        age=["sixty", "130"],
        heigth_cm=["170", "180"],
        ecg_date=["2020-01-01", "soon"],
        person=["a", ""],
    )
    table = pd.read_csv(tmp_path / "manifest.csv", dtype=str).drop(columns="ecg")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(StudyError) as fault:
        cohorts.index(settings.model_copy(update={"columns": {"weight": "kg", "weight_kg": "kg"}}))
    text = str(fault.value)
    for words in (
        "manifest.csv: missing columns ecg; add them",
        "record: must not stand twice",
        "sex: must be F or M, or empty where unknown; 1 rows do not (first: '2' in data row 2)",
        "age: must be a number of years between 0 and 120; 2 rows do not (first: 'sixty' in data row 1)",
        "ecg_date: must be a date",
        "person: must not be empty",
        "heigth_cm: unknown column, probably height_cm",
        "cohorts.yaml: columns.weight: not a column of the contract",
        "cohorts.yaml: columns.weight_kg: manifest.csv has no column 'kg'",
    ):
        assert words in text, words
    assert all(line.endswith(".") for line in text.splitlines())


def test_own_column_names_are_mapped(tmp_path):
    write(tmp_path, LVM=["80", ""])
    table = pd.read_csv(tmp_path / "manifest.csv", dtype=str).rename(columns={"sex": "gender"})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    settings = cohort(tmp_path, "manifest", columns={"sex": "gender", "lv_mass": "LVM"})
    records = cohorts.index(settings).records
    assert records["sex"].tolist() == ["F", pd.NA]
    assert records["lv_mass"][0] == 80


def test_a_table_that_is_no_csv(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00\x01binary")
    with pytest.raises(StudyError, match="not a readable CSV file"):
        cohorts.index(cohort(tmp_path, "manifest"))
    (tmp_path / "manifest.csv").write_bytes(b"")
    with pytest.raises(StudyError, match="not a readable CSV file"):
        cohorts.index(cohort(tmp_path, "manifest"))


def test_wfdb_tree(tmp_path):
    touch(tmp_path, "one/A1.hea", "one/A2.hea", "two/A1.hea", "three/B.hea", "one/A1.dat")
    (tmp_path / "one/A1.hea").write_text("A1 12 500 5000\n# Age: 74\n#Sex: Female\n# Dx: 164889003,426783006\n")
    (tmp_path / "one/A2.hea").write_text("A2 12 500 5000\n# Age: NaN\n# Sex: Unknown\n")
    settings = cohort(tmp_path, "wfdb", include=("one/*.hea", "two/*.hea"))
    index = cohorts.index(settings)
    table = index.records
    assert table["record"].tolist() == ["one/A1", "one/A2", "two/A1"]
    assert table["person"].nunique() == 3
    assert table["sex"].tolist() == ["F", pd.NA, pd.NA]
    assert table["age"][0] == 74
    assert table["age"].isna().tolist() == [False, True, True]
    got = labels.disease_table(index, ["atrial_fibrillation", "rbbb", "heart_failure"], "any")
    assert got.iloc[0].tolist() == [True, False, pd.NA]
    assert got.iloc[1].isna().all()
    with pytest.raises(StudyError, match=r"include: no .hea file matches four/\*"):
        cohorts.index(settings.model_copy(update={"include": ("four/*",)}))


def test_segments_are_those_that_a_master_header_lists(tmp_path):
    names = ("ecg_0001", "ecg_0002", "m", "m_layout", "m_0001", "part")
    for name in names:
        (tmp_path / f"{name}.hea").write_text(f"{name} 12 500 5000\n")
    (tmp_path / "m.hea").write_text("# of two\nm/3 12 500 5000\nm_layout 0\nm_0001 2500\npart 2500\n")
    index = cohorts.index(cohort(tmp_path, "wfdb"))
    assert index.records["record"].tolist() == ["ecg_0001", "ecg_0002", "m"]
    assert index.notes == ("3 WFDB headers are segments and are read with their master header",)
    alone = cohorts.index(cohort(tmp_path, "wfdb", include=("ecg_*.hea",)))
    assert (len(alone.records), alone.notes) == (2, ())
    (tmp_path / "m.hea").write_text("m/1 12 500 5000\nm 5000\n")
    with pytest.raises(StudyError, match="every header is listed as a segment of another"):
        cohorts.index(cohort(tmp_path, "wfdb", include=("m.hea",)))


@pytest.mark.real
def test_real_headers(real):
    settings = cohort(real, "wfdb", include=("cinc2021/*.hea", "cpsc2018_labelled/*.hea"))
    index = cohorts.index(settings)
    assert len(index.records) == 31
    assert index.records["age"].between(1, 110).all()
    assert index.records["sex"].isin(["F", "M"]).all()
    got = labels.disease_table(index, ["atrial_fibrillation"], "any")["atrial_fibrillation"]
    found = index.records["record"][got.fillna(False)].tolist()
    assert {"cpsc2018_labelled/A0003", "cpsc2018_labelled/A0004"} == set(found)


def test_faults_of_any_layout(tmp_path):
    with pytest.raises(StudyError, match="is not a folder; correct the path of Here"):
        cohorts.index(cohort(tmp_path / "nowhere", "wfdb"))
    write(tmp_path)
    pd.DataFrame(MANIFEST).head(0).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(StudyError, match="no ECG of layout 'manifest' was found"):
        cohorts.index(cohort(tmp_path, "manifest"))


def test_index_has_every_column_and_the_phenotypes_of_the_centre():
    index = cohorts.make_index(pd.DataFrame({"record": ["1"], "person": ["1"], "ecg": ["x"], "age": ["old"]}))
    assert set(index.records) == {*cohorts.TEXT, "sex", *cohorts.NUMBERS, *cohorts.DATES}
    assert index.records["coded"].tolist() == ["none"]
    measured = pd.DataFrame({"record": ["1"], "person": ["1"], "lv_ef": ["61"]})
    assert set(cohorts.make_index(measured).records) - set(index.records) == {"lv_ef"}
    assert list(index.codes) == list(cohorts.CODE_COLUMNS)


def test_comment_lines_with_and_without_blanks(tmp_path):
    (tmp_path / "a.hea").write_text("a 1 1 1\n#Age: 1\n# Sex:Male\n#  Dx : 1,2\n# free text\n")
    assert wfdb_tree.comments(tmp_path / "a.hea") == {"age": "1", "sex": "Male", "dx": "1,2"}


LAYOUTS = {"ukb": "main.csv", "manifest": "manifest.csv", "mimic": "hosp/patients.csv", "wfdb": "a.hea"}


def whole(folder, layout):
    """A small folder of each layout."""
    touch(folder, "ecg/11_20205_2_0.xml", "hosp/x")
    pd.DataFrame(MANIFEST | {"icd10": ["I42.0", ""]}).to_csv(folder / "manifest.csv", index=False)
    main = {"eid": ["11"], "31-0.0": ["0"], "21003-2.0": ["60"], "53-2.0": ["2016-03-01"], "41270-0.0": ["I420"]}
    pd.DataFrame(main).to_csv(folder / "main.csv", index=False)
    tables = {
        "record_list.csv": "subject_id,study_id,ecg_time,path\n1,2,2180-01-01 10:00:00,files/1\n",
        "hosp/patients.csv": "subject_id,gender,anchor_age,anchor_year\n1,F,50,2178\n",
        "hosp/admissions.csv": "subject_id,hadm_id,admittime\n1,5,2179-05-05 00:00:00\n",
        "hosp/diagnoses_icd.csv": "subject_id,hadm_id,icd_code,icd_version\n1,5,42731,9\n",
        "a.hea": "a 12 500 5000\n# Age: 74\n# Sex: Female\n# Dx: 164889003\n",
        "leave_out.csv": "11\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text)
    return cohort(folder, layout, exclude="leave_out.csv")


@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    packed=st.booleans(),
    at=st.floats(0, 1),
    tail=st.binary(max_size=40),
    whole_tail=st.booleans(),
)
def test_damaged_tables_end_in_a_sentence(tmp_path_factory, layout, packed, at, tail, whole_tail):
    folder = tmp_path_factory.mktemp("tables")
    declared = whole(folder, layout)
    victim = folder / LAYOUTS[layout]
    data = victim.read_bytes()
    if packed and layout != "wfdb":
        victim.unlink()
        victim, data = victim.with_name(victim.name + ".gz"), gzip.compress(data)
    cut = int(at * len(data))
    victim.write_bytes(data[:cut] + tail + (b"" if whole_tail else data[cut + len(tail) :]))
    with suppress(StudyError):
        index = cohorts.index(declared)
        assert set(index.records["sex"].dropna()) <= {"F", "M"}
