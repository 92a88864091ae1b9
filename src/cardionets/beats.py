"""Heart beats: R peaks from all leads together, RR statistics, the median beat and its QRS duration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cardionets.config import AFTER_S, BEFORE_S
from cardionets.ecg import INDEPENDENT, Floats, RecordError, decimate

Indices = NDArray[np.int64]

_WIDTH_S = 0.13
"""Steepness is averaged over this stretch: a wide QRS gathers as much in it as a narrow one, a T wave little."""
_REFRACTORY_S = 0.25
_HEIGHT = 0.3
"""Of the typical QRS above the quiet level: the least that is a beat."""
_T_WAVE_S = 0.30
REACH_S: Final = 0.04
"""An R peak lies within this of where the QRS is steepest on the whole."""
_LEVEL_S = 0.3
_GAP = 1.35
_FEW_BEATS = 20


def quantile(values: NDArray[Any], share: float) -> float:
    """The quantile ``share`` of a few values (n,), on the line between neighbours: numpy's, without its checks."""
    ordered = np.sort(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    below, above = float(ordered[low]), float(ordered[min(low + 1, len(ordered) - 1)])
    return below + (place - low) * (above - below)


def _tops(x: Floats, rate: float) -> Floats:
    """Median of the maxima of stretches of 2 s: (..., t) -> (...)."""
    count = max(1, round(x.shape[-1] / (2 * rate)))
    width = x.shape[-1] // count
    tops: Floats = np.median(x[..., : count * width].reshape(*x.shape[:-1], count, width).max(-1), -1)
    return tops


def _activity(slow: Floats, rate: float) -> Floats:
    """Steepness over 16 ms, (n, 12, t) -> (n, t), mean of leads in units of each lead's own QRS, so that none decides.

    Leads without a beat are not blown up, spikes of one lead are cut.
    """
    x = slow[:, INDEPENDENT]
    steep = np.zeros_like(x)  # (n, 8, t)
    inner = np.subtract(x[..., 2:], x[..., :-2], out=steep[..., 1:-1])
    np.abs(inner, out=inner)
    level = _tops(steep, rate)  # (n, 8)
    weight = 1 / np.maximum(level, 0.3 * level.mean(1, keepdims=True) + 1e-3)
    np.minimum(np.multiply(steep, weight[..., None], out=steep), 1.5, out=steep)
    smooth: Floats = scipy.ndimage.uniform_filter1d(steep.mean(1), 2 * round(_WIDTH_S * rate / 2) + 1, mode="nearest")
    return smooth


def find_beats(slow: Floats, rate: float) -> list[Indices]:
    """Where hearts beat in recordings (n, 12, t) at about 120 Hz, any unit, raw or filtered: n times (beat,) samples.

    QRS complexes are maxima of the slope summed over leads (after Pan and Tompkins, IEEE TBME 1985, with all leads
    instead of one and thresholds from the record itself). Records do not influence each other.
    """
    if slow.shape[-1] < rate:
        return [np.empty(0, np.int64) for _ in slow]
    activity, reach = _activity(slow, rate), round(_REFRACTORY_S * rate)
    quiet = np.median(activity, -1)  # (n,)
    span = _tops(activity, rate) - quiet
    highest = scipy.ndimage.maximum_filter1d(activity, 2 * reach + 1, mode="nearest")
    inner = activity[:, 1:-1]
    beat = (inner == highest[:, 1:-1]) & (inner > activity[:, :-2]) & (inner > (quiet + _HEIGHT * span)[:, None])
    found = []
    for row in range(len(slow)):
        places = np.flatnonzero(beat[row]) + 1
        places = places[np.diff(places, prepend=-reach - 1) > reach]
        if len(places) > 2:
            places = _search_back(activity[row] - quiet[row], slow[row], places, rate)
        found.append(places)
    return found


def _search_back(height: Floats, x: Floats, found: Indices, rate: float) -> Indices:
    """Add slow, large deflections (ventricular ectopics) in gaps longer than 1.35 RR, at least 0.1 s from the ends.

    ``height``: steepness above the quiet level (t,) of ``x`` (12, t). T waves are not as steep against their own beat.
    """
    gap = _GAP * quantile(np.diff(found), 0.5)
    after, before, margin = (round(seconds * rate) for seconds in (_T_WAVE_S, _REFRACTORY_S, 0.1))
    tops = []
    for left, right in pairwise([margin - after, *found.tolist(), len(height) + before - margin]):
        start, stop = left + after, right - before
        if right - left > gap and stop - start > 2:
            top = start + int(height[start:stop].argmax())
            beside = height[left] if left >= 0 else height[right]
            if start < top < stop - 1 and height[top] > 0.2 * beside:
                tops.append(top)
    if not tops:
        return found
    level = scipy.ndimage.uniform_filter1d(x, 2 * round(_LEVEL_S * rate) + 1, axis=1, mode="nearest")
    power = np.square(x - level).sum(0)  # (t,)
    size = np.sqrt(scipy.ndimage.maximum_filter1d(power, 2 * round(0.06 * rate) + 1, mode="nearest"))
    large = 0.35 * quantile(size[found], 0.5)
    return np.sort(np.concatenate([found, np.array([top for top in tops if size[top] > large], np.int64)]))


def _windows(x: Floats, record: Indices, middle: Indices, reach: int) -> tuple[Floats, Indices]:
    """(n, lead, T) -> (beat, lead, 2 reach + 1) about samples of records, and their first samples; none leaves."""
    width = min(2 * reach + 1, x.shape[-1])
    first = np.minimum(np.maximum(middle - reach, 0), x.shape[-1] - width)
    return sliding_window_view(x, width, axis=-1)[record, :, first], first


def place_peaks(
    signals: Floats, rate: float, beats_s: Sequence[NDArray[Any]], reach_s: float = REACH_S
) -> list[Indices]:
    """R peaks of (n, 12, T) for n times (beat,) seconds: samples of the largest deflection over all leads nearby.

    A deflection is measured from the mean of 0.6 s about the beat.
    """
    counts = [len(beats) for beats in beats_s]
    if not sum(counts):
        return [np.empty(0, np.int64) for _ in counts]
    record = np.repeat(np.arange(len(counts)), counts)
    middle = np.rint(np.concatenate(beats_s) * rate).astype(np.int64)
    every = max(1, int(rate // 60))
    around, _ = _windows(signals[..., ::every], record, middle // every, round(_LEVEL_S * rate / every))
    near, first = _windows(signals, record, middle, max(1, round(reach_s * rate)))
    near = near - around.mean(-1, keepdims=True)  # (beat, 12, window)
    peaks = first + np.einsum("bkt,bkt->bt", near, near).argmax(1)
    return np.split(peaks, np.cumsum(counts)[:-1])


def r_peaks(signal: NDArray[Any], rate: float) -> Indices:
    """Sample indices of the R peaks of one recording (12, T), any unit, raw or filtered; see :func:`find_beats`."""
    x = np.asarray(signal, np.float32)[None]
    slow, slower = decimate(x, rate)
    (found,) = find_beats(slow, slower)
    return place_peaks(x, rate, [seconds(found, slower, rate)])[0]


def seconds(places: Indices, slower: float, rate: float) -> NDArray[Any]:
    """Times of samples of :func:`cardionets.ecg.decimate`: the middles of what was averaged."""
    times: NDArray[Any] = (places + 0.5) / slower - 0.5 / rate
    return times


def mean_rate(peaks: Indices, rate: float) -> float:
    """Beats per minute from the mean RR interval; NaN with fewer than two beats."""
    rr = np.diff(peaks) / rate
    return float(60 / rr.mean()) if len(rr) else np.nan


def rr_features(peaks: Indices, rate: float) -> dict[str, float]:
    """``rate_bpm`` (mean), ``rr_cv`` (SD / mean) and ``rr_rmssd_ms`` of the RR intervals; NaN with too few beats."""
    rr = np.diff(peaks) / rate
    return {
        "rate_bpm": mean_rate(peaks, rate),
        "rr_cv": float(rr.std() / rr.mean()) if len(rr) > 1 else np.nan,
        "rr_rmssd_ms": float(1000 * np.sqrt(np.mean(np.diff(rr) ** 2))) if len(rr) > 1 else np.nan,
    }


@lru_cache(maxsize=64)
def _network(n: int) -> tuple[tuple[int, int], ...]:
    """Pairs of ``n`` values to put in order, one after the other, until the middle ones are in place.

    Batcher's odd-even merge sort (Proc. AFIPS 1968;32:307) without the comparisons that the middle does not need.
    """
    steps = [(p, k) for p in (2**i for i in range(n.bit_length())) for k in (p >> i for i in range(p.bit_length()))]
    starts = ((p, k, j) for p, k in steps if p < n for j in range(k % p, n - k, 2 * k))
    pairs = [
        (i, i + k) for p, k, j in starts for i in range(j, min(j + k, n - k)) if i // (2 * p) == (i + k) // (2 * p)
    ]
    needed, kept = {n // 2, (n - 1) // 2}, []
    for pair in reversed(pairs):
        if needed & set(pair):
            needed |= set(pair)
            kept.append(pair)
    return tuple(reversed(kept))


def _median(x: Floats) -> Floats:
    """``np.median(x, axis=0)`` of finite (beat, ...): whole beats are compared, several times as fast for a few."""
    half, odd = len(x) // 2, len(x) % 2
    rows = list(x) if len(x) <= _FEW_BEATS else list(np.sort(x, axis=0))
    for low, high in _network(len(x)) if len(x) <= _FEW_BEATS else ():
        rows[low], rows[high] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    middle: Floats = rows[half] if odd else (rows[half - 1] + rows[half]) / 2
    return middle


def _aligned(x: Floats, record: Indices, first: Indices, length: int, reach: int) -> Floats:
    """Beats (beat, 12, length) of (n, 12, T), each shifted by at most ``reach`` samples to fit its record's median.

    ``record``, ``first``: whose beat it is, ascending, and its first sample before shifting, (beat,).
    """
    size = np.abs(x).sum(1)  # (n, T)
    energy = sliding_window_view(size, length + 2 * reach, axis=1)[record, first - reach]  # (beat, length + 2 reach)
    shifts = sliding_window_view(energy, length, axis=1)  # (beat, 2 reach + 1, length)
    best = np.empty(len(record), np.int64)
    for rows in _runs(record):
        template = _median(energy[rows, reach : reach + length])
        best[rows] = (shifts[rows] @ (template - template.mean())).argmax(1)
    return sliding_window_view(x, length, axis=2)[record, :, first + best - reach]


def _runs(record: Indices) -> list[slice]:
    edges = np.flatnonzero(np.diff(record, prepend=-1, append=-1)).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def median_beats(signals: Floats, peaks: Sequence[Indices], rate: float) -> list[Floats | None]:
    """Median beats of (n, 12, T): n times float32 (12, 0.8 * rate), from -0.28 s to +0.52 s around R, same unit.

    Beats are aligned to each other; those unlike the median (correlation over all leads below 0.8, e.g. ectopic ones)
    are left out when enough alike remain. None where no beat is complete. Records do not influence each other.
    """
    before, length, reach = round(BEFORE_S * rate), round((BEFORE_S + AFTER_S) * rate), max(1, round(0.02 * rate))
    found: list[Floats | None] = [None] * len(signals)
    first = np.concatenate([*peaks, np.empty(0, np.int64)]) - before
    record = np.repeat(np.arange(len(peaks)), [len(some) for some in peaks])
    whole = (first >= reach) & (first + length + reach <= signals.shape[-1])
    if not whole.any():
        return found
    record, first = record[whole], first[whole]
    beats = _aligned(np.asarray(signals, np.float32), record, first, length, reach)
    for rows in _runs(record):
        found[record[rows.start]] = _typical(beats[rows])
    return found


def _typical(beats: Floats) -> Floats:
    """Median of those of the beats (beat, 12, length) that are alike."""
    typical = _median(beats)  # (12, length)
    flat = beats.reshape(len(beats), -1)
    norms = np.sqrt(np.einsum("ij,ij->i", flat, flat))
    likeness = (flat @ typical.ravel()) / (norms * np.linalg.norm(typical) + 1e-6)
    alike = likeness > 0.8
    if len(beats) // 2 <= alike.sum() < len(beats) and alike.sum() >= 3:
        typical = _median(beats[alike])
    return np.ascontiguousarray(typical, np.float32)


def median_beat(signal: NDArray[Any], peaks: Indices, rate: float) -> Floats:
    """Median beat of one recording (12, T), see :func:`median_beats`.

    Raises ``RecordError`` (``rate_implausible``) when no beat is complete.
    """
    (beat,) = median_beats(np.asarray(signal, np.float32)[None], [peaks], rate)
    if beat is None:
        raise RecordError("rate_implausible", "no complete heart beat was found; the record cannot be used.")
    return beat


def qrs_duration_ms(beat: NDArray[Any], rate: float) -> float:
    """QRS duration of a median beat (12, B): the stretch around R where the summed slope exceeds 7 % of its peak.

    The share is set so that beats filtered to 0.67-40 Hz agree with the values that three makers' carts print (within
    6 ms on five recordings). It is raised to the slope of the ST segment, short gaps are bridged; NaN for a flat beat.
    """
    x = np.asarray(beat, np.float32)
    change = np.concatenate([x[:, 1:2] - x[:, :1], (x[:, 2:] - x[:, :-2]) / 2, x[:, -1:] - x[:, -2:-1]], axis=1)
    speed = np.sqrt(np.square(change, out=change).sum(0))  # (B,)
    r = round(BEFORE_S * rate)
    lo, hi = max(0, r - round(0.13 * rate)), min(len(speed), r + round(0.17 * rate))
    top = float(speed[max(0, r - round(0.06 * rate)) : r + round(0.08 * rate)].max())
    if not np.isfinite(top) or top <= 0:
        return float("nan")
    quiet = quantile(speed[hi : hi + round(0.06 * rate)], 0.5) if hi < len(speed) else 0.0
    steep = speed > max(0.07 * top, 1.5 * quiet)
    gap = max(1, round(0.012 * rate))
    onset = _edge(steep[lo : r + 1][::-1], gap)
    offset = _edge(steep[r:hi], gap)
    return 1000 * (onset + offset) / rate


def _edge(steep: NDArray[np.bool_], gap: int) -> int:
    # Samples until ``gap`` + 1 consecutive ones are not steep; the slope at the peak itself is small, hence the bridge
    places = np.flatnonzero(steep)
    far = np.flatnonzero(np.diff(places, prepend=0) > max(gap, 1) + 2)
    near = places[: far[0]] if len(far) else places
    return int(near[-1]) + 1 if len(near) else 1
