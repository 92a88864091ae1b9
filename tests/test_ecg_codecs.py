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
from tests.test_ecg_readers import META, Ints, counts


def _edf(path: Path, signal: Ints, labels: list[str], reserved: str = "EDF+C") -> None:
    n, seconds = len(labels), signal.shape[1] // 100
    head = f"{'0':8}{'A17 F 02-MAR-1950 X':80}{'Startdate X':80}06.05.1907.08.09"
    head += f"{256 * (n + 1):<8}{reserved:44}{seconds:<8}{1:<8}{n:<4}"
    columns = [(16, labels), (80, [""] * n), (8, ["mV"] * n), (8, ["-32.768"] * n), (8, ["32.767"] * n)]
    columns += [(8, ["-32768"] * n), (8, ["32767"] * n), (80, [""] * n), (8, ["100"] * n), (32, [""] * n)]
    head += "".join(f"{value:{width}}" for width, values in columns for value in values)
    blocks = signal.reshape(n, seconds, 100).transpose(1, 0, 2)
    path.write_bytes(head.encode("ascii") + blocks.astype("<i2").tobytes())


def test_edf(tmp_path: Path) -> None:
    signal = counts(500, leads=13)
    _edf(tmp_path / "r.edf", signal, [*LEADS, "EDF Annotations"])
    record = read_ecg(tmp_path / "r.edf")
    np.testing.assert_allclose(record.signal, signal[:12], atol=0.01)
    assert (record.person, record.sex, record.age, record.rate) == ("A17", "F", 69, 100)
    assert record.date == META["date"]
    _edf(tmp_path / "d.edf", signal, [*LEADS, "EDF Annotations"], "EDF+D")
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "d.edf")
    assert fault.value.reason == "unsupported"
    (tmp_path / "r.edf").write_bytes((tmp_path / "r.edf").read_bytes()[:-10])
    with pytest.raises(RecordError):
        read_ecg(tmp_path / "r.edf")


def _huffman(values: list[int]) -> bytes:
    text = ""
    for value in values:
        if value == 0:
            text += "0"
        elif abs(value) <= 8:
            text += "1" * abs(value) + "0" + ("1" if value < 0 else "0")
        elif -128 <= value < 128:
            text += "1111111110" + f"{value & 0xFF:08b}"
        else:
            text += "1" * 10 + f"{value & 0xFFFF:016b}"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@given(values=st.lists(st.integers(-3000, 3000) | st.integers(-9, 9), min_size=1, max_size=80))
@settings(max_examples=40, deadline=None)
def test_scp_huffman_round_trip(values: list[int]) -> None:
    coded = _huffman(values)
    assert scp.huffman(coded, len(values)).tolist() == values
    with pytest.raises(ValueError, match="end early"):
        scp.huffman(coded[:-1] if len(coded) > 1 else b"", len(values) + 8)


def _lzw(data: bytes) -> bytes:
    table = {bytes([i]): i for i in range(256)}
    codes, held = [], b""
    for byte in data:
        grown = held + bytes([byte])
        if grown in table:
            held = grown
            continue
        codes.append(table[held])
        if len(table) < 1023:
            table[grown] = len(table)
        held = bytes([byte])
    codes += [table[held], 1023]
    text = "".join(f"{code:010b}" for code in codes)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@given(seed=st.integers(0, 999), samples=st.integers(4, 300))
@settings(max_examples=20, deadline=None)
def test_xli_round_trip(seed: int, samples: int) -> None:
    rng = np.random.default_rng(seed)
    lead = np.cumsum(rng.integers(-20, 20, samples))
    second = 2 * lead[1:-1] - lead[:-2] - lead[2:]
    stored = np.concatenate([lead[:2], second[1:] + 64, [64]]).astype("<i2")
    planes = (stored.view("<u2") >> 8).astype(np.uint8).tobytes() + (stored.view("<u2") & 255).astype(
        np.uint8
    ).tobytes()
    packed = _lzw(planes)
    chunk = len(packed).to_bytes(4, "little") + b"\1\0" + int(second[0]).to_bytes(2, "little", signed=True) + packed
    np.testing.assert_array_equal(xli.decode(chunk, 1, samples)[0], lead)
    with pytest.raises(ValueError, match=r"."):
        xli.decode(chunk[: len(chunk) // 2], 1, samples)
