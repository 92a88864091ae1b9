"""The encodings inside EDF, SCP-ECG and Philips files, against encoders written for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardionets.cohorts import scp, xli
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.ecg import LEADS, RecordError
from tests.ecg_writers import huffman, write_edf, xli_lead
from tests.test_ecg_readers import META, counts


def test_edf(tmp_path: Path) -> None:
    signal = counts(500, leads=13)
    write_edf(tmp_path / "r.edf", signal, 100, 1, [*LEADS, "EDF Annotations"], META)
    record = read_ecg(tmp_path / "r.edf")
    np.testing.assert_allclose(record.signal, signal[:12], atol=0.01)
    assert (record.person, record.sex, record.age, record.rate) == ("1000017", "F", 61, 100)
    assert record.date == META["date"]
    write_edf(tmp_path / "d.edf", signal, 100, 1, [*LEADS, "EDF Annotations"], META | {"reserved": "EDF+D"})
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "d.edf")
    assert fault.value.reason == "unsupported"
    (tmp_path / "r.edf").write_bytes((tmp_path / "r.edf").read_bytes()[:-10])
    with pytest.raises(RecordError):
        read_ecg(tmp_path / "r.edf")


@given(values=st.lists(st.integers(-3000, 3000) | st.integers(-9, 9), min_size=1, max_size=80))
@settings(max_examples=40, deadline=None)
def test_scp_huffman_round_trip(values: list[int]) -> None:
    coded = huffman(values)
    assert scp.huffman(coded, len(values)).tolist() == values
    with pytest.raises(ValueError, match="end early"):
        scp.huffman(coded[:-1] if len(coded) > 1 else b"", len(values) + 8)


@given(seed=st.integers(0, 999), samples=st.integers(4, 300))
@settings(max_examples=20, deadline=None)
def test_xli_round_trip(seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    lead = np.cumsum(rng.integers(-20, 20, samples))
    chunk = xli_lead(lead)
    np.testing.assert_array_equal(xli.decode(chunk, 1, samples)[0], lead)
    with pytest.raises(ValueError, match=r"."):
        xli.decode(chunk[: len(chunk) // 2], 1, samples)
