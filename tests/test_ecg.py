"""The ECG contract: leads by name, filters, beats and gates, on signals whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cardionets import beats, gates
from cardionets.beats import BEFORE_S, median_beat, qrs_duration_ms, r_peaks, rr_features
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.cohorts.recording import UNIT_UV
from cardionets.config import CohortEcg, EcgProtocol, Grid, Study
from cardionets.ecg import LEADS, STORED8, EcgRecord, RecordError, canonical, harmonise, lead_name, mains_uv

GRID = Grid(rate=250, seconds=10, frames=16, size=64, spacing_mm=2.4)
BAND = EcgProtocol(band_hz=(0.67, 40.0), mains_hz=50.0)
QUALITY = Study(Path(__file__).parent).protocol.quality

# Peak height (uV), time from R (s) and width (s) of P, Q, R, S, T, and how strongly each lead sees them.
WAVES = ((120, -0.16, 0.025), (-90, -0.03, 0.008), (1100, 0.0, 0.011), (-260, 0.032, 0.009), (280, 0.26, 0.05))
FRONTAL, CHEST = {"I": 0.8, "II": 1.0}, {"V1": -0.6, "V2": -0.4, "V3": 0.5, "V4": 1.3, "V5": 1.2, "V6": 0.9}


def drawn(
    rate: float = 500, seconds: float = 10, bpm: float = 70, seed: int = 0, noise: float = 4.0
) -> NDArray[np.float32]:
    """A regular heart beat as (12, T) uV whose limb leads obey the identities."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    beats = np.arange(0.35, seconds, 60 / bpm)
    wave = sum(
        height * np.exp(-0.5 * ((time - beat - shift) / width) ** 2) for beat in beats for height, shift, width in WAVES
    )
    eight = np.stack([gain * wave for gain in (FRONTAL | CHEST).values()])
    eight = eight + noise * rng.standard_normal(eight.shape)
    return canonical(eight, STORED8)


def record(signal: NDArray[np.float32], rate: float = 500) -> EcgRecord:
    return EcgRecord(signal.astype(np.float32), rate)


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("avr", "aVR"), ("AVL", "aVL"), ("Lead II", "II"), ("MLIII", "III"), ("mdc_ecg_lead_avf", "aVF"), ("DI", "I"),
        ("Lead I (Einthoven)", "I"), ("V_1", "V1"), ("C6", "V6"), ("ECG V2", "V2"), ("MDC_ECG_LEAD_V5", "V5"),
        ("vx", None), ("", None), ("-aVR", None), ("V7", None), ("EDF Annotations", None), ("ECG", None),
    ],
)  # fmt: skip
def test_lead_names(name: str, lead: str | None) -> None:
    assert lead_name(name) == lead


@given(order=st.permutations(range(12)), case=st.sampled_from([str.upper, str.lower, str]))
@settings(max_examples=30, deadline=None)
def test_order_never_matters(order: list[int], case: type[str]) -> None:
    signal = drawn()
    stored = canonical(signal[order], [case(LEADS[i]) for i in order])
    np.testing.assert_array_equal(stored, signal)


def test_extra_channels_are_dropped_and_limbs_derived() -> None:
    signal = drawn()
    extra = np.vstack([signal[[0, 1, *range(6, 12)]], np.full((1, signal.shape[1]), 7.0)])
    derived = canonical(extra, [*STORED8, "vx"])
    np.testing.assert_allclose(derived, signal, atol=1e-3)
    assert np.abs(derived[2] - (derived[1] - derived[0])).max() < 1e-3
    assert np.abs(derived[3:6].sum(axis=0)).max() < 1e-2


def test_missing_and_repeated_leads_are_named() -> None:
    signal = drawn()
    with pytest.raises(RecordError, match="V3, V6") as fault:
        canonical(signal[[0, 1, 6, 7, 9, 10]], ["I", "II", "V1", "V2", "V4", "V5"])
    assert fault.value.reason == "lead_missing"
    with pytest.raises(RecordError, match="III") as fault:
        canonical(signal[[0, *range(6, 12)]], ["I", *LEADS[6:]])
    assert fault.value.reason == "lead_missing"
    with pytest.raises(RecordError) as fault:
        canonical(signal, [*LEADS[:11], "v5"])
    assert fault.value.reason == "lead_repeated"


@given(rate=st.sampled_from([100, 240, 250, 257, 360, 400, 500, 1000]), bpm=st.integers(45, 150))
@settings(max_examples=20, deadline=None)
def test_every_rate_gives_the_same_heart(rate: int, bpm: int) -> None:
    signal = harmonise(drawn(rate, 10.5, bpm, noise=0), rate, GRID, BAND)
    assert signal.shape == (12, GRID.samples)
    assert signal.dtype == np.float32
    features = rr_features(r_peaks(signal, GRID.rate), GRID.rate)
    assert features["rate_bpm"] == pytest.approx(bpm, rel=0.02)
    assert features["rr_cv"] < 0.03
    reference = harmonise(drawn(1000, 10.5, bpm, noise=0), 1000, GRID, BAND)
    assert np.corrcoef(signal[1], reference[1])[0, 1] > 0.99


def test_records_do_not_influence_each_other() -> None:
    batch = np.stack([drawn(seed=1), 5 * drawn(bpm=90, seed=2), drawn(bpm=50, seed=3)])
    batch[1] += 300 * np.sin(2 * np.pi * 50 * np.arange(batch.shape[-1]) / 500)
    together = harmonise(batch, 500, GRID, BAND)
    for one, alone in zip(together, batch):
        np.testing.assert_array_equal(one, harmonise(alone, 500, GRID, BAND))


def _gain(hz: float) -> float:
    time = np.arange(20 * 500) / 500
    tone = np.tile(np.sin(2 * np.pi * hz * time), (12, 1))
    return float(harmonise(tone, 500, GRID, BAND).std() * np.sqrt(2))


def test_the_band_is_the_published_one() -> None:
    assert _gain(10) == pytest.approx(1, abs=0.01)
    assert _gain(0.67) == pytest.approx(0.5, abs=0.05)
    assert _gain(40) == pytest.approx(0.5, abs=0.05)
    assert _gain(0.1) < 0.02


def test_filter_keeps_the_place_of_the_r_wave() -> None:
    signal = drawn(noise=0)
    before, after = r_peaks(signal, 500) / 500, r_peaks(harmonise(signal, 500, GRID, BAND), 250) / 250
    assert np.abs(before - after).max() <= 0.004


def test_mains_are_removed_only_where_they_are() -> None:
    clean = drawn(noise=0)
    hum = clean + 200 * np.sin(2 * np.pi * 50 * np.arange(5000) / 500).astype(np.float32)
    assert float(mains_uv(hum, 500, 50)) == pytest.approx(200, rel=0.05)
    assert float(mains_uv(clean, 500, 50)) < 10
    assert gates.noise_flags(gates.noise_scores(hum, 500, 50))["q_mains"]
    assert not gates.noise_flags(gates.noise_scores(clean, 500, 50))["q_mains"]
    middle = slice(500, 2000)
    rest = harmonise(hum, 500, GRID, BAND)[:, middle] - harmonise(clean, 500, GRID, BAND)[:, middle]
    assert np.abs(rest).max() < 30


def test_too_short_and_nan_are_refused() -> None:
    with pytest.raises(RecordError) as fault:
        harmonise(drawn(seconds=9.9), 500, GRID, BAND)
    assert fault.value.reason == "too_short"
    broken = drawn()
    broken[4, 100] = np.nan
    with pytest.raises(RecordError) as fault:
        harmonise(broken, 500, GRID, BAND)
    assert fault.value.reason == "nan"


def test_a_tone_comes_to_the_grid_unchanged() -> None:
    tone = np.tile(500 + 100 * np.sin(2 * np.pi * 7 * np.arange(4000) / 400), (12, 1))
    wanted = 100 * np.sin(2 * np.pi * 7 * np.arange(2500) / 250)
    assert np.abs(harmonise(tone, 400, GRID, BAND)[3, 250:-250] - wanted[250:-250]).max() < 1


def test_an_ectopic_beat_with_its_pause_is_found() -> None:
    signal = drawn(bpm=60, noise=8)
    peaks = r_peaks(signal, 500)
    signal[:, peaks[5] - 150 : peaks[5] + 250] = 0
    at = peaks[4] + 310
    wide = 1500 * np.exp(-0.5 * ((np.arange(5000) - at) / 20) ** 2)
    signal[[1, 7, 8, 9]] += wide.astype(np.float32)
    found = r_peaks(signal, 500)
    assert len(found) == len(peaks)
    assert np.abs(found - at).min() < 15


def test_silence_has_no_beats() -> None:
    assert len(r_peaks(np.zeros((12, 5000), np.float32), 500)) == 0
    assert len(r_peaks(drawn(seconds=0.5), 500)) == 0
    assert np.isnan(list(rr_features(np.array([5]), 500).values())).all()


def test_tall_t_waves_and_a_dead_noisy_lead_do_not_count() -> None:
    signal = drawn(bpm=75)
    beats = len(r_peaks(signal, 500))
    signal[9] = np.random.default_rng(0).normal(0, 900, 5000)
    assert len(r_peaks(signal, 500)) == beats


@pytest.mark.parametrize("count", range(1, 26))
def test_median_of_a_few_beats_is_the_median(count: int) -> None:
    x = np.random.default_rng(count).normal(size=(count, 3, 50)).astype(np.float32)
    x[:, 0] = np.round(x[:, 0])  # ties
    np.testing.assert_array_equal(beats._median(x), np.median(x, axis=0))


def test_median_beat_has_its_window_and_leaves_ectopics_out() -> None:
    signal = harmonise(drawn(bpm=65, noise=0), 500, GRID, BAND)
    peaks = r_peaks(signal, 250)
    beat = median_beat(signal, peaks, 250)
    assert beat.shape == (12, 200)
    assert int(np.abs(beat[1]).argmax()) == pytest.approx(round(BEFORE_S * 250), abs=1)
    spoiled = signal.copy()
    spoiled[:, peaks[3] - 60 : peaks[3] + 120] *= -1.5
    np.testing.assert_allclose(median_beat(spoiled, peaks, 250), beat, atol=0.15 * np.ptp(beat))
    with pytest.raises(RecordError):
        median_beat(signal, np.array([3]), 250)


def test_qrs_duration_follows_the_width() -> None:
    times = (np.arange(200) - 70) / 250
    widths = [0.010, 0.016, 0.024]
    found = [qrs_duration_ms(np.tile(1000 * np.exp(-0.5 * (times / w) ** 2), (12, 1)), 250) for w in widths]
    assert found == sorted(found)
    assert found[0] < found[2] - 30
    assert np.isnan(qrs_duration_ms(np.zeros((12, 200)), 250))


def test_a_good_record_passes_every_gate() -> None:
    for bpm in (45, 70, 120):
        assert gates.inspect(record(drawn(bpm=bpm)), QUALITY, GRID.seconds) == []


def _flat(x: NDArray[np.float32]) -> None:
    x[8] = 3.0


def _stuck(x: NDArray[np.float32]) -> None:
    x[10, 1000:3000] = x[10, 1000]


def _clip(x: NDArray[np.float32]) -> None:
    np.clip(3 * x, -1500, 1500, out=x)


def _nan(x: NDArray[np.float32]) -> None:
    x[0, 9] = np.nan


def _swap_avl_avf(x: NDArray[np.float32]) -> None:
    x[[4, 5]] = x[[5, 4]]


def _swap_ii_v2(x: NDArray[np.float32]) -> None:
    x[[1, 7]] = x[[7, 1]]


def _arms(x: NDArray[np.float32]) -> None:
    x[:5] = np.stack([-x[0], x[2], x[1], x[4], x[3]])


def _rederive(x: NDArray[np.float32]) -> None:
    x[:] = canonical(x[[0, 1, *range(6, 12)]], STORED8)


def _arm_foot(x: NDArray[np.float32]) -> None:
    x[0], x[1] = -x[2], -x[1]
    _rederive(x)


def _right_leg(x: NDArray[np.float32]) -> None:
    x[1] *= 0.001
    _rederive(x)


def _sign(x: NDArray[np.float32]) -> None:
    x[3] *= -1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_flat, "flat_lead"), (_stuck, "flat_lead"), (_clip, "clipped"), (_nan, "nan"),
        (_swap_avl_avf, "leads_swapped_aVL_aVF"), (_swap_ii_v2, "leads_swapped_II_V2"), (_arms, "limb_reversal_la_ra"),
        (_arm_foot, "limb_reversal_ra_ll"), (_right_leg, "limb_reversal_ra_rl"), (_sign, "identity_goldberger"),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason(spoil, reason: str) -> None:
    signal = drawn()
    spoil(signal)
    assert reason in gates.inspect(record(signal), QUALITY)


@given(factor=st.sampled_from([5, 200, 1000, 2000]), high=st.booleans(), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_a_wrong_gain_is_named_with_its_factor(factor: int, high: bool, seed: int) -> None:
    signal = drawn(seed=seed) * np.float32(factor if high else 1 / factor)
    reasons = gates.inspect(record(signal), QUALITY)
    assert any(reason.startswith("amplitude_high" if high else "amplitude_low") for reason in reasons)
    named = int(reasons[-1].rpartition("_x")[2])
    assert named / factor == pytest.approx(1, abs=0.01) or {named, factor} == {1000, 2000}


def _time_as_leads(eight: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(eight.T).reshape(eight.shape)


def _leads_as_time(eight: NDArray[np.float32]) -> NDArray[np.float32]:
    return eight.reshape(eight.shape[::-1]).T


def _noise(eight: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 300, eight.shape)


def _other_bytes(eight: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.rint(eight).astype("<i2").view(">i2").astype(np.float32) / 10


@pytest.mark.parametrize("garble", [_time_as_leads, _leads_as_time, _noise])
def test_samples_that_are_no_ecg_are_told_by_their_spectrum(garble) -> None:
    eight = garble(drawn()[[0, 1, *range(6, 12)]])  # derived limb leads obey the identities whatever is stored
    assert gates.inspect(record(canonical(eight, STORED8)), QUALITY) == ["spectrum_implausible"]


def test_bytes_in_the_other_order_are_refused() -> None:
    eight = _other_bytes(drawn()[[0, 1, *range(6, 12)]])
    reasons = gates.inspect(record(canonical(eight, STORED8)), QUALITY)
    assert reasons and set(reasons) <= {"spectrum_implausible", "amplitude_high_x5", "clipped"}


def test_mains_and_strong_muscle_noise_are_no_reason() -> None:
    hum = drawn() + 400 * np.sin(2 * np.pi * 60 * np.arange(5000) / 500).astype(np.float32)
    assert gates.high_share(hum, 500) < 0.05
    assert "spectrum_implausible" not in gates.inspect(record(drawn(noise=60)), QUALITY)
    assert gates.high_share(drawn(rate=100), 100) < 0.05


@given(
    rate=st.sampled_from([250, 360, 400, 500, 1000]),
    unit=st.sampled_from(["uV", "mV", "V"]),
    factor=st.sampled_from([5, 200, 2000]),
    order=st.permutations(range(12)),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_unit_order_and_rate_and_the_declared_remedy_of_a_gain(
    tmp_path: Path, rate: int, unit: str, factor: int, order: list[int], seed: int
) -> None:
    truth = drawn(rate, seed=seed)
    leads = tuple(LEADS[i] for i in order)
    np.save(tmp_path / "a.npy", truth[order].T.astype(float) / UNIT_UV[unit.lower()] * factor)
    declared = CohortEcg(unit=unit, rate=rate, leads=leads)
    wrong = read_ecg(tmp_path / "a.npy", declared)
    (reason,) = [reason for reason in gates.inspect(wrong, QUALITY) if reason.startswith("amplitude_high_x")]
    named = int(reason.rpartition("_x")[2])
    assert named == factor or {named, factor} == {1000, 2000}
    mended = read_ecg(tmp_path / "a.npy", declared.model_copy(update={"gain_factor": 1 / factor}))
    np.testing.assert_allclose(mended.signal, truth, atol=0.01)
    assert gates.inspect(mended, QUALITY, GRID.seconds) == []


def test_length_and_rate_gates() -> None:
    assert gates.inspect(record(drawn(seconds=6)), QUALITY) == ["too_short"]
    assert gates.inspect(record(drawn(seconds=9)), QUALITY, seconds=10) == ["too_short"]
    assert gates.inspect(record(drawn(seconds=1)), QUALITY) == ["too_short"]
    assert "rate_implausible" in gates.inspect(record(drawn(rate=500), rate=100), QUALITY)
    noise = np.random.default_rng(0).normal(0, 0.1, (12, 5000)).astype(np.float32)
    assert gates.inspect(record(noise * 0), QUALITY) == ["flat_lead", "rate_implausible"]


@given(n=st.integers(1, 200), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_nan_is_found(n: int, seed: int) -> None:
    signal = drawn(seconds=4)
    rng = np.random.default_rng(seed)
    signal[rng.integers(12, size=n), rng.integers(signal.shape[1], size=n)] = np.nan
    assert gates.inspect(record(signal), QUALITY) == ["nan"]


def test_a_centre_is_judged_by_its_median() -> None:
    assert gates.gain_suspicion(np.array([500.0, 900.0, 2500.0])) is None
    assert "5 times too high" in str(gates.gain_suspicion(np.full(9, 5200.0)))
    assert "2000 times too low" in str(gates.gain_suspicion(np.full(9, 0.5)))


def test_fingerprints_tell_copies_from_look_alikes() -> None:
    signal = drawn()
    assert gates.fingerprint(signal) == gates.fingerprint(signal + 0.1 * 0)
    assert gates.fingerprint(signal) != gates.fingerprint(drawn(seed=1))
    other = signal.copy()
    other[11, -1] += 2
    assert gates.fingerprint(signal) != gates.fingerprint(other)


def test_time_at_rest_is_counted_as_by_hand() -> None:
    """Only runs of ``run`` samples count; leads that rest for less than ``least`` may be told by a glance."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        run, least = int(rng.integers(2, 120)), float(rng.uniform(0.05, 0.4))
        lengths = rng.geometric(1 / rng.uniform(1, 1.5 * run), 3000)
        signal = np.repeat(np.arange(3000) % 7, lengths)[None, :3000].astype(np.float32)
        edges = np.flatnonzero(np.diff(signal[0], prepend=-1, append=-1))
        spans = np.diff(edges)
        wanted = spans[spans >= run].sum() / 3000
        (found,) = gates._still_fraction(signal, run, least)
        assert found == pytest.approx(wanted) or (found == 0 and wanted <= least)
