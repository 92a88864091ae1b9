"""Every real ECG beside the repository is read, or refused for the right reason; its README lists the true faults."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import wfdb
from wfdb.io.convert.edf import wfdb_to_edf

from cardionets import cohorts, gates
from cardionets.beats import median_beat, qrs_duration_ms, r_peaks, rr_features
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.cohorts.wfdb_ecg import codes, read_header
from cardionets.config import Cohort, CohortEcg, Study
from cardionets.ecg import LEADS, STORED8, EcgRecord, RecordError, harmonise
from cardionets.simulate.ecg_files import write_cardiosoft, write_dicom_ecg, write_muse, write_wfdb
from tests.ecg_writers import write_edf, write_hl7, write_philips, write_scp

pytestmark = pytest.mark.real

STUDY = Study(Path(__file__).parent)
GATES, GRID, BAND = STUDY.protocol.quality, STUDY.grid, STUDY.protocol.ecg
CODE15 = CohortEcg(unit="mV", leads=LEADS)

# Files that must be left out, and why. HR00001 has the same wrong gain but a QRS that a big heart could have: only the
# median of its centre tells.
FAULTS = {
    "cinc2020/E00001.hea": "header_invalid", "cinc2020/E00002.hea": "header_invalid",
    "cinc2020/E00003.hea": "header_invalid", "cinc2020/HR00002.hea": "amplitude_high_x5",
    "cinc2020/HR00003.hea": "amplitude_high_x5", "cinc2020/HR00004.hea": "amplitude_high_x5",
    "cinc2020/HR00005.hea": "amplitude_high_x5", "cinc2020/Q0010.hea": "amplitude_high",
    "cinc2020/S0001.hea": "amplitude_low_x2000", "cinc2021/JS20004.hea": "flat_lead",
    "cinc2021/JS20008.hea": "flat_lead", "muse_egm/muse-sinus.hea": "amplitude_high_x5",
    "code15/code_15_1238362.mat": "too_short", "code15/code_15_2657522.mat": "too_short",
    "code15/code_15_358121.mat": "too_short", "code15/code_15_438277.mat": "too_short",
}  # fmt: skip


@cache
def read(path: Path) -> EcgRecord:
    return read_ecg(path, CODE15 if "code15" in path.parts else CohortEcg())


def recordings(real: Path) -> list[Path]:
    """One path per recording, relative to the folder."""
    found = [p for p in sorted(real.glob("*/*")) if p.suffix in (".hea", ".xml", ".edf", ".scp")]
    return [p.relative_to(real) for p in [*found, *sorted(real.glob("code15/*.mat"))]]


def outcome(path: Path) -> list[str]:
    try:
        return gates.inspect(read(path), GATES, GRID.seconds)
    except RecordError as fault:
        return [fault.reason]


def test_the_amplitude_of_code15_is_refused_without_a_unit(real: Path) -> None:
    for path in sorted(real.glob("code15/*.mat")):
        with pytest.raises(RecordError) as fault:
            read_ecg(path, CohortEcg(leads=LEADS))
        assert fault.value.reason == "unit_unknown"
        assert read_ecg(path, CODE15).rate == 400


def test_a_wrong_gain_shows_in_the_median_of_its_centre(real: Path) -> None:
    def sizes(pattern: str) -> np.ndarray:
        records = [read(path) for path in sorted(real.glob(pattern))]
        return np.array([gates.qrs_size_uv(median_beat(r.signal, r_peaks(r.signal, r.rate), r.rate)) for r in records])

    assert "5 times too high" in str(gates.gain_suspicion(sizes("cinc2020/HR*.hea")))
    assert "2000 times too low" in str(gates.gain_suspicion(sizes("cinc2020/S*.hea")))
    for pattern in ("cinc2021/E*.hea", "cinc2021/HR*.hea", "cinc2021/JS*.hea", "cpsc2018_labelled/*.hea"):
        assert gates.gain_suspicion(sizes(pattern)) is None


def test_flat_leads_are_the_three_of_the_readme(real: Path) -> None:
    for name in ("JS20004", "JS20008"):
        record = read(real / f"cinc2021/{name}.hea")
        flat = gates.flat_leads(record.signal, record.rate, GATES)
        assert np.array(LEADS)[flat].tolist() == ["V2", "V4", "V6"]
    large = read(real / "cinc2021/JS20007.hea").signal
    assert 9000 < np.ptp(large, axis=1).max() < 16_000


def test_one_signal_under_two_names_is_found(real: Path) -> None:
    prints = {p.stem: gates.fingerprint(read(p).signal) for p in sorted(real.glob("cinc2021/*.hea"))}
    assert prints["E07509"] == prints["E07510"]
    assert len(set(prints.values())) == len(prints) - 1


def test_the_same_recording_read_twice_agrees_to_quantisation(real: Path) -> None:
    """(files, what one of them is declared to need, tolerance in uV: the coarser of the two steps)."""
    pairs = [
        ("ptb_s0010_re/s0010_re.hea", "cinc2020/S0001.hea", 2000.0, 0.51),
        ("muse_egm/muse-sinus.xml", "muse_egm/muse-sinus.hea", 0.2, 0.51),
        ("hl7_aecg_fda/subject1_0.xml", "scp_ecg/Example.scp", 1.0, 0.01),
        ("cpsc2018_labelled/A0001.hea", "cpsc2018_labelled/A0001.edf", 1.0, 0.51),
        ("philips_sierra/ad4d3d80-d165_1-04_orig.xml", "philips_sierra/ad4d3d80-d165_1-04_converted.xml", 1.0, 20.1),
    ]
    for one, other, factor, tolerance in pairs:
        a, b = read(real / one), read_ecg(real / other, CohortEcg(gain_factor=factor))
        assert a.rate == b.rate
        assert np.abs(a.signal - b.signal).max() <= tolerance, (one, other)


def test_ptbxl_at_100_hz_is_the_recording_at_500_to_within_quantisation(real: Path) -> None:
    """One linear filter, fitted on the limb leads, turns every fifth sample of one into the other in the chest leads.

    How the source resampled is not published; both files are rounded to 1 uV, which alone makes an error of 0.3 uV.
    """
    slow = read(real / "ptbxl_lr100/00001_lr.hea").signal[:, 20:-20].astype(float)
    fast = read_ecg(real / "cinc2020/HR00001.hea", CohortEcg(gain_factor=0.2)).signal.astype(float)
    reach = 60
    padded = np.pad(fast, ((0, 0), (reach, reach)))
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)[:, ::5][:, 20:-20]
    taps, *_ = np.linalg.lstsq(around[:6].reshape(-1, 2 * reach + 1), slow[:6].ravel())
    error = around[6:] @ taps - slow[6:]
    assert np.sqrt(np.square(error).mean()) < 0.5 and np.abs(error).max() < 3
    assert taps.sum() == pytest.approx(1, abs=1e-3)


MIMIC_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", *LEADS[6:])


def digital(path: Path) -> tuple[np.ndarray, EcgRecord]:
    """What a WFDB record of 1 uV a step stores, and what is read of it."""
    record = read(path)
    return np.rint(record.signal).astype(np.int64), record


@pytest.mark.parametrize("name", ["cinc2021/JS20000.hea", "cinc2021/HR06001.hea", "cpsc2018_labelled/A0003.hea"])
def test_an_open_waveform_comes_back_from_every_format_that_is_written(real: Path, tmp_path: Path, name: str) -> None:
    stored, record = digital(real / name)
    meta = {"person": "77", "date": dt.datetime(2017, 3, 4, 5, 6, 7), "age": 44, "sex": "F"}
    tree = tmp_path / "files/p1000/p10000077/s40000001/40000001.hea"
    tree.parent.mkdir(parents=True)
    for write, file in (
        (write_cardiosoft, "a.xml"), (write_muse, "b.xml"), (write_dicom_ecg, "c.dcm"), (write_edf, "d.edf"),
        (write_scp, "e.scp"), (write_philips, "f.xml"), (write_hl7, "g.xml"),
    ):  # fmt: skip
        write(tmp_path / file, stored, record.rate, 1.0, LEADS, meta)
        again = read_ecg(tmp_path / file)
        assert np.abs(again.signal - record.signal).max() < 0.01, file
        assert again.rate == pytest.approx(record.rate, rel=1e-6)
        assert (again.person, again.age, again.sex, again.date) == ("77", 44, "F", meta["date"])
    write_wfdb(tree, stored[[LEADS.index(lead) for lead in MIMIC_ORDER]], record.rate, 1.0, MIMIC_ORDER, meta)
    np.testing.assert_array_equal(read_ecg(tree).signal, record.signal)
    write_muse(tmp_path / "eight.xml", stored[[0, 1, *range(6, 12)]], record.rate, 1.0, STORED8, meta)
    assert np.abs(read_ecg(tmp_path / "eight.xml").signal - record.signal).max() < 5  # the source rounds to 4.88 uV


def test_a_mimic_tree_of_open_waveforms(real: Path, tmp_path: Path) -> None:
    names = ("JS20000", "JS20001")
    rows = []
    for i, name in enumerate(names):
        stored, record = digital(real / f"cinc2021/{name}.hea")
        path = f"files/p1000/p1000000{i}/s4000000{i}/4000000{i}"
        (tmp_path / path).parent.mkdir(parents=True)
        order = [LEADS.index(lead) for lead in MIMIC_ORDER]
        write_wfdb(tmp_path / f"{path}.hea", stored[order], record.rate, 1.0, MIMIC_ORDER)
        rows.append(f"1000000{i},4000000{i},4000000{i},2180-01-0{i + 1} 10:00:00,{path}")
    tables = {
        "record_list.csv": ["subject_id,study_id,file_name,ecg_time,path", *rows],
        "hosp/patients.csv": ["subject_id,gender,anchor_age,anchor_year", "10000000,F,50,2178", "10000001,M,60,2180"],
        "hosp/admissions.csv": ["subject_id,hadm_id,admittime", "10000000,1,2179-05-05 00:00:00"],
        "hosp/diagnoses_icd.csv": ["subject_id,hadm_id,icd_code,icd_version", "10000000,1,42731,9"],
    }
    (tmp_path / "hosp").mkdir()
    for file, lines in tables.items():
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    index = cohorts.index(Cohort(label="M", path=tmp_path, depends="x", layout="mimic", role="development"))
    assert index.records["age"].tolist() == [52, 60]
    for name, file in zip(names, index.records["ecg"]):
        np.testing.assert_array_equal(read_ecg(tmp_path / file).signal, read(real / f"cinc2021/{name}.hea").signal)


def test_independent_readers_agree(real: Path, tmp_path: Path) -> None:
    """The library's own reading of WFDB and writing of EDF; pydicom's own reading of a DICOM waveform."""
    for name in ("cinc2021/JS20000", "cpsc2018_labelled/A0001", "ptbxl_lr100/00001_lr"):
        wfdb_to_edf(str(real / name), output_filename=str(tmp_path / "theirs.edf"))
        mine, theirs = read(real / f"{name}.hea"), read_ecg(tmp_path / "theirs.edf")
        samples = mine.signal.shape[1]  # the last data record is filled up
        assert theirs.rate == mine.rate and np.abs(theirs.signal[:, :samples] - mine.signal).max() < 1
    for name in ("cinc2021/JS20000", "ptb_s0010_re/s0010_re", "ptbxl_lr100/00001_lr", "muse_egm/muse-sinus"):
        record = wfdb.rdrecord(str(real / name))
        rows = [[n.upper() for n in record.sig_name].index(lead.upper()) for lead in LEADS]
        factor = {"mV": 1000, "mv": 1000, "uV": 1}[record.units[0]]
        assert np.abs(record.p_signal.T[rows] * factor - read(real / f"{name}.hea").signal).max() < 0.01
    stored, record = digital(real / "cinc2021/JS20000.hea")
    write_dicom_ecg(tmp_path / "a.dcm", stored, record.rate, 2.5, LEADS)
    independent = pydicom.dcmread(tmp_path / "a.dcm").waveform_array(0)  # (T, lead), in the stated unit
    np.testing.assert_allclose(read_ecg(tmp_path / "a.dcm").signal, independent.T, atol=1e-3)


def test_who_and_when(real: Path) -> None:
    record = read(real / "muse_egm/muse-sinus.xml")
    assert (record.age, record.sex, record.flags) == (43, "M", ("derived_limb_leads",))
    assert str(record.date) == "2023-04-29 22:41:16"
    child = read(real / "muse_guangxi/guangxi_teaching_sinus_rhythm.xml")
    assert (child.age, child.sex) == (11, "M")
    aecg = read(real / "hl7_aecg_fda/subject1_0.xml")
    assert (aecg.person, aecg.age, aecg.sex, str(aecg.date)) == ("subject1", 49, "M", "2002-11-22 09:10:00")
    philips = read(real / "philips_sierra/ad4d3d80-d165_1-04_orig.xml")
    assert (philips.age, philips.sex, philips.flags) == (32, "F", ("calibration_cut",))
    assert str(read(real / "ptb_s0010_re/s0010_re.hea").date) == "1990-10-01 00:00:00"
    assert "164889003" in codes(read_header(real / "cpsc2018_labelled/A0004.hea"))


def beats_in(record: EcgRecord) -> tuple[np.ndarray, np.ndarray]:
    signal = harmonise(record.signal, record.rate, GRID, BAND)
    return signal, r_peaks(signal, GRID.rate)


def test_beats_and_rates_agree_with_an_independent_detector(real: Path) -> None:
    from wfdb.processing import xqrs_detect

    paths = [p for p in recordings(real) if p.parts[0] in ("cinc2021", "cpsc2018_labelled") and p.suffix == ".hea"]
    missed, extra, total, apart = 0, 0, 0, []
    for path in paths:
        signal, peaks = beats_in(read(real / path))
        theirs = xqrs_detect(signal[LEADS.index("II")].astype(float), GRID.rate, verbose=False)
        theirs = theirs[theirs > peaks[0] + 30]  # xqrs learns from the first beats and may leave out the first
        distance = np.abs(peaks[:, None] - theirs) / GRID.rate
        missed += (distance.min(axis=0) > 0.1).sum()
        extra += (distance.min(axis=1)[peaks >= theirs[0] - 30] > 0.1).sum()
        total += len(theirs)
        apart.append(abs(np.diff(peaks).mean() / np.diff(theirs).mean() - 1))
    assert missed / total < 0.03 and extra / total < 0.03, (missed, extra, total)
    assert np.median(apart) < 0.01 and np.mean(np.array(apart) < 0.05) > 0.9, apart


def test_rate_and_qrs_agree_with_what_the_carts_print(real: Path) -> None:
    printed = {
        "muse_braveheart/example1.xml": (48, 96), "muse_braveheart/example2.xml": (65, 100),
        "muse_egm/muse-sinus.xml": (90, 86), "muse_guangxi/guangxi_teaching_sinus_rhythm.xml": (97, 74),
        "philips_sierra/ad4d3d80-d165_1-04_orig.xml": (41, 102),
    }  # fmt: skip
    for path, (rate, qrs) in printed.items():
        signal, peaks = beats_in(read(real / path))
        assert rr_features(peaks, GRID.rate)["rate_bpm"] == pytest.approx(rate, abs=1.5), path
        assert qrs_duration_ms(median_beat(signal, peaks, GRID.rate), GRID.rate) == pytest.approx(qrs, abs=10), path


def test_fibrillation_is_irregular(real: Path) -> None:
    spread = {}
    for path in sorted(real.glob("cpsc2018_labelled/*.hea")):
        _, peaks = beats_in(read(path))
        spread[path.stem] = rr_features(peaks, GRID.rate)["rr_cv"]
    assert min(spread["A0003"], spread["A0004"]) > 0.1 > max(spread["A0001"], spread["A0002"])


def test_planted_faults_are_found_in_real_signals(real: Path) -> None:
    caught = {"arms": 0, "swap": 0, "falsely": 0}
    paths = [p for p in recordings(real) if p.as_posix() not in FAULTS and p.parts[0] not in ("cinc2020", "code15")]
    for path in paths:
        record = read(real / path)
        x = record.signal.copy()
        x[:5] = np.stack([-x[0], x[2], x[1], x[4], x[3]])
        caught["arms"] += "limb_reversal_la_ra" in gates.inspect(EcgRecord(x, record.rate), GATES)
        y = record.signal.copy()
        y[[4, 5]] = y[[5, 4]]
        caught["swap"] += "leads_swapped_aVL_aVF" in gates.inspect(EcgRecord(y, record.rate), GATES)
        caught["falsely"] += any("reversal" in reason for reason in outcome(real / path))
    assert caught["swap"] > 0.95 * len(paths)
    assert caught["arms"] > 0.5 * len(paths)
    assert caught["falsely"] == 0


def test_cut_and_flipped_real_files_end_in_a_refusal(real: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("scp_ecg/Example.scp", "cpsc2018_labelled/A0001.edf", "philips_sierra/ad4d3d80-d165_1-04_orig.xml"):
        data = (real / name).read_bytes()
        path = tmp_path / Path(name).name
        for share in (0.0, 0.02, 0.3, 0.9, 0.99):
            path.write_bytes(data[: int(share * len(data))])
            with pytest.raises(RecordError):
                read_ecg(path)
        if path.suffix == ".scp":
            for at in rng.integers(200, len(data), size=20):
                path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                with pytest.raises(RecordError):
                    read_ecg(path)
