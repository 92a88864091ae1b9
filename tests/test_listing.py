"""A cohort's plan lies on disk in the order of the store, however many rows are held at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cardionets import assemble, listing, splits
from cardionets.cohorts import Index, make_index
from cardionets.listing import Listing, make_listing

CODES = {"p1": ["I420", "I500"], "p3": ["I48", "Z999"], "nobody": ["I48"]}


@pytest.fixture
def index() -> Index:
    """Seven records of four people, one excluded; codes of two of them, of nobody, and one that decides nothing."""
    people = ["p3", "p1", "p2", "p1", "p3", "p4", "p1"]
    records = pd.DataFrame({"record": [f"r{number}" for number in range(7)], "person": people, "ecg": "file.hea"})
    records["excluded"] = ["", "", "", "site exclusion list", "", "", ""]
    rows = [{"person": person, "code": code, "vocabulary": "icd10"} for person, some in CODES.items() for code in some]
    return make_index(records, pd.DataFrame(rows), ("a note",))


def test_order_is_that_of_the_pseudonyms_and_the_excluded_come_last(index: Index, tmp_path: Path) -> None:
    found = make_listing(index, "here", "salt", tmp_path / "work")
    names = {
        kind: dict(zip(index.records[kind], splits.pseudonyms(index.records[kind], kind, "here", "salt")))
        for kind in ("person", "record")
    }
    table = found.rows(0, 7)
    assert found.count == 6 and table["record"][6] == "r3" and found.notes == ("a note",)
    keys = [(names["person"][p], names["record"][r]) for p, r in zip(table["person"], table["record"])]
    assert keys[:6] == sorted(keys[:6])
    assert list(zip(table["person_id"], table["record_id"])) == keys
    assert len(set(zip(found.person.tolist(), table["person"]))) == 4
    assert (np.diff(found.person[:6]) >= 0).all()
    assert not list((tmp_path / "work").iterdir())


def test_codes_of_some_records_are_those_of_their_people(index: Index, tmp_path: Path) -> None:
    found = make_listing(index, "here", "salt", tmp_path)
    useful = {"p1": {"I420", "I500"}, "p3": {"I48"}}
    for start in range(found.count):
        for stop in range(start + 1, found.count + 1):
            people = set(found.rows(start, stop)["person"])
            codes = found.codes_of(start, stop)
            assert set(zip(codes["person"], codes["code"])) == {(p, c) for p in people & set(useful) for c in useful[p]}


def test_any_number_of_rows_at_once(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_listing(index, "here", "salt", tmp_path)
    monkeypatch.setattr(listing, "ROWS_AT_ONCE", 2)
    before = pa.total_allocated_bytes()
    some = make_listing(index, "here", "salt", tmp_path)
    assert pa.total_allocated_bytes() == before  # both tables lie in the file
    assert some.records.equals(whole.records) and some.codes.equals(whole.codes)
    assert np.array_equal(some.person, whole.person) and np.array_equal(some.coded, whole.coded)
    assert [len(part) for part in some.parts()] == [2, 2, 2]
    pd.testing.assert_frame_equal(pd.concat(some.parts(["ecg", "person_id"])), whole.rows(0, 6, ["ecg", "person_id"]))


def test_a_centre_without_codes(index: Index, tmp_path: Path) -> None:
    found: Listing = make_listing(make_index(index.records), "here", "salt", tmp_path)
    assert found.codes_of(0, 6).empty and list(found.codes_of(0, 6)) == list(index.codes)


def test_rows_of_a_block_keep_their_order_in_the_store(tmp_path: Path) -> None:
    """The first record to name a cine may be gone as a duplicate: slots then do not rise."""
    array = np.arange(2, dtype="u1")[:, None]
    np.save(tmp_path / "sax.npy", array)
    for name in ("ecg", "beat"):
        np.save(tmp_path / f"{name}.npy", np.arange(3)[:, None])
    kept = pd.DataFrame({"block": [0, 0], "slot": [1, 2], "row": [0, 1], "sax_slot": [1, 0], "sax_row": [0, 1]})
    kept["sax_new"] = True
    for name, column in (("4ch", "lax_row"), ("sax_mask", "sax_mask_row"), ("4ch_mask", "lax_mask_row")):
        kept = kept.assign(**{f"{name}_new": False, f"{name}_slot": -1, column: -1})
    parts = {name: (first, rows[:, 0].tolist()) for name, first, rows in assemble._parts([tmp_path], kept)}
    assert parts == {"ecg": (0, [1, 2]), "beat": (0, [1, 2]), "sax": (0, [1, 0])}
