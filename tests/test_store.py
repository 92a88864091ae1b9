import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from cardionets import diseases, flow, phenotypes, schema, store
from cardionets.config import Grid, StudyError
from cardionets.store import Store

GRID = Grid(rate=100, seconds=2, frames=4, size=8, spacing_mm=2.4)


def records(n=5, sax=2):
    table = pd.DataFrame({"record": [f"r{i}" for i in range(n)], "person": [f"p{i}" for i in range(n)]})
    table["centre"], table["split"] = "x", ["train", "val", "test", "test", "test"][:n]
    table["row"] = np.arange(n)
    for column in schema.ROWS:
        table[column] = -1
    table["sax_row"] = [*range(sax), *[-1] * (n - sax)]
    for name in ("interval_days", *schema.COVARIATES, *schema.FEATURES, *schema.NOISE, *phenotypes.NAMES):
        table[name] = np.nan
    table["age"], table["lv_mass"] = 60.0, 100.0
    table["sex"] = pd.array(["F", "M", None, "F", "M"][:n], dtype="string")
    for name in diseases.NAMES:
        table[name] = pd.array([True, False, None, True, False][:n], dtype="boolean")
    table["subtype"] = pd.array(["dcm", None, None, "hcm", None][:n], dtype="string")
    table["q_noise"] = False
    return table


def parts(n=5, sax=2):
    rng = np.random.default_rng(0)
    ecg = rng.integers(-900, 900, (n, 12, 200)).astype("<i2")
    yield "ecg", 2, ecg[2:]
    yield "ecg", 0, ecg[:2]
    yield "beat", 0, rng.integers(-900, 900, (n, 12, 80)).astype("<i2")
    yield "sax", 0, rng.integers(0, 255, (sax, 4, 8, 8)).astype("u1")


@pytest.fixture
def made(tmp_path):
    table = records()
    lines = pd.DataFrame([flow.count("source", "", table)])
    store.write(tmp_path / "x", GRID, {"centre": "x", "simulated": True}, table, lines, parts())
    return tmp_path / "x"


def test_round_trip(made):
    opened = Store.open(made, GRID)
    opened.validate()
    assert opened.meta["counts"] == {
        "records": 5, "persons": 5, "sax": 2, "4ch": 0, "sax_mask": 0, "4ch_mask": 0, "train": 1, "val": 1, "test": 3
    }  # fmt: skip
    assert opened.meta["simulated"] is True
    first = {name: rows for name, start, rows in parts() if start == 0}
    assert_array_equal(opened.ecg[:2], first["ecg"])
    assert_array_equal(opened.sax, first["sax"])
    assert opened.beat.shape == (5, 12, 80)
    assert opened.lax.shape == opened.lax_mask.shape == (0, 4, 8, 8)
    assert isinstance(opened.ecg, np.memmap)
    assert opened.records["cad"].dtype == "boolean"
    assert pd.isna(opened.records["cad"][2])
    assert opened.flow["records"].tolist() == [5]


def test_test_labels_can_be_hidden(made):
    table = Store.open(made, hide_test=True).records
    test = table["split"] == "test"
    assert table.loc[test, [*phenotypes.NAMES, *diseases.NAMES, "subtype"]].isna().all().all()
    assert table.loc[~test, "lv_mass"].notna().all()
    assert table["age"].notna().all()


def test_same_bytes_twice(made, tmp_path):
    store.write(tmp_path / "y", GRID, {"centre": "x", "simulated": True}, records(), Store.open(made).flow, parts())
    for path in made.iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes(), path.name


def test_nothing_half_written_is_left(tmp_path):
    def broken():
        yield next(parts())
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        store.write(tmp_path / "x", GRID, {}, records(), pd.DataFrame(), broken())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StudyError, match="rows written"):
        store.write(tmp_path / "x", GRID, {}, records(), pd.DataFrame(), list(parts())[:2])
    with pytest.raises(StudyError, match=r"x/store.json: there is no store .*dvc repro prepare@x"):
        Store.open(tmp_path / "x")


def test_a_person_in_two_splits_is_never_written(tmp_path):
    with pytest.raises(StudyError, match="more than one split"):
        store.write(tmp_path / "x", GRID, {}, records().assign(person="p"), pd.DataFrame(), parts())


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("version", 99, "version: found 99, this software reads 1"),
        ("unit", "mV", "unit: found 'mV'"),
        ("leads", ["II", "I"], "leads: found"),
        ("grid", {"rate": 100}, "grid: seconds: required setting is missing"),
    ],
)
def test_foreign_stores_are_refused(made, field, value, words):
    meta = json.loads((made / "store.json").read_text())
    (made / "store.json").write_text(json.dumps(meta | {field: value}))
    with pytest.raises(StudyError, match=words):
        Store.open(made)


def test_another_grid_is_refused_by_name(made):
    with pytest.raises(StudyError, match=r"grid: the store has rate=100 .* asks for rate=250 .* prepare@x"):
        Store.open(made, GRID.model_copy(update={"rate": 250}))


def test_damaged_files_are_named(made):
    whole = (made / "ecg.npy").read_bytes()
    (made / "ecg.npy").write_bytes(whole[:-50])
    with pytest.raises(StudyError, match=r"x/ecg.npy: missing or cut short"):
        _ = Store.open(made).ecg
    np.save(made / "ecg.npy", np.zeros((5, 12, 7), "<i2"))
    with pytest.raises(StudyError, match=r"int16 \(12, 7\) per row"):
        _ = Store.open(made).ecg
    (made / "store.json").write_text("{")
    with pytest.raises(StudyError, match="not valid JSON"):
        Store.open(made)


def test_validate_lists_all_faults(made):
    table = pd.read_parquet(made / "records.parquet")
    table.loc[0, "split"], table.loc[1, "age"], table["person"] = "training", 300.0, "p"
    table.loc[1, "sax_row"] = 7
    table.to_parquet(made / "records.parquet")
    with pytest.raises(StudyError) as fault:
        Store.open(made).validate()
    text = str(fault.value)
    assert "split: must be train, val or test; 1 rows do not (first: 'training' in data row 1)" in text
    assert "age: must be a number of years between 0 and 120; 1 rows do not (first: 300.0 in data row 2)" in text
    assert "sax_row: names 2 rows but sax.npy has 2" in text
    assert "1 persons are in more than one split" in text
    assert len(text.splitlines()) == 4


def test_records_schema_names_missing_columns_and_types():
    table = records().drop(columns=["row", "lv_mass"])
    table["rate_bpm"] = "fast"
    text = "\n".join(schema.faults(schema.RECORDS, table, "t"))
    assert "t: missing columns lv_mass, row;" in text
    assert "t: rate_bpm: must have type float64" in text
    assert schema.faults(schema.RECORDS, records(), "t") == []


def test_flow_counts_by_sex_and_age():
    people = pd.DataFrame({"person": list("aabc"), "sex": ["F", "F", "M", None], "age": [44.9, 45, 80, np.nan]})
    reason = pd.Series(["", "", "flat_lead", ""])
    has = {"sax": pd.Series([True, False, False])}
    lines = flow.table(people, reason, pd.Series(["train", "train", "test"]), has, {"sax": pd.Series(["", "nan", ""])})
    lines = lines.set_index(["step", "reason"])
    assert lines.loc[("source", "")].tolist() == [4, 3, 2, 1, 1, 1, 1, 0, 0, 1, 1]
    assert lines.loc[("excluded", "flat_lead"), "age_75_over"] == 1
    assert lines.loc[("kept", ""), "persons"] == 2
    assert lines.loc[("split", "val"), "records"] == 0
    assert lines.loc[("cmr excluded", "sax: nan"), "records"] == 1
    assert lines.loc[("cmr", "sax"), "female"] == 1
