"""Gates that fail closed: every reason for which a recording is left out, as a code that the flow diagram counts.

Nothing here repairs a signal. A wrong gain is named with its likely factor, which a site may then declare as
``ecg.gain_factor`` in ``cohorts.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from cardionets.beats import Indices, find_beats, mean_rate, median_beats, place_peaks, quantile
from cardionets.config import BEFORE_S, QualityGates
from cardionets.ecg import INDEPENDENT, LEADS, LIMB_FROM_I_II, EcgRecord, Floats, decimate, mains_uv

Slow = tuple[Floats, float]
"""Signals (..., 12, T // k) at about 120 Hz, and their rate."""

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


@dataclass(frozen=True)
class Looked:
    """What the gates say of n recordings: reasons of each; signals at about 120 Hz; samples of the R peaks in these."""

    reasons: list[list[str]]
    slow: Slow
    beats: list[Indices]


def inspect(record: EcgRecord, gates: QualityGates, seconds: float = 0.0) -> list[str]:
    """Reason codes for which ``record`` must be left out; empty when it may be used. See :func:`look`."""
    return look(record.signal[None], record.rate, gates, seconds).reasons[0]


def look(signals: Floats, rate: float, gates: QualityGates, seconds: float = 0.0) -> Looked:
    """Reasons for which recordings (n, 12, T) uV of one rate must be left out, and where their hearts beat.

    ``seconds``: length the grid needs, where longer than ``gates.min_seconds``. Codes: ``too_short``, ``nan``,
    ``flat_lead``, ``clipped``, ``amplitude_high[_xN]``, ``amplitude_low_xN`` (N: likely factor of the wrong gain),
    ``identity_einthoven``, ``identity_goldberger``, ``leads_swapped_A_B``, ``limb_reversal_la_ra``,
    ``limb_reversal_ra_ll``, ``limb_reversal_ra_rl``, ``limb_reversal_la_rl``, ``limb_reversal_arms_legs``,
    ``rate_implausible`` and ``spectrum_implausible``. Records do not influence each other.
    """
    sound = np.array([bool(np.isfinite(signal).all()) for signal in signals])
    x = signals if sound.all() else np.where(sound[:, None, None], signals, np.float32(0))
    length = x.shape[-1] / rate
    short = ["too_short"] if length < max(gates.min_seconds, seconds) - 1 / rate else []
    slow, slower = decimate(x, rate)
    if length < 2:
        found, reasons = [np.empty(0, np.int64) for _ in x], [["too_short"] for _ in x]
    else:
        found = place_peaks(slow, slower, [places / slower for places in find_beats(slow, slower)])
        rough = high_share(x, rate) > HIGH_SHARE
        reasons = [[*short, *(["spectrum_implausible"] if bad else [])] for bad in rough]
        fine = np.flatnonzero(~rough & sound)
        for row, more in zip(fine, _reasons(x[fine], rate, gates, (slow[fine], slower), [found[i] for i in fine])):
            reasons[row] += more
    return Looked([why if ok else ["nan"] for ok, why in zip(sound, reasons)], (slow, slower), found)


def _reasons(x: Floats, rate: float, gates: QualityGates, slow: Slow, found: list[Indices]) -> list[list[str]]:
    """Reasons against recordings (n, 12, T) whose spectrum is that of an ECG, from signals and median beats."""
    centred, slower = slow
    level = scipy.ndimage.uniform_filter1d(centred, round(0.8 * slower) | 1, mode="nearest")
    centred = centred - level  # (n, 12, t)
    low_bpm, high_bpm = gates.rate_bpm
    usual = [low_bpm <= mean_rate(peaks, slower) <= high_bpm for peaks in found]
    beats = median_beats(centred, [peaks if ok else peaks[:0] for ok, peaks in zip(usual, found)], slower)
    sizes = np.array([qrs_size_uv(beat) if beat is not None else TYPICAL_QRS_UV for beat in beats])
    low = np.array([likely_factor(TYPICAL_QRS_UV / max(size, 1e-9)) if size < QRS_RANGE_UV[0] else 1 for size in sizes])
    flat = np.any(flat_leads(x, rate, gates, low[:, None]), axis=1)
    top, bottom = x.max(-1), x.min(-1)  # (n, 12)
    cut, beyond = clipped(x, top, bottom), _beyond(x, top, bottom, gates.max_abs_uv)
    error = _mismatch(centred[:, :6])  # (n, 4)
    reasons = []
    for row, beat in enumerate(beats):
        codes = ["clipped"] if cut[row] else []
        codes += ["flat_lead"] if flat[row] else []
        if beat is None:
            reasons.append([*codes, "rate_implausible"])
            continue
        codes += _amplitude(sizes[row], low[row], beyond[row])
        codes += _limb_identities(centred[row], error[row], gates.max_identity_error)
        reasons.append(codes + _reversal(beat, slower))
    return reasons


def high_share(signals: NDArray[Any], rate: float) -> Floats:
    """Share of the power above 1 Hz that lies above ``HIGH_HZ``, mains left out: (..., 12, T) -> (...), median of the
    eight leads that do not follow from others.

    Samples in a wrong order, of wrong byte order or of no ECG at all are rough; a heart beat is smooth.
    """
    usable = scipy.fft.prev_fast_len(signals.shape[-1], real=True)
    spectrum = scipy.fft.rfft(np.asarray(signals[..., INDEPENDENT, :usable], np.float32))
    parts = spectrum.view(np.float32)  # (..., 8, F) complex -> (..., 8, 2F), real and imaginary in turn
    power = np.matmul(np.square(parts, out=parts), _bins(usable, rate))  # (..., 8, 2)
    share: Floats = np.median(power[..., 1] / np.maximum(power[..., 0], 1e-6), axis=-1)
    return share


@lru_cache(maxsize=64)
def _bins(samples: int, rate: float) -> Floats:
    """1 for every frequency above 1 Hz, and above ``HIGH_HZ``; 0 within 1 Hz of the mains and its multiples: (2F, 2).

    Each frequency stands twice, for the real and the imaginary part.
    """
    hz = scipy.fft.rfftfreq(samples, 1 / rate)
    mains = np.min([np.abs(hz - line * np.maximum(np.rint(hz / line), 1)) for line in MAINS_HZ], axis=0) <= 1
    both = np.stack([(hz > 1) & ~mains, (hz > HIGH_HZ) & ~mains], axis=1)
    return np.repeat(both, 2, axis=0).astype(np.float32)


def flat_leads(
    signals: NDArray[Any], rate: float, gates: QualityGates, gain: NDArray[Any] | float = 1.0
) -> NDArray[np.bool_]:
    """Whether a lead's SD times ``gain`` is too small, or it stands still (for 200 ms or longer) for too much of the
    time: (..., 12, T) -> (..., 12).
    """
    x = signals.reshape(-1, signals.shape[-1])
    still = _still_fraction(x, max(2, round(0.2 * rate)), gates.max_flat_fraction)
    spread = _spread(x)
    spread, still = (values.reshape(signals.shape[:-1]) for values in (spread, still))
    return np.asarray((spread * gain < gates.min_lead_std_uv) | (still > gates.max_flat_fraction))


def _spread(x: NDArray[Any]) -> Floats:
    """SD of every row of (k, T)."""
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", centred, centred) / x.shape[-1]))


def _still_fraction(x: NDArray[Any], run: int, least: float) -> Floats:
    """Share of each row covered by runs of ``run`` equal samples or more, 0 if below ``least``: (k, T) -> (k,)."""
    out = np.zeros(len(x), np.float32)
    every = max(1, run // 4)
    some = x[:, ::every]
    equal = some[:, 1:] == some[:, :-1]
    pairs = np.count_nonzero(equal[:, 1:] & equal[:, :-1], axis=1)  # a run holds two or more: one in 2.5 ``every``
    for row in np.flatnonzero(2.5 * every * pairs > 0.9 * least * (x.shape[1] - 1)) if x.shape[1] > run else ():
        changes = np.flatnonzero(x[row, 1:] != x[row, :-1])
        lengths = np.diff(changes, prepend=-1, append=x.shape[1] - 1)
        out[row] = lengths[lengths >= run].sum() / x.shape[1]
    return out


def clipped(signals: NDArray[Any], top: NDArray[Any], bottom: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether a lead sits exactly on its own extreme, far from its middle, for 0.5 % of the time or more.

    (n, 12, T) and each lead's extremes (n, 12) -> (n,).
    """
    found = np.zeros(len(signals), bool)
    for row, lead in np.argwhere(top - bottom > CLIPPED_BEYOND_UV):  # no other sample lies that far from the middle
        x = signals[row, lead]
        for extreme in (top[row, lead], bottom[row, lead]):
            often = np.count_nonzero(x == extreme) > 0.005 * len(x)
            found[row] |= often and abs(extreme - np.median(x[::8])) > CLIPPED_BEYOND_UV
    return found


def qrs_size_uv(beat: Floats) -> float:
    """Median over the leads that are alive of the peak-to-peak height of a median beat (12, B)."""
    heights = np.ptp(beat, axis=1)
    return quantile(heights[heights > 0.02 * heights.max()], 0.5) if heights.max() > 0 else 0.0


def _amplitude(size: float, low: int, beyond: bool) -> list[str]:
    # A lead is judged flat only after a gain that is wrong as a whole has been told apart
    if low > 1:
        return [f"amplitude_low_x{low}"]
    if size > QRS_RANGE_UV[1]:
        return [f"amplitude_high_x{likely_factor(size / TYPICAL_QRS_UV)}"]
    return ["amplitude_high"] if beyond else []


def _beyond(signals: NDArray[Any], top: NDArray[Any], bottom: NDArray[Any], limit: float) -> NDArray[np.bool_]:
    """Whether a sample lies further than ``limit`` from the middle of its lead, as :func:`clipped`."""
    found = np.zeros(len(signals), bool)
    for row in np.flatnonzero((top - bottom).max(-1) > limit):
        middle = np.median(signals[row, :, ::8], axis=-1)
        found[row] = np.maximum(top[row] - middle, middle - bottom[row]).max() > limit
    return found


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
    """RMS of III, aVR, aVL, aVF against what I and II imply, relative to the limb leads: (..., 6, T) -> (..., 4)."""
    size = np.sqrt(np.square(limb).mean((-2, -1))) + 1e-6
    rest = limb[..., 2:, :] - np.matmul(LIMB_FROM_I_II, limb[..., :2, :])  # (..., 4, T)
    worst: Floats = np.sqrt(np.square(rest).mean(-1)) / size[..., None]
    return worst


def _after_swap(x: Floats, a: str, b: str) -> float:
    rows = list(range(12))
    rows[_ROW[a]], rows[_ROW[b]] = _ROW[b], _ROW[a]
    return float(_mismatch(x[rows[:6]]).max())


def _limb_identities(x: Floats, error: Floats, tolerance: float) -> list[str]:
    # x: (12, T) without baseline. When exchanging one pair of channels, and no other, explains everything, say which.
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


def noise_scores(signals: NDArray[Any], rate: float, mains_hz: float, slow: Slow | None = None) -> dict[str, Floats]:
    """How noisy raw signals (..., 12, T) uV are, each (...) in uV: baseline wander, mains, muscle noise.

    ``baseline_uv``: range of the slow drift (means over 1 s); ``mains_uv``: amplitude of the mains line, in the worst
    lead; ``noise_uv``: median absolute second difference at about 125 Hz. Drift and noise in the worst lead but two.
    ``slow``: :func:`cardionets.ecg.decimate` of the signals where it is known already.
    """
    x, slower = slow or decimate(signals, rate)
    stretch = max(1, round(slower))
    usable = x.shape[-1] // stretch * stretch
    drift = np.ptp(x[..., :usable].reshape(*x.shape[:-1], -1, stretch).mean(-1), axis=-1)  # (..., 12)
    bend = np.abs(np.diff(x, 2, axis=-1))
    rough = np.partition(bend, bend.shape[-1] // 2, axis=-1)[..., bend.shape[-1] // 2]
    return {
        "baseline_uv": np.sort(drift)[..., -3],
        "mains_uv": mains_uv(np.asarray(signals, np.float32), rate, mains_hz),
        "noise_uv": np.sort(rough)[..., -3],
    }


def noise_flags(scores: Mapping[str, Any]) -> dict[str, bool]:
    """Flags of a usable record by its own :func:`noise_scores`: ``q_baseline``, ``q_mains``, ``q_noise``."""
    return {flag: bool(scores[name] > limit) for flag, (name, limit) in NOISE_FLAGS.items()}


def fingerprint(signal: NDArray[Any]) -> str:
    """Hash of a signal in whole uV, equal only for exact copies: to find one recording stored under two people."""
    whole = np.rint(signal)
    narrow = max(float(whole.max(initial=0)), -float(whole.min(initial=0))) < 2**15
    return hashlib.sha256(whole.astype("<i2" if narrow else "<i4").data).hexdigest()[:24]
