import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardionets import splits
from cardionets.config import SplitProtocol, StudyError

PROTOCOL = SplitProtocol(salt="a", train=0.6, val=0.15, test=0.25)
people = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40)


@given(people, people)
@settings(max_examples=60, deadline=None)
def test_adding_people_or_reordering_moves_nobody(first, others):
    alone = dict(zip(first, splits.assign(first, PROTOCOL)))
    together = dict(zip(others + first, splits.assign(others + first, PROTOCOL)))
    assert all(together[name] == split for name, split in alone.items())


@given(people)
@settings(max_examples=60, deadline=None)
def test_one_person_has_one_split_and_one_pseudonym(names):
    names = names * 3
    table = pd.DataFrame({"person": names, "split": splits.assign(names, PROTOCOL)})
    assert splits.person_overlap(table) == 0
    ids = splits.pseudonyms(names, "person", "ukb", "a")
    assert len(set(ids)) == len(set(names))
    assert list(ids) == [splits.pseudonyms([name], "person", "ukb", "a")[0] for name in names]


def test_shares_are_those_of_the_protocol():
    got = pd.Series(splits.assign([str(i) for i in range(20_000)], PROTOCOL)).value_counts(normalize=True)
    assert got["train"] == pytest.approx(0.6, abs=0.015)
    assert got["val"] == pytest.approx(0.15, abs=0.01)


def test_salt_centre_and_kind_each_change_the_outcome():
    names = [str(i) for i in range(200)]
    other = PROTOCOL.model_copy(update={"salt": "b"})
    assert (splits.assign(names, PROTOCOL) != splits.assign(names, other)).mean() > 0.3
    ids = {
        splits.pseudonyms(["1"], kind, centre, salt)[0]
        for kind in ("person", "record")
        for centre in "xy"
        for salt in "ab"
    }
    assert len(ids) == 8


def test_a_pseudonym_does_not_hold_the_identifier():
    ids = splits.pseudonyms(["1234567"], "person", "ukb", "a")
    assert "1234567" not in ids[0]
    assert len(ids[0]) == splits.PSEUDONYM_DIGITS


def test_gate_refuses_a_person_in_two_splits():
    table = pd.DataFrame({"person": ["a", "a", "b"], "split": ["train", "test", "test"]})
    assert splits.person_overlap(table) == 1
    with pytest.raises(StudyError, match=r"records.parquet: split: 1 persons"):
        splits.require_disjoint(table, "records.parquet")
    splits.require_disjoint(table.iloc[1:], "records.parquet")


def test_nobody_at_all_is_no_fault():
    assert splits.assign([], PROTOCOL).shape == (0,)
    assert splits.pseudonyms([], "person", "x", "a").shape == (0,)
    assert isinstance(splits.assign(["a"], PROTOCOL), np.ndarray)
