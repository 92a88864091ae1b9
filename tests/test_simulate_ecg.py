"""Simulated ECG: physiology in the right direction, exact lead identities, determinism, and the recorder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cardionets import diseases
from cardionets.config import StudyError
from cardionets.simulate import ecg, electrodes, rhythm, vcg
from cardionets.simulate.heart import VARIATION, CaseMix, sample

LEAD = {name: i for i, name in enumerate(ecg.LEADS)}
RATE, SECONDS = 250, 10


def rngs(n: int, seed: int = 3) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


def typical(n: int = 1, **changes: object) -> pd.DataFrame:
    """A healthy sinus heart at the middle of the population without individual deviations, changed as told."""
    people = sample(4000, CaseMix(), np.random.default_rng(0))
    healthy = people[(people["rhythm"] == "sinus") & (people["conduction"] == "none") & (people["infarct"] == "none")]
    row = healthy.iloc[[0]].copy()
    numbers = healthy.select_dtypes("number").columns
    row[numbers] = healthy[numbers].median().to_numpy()
    row[list(VARIATION)] = 0.0
    row[["sex", "subtype"]] = ["M", "none"]
    row[["infarct_extent", "rv_load", "lv_load"]] = 0.0
    row = row.assign(**dict.fromkeys(diseases.DIAGNOSES, False))
    return pd.concat([row] * n, ignore_index=True).assign(**changes)


def clean(hearts: pd.DataFrame, waves: slice = slice(None)) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Time (ms from QRS onset) and noise-free leads (n, 8, time) of one beat, through Dower's matrix."""
    b = vcg.beat(hearts)
    time = np.arange(-330.0, 700.0, 1.0)
    offset = time - b.centre[:, waves, None]
    shape = np.exp(-0.5 * (offset / np.where(offset > 0, b.fall[:, waves, None], b.rise[:, waves, None])) ** 2)
    return time, np.einsum("li,nwi,nwt->nlt", ecg.DOWER, b.vector[:, waves], shape, optimize=True)


ROW = {name: i for i, name in enumerate(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"))}
P_WAVES, QRS_WAVES = slice(0, 2), slice(2, 11)


def peak(hearts: pd.DataFrame, lead: str, low: float, high: float, sign: int = 1) -> float:
    """Largest deflection (uV) of the given sign of the first heart's lead between two times."""
    time, leads = clean(hearts)
    window = leads[0, ROW[lead], (time >= low) & (time <= high)]
    return float((sign * window).max())


def sokolow(hearts: pd.DataFrame) -> float:
    return peak(hearts, "V1", 0, 120, -1) + max(peak(hearts, "V5", 0, 120), peak(hearts, "V6", 0, 120))


def width(hearts: pd.DataFrame, waves: slice, fraction: float = 0.05) -> float:
    """Time (ms) during which any lead of the chosen waves exceeds a fraction of the largest deflection."""
    time, leads = clean(hearts, waves)
    size = np.abs(leads[0]).max(0)
    above = time[size > fraction * size.max()]
    return float(above[-1] - above[0])


def axis(hearts: pd.DataFrame) -> float:
    """Frontal QRS axis in degrees, from the areas of I and aVF."""
    _, leads = clean(hearts, QRS_WAVES)
    one, foot = leads[0, 0].sum(), leads[0, 1].sum() - leads[0, 0].sum() / 2
    return float(np.degrees(np.arctan2(2 * foot / np.sqrt(3), one)))


def rr_cv(hearts: pd.DataFrame, seed: int = 3) -> npt.NDArray[np.float64]:
    beats = rhythm.draw(hearts, SECONDS, rngs(len(hearts), seed))
    seen = (beats.time > 0) & (beats.time < SECONDS)
    return np.array([np.std(r[s]) / np.mean(r[s]) for r, s in zip(beats.rr, seen)])


def test_shape_type_and_plausible_size() -> None:
    hearts = sample(24, CaseMix(), np.random.default_rng(1))
    signals = ecg.synthesise(hearts, RATE, SECONDS, rngs(24))
    assert signals.shape == (24, 12, RATE * SECONDS) and signals.dtype == np.float32
    assert np.isfinite(signals).all()
    height = np.quantile(np.ptp(signals, axis=2), 0.5, axis=0)
    assert (height > 300).all() and (height < 4500).all()


def test_lead_identities_are_exact() -> None:
    signals = ecg.synthesise(sample(8, CaseMix(), np.random.default_rng(1)), RATE, 4, rngs(8)).astype(float)
    one, two = signals[:, 0], signals[:, 1]
    for lead, expected in {
        "III": two - one,
        "aVR": -(one + two) / 2,
        "aVL": one - two / 2,
        "aVF": two - one / 2,
    }.items():
        np.testing.assert_allclose(signals[:, LEAD[lead]], expected, atol=1e-3)


def test_leads_are_the_standard_differences_of_electrodes() -> None:
    potential = dict.fromkeys(("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6"), 0.0)
    potential |= {"RA": 1.0, "LA": 5.0, "LL": 12.0, "V1": 20.0, "V6": 60.0}
    leads = electrodes.ELECTRODES @ np.array(list(potential.values()))
    np.testing.assert_allclose(leads, [4, 11, 14, -6, -6, -6, -6, 54], rtol=1e-6)
    np.testing.assert_allclose(electrodes.ELECTRODES.sum(1), 0, atol=1e-6)


def test_a_person_is_the_same_in_any_batch() -> None:
    mix = CaseMix(af=0.5, af_now=1.0, rbbb=0.3, infarct=0.3)
    hearts = sample(45, mix, np.random.default_rng(4))
    together = ecg.synthesise(hearts, RATE, SECONDS, rngs(45))
    apart = [
        ecg.synthesise(hearts.iloc[[i]], RATE, SECONDS, [np.random.default_rng([3, i])])[0] for i in (0, 7, 31, 32, 44)
    ]
    np.testing.assert_array_equal(together[[0, 7, 31, 32, 44]], np.stack(apart))
    other = ecg.synthesise(hearts, RATE, SECONDS, rngs(45, seed=8))
    assert (np.abs(other - together).max((1, 2)) > 50).all()


def test_rate_on_the_signal_is_the_rate_of_the_heart() -> None:
    hearts = typical(12, rate_bpm=np.linspace(45, 120, 12))
    beats = rhythm.draw(hearts, SECONDS, rngs(12))
    for i in range(12):
        inside = beats.rr[i, (beats.time[i] > 0) & (beats.time[i] < SECONDS)]
        assert 60 / inside.mean() == pytest.approx(hearts["rate_bpm"][i], rel=0.06)


def test_other_sampling_rate_shows_the_same_heart() -> None:
    hearts = typical(1)
    slow, fast = (ecg.synthesise(hearts, rate, 4, rngs(1)) for rate in (250, 1000))
    assert fast.shape[2] == 4 * slow.shape[2]
    shared = np.corrcoef(slow[0, LEAD["V5"]], fast[0, LEAD["V5"], ::4])[0, 1]
    assert shared > 0.97


def test_voltage_rises_and_axis_turns_left_with_mass() -> None:
    masses = (60.0, 90.0, 130.0, 190.0)
    voltage = [sokolow(typical(lv_mass=m)) for m in masses]
    turned = [axis(typical(lv_mass=m)) for m in masses]
    assert voltage == sorted(voltage) and voltage[-1] > 1.5 * voltage[0]
    assert turned == sorted(turned, reverse=True) and turned[0] - turned[-1] > 5


def test_torso_gain_scales_everything() -> None:
    assert sokolow(typical(torso_gain=1.5)) == pytest.approx(1.5 * sokolow(typical(torso_gain=1.0)), rel=1e-6)


def test_heavy_loaded_ventricle_shows_strain() -> None:
    qt = float(typical()["qt_ms"].iloc[0])
    assert peak(typical(), "V6", qt - 150, qt) > 100
    loaded = typical(lv_mass=200.0, lv_load=3.5)
    assert peak(loaded, "V6", qt - 150, qt, -1) > 100


def test_p_wave_follows_the_atria() -> None:
    lengths = [width(typical(la_max=v), P_WAVES) for v in (40.0, 70.0, 110.0, 160.0)]
    assert lengths == sorted(lengths) and lengths[-1] > lengths[0] + 15
    assert 85 < lengths[1] < 140
    terminal = [peak(typical(la_max=v), "V1", -180, -20, -1) for v in (50.0, 140.0)]
    assert terminal[1] > 1.2 * terminal[0]
    assert peak(typical(ra_max=180.0), "II", -180, -20) > 1.2 * peak(typical(ra_max=70.0), "II", -180, -20)


def test_qrs_lasts_as_long_as_it_should() -> None:
    for conduction, duration in (("none", 92.0), ("rbbb", 140.0), ("lbbb", 150.0)):
        measured = width(typical(conduction=conduction, qrs_ms=duration), QRS_WAVES, 0.03)
        assert measured == pytest.approx(duration, abs=18), conduction
        assert (measured >= 115) == (conduction != "none")


def test_bundle_branch_blocks_have_their_morphology() -> None:
    time, right = clean(typical(conduction="rbbb", qrs_ms=145.0), QRS_WAVES)
    early, late = time < 75, (time >= 75) & (time < 150)
    v1, v6 = right[0, ROW["V1"]], right[0, ROW["V6"]]
    assert v1[early].min() < -200 and v1[late].max() > 300 and v1[late].max() > v1[early].max()
    assert v6[late].min() < -200 and right[0, ROW["I"], late].min() < -100
    _, left = clean(typical(conduction="lbbb", qrs_ms=150.0), QRS_WAVES)
    assert left[0, ROW["V1"]].max() < 0.1 * -left[0, ROW["V1"]].min()
    assert left[0, ROW["V6"]].min() > -0.1 * left[0, ROW["V6"]].max()
    whole_time, whole = clean(typical(conduction="lbbb", qrs_ms=150.0))
    t_wave = (whole_time > 260) & (whole_time < 420)
    assert whole[0, ROW["V1"], t_wave].max() > 200 and whole[0, ROW["V6"], t_wave].min() < -100


def test_right_ventricular_load_turns_the_axis_right() -> None:
    turned = [axis(typical(rv_load=load)) for load in (-1.0, 1.0, 3.0, 5.0)]
    assert turned == sorted(turned) and turned[-1] > 90
    assert peak(typical(rv_load=5.0), "V1", 0, 110) > 1.4 * peak(typical(), "V1", 0, 110)


@pytest.mark.parametrize(("territory", "lead"), [("anterior", "V2"), ("inferior", "aVF"), ("lateral", "I")])
def test_old_infarct_writes_q_and_inverts_t_in_its_territory(territory: str, lead: str) -> None:
    hearts = pd.concat([typical(), typical(infarct=territory, infarct_extent=0.9)], ignore_index=True)
    time, leads = clean(hearts)
    trace = leads[:, 1] - leads[:, 0] / 2 if lead == "aVF" else leads[:, ROW[lead]]
    early, late = (time >= 5) & (time <= 35), (time > 300) & (time < 380)
    assert trace[1, early].min() < min(trace[0, early].min(), 0.0) - 150
    assert trace[0, late].max() > 80 and trace[1, late].min() < -50


def test_weak_ventricle_flattens_t_and_loses_r() -> None:
    weak, strong = typical(lv_ef=30.0), typical(lv_ef=62.0)
    assert peak(weak, "V5", 250, 420) < 0.85 * peak(strong, "V5", 250, 420)
    assert peak(weak, "V3", 0, 90) < 0.9 * peak(strong, "V3", 0, 90)


def test_fibrillation_is_irregular_without_p_and_with_waves_of_4_to_9_hz() -> None:
    hearts = typical(60, rhythm="af", rate_bpm=85.0)
    assert np.all(vcg.beat(hearts).vector[:, P_WAVES] == 0)
    cv = rr_cv(hearts)
    assert np.median(cv) > 0.15 and np.quantile(cv, 0.1) > 0.09
    beats = rhythm.draw(hearts, SECONDS, rngs(60))
    assert beats.rr.min() > 0.3
    quiet = typical(8, rhythm="af", rate_bpm=85.0, torso_gain=1.0)
    dipole = np.zeros((8, 3, RATE * SECONDS), np.float32)
    ecg._add_fibrillation(dipole, RATE, quiet, rngs(8))
    leads = np.einsum("li,nit->nlt", ecg.DOWER, dipole)
    spectrum = np.abs(np.fft.rfft(leads[:, ROW["V1"]], axis=1))
    top = np.fft.rfftfreq(RATE * SECONDS, 1 / RATE)[spectrum.argmax(1)]
    assert ((top > 3.5) & (top < 9.5)).all()
    assert (leads[:, ROW["V1"]].std(1) > 1.5 * leads[:, ROW["V6"]].std(1)).all()


def test_sinus_rhythm_is_regular_in_most_but_not_in_all() -> None:
    cv = rr_cv(sample(600, CaseMix(af=0.0), np.random.default_rng(9)))
    assert np.median(cv) < 0.04
    assert 0.02 < (cv > 0.1).mean() < 0.15


def test_ventricular_ectopic_is_early_wide_and_followed_by_a_pause() -> None:
    hearts = sample(600, CaseMix(af=0.0), np.random.default_rng(9))
    beats = rhythm.draw(hearts, SECONDS, rngs(600))
    person, beat = np.nonzero(beats.kind[:, 1:-1] == rhythm.PREMATURE_VENTRICULAR)
    assert len(person) > 5
    mean = (60 / hearts["rate_bpm"]).to_numpy()[person]
    before, after = beats.rr[person, beat + 1], beats.rr[person, beat + 2]
    assert np.median(before / mean) < 0.75 and np.median(after / mean) > 1.2


def test_determinants_describe_the_noise_free_beat() -> None:
    hearts = sample(300, CaseMix(af=0.3, af_now=1.0), np.random.default_rng(2))
    table = ecg.determinants(hearts)
    assert table.index.equals(hearts.index) and np.isfinite(table).all(axis=None)
    assert not set(VARIATION) & set(table.columns) and "torso_gain" not in table.columns
    assert (table.loc[hearts["rhythm"] == "af", ["p_la_x_uv", "pr_ms"]] == 0).all(axis=None)
    half = ecg.determinants(hearts.assign(torso_gain=hearts["torso_gain"] / 2))
    np.testing.assert_allclose(half["free_wall_x_uv"], table["free_wall_x_uv"] / 2)


def test_attainable_correlations_lie_where_people_do() -> None:
    people = sample(3000, CaseMix(), np.random.default_rng(12))
    x = ecg.determinants(people).to_numpy()
    x = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / (x.std(0) + 1e-9)])
    train, test = slice(0, 2000), slice(2000, None)
    bands = {"lv_mass": (0.68, 0.85), "lv_ef": (0.4, 0.65), "la_max": (0.55, 0.8), "lv_edv": (0.55, 0.8)}
    for name, (low, high) in bands.items():
        y = people[name].to_numpy()
        weights = np.linalg.solve(x[train].T @ x[train] + 5 * np.eye(x.shape[1]), x[train].T @ y[train])
        assert low < np.corrcoef(x[test] @ weights, y[test])[0, 1] < high, name


DEVICE = ecg.Device(rate_hz=RATE, lsb_uv=5.0, highpass_hz=0.05, lowpass_hz=100.0, noise_uv=2.0, mains_hz=50.0)


def _digital(
    signals: npt.NDArray[np.float32], device: ecg.Device, rng: Sequence[np.random.Generator]
) -> npt.NDArray[np.int32]:
    counts = ecg.digitise(signals, device, rng)
    assert counts.dtype == np.int32 and counts.shape == signals.shape
    return counts


def test_device_counts_return_the_signal_and_keep_the_identities() -> None:
    signals = ecg.synthesise(typical(3), RATE, SECONDS, rngs(3))
    counts = _digital(signals, DEVICE, rngs(3))
    np.testing.assert_array_equal(counts[:, LEAD["III"]], counts[:, 1] - counts[:, 0])
    assert np.abs(counts[:, LEAD["aVR"]] + (counts[:, 0] + counts[:, 1]) / 2).max() <= 0.5
    for person in range(3):
        assert np.corrcoef(counts[person, 10] * 5.0, signals[person, 10])[0, 1] > 0.9


def test_device_recordings_are_independent_of_batching() -> None:
    signals = ecg.synthesise(typical(3), RATE, 4, rngs(3))
    together = _digital(signals, DEVICE, rngs(3, 5))
    alone = ecg.digitise(signals[2], DEVICE, np.random.default_rng([5, 2]))
    np.testing.assert_array_equal(together[2], alone)


def test_device_band_removes_drift_and_buzz() -> None:
    time = np.arange(RATE * SECONDS) / RATE
    buzz, drift = 500 * np.sin(2 * np.pi * 90 * time), 500 * np.sin(2 * np.pi * 0.05 * time)
    signals = np.broadcast_to((buzz + drift).astype(np.float32), (12, len(time)))
    narrow = dataclasses.replace(DEVICE, highpass_hz=0.5, lowpass_hz=40.0)
    assert np.std(ecg.digitise(signals, narrow, np.random.default_rng(0))[6] * 5.0) < 0.35 * np.std(signals[6])


@pytest.mark.parametrize("change", [{"lowpass_hz": 200.0}, {"highpass_hz": 120.0}, {"lsb_uv": 0.0}, {"mains_hz": -1.0}])
def test_impossible_device_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(StudyError, match="Device"):
        dataclasses.replace(DEVICE, **change)


def test_one_generator_per_heart_is_required() -> None:
    with pytest.raises(StudyError, match="one each"):
        ecg.synthesise(typical(2), RATE, 4, rngs(1))
    with pytest.raises(StudyError, match="one each"):
        ecg.digitise(np.zeros((2, 12, 50), np.float32), DEVICE, rngs(3))
