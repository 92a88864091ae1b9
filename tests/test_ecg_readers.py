"""Every ECG format that can be written comes back the same; every damaged file ends in a refusal."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.io import savemat

from cardionets.cohorts.ecg_files import READERS, detect, read_ecg
from cardionets.cohorts.recording import parse_age, parse_sex, unit_uv
from cardionets.cohorts.wfdb_ecg import codes, read_header
from cardionets.config import CohortEcg, StudyError
from cardionets.ecg import LEADS, STORED8, RecordError, canonical
from cardionets.glossary import READING
from cardionets.simulate.ecg_files import write_cardiosoft, write_dicom_ecg, write_muse, write_wfdb
from tests import ecg_writers as foreign

Ints = NDArray[np.int64]
META = {"person": "1000017", "date": dt.datetime(2019, 5, 6, 7, 8, 9), "age": 61, "sex": "F", "comments": ("Dx: 1,2",)}
OWN: dict[str, tuple[Callable[..., None], str]] = {
    "cardiosoft": (write_cardiosoft, ".xml"),
    "muse": (write_muse, ".xml"),
    "dicom": (write_dicom_ecg, ".dcm"),
    "wfdb": (write_wfdb, ".hea"),
}
BARE: dict[str, tuple[Callable[..., None], str]] = {
    "npy": (foreign.write_npy, ".npy"),
    "csv": (foreign.write_csv, ".csv"),
    "hdf5": (foreign.write_hdf5, ".hdf5"),
    "mat": (foreign.write_mat, ".mat"),
}
WRITERS = OWN | BARE | {
    "edf": (foreign.write_edf, ".edf"),
    "wfdb_212": (foreign.write_wfdb_212, ".hea"),
    "scp": (foreign.write_scp, ".scp"),
    "philips": (foreign.write_philips, ".xml"),
    "hl7": (foreign.write_hl7, ".xml"),
}  # fmt: skip
EASY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def counts(samples: int = 600, seed: int = 0, leads: int = 12) -> Ints:
    """Whole numbers with waves and noise, different in every lead."""
    rng = np.random.default_rng(seed)
    wave = 200 * np.sin(np.arange(samples) / 9 + np.arange(leads)[:, None])
    return (wave + rng.integers(-90, 90, (leads, samples))).astype(np.int64)


def declared(name: str, rate: float, leads: list[str] | None = None) -> CohortEcg:
    """What a cohort has to declare of a format."""
    return CohortEcg(unit="uV", rate=rate, leads=tuple(leads or LEADS)) if name in BARE else CohortEcg()


@settings(EASY, max_examples=60)
@given(
    name=st.sampled_from(sorted(WRITERS)),
    rate=st.sampled_from([100, 240, 250, 257, 360, 400, 500, 1000]),
    lsb=st.sampled_from([0.5, 1.0, 2.5, 4.88, 5.0, 10.0]),
    order=st.permutations(range(12)),
    samples=st.integers(13, 900),
)
def test_written_records_come_back(
    tmp_path: Path, name: str, rate: int, lsb: float, order: list[int], samples: int
) -> None:
    write, suffix = WRITERS[name]
    stored = counts(samples, seed=samples)
    path = tmp_path / f"{name}{suffix}"
    leads = [LEADS[i] for i in order]
    write(path, stored[order], rate, lsb, leads, META)
    record = read_ecg(path, declared(name, rate, leads))
    np.testing.assert_allclose(record.signal, stored * lsb, atol=lsb * (0.02 if name == "edf" else 1e-3))
    assert record.rate == pytest.approx(rate, rel=2e-4 if name in ("scp", "edf") else 1e-7)
    assert record.flags == ()
    if name not in BARE:
        assert (record.age, record.sex, record.date) == (61, "F", META["date"])
        assert record.person == (None if name.startswith("wfdb") else "1000017")


@pytest.mark.parametrize("name", ["muse", "cardiosoft", "dicom"])
def test_eight_stored_leads_become_twelve(tmp_path: Path, name: str) -> None:
    write, suffix = WRITERS[name]
    eight = counts(leads=8)
    write(tmp_path / f"r{suffix}", eight, 500, 4.88, STORED8, META)
    record = read_ecg(tmp_path / f"r{suffix}")
    np.testing.assert_allclose(record.signal, canonical(eight * 4.88, STORED8), atol=0.01)
    assert record.flags == ("derived_limb_leads",)


def test_stored_median_beats(tmp_path: Path) -> None:
    meta = META | {"beat": counts(300, seed=5)}
    write_cardiosoft(tmp_path / "c.xml", counts(), 500, 5, LEADS, meta)
    write_muse(tmp_path / "m.xml", counts(), 500, 5, LEADS, meta)
    for path in (tmp_path / "c.xml", tmp_path / "m.xml"):
        np.testing.assert_array_equal(read_ecg(path, format="xml_median").signal, meta["beat"] * 5)
        np.testing.assert_array_equal(read_ecg(path).signal, counts() * 5)


def test_counts_beyond_16_bits_are_saturated_not_wrapped(tmp_path: Path) -> None:
    big = counts() * 1000
    write_wfdb(tmp_path / "r", big, 500, 1, LEADS)
    assert read_ecg(tmp_path / "r.hea").signal.max() == 32767


def test_wfdb_by_the_library_agrees(tmp_path: Path) -> None:
    signal = counts(samples=700)
    write_wfdb(tmp_path / "own", signal, 360, 5, LEADS, META)
    theirs = wfdb.rdrecord(str(tmp_path / "own"))
    np.testing.assert_allclose(theirs.p_signal.T * 1000, signal * 5, atol=1e-6)
    assert theirs.base_datetime == META["date"]
    physical = (signal[[1, 0, *range(2, 12)]] / 200).T
    for fmt in ("80", "212", "24", "32"):
        scale = 0.1 if fmt == "80" else 1.0
        wfdb.wrsamp(
            f"f{fmt}", fs=360, units=["mv"] * 12, sig_name=["ii", "i", *(lead.lower() for lead in LEADS[2:])],
            p_signal=physical * scale, fmt=[fmt] * 12, adc_gain=[200.0] * 12, baseline=[0] * 12,
            write_dir=str(tmp_path),
        )  # fmt: skip
        read = read_ecg(tmp_path / f"f{fmt}.hea")
        np.testing.assert_allclose(read.signal, signal * 5 * scale, atol=5.1)


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212", "508", "516", "524"])
def test_a_missing_sample_is_missing_in_every_wfdb_format(tmp_path: Path, fmt: str) -> None:
    """Each format has its own number for it, which is far outside the signal and would be read as a wave."""
    millivolts = counts(300).T / 2000
    millivolts[7, 3] = np.nan
    wfdb.wrsamp(
        "r", fs=250, units=["mV"] * 12, sig_name=list(LEADS), p_signal=millivolts, fmt=[fmt] * 12,
        adc_gain=[800.0] * 12, baseline=[0] * 12, write_dir=str(tmp_path),
    )  # fmt: skip
    signal = read_ecg(tmp_path / "r.hea").signal
    np.testing.assert_array_equal(np.argwhere(np.isnan(signal)), [[3, 7]])
    np.testing.assert_allclose(signal, 1000 * millivolts.T, atol=0.63)
    data = min(path for path in tmp_path.iterdir() if path.suffix != ".hea")
    packed = bytearray(data.read_bytes())
    packed[len(packed) // 2] ^= 1
    data.write_bytes(packed)
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "r.hea")
    assert fault.value.reason == "unreadable"


def test_wfdb_leads_of_several_samples_in_a_frame(tmp_path: Path) -> None:
    rows = [np.repeat(row, 2) + np.tile([-3, 3], 600) if i == 3 else row for i, row in enumerate(counts())]
    wfdb.wrsamp(
        "r", fs=500, units=["mV"] * 12, sig_name=list(LEADS), e_d_signal=rows, fmt=["16"] * 12, adc_gain=[200.0] * 12,
        samps_per_frame=[2 if i == 3 else 1 for i in range(12)], baseline=[0] * 12, write_dir=str(tmp_path),
    )  # fmt: skip
    record = read_ecg(tmp_path / "r.hea")
    assert record.rate == 500
    np.testing.assert_array_equal(record.signal, counts() * 5)


def segmented(folder: Path, **changes: str) -> Path:
    """A master header of two segments of 400 and 200 samples, the second with another gain."""
    for name, part, gain in (("s1", counts()[:, :400], 200.0), ("s2", 2 * counts()[:, 400:], 400.0)):
        wfdb.wrsamp(
            name, fs=500, units=["mV"] * 12, sig_name=list(LEADS), d_signal=part.T.astype(np.int64), fmt=["16"] * 12,
            adc_gain=[gain] * 12, baseline=[0] * 12, write_dir=str(folder),
        )  # fmt: skip
    text = "m/2 12 500 600 10:00:00 01/02/2020\ns1 400\ns2 200\n# Age: 61\n"
    for old, new in changes.items():
        text = text.replace(old.replace("_", " "), new)
    (folder / "m.hea").write_text(text)
    return folder / "m.hea"


def test_segments_of_a_wfdb_record_are_joined(tmp_path: Path) -> None:
    path = segmented(tmp_path)
    record = read_ecg(path)
    np.testing.assert_allclose(record.signal, counts() * 5, atol=1e-3)
    assert (record.rate, record.age, str(record.date)) == (500, 61, "2020-02-01 10:00:00")
    millivolts = wfdb.rdrecord(str(path.with_suffix(""))).p_signal
    np.testing.assert_allclose(record.signal.T / 1000, millivolts, atol=1e-5)
    assert "multi-segment" not in READING["unsupported"]  # what is read is no example of what is not


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"s2_200": "../s2 200"}, "header_invalid"), ({"s2_200": "/etc/s2 200"}, "header_invalid"),
        ({"s2_200": "~ 200"}, "unsupported"), ({"s1_400": "s1 0"}, "unsupported"),
        ({"m/2": "m/3"}, "header_invalid"), ({"500_600": "500 700"}, "header_invalid"),
        ({"s2_200": "s2 100", "500_600": "500 500"}, "unreadable"), ({"12_500": "12 250"}, "unsupported"),
        ({"s2_200": "m 200"}, "header_invalid"), ({"s2_200": "s3 200"}, "missing"),
        ({"s2_200": "s2 9000000", "500_600": "500"}, "too_large"), ({"m/2": "m/x"}, "header_invalid"),
    ],
)  # fmt: skip
def test_segments_that_lie_are_refused(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    with pytest.raises(RecordError) as fault:
        read_ecg(segmented(tmp_path, **changes))
    assert fault.value.reason == reason


def test_segments_of_other_leads_are_refused(tmp_path: Path) -> None:
    path = segmented(tmp_path)
    text = (tmp_path / "s2.hea").read_text()
    (tmp_path / "s2.hea").write_text(text.replace(" V5", " V0").replace(" V6", " V5").replace(" V0", " V6"))
    with pytest.raises(RecordError, match="segments differ in leads"):
        read_ecg(path)


def _lines(file: str, gain: str, rows: NDArray[np.int16], names: list[str]) -> list[str]:
    sums = rows.sum(axis=1, dtype=np.int64).astype(np.int16)
    return [f"{file} 16 {gain} 16 0 {row[0]} {total} 0 {name}" for row, total, name in zip(rows, sums, names)]


def test_wfdb_several_files_baseline_missing_samples_and_units(tmp_path: Path) -> None:
    limb, chest = counts(leads=6).astype("<i2"), counts(seed=3, leads=9).astype("<i2")
    chest[2, 5] = -32768
    limb.T.tofile(tmp_path / "a.dat")
    chest.T.tofile(tmp_path / "a.xyz")
    lines = _lines("a.dat", "200(10)/uV", limb, [lead.lower() for lead in LEADS[:6]])
    lines += _lines("a.xyz", "2000", chest, [*LEADS[6:], "vx", "vy", "vz"])
    header = tmp_path / "a.hea"
    header.write_text("\n".join(["a 15 1000 600", *lines, "# age: 44", "# sex: male", "# Dx: 7,8"]))
    record = read_ecg(header)
    np.testing.assert_allclose(record.signal[0], (limb[0].astype(float) - 10) / 200, atol=1e-4)
    np.testing.assert_allclose(record.signal[6], chest[0] / 2, atol=1e-3)
    assert np.isnan(record.signal[8, 5])
    assert np.isnan(record.signal).sum() == 1
    assert (record.age, record.sex) == (44, "M")
    assert codes(read_header(header)) == ("7", "8")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("r.mat 12 500 600", "header_invalid"), ("r/2 12 500 600", "header_invalid"),
        ("r 13 500 600", "header_invalid"),
        ("", "header_invalid"), ("r 12 500 9000", "unreadable"), ("r 12 x 600", "unreadable"),
        ("r 12 0 600", "rate_unknown"),
    ],
)  # fmt: skip
def test_wfdb_headers_that_lie_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    write_wfdb(tmp_path / "r", counts(), 500, 5, LEADS)
    path = tmp_path / "r.hea"
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]))
    with pytest.raises(RecordError) as fault:
        read_ecg(path)
    assert fault.value.reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("/mV", "/mmHg", "unit_unknown"), ("r.dat", "../r.dat", "header_invalid"), ("r.dat", "s.dat", "unreadable"),
        (" V6", " V5", "lead_repeated"), (" V6", " X", "lead_missing"), ("200(0)", "0(0)", "unit_unknown"),
    ],
)  # fmt: skip
def test_wfdb_signal_lines_that_lie_are_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    write_wfdb(tmp_path / "r", counts(), 500, 5, LEADS)
    path = tmp_path / "r.hea"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecordError) as fault:
        read_ecg(path)
    assert fault.value.reason == reason


@pytest.mark.parametrize("name", ["wfdb", "muse", "scp"])
def test_checksums_catch_one_flipped_sample(tmp_path: Path, name: str) -> None:
    write, suffix = WRITERS[name]
    write(tmp_path / f"r{suffix}", counts(), 500, 5, LEADS, META)
    path = tmp_path / ("r.dat" if name == "wfdb" else f"r{suffix}")
    data = bytearray(path.read_bytes())
    at = data.index(b"<WaveFormData>") + 40 if name == "muse" else 500
    data[at] = ord("B") if data[at] == ord("A") else ord("A")
    path.write_bytes(bytes(data))
    with pytest.raises(RecordError, match="checksum") as fault:
        read_ecg(tmp_path / f"r{suffix}")
    assert fault.value.reason == "unreadable"


def damaged(data: bytes, seed: int) -> bytes:
    """A file with its end cut off, bytes flipped, a piece lost, doubled or filled, or a number in its text changed."""
    rng = np.random.default_rng(seed)
    kind, at = rng.integers(6), int(rng.integers(len(data)))
    stop = min(len(data), at + int(rng.integers(1, 400)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        flipped = bytearray(data)
        for place in rng.integers(len(data), size=int(rng.integers(1, 40))):
            flipped[place] = rng.integers(256)
        return bytes(flipped)
    if kind == 2:
        return data[:at] + data[stop:]
    if kind == 3:
        return data[:stop] + data[at:]
    if kind == 4:
        return data[:at] + bytes([rng.choice([0, 32, 255])]) * (stop - at) + data[stop:]
    numbers = [found.span() for found in re.finditer(rb"\d+", data[:20_000])] or [(0, 0)]
    first, last = numbers[rng.integers(len(numbers))]
    strange = [b"0", b"-1", b"1e308", b"nan", b"99999999", b"4294967295", b"1" * 400, b""]
    return data[:first] + strange[rng.integers(len(strange))] + data[last:]


def survives_damage(folder: Path, name: str, seed: int) -> None:
    """Reading a damaged file ends soon, in a refusal or in twelve leads; a cut file never gives half a signal."""
    write, suffix = WRITERS[name]
    stored, path = counts(400), folder / f"{name}{suffix}"
    write(path, stored, 500, 5, LEADS, META)
    victim = path.with_suffix(".dat") if name.startswith("wfdb") and seed % 2 else path
    whole = victim.read_bytes()
    victim.write_bytes(damaged(whole, seed))
    cut = whole.startswith(victim.read_bytes())
    start = time.perf_counter()
    try:
        record = read_ecg(path, declared(name, 500))
    except RecordError as fault:
        assert fault.reason
        assert len(str(fault)) < 500
        assert "Traceback" not in str(fault)
        return
    finally:
        assert time.perf_counter() - start < 5
    assert record.signal.shape[0] == 12
    assert record.signal.shape[1] >= 1
    if cut and name != "csv":  # a text of columns may end anywhere
        np.testing.assert_allclose(record.signal, stored * 5, atol=0.1)


@settings(EASY, max_examples=250)
@given(name=st.sampled_from(sorted(WRITERS)), seed=st.integers(0, 10**6))
def test_damaged_files_are_refused_or_right(tmp_path: Path, name: str, seed: int) -> None:
    survives_damage(tmp_path, name, seed)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_many_damaged_files(tmp_path: Path, name: str) -> None:
    for seed in range(3000):
        survives_damage(tmp_path, name, seed)


@EASY
@given(
    data=st.binary(max_size=600),
    suffix=st.sampled_from([".xml", ".dcm", ".scp", ".edf", ".npy", ".mat", ".csv", ".hdf5"]),
)
def test_random_bytes_are_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(data)
    for format in (None, *READERS):
        with pytest.raises(RecordError):
            read_ecg(path, CohortEcg(unit="uV", rate=500, leads=LEADS), format)


@EASY
@given(tail=st.binary(max_size=300), name=st.sampled_from(["npy", "hdf5", "mat", "edf", "dicom", "scp", "xml"]))
def test_right_first_bytes_do_not_save_wrong_files(tmp_path: Path, tail: bytes, name: str) -> None:
    marks = {
        "npy": b"\x93NUMPY\x01\x00", "hdf5": b"\x89HDF\r\n\x1a\n", "mat": b"MATLAB 5.0" + b" " * 114 + b"\x00\x01IM",
        "edf": b"0       ", "dicom": b"\0" * 128 + b"DICM", "scp": b"\0" * 16 + b"SCPECG", "xml": b"<RestingECG>",
    }  # fmt: skip
    path = tmp_path / "mark.bin"
    path.write_bytes(marks[name] + tail)
    assert detect(path) == name
    with pytest.raises(RecordError):
        read_ecg(path, CohortEcg(unit="uV", rate=500, leads=LEADS))


def test_files_that_would_grow_are_refused_before_they_do(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("tracings", shape=(10**9, 12), dtype="f8", chunks=(1000, 12))
    savemat(tmp_path / "b.mat", {"feats": np.zeros((12, 400_000), np.uint8)}, do_compression=True)
    write_wfdb(tmp_path / "a", counts(), 500, 5, LEADS)
    with (tmp_path / "a.dat").open("ab") as file:
        file.truncate(2**33)  # takes no place on the disk
    for name in ("a.hdf5", "b.mat", "a.hea"):
        with pytest.raises(RecordError) as fault:
            read_ecg(tmp_path / name, CohortEcg(unit="uV", rate=500, leads=LEADS))
        assert fault.value.reason == "too_large"
    write_dicom_ecg(tmp_path / "a.dcm", counts(), 500, 5, LEADS)
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1))
    with pytest.raises(RecordError, match="deflated"):
        read_ecg(tmp_path / "a.dcm")


def test_xml_that_attacks_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><CardiologyXML>&b;</CardiologyXML>'
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><CardiologyXML>&a;</CardiologyXML>'
    for text in (bomb, outside, "<CardiologyXML>" + "<a>" * 100_000):
        (tmp_path / "x.xml").write_text(text)
        with pytest.raises(RecordError) as fault:
            read_ecg(tmp_path / "x.xml")
        assert fault.value.reason == "unreadable"
    (tmp_path / "x.xml").write_text("<note/>")
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "x.xml")
    assert fault.value.reason == "format_unknown"


@pytest.mark.parametrize("text", ["1,2,x", "1,,2", "", "1.5,2,3", "1,2,99999999999"])
def test_cardiosoft_samples_must_be_whole_numbers(tmp_path: Path, text: str) -> None:
    write_cardiosoft(tmp_path / "r.xml", counts(3), 500, 5, LEADS)
    content = (tmp_path / "r.xml").read_text()
    start, stop = content.index('lead="V3">') + 10, content.index("</WaveformData>", content.index('lead="V3">'))
    (tmp_path / "r.xml").write_text(content[:start] + text + content[stop:])
    with pytest.raises(RecordError):
        read_ecg(tmp_path / "r.xml")


@pytest.mark.parametrize("name", ["npy", "csv", "hdf5", "mat"])
def test_bare_arrays_need_and_obey_a_declaration(tmp_path: Path, name: str) -> None:
    signal = counts().astype(np.float64) / 1000
    path = _bare(tmp_path, name, signal)
    declared = CohortEcg(unit="mV", rate=400, leads=tuple(reversed(LEADS)), gain_factor=0.5)
    record = read_ecg(path, declared)
    np.testing.assert_allclose(record.signal, signal[::-1] * 500, atol=1e-3)
    for missing, reason in (("unit", "unit_unknown"), ("rate", "rate_unknown"), ("leads", "leads_unknown")):
        with pytest.raises(RecordError) as fault:
            read_ecg(path, declared.model_copy(update={missing: None}))
        assert fault.value.reason == reason


def _bare(folder: Path, name: str, signal: NDArray[np.float64]) -> Path:
    path = folder / f"a.{name}"
    if name == "npy":
        np.save(path, signal.T)
    elif name == "csv":
        np.savetxt(path, signal.T, delimiter=",")
    elif name == "mat":
        savemat(path, {"feats": signal})
    else:
        with h5py.File(path, "w") as file:
            file["tracings"] = np.stack([signal.T * 0, signal.T])
        path = folder / f"a.{name}#1"
    return path


def test_csv_with_names_and_a_time_column(tmp_path: Path) -> None:
    signal = counts(50)
    table = np.vstack([np.arange(50) / 500, signal])
    np.savetxt(tmp_path / "a.csv", table.T, delimiter=";", header=";".join(["time", *LEADS]), comments="")
    record = read_ecg(tmp_path / "a.csv", CohortEcg(unit="uV", rate=500))
    np.testing.assert_allclose(record.signal, signal)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(RecordError):
        read_ecg(tmp_path / "a.npy", CohortEcg(unit="uV", rate=500, leads=LEADS))


def test_a_declaration_may_not_contradict_the_file(tmp_path: Path) -> None:
    write_muse(tmp_path / "r.xml", counts(), 500, 5, LEADS)
    assert read_ecg(tmp_path / "r.xml", CohortEcg(rate=500, unit="mV")).signal.max() == counts().max() * 5
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "r.xml", CohortEcg(rate=250))
    assert fault.value.reason == "declaration_conflict"
    with pytest.raises(RecordError) as fault:
        read_ecg(tmp_path / "absent.xml")
    assert fault.value.reason == "missing"
    with pytest.raises(StudyError, match="choose one of"):
        read_ecg(tmp_path / "r.xml", format="paper")


def test_a_calibration_step_is_cut_and_said(tmp_path: Path) -> None:
    beats = counts(2500)
    step = np.zeros((12, 250), np.int64)
    step[:, 60:180] = 200
    write_wfdb(tmp_path / "r", np.hstack([beats, step]), 500, 5, LEADS)
    record = read_ecg(tmp_path / "r.hea")
    assert record.flags == ("calibration_cut",)
    np.testing.assert_array_equal(record.signal, beats * 5)


def test_words_of_files() -> None:
    assert [parse_sex(word) for word in ("Male", "f", "女", "", None, "Unknown")] == ["M", "F", "F", None, None, None]
    assert [parse_age(word) for word in ("56", "056Y", "018M", "NaN", "300", None)] == [56, 56, 1.5, None, None, None]
    assert parse_age("6", "MONTHS") == 0.5
    assert unit_uv("µV", Path("x")) == unit_uv("uv", Path("x")) == 1
    with pytest.raises(RecordError):
        unit_uv("mmHg", Path("x"))
