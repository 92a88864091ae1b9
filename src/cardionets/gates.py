"""Gates that fail closed: every reason for which a recording is left out, as a code that the flow diagram counts.

Nothing here repairs a signal. A wrong gain is named with its likely factor, which a site may then declare as
``ecg.gain_factor`` in ``cohorts.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from cardionets.beats import mean_rate, median_beat, quantile, r_peaks
from cardionets.config import BEFORE_S, QualityGates
from cardionets.ecg import INDEPENDENT, LEADS, LIMB_FROM_I_II, EcgRecord, Floats, RecordError, decimate, mains_uv

Slow = tuple[Floats, float]
"""A signal (12, T // k) at about 120 Hz, and its rate."""

FACTORS = (5, 50, 200, 1000, 2000, 1_000_000)
TYPICAL_QRS_UV = 1000.0
QRS_RANGE_UV = (260.0, 3200.0)
CLIPPED_BEYOND_UV = 1000.0
NOISE_FLAGS = {"q_baseline": ("baseline_uv", 500.0), "q_mains": ("mains_uv", 20.0), "q_noise": ("noise_uv", 45.0)}
"""The flag that a usable record carries when a score of noise is beyond its limit."""
HIGH_HZ = 40.0
HIGH_SHARE = 0.25
"""Share of the power above ``HIGH_HZ`` that no heart beat has; sound recordings lie below 0.1."""
MAINS_HZ = (50.0, 60.0)
# Pairs of channels whose exchange the identities can prove: at least one is a limb lead.
_SWAPS = [(a, b) for i, a in enumerate(LEADS) for b in LEADS[i + 1 :] if a in LEADS[:6]]
_ROW = {lead: row for row, lead in enumerate(LEADS)}


def inspect(record: EcgRecord, gates: QualityGates, seconds: float = 0.0, slow: Slow | None = None) -> list[str]:
    """Reason codes for which ``record`` must be left out; empty when it may be used.

    ``seconds``: length the grid needs, where longer than ``gates.min_seconds``; the last argument is the result of
    :func:`decimate` where it is known already. Codes: ``too_short``, ``nan``,
    ``flat_lead``, ``clipped``, ``amplitude_high[_xN]``, ``amplitude_low_xN`` (N: likely factor of the wrong gain),
    ``identity_einthoven``, ``identity_goldberger``, ``leads_swapped_A_B``, ``limb_reversal_la_ra``,
    ``limb_reversal_ra_ll``, ``limb_reversal_ra_rl``, ``limb_reversal_la_rl``, ``limb_reversal_arms_legs``,
    ``rate_implausible`` and ``spectrum_implausible``.
    """
    if not np.isfinite(record.signal).all():
        return ["nan"]
    reasons = ["too_short"] if record.seconds < max(gates.min_seconds, seconds) - 1 / record.rate else []
    if record.seconds < 2:
        return reasons or ["too_short"]
    if high_share(record.signal, record.rate) > HIGH_SHARE:
        return [*reasons, "spectrum_implausible"]
    x, rate = slow or decimate(record.signal, record.rate)
    x = x - scipy.ndimage.uniform_filter1d(x, round(0.8 * rate) | 1, axis=1, mode="nearest")
    reasons += ["clipped"] if clipped(record.signal) else []
    peaks = r_peaks(x, rate)
    bpm = mean_rate(peaks, rate)
    if not gates.rate_bpm[0] <= bpm <= gates.rate_bpm[1]:
        flat = ["flat_lead"] if flat_leads(record.signal, record.rate, gates) else []
        return [*reasons, *flat, "rate_implausible"]
    try:
        beat = median_beat(x, peaks, rate)
    except RecordError as fault:
        return [*reasons, fault.reason]
    reasons += _amplitude(record, beat, gates)
    return reasons + _limb_identities(x, gates.max_identity_error) + _reversal(beat, rate)


def high_share(signal: NDArray[Any], rate: float) -> float:
    """Share of the power above 1 Hz that lies above ``HIGH_HZ``, mains left out: median over the eight leads of (12, T)
    that do not follow from others.

    Samples in a wrong order, of wrong byte order or of no ECG at all are rough; a heart beat is smooth.
    """
    usable = scipy.fft.prev_fast_len(signal.shape[1], real=True)
    spectrum = scipy.fft.rfft(np.asarray(signal[INDEPENDENT, :usable], np.float32))
    parts = spectrum.view(np.float32)  # (8, F) complex -> (8, 2F), real and imaginary in turn
    above, high = (np.square(parts) @ _bins(usable, rate)).T
    return quantile(high / np.maximum(above, 1e-6), 0.5)


@lru_cache(maxsize=64)
def _bins(samples: int, rate: float) -> Floats:
    """1 for every frequency above 1 Hz, and above ``HIGH_HZ``; 0 within 1 Hz of the mains and its multiples: (2F, 2).

    Each frequency stands twice, for the real and the imaginary part.
    """
    hz = scipy.fft.rfftfreq(samples, 1 / rate)
    mains = np.min([np.abs(hz - line * np.maximum(np.rint(hz / line), 1)) for line in MAINS_HZ], axis=0) <= 1
    both = np.stack([(hz > 1) & ~mains, (hz > HIGH_HZ) & ~mains], axis=1)
    return np.repeat(both, 2, axis=0).astype(np.float32)


def flat_leads(signal: NDArray[Any], rate: float, gates: QualityGates, gain: float = 1.0) -> list[str]:
    """Leads whose SD times ``gain`` is too small, or that stand still (200 ms or longer) for too much of the time."""
    still = _still_fraction(signal, max(2, round(0.2 * rate)), gates.max_flat_fraction)
    centred = signal - signal.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred) / signal.shape[1])
    bad = (spread * gain < gates.min_lead_std_uv) | (still > gates.max_flat_fraction)
    return [lead for lead, is_bad in zip(LEADS, bad) if is_bad]


def _still_fraction(signal: NDArray[Any], run: int, least: float) -> Floats:
    """Share of each lead covered by runs of ``run`` equal samples or more, 0 if below ``least``: (12, T) -> (12,)."""
    out = np.zeros(signal.shape[0], np.float32)
    every = max(1, run // 4)  # n equal samples hold n // every of these, so a third as many pairs at least
    some = signal[:, ::every]
    pairs = np.count_nonzero(some[:, 1:] == some[:, :-1], axis=1)
    for lead in np.flatnonzero(3 * every * pairs > 0.9 * least * (signal.shape[1] - 1)):
        changes = np.flatnonzero(signal[lead, 1:] != signal[lead, :-1])
        lengths = np.diff(changes, prepend=-1, append=signal.shape[1] - 1)
        out[lead] = lengths[lengths >= run].sum() / signal.shape[1]
    return out


def clipped(signal: NDArray[Any]) -> bool:
    """Whether a lead sits exactly on its own extreme, far from its middle, for 0.5 % of the time or more."""
    top, bottom = signal.max(axis=1), signal.min(axis=1)
    for lead in np.flatnonzero(top - bottom > CLIPPED_BEYOND_UV):  # elsewhere no sample lies that far from the middle
        for extreme in (top[lead], bottom[lead]):
            often = np.count_nonzero(signal[lead] == extreme) > 0.005 * signal.shape[1]
            if often and abs(extreme - np.median(signal[lead, ::8])) > CLIPPED_BEYOND_UV:
                return True
    return False


def qrs_size_uv(beat: Floats) -> float:
    """Median over the leads that are alive of the peak-to-peak height of a median beat (12, B)."""
    heights = np.ptp(beat, axis=1)
    return quantile(heights[heights > 0.02 * heights.max()], 0.5) if heights.max() > 0 else 0.0


def _amplitude(record: EcgRecord, beat: Floats, gates: QualityGates) -> list[str]:
    # A lead is judged flat only after a gain that is wrong as a whole has been told apart
    size = qrs_size_uv(beat)
    low = likely_factor(TYPICAL_QRS_UV / max(size, 1e-9)) if size < QRS_RANGE_UV[0] else 1
    codes = ["flat_lead"] if flat_leads(record.signal, record.rate, gates, low) else []
    if low > 1:
        return [*codes, f"amplitude_low_x{low}"]
    if size > QRS_RANGE_UV[1]:
        return [*codes, f"amplitude_high_x{likely_factor(size / TYPICAL_QRS_UV)}"]
    return [*codes, "amplitude_high"] if _beyond(record.signal, gates.max_abs_uv) else codes


def _beyond(signal: NDArray[Any], limit: float) -> bool:
    """Whether a sample of (12, T) lies further than ``limit`` from the middle of its lead."""
    top, bottom = signal.max(axis=1), signal.min(axis=1)
    if float((top - bottom).max()) <= limit:
        return False
    middle = np.median(signal[:, ::8], axis=1)
    return bool((np.maximum(top - middle, middle - bottom) > limit).any())


def gain_suspicion(sizes_uv: NDArray[Any]) -> str | None:
    """What the QRS sizes of MANY records say about the gain of a centre, or None when they are usual.

    One person may well have a QRS 2.5 times the usual; the median of a centre hardly leaves 0.5 to 2 times the usual.
    """
    ratio = float(np.median(sizes_uv)) / TYPICAL_QRS_UV
    if 0.45 < ratio < 2.2:
        return None
    if ratio >= 1:
        return f"amplitudes are {ratio:.1f} times the usual; they are likely {likely_factor(ratio)} times too high"
    inverse = 1 / max(ratio, 1e-12)
    return f"amplitudes are 1/{inverse:.1f} of the usual; they are likely {likely_factor(inverse)} times too low"


def likely_factor(ratio: float) -> int:
    """The usual mistake (5, 10, 1000, ...) nearest to ``ratio`` on a logarithmic scale."""
    return min(FACTORS, key=lambda factor: abs(np.log(ratio / factor)))


def _mismatch(limb: Floats) -> Floats:
    """RMS of III, aVR, aVL, aVF against what I and II imply, relative to the limb leads: (6, T) -> (4,)."""
    size = np.sqrt(np.square(limb).mean()) + 1e-6
    wanted = LIMB_FROM_I_II @ limb[:2]  # (4, T)
    worst: Floats = np.sqrt(np.square(limb[2:] - wanted).mean(axis=1)) / size
    return worst


def _after_swap(x: Floats, a: str, b: str) -> float:
    rows = list(range(12))
    rows[_ROW[a]], rows[_ROW[b]] = _ROW[b], _ROW[a]
    return float(_mismatch(x[rows[:6]]).max())


def _limb_identities(x: Floats, tolerance: float) -> list[str]:
    # x: (12, T) without baseline. When exchanging one pair of channels, and no other, explains everything, say which.
    error = _mismatch(x[:6])
    if not (error > tolerance).any():
        return []
    (best, a, b), (second, *_) = sorted((_after_swap(x, a, b), a, b) for a, b in _SWAPS)[:2]
    if best < tolerance and best < 0.5 * second:
        return [f"leads_swapped_{a}_{b}"]
    codes = ["identity_einthoven"] if error[0] > tolerance else []
    return codes + (["identity_goldberger"] if (error[1:] > tolerance).any() else [])


def _alike(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return float(a @ b) / norm if norm > 0 else 0.0


def _silent_lead(span: Floats) -> list[str]:
    """Two limb electrodes on the legs: the lead between them sees no heart at all. ``span``: heights of I, II, III."""
    heights = [float(height) for height in span]
    for row, which in ((1, "ra_rl"), (2, "la_rl"), (0, "arms_legs")):
        others = min(height for lead, height in enumerate(heights) if lead != row)
        if heights[row] < min(0.04 * others, 40.0) and others > 300:
            return [f"limb_reversal_{which}"]
    return []


def _reversal(beat: Floats, rate: float) -> list[str]:
    """Limb-electrode reversals that a beat (12, B) proves: a silent lead, or P, QRS and T each upside down against V6.

    Without a P wave nothing is claimed: an axis beyond 90 degrees or a bundle branch block turns QRS and T, not P.
    """
    if silent := _silent_lead(np.ptp(beat[:3], axis=1)):
        return silent
    r = round(BEFORE_S * rate)
    cut = [r + round(seconds * rate) for seconds in (-0.25, -0.085, 0.06, 0.12)]
    parts = (slice(cut[0], cut[1]), slice(cut[1], cut[2]), slice(cut[3], None))  # P, QRS, T
    v6 = beat[_ROW["V6"]]
    if np.ptp(v6) < 400 or np.ptp(v6[parts[0]]) < 30:
        return []

    def upside_down(lead: str, *limits: float) -> bool:
        row = beat[_ROW[lead]]
        return all(_alike(row[part], v6[part]) < limit for part, limit in zip(parts, limits))

    if upside_down("II", -0.6, -0.6, -0.6) and upside_down("aVF", -0.6, -0.5, -0.5):
        return ["limb_reversal_ra_ll"]
    return ["limb_reversal_la_ra"] if upside_down("I", -0.6, -0.5, -0.5) else []


def noise_scores(signal: NDArray[Any], rate: float, mains_hz: float, slow: Slow | None = None) -> dict[str, float]:
    """How noisy a raw signal (12, T) uV is, each in uV: baseline wander, mains, muscle noise.

    ``baseline_uv``: range of the slow drift (means over 1 s); ``mains_uv``: amplitude of the mains line, in the worst
    lead; ``noise_uv``: median absolute second difference at about 125 Hz. Drift and noise in the worst lead but two.
    ``slow``: :func:`decimate` of the signal where it is known already.
    """
    x, slower = slow or decimate(signal, rate)
    stretch = max(1, round(slower))
    usable = x.shape[1] // stretch * stretch
    drift = np.ptp(x[:, :usable].reshape(12, -1, stretch).mean(axis=2), axis=1)
    bend = np.abs(np.diff(x, 2, axis=1))
    rough = np.partition(bend, bend.shape[1] // 2, axis=1)[:, bend.shape[1] // 2]
    return {
        "baseline_uv": float(np.sort(drift)[-3]),
        "mains_uv": float(mains_uv(np.asarray(signal, np.float32), rate, mains_hz)),
        "noise_uv": float(np.sort(rough)[-3]),
    }


def noise_flags(scores: Mapping[str, float]) -> dict[str, bool]:
    """Flags of a usable record by its :func:`noise_scores`: ``q_baseline``, ``q_mains``, ``q_noise``."""
    return {flag: scores[name] > limit for flag, (name, limit) in NOISE_FLAGS.items()}


def fingerprint(signal: NDArray[Any]) -> str:
    """Hash of a signal in whole uV, equal only for exact copies: to find one recording stored under two people."""
    whole = np.rint(signal)
    narrow = max(float(whole.max(initial=0)), -float(whole.min(initial=0))) < 2**15
    return hashlib.sha256(whole.astype("<i2" if narrow else "<i4").data).hexdigest()[:24]
