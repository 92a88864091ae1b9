import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardionets import diseases
from cardionets.cohorts import CODE_COLUMNS, codes_of, labels, make_index
from cardionets.config import Cohort, StudyError


def table(*rows):
    return pd.DataFrame(rows, columns=list(CODE_COLUMNS))


def people(*names, coded="full", date="2020-06-15 10:00"):
    return pd.DataFrame({"record": names, "person": names, "ecg": names, "coded": coded, "ecg_date": date})


def one(index, disease, window="any"):
    return labels.label(index, diseases.BY_NAME[disease], window).tolist()


@pytest.mark.parametrize(
    ("code", "disease", "vocabulary", "expected"),
    [
        ("I42", "cardiomyopathy", "icd10", True),
        (" i42.0", "cardiomyopathy", "icd10", True),
        ("I4", "cardiomyopathy", "icd10", False),
        ("XI42", "cardiomyopathy", "icd10", False),
        ("42.0", "cardiomyopathy", "icd10", False),
        ("I43", "cardiomyopathy", "icd10", False),
        ("I48.91", "atrial_fibrillation", "icd10", True),
        ("427.31", "atrial_fibrillation", "icd9", True),
        ("42731", "atrial_fibrillation", "icd9", True),
        ("427.1", "atrial_fibrillation", "icd9", False),
        ("I45.1", "rbbb", "icd10", True),
        ("I45.10", "rbbb", "icd10", True),
        ("I45.0", "rbbb", "icd10", False),
        ("426.4", "rbbb", "icd9", True),
        ("59118001", "rbbb", "snomed", True),
        ("591180010", "rbbb", "snomed", False),
        ("713426002", "rbbb", "snomed", False),
        ("I44.7", "lbbb", "icd10", True),
        ("I44.6", "lbbb", "icd10", False),
        ("733534002", "lbbb", "snomed", True),
        ("164889003", "atrial_fibrillation", "snomed", True),
        ("164889003", "rbbb", "snomed", False),
        ("I27.20", "pulmonary_hypertension", "icd10", True),
        ("I27.82", "pulmonary_hypertension", "icd10", False),
        ("412", "cad", "icd9", True),
    ],
)
def test_codes_match_exactly_with_their_subcodes(code, disease, vocabulary, expected):
    listed = getattr(diseases.BY_NAME[disease], vocabulary)
    assert labels.matches(code, listed, vocabulary) is expected


@given(st.sampled_from(diseases.DISEASES), st.text("0123456789.", max_size=3))
def test_every_subcode_and_no_superstring_matches(disease, rest):
    for entry in disease.icd10:
        assert labels.matches(entry + rest, disease.icd10, "icd10")
        assert not labels.matches("Z" + entry, disease.icd10, "icd10")
        assert not labels.matches(entry[:2], disease.icd10, "icd10")


def test_no_code_stands_in_two_lists_and_lists_are_written_bare():
    for vocabulary in labels.VOCABULARIES:
        diagnoses = [diseases.BY_NAME[name] for name in diseases.DIAGNOSES]
        entries = [(code, d) for d in diagnoses for code in getattr(d, vocabulary)]
        for code, disease in entries:
            assert labels.normalise(code) == code
            owners = [d.name for d in diagnoses if labels.matches(code, getattr(d, vocabulary), vocabulary)]
            assert owners == [disease.name]


def test_vocabularies_do_not_leak_into_each_other():
    index = make_index(people("a"), table(("a", "", "icd9", "I42.0", None), ("a", "", "icd10", "4254", None)))
    assert one(index, "cardiomyopathy") == [False]


def test_windows_against_the_day_of_the_ecg():
    codes = table(
        ("before", "", "icd10", "I48", "2019-01-01"),
        ("same", "", "icd10", "I48", "2020-06-15"),
        ("after", "", "icd10", "I48", "2020-06-16"),
        ("both", "", "icd10", "I48", "2021-01-01"),
        ("both", "", "icd10", "I480", "2018-01-01"),
        ("undated", "", "icd10", "I48", None),
        ("never", "", "icd10", "I10", "2019-01-01"),
    )
    index = make_index(people("before", "same", "after", "both", "undated", "never"), codes)
    assert one(index, "atrial_fibrillation", "any") == [True, True, True, True, True, False]
    assert one(index, "atrial_fibrillation", "prevalent") == [True, True, False, True, pd.NA, False]
    assert one(index, "atrial_fibrillation", "incident") == [pd.NA, pd.NA, True, pd.NA, pd.NA, False]
    with pytest.raises(StudyError, match="window"):
        one(index, "atrial_fibrillation", "soon")


def test_an_ecg_without_a_date_decides_any_only():
    index = make_index(people("a", date=None), table(("a", "", "icd10", "I48", "2019-01-01")))
    assert [one(index, "atrial_fibrillation", w) for w in ("any", "prevalent", "incident")] == [
        [True],
        [pd.NA],
        [pd.NA],
    ]


def test_unknown_is_never_absent():
    index = make_index(people("a", "b", coded=["none", "full"]), table(("a", "", "icd10", "I50.1", None)))
    assert one(index, "heart_failure") == [True, False]
    assert one(index, "valve") == [pd.NA, False]


def test_statements_of_an_ecg_decide_what_an_ecg_shows_and_belong_to_that_ecg():
    records = people("x", "y", coded="ecg").assign(person="p")
    cells = pd.Series(["426783006,164889003", "426783006"])
    index = make_index(records, codes_of(records["person"], cells, "snomed", per_record=records["record"]))
    assert one(index, "atrial_fibrillation") == [True, False]
    assert one(index, "atrial_fibrillation", "prevalent") == [True, False]
    assert one(index, "atrial_fibrillation", "incident") == [pd.NA, False]
    assert one(index, "heart_failure") == [pd.NA, pd.NA]


def test_the_rhythm_of_an_ecg_is_no_diagnosis_of_the_person():
    records = people("coded", "read", "other", "silent").assign(coded=["full", "full", "full", "none"])
    codes = table(
        ("coded", "", "icd10", "I48", "2019-01-01"),
        ("coded", "", "snomed", "164889003", "2019-01-01"),
        ("read", records["record"][1], "rhythm", "FIBRILLATION", None),
        ("other", records["record"][2], "rhythm", "OTHER", None),
    )
    index = make_index(records, codes)
    for window in ("any", "prevalent", "incident"):
        assert one(index, "af_rhythm", window) == [pd.NA, True, False, pd.NA]
    assert one(index, "atrial_fibrillation") == [True, False, False, pd.NA]
    assert labels.decides(codes["vocabulary"], codes["code"]).all()


def test_subtype_from_the_centre_then_from_codes_that_agree():
    records = people("own", "hcm", "two", "none").assign(subtype=["DCM", "", "", "none"])
    codes = table(
        ("own", "", "icd10", "I425", None),
        ("hcm", "", "icd10", "I42.1", None),
        ("hcm", "", "icd10", "I422", None),
        ("two", "", "icd10", "I420", None),
        ("two", "", "icd10", "I421", None),
    )
    assert labels.subtypes(make_index(records, codes)).tolist() == ["dcm", "hcm", pd.NA, pd.NA]


def test_withdrawn_and_site_lists_mark_their_people(tmp_path):
    (tmp_path / "withdrawn20240101.csv").write_text("a\n\n77\n")
    (tmp_path / "leave_out.txt").write_text("\ufeffperson,why\nb,no consent\nrecord-d,poor\n", encoding="utf-8")
    cohort = Cohort(label="X", path=tmp_path, depends="x", layout="ukb", role="development", exclude="leave_out.txt")
    marked = make_index(people("a", "b", "c", "d"))
    marked.records.loc[3, "record"] = "record-d"
    marked = labels.mark_excluded(marked, cohort)
    listed = "site exclusion list"
    assert marked.records["excluded"].tolist() == ["withdrawn", listed, "", listed]
    missing = cohort.model_copy(update={"exclude": "other.txt"})
    with pytest.raises(StudyError, match=r"exclude: other.txt does not exist"):
        labels.mark_excluded(make_index(people("a")), missing)


def test_codes_that_decide_nothing_may_be_left_behind():
    listed = [c for d in diseases.DISEASES for v in labels.VOCABULARIES for c in (getattr(d, v)[:1])]
    names = [f"p{i}" for i in range(len(listed) + 3)]
    codes = [*listed, "I421", "I10", "E11"]
    rows = [(name, "", v, code, "2019-01-01") for name, code in zip(names, codes) for v in labels.VOCABULARIES]
    index = make_index(people(*names), table(*rows))
    few = index.codes[labels.decides(index.codes["vocabulary"], index.codes["code"])]
    assert 0 < len(few) < len(index.codes)
    assert not set(few["code"][few["vocabulary"] != "rhythm"]) & {"I10", "E11"}
    lean = type(index)(index.records, few)
    pd.testing.assert_frame_equal(
        labels.disease_table(lean, diseases.NAMES, "any"), labels.disease_table(index, diseases.NAMES, "any")
    )
    pd.testing.assert_series_equal(labels.subtypes(lean), labels.subtypes(index))
