"""Recordings as the store and the models have them: judged, filtered, resampled, with their beats and measurements.

Many of one rate and length at a time, because most steps cost less time than their calls; what comes out of a
recording does not depend on the others beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cardionets.beats import Indices, median_beats, place_peaks, qrs_duration_ms, rr_features, seconds
from cardionets.config import EcgProtocol, Grid, QualityGates
from cardionets.ecg import EcgRecord, Floats, RecordError, cut_before, harmonise
from cardionets.gates import Looked, fingerprint, look, noise_flags, noise_scores

NEAR_S: Final = 0.016
"""How far a peak at about 120 Hz may lie from the same peak on the grid."""
TOGETHER: Final = 8
"""Recordings worked on at once; few enough for the processor's cache."""


@dataclass(frozen=True)
class Signal:
    """A usable recording: int16 ``ecg`` (12, T) and median ``beat`` (12, B) in uV, samples of its R ``peaks`` (beat,),
    what was measured, flags ``q_*``.
    """

    ecg: NDArray[np.int16]
    beat: NDArray[np.int16]
    peaks: Indices
    measured: dict[str, float | str]
    flags: dict[str, bool]


def bring(
    records: Sequence[EcgRecord], grid: Grid, protocol: EcgProtocol, gates: QualityGates
) -> list[Signal | list[str]]:
    """Each recording on the grid, or the reasons (:func:`cardionets.gates.look`) for which it must be left out."""
    found: list[Signal | list[str]] = [[] for _ in records]
    alike: dict[tuple[float, int], list[int]] = {}
    for place, record in enumerate(records):
        alike.setdefault((record.rate, record.signal.shape[1]), []).append(place)
    for places in alike.values():
        for start in range(0, len(places), TOGETHER):
            some = places[start : start + TOGETHER]
            for place, result in zip(some, _alike([records[i] for i in some], grid, protocol, gates)):
                found[place] = result
    return found


def _alike(
    records: list[EcgRecord], grid: Grid, protocol: EcgProtocol, gates: QualityGates
) -> list[Signal | list[str]]:
    x, rate = np.stack([record.signal for record in records]), records[0].rate  # (n, 12, T)
    looked = look(x, rate, gates, grid.seconds)
    found: list[Signal | list[str]] = [*looked.reasons]
    sound = [row for row, reasons in enumerate(looked.reasons) if not reasons]
    if not sound:
        return found
    some = x if len(sound) == len(x) else x[sound]
    slow = looked.slow[0][sound], looked.slow[1]
    scores = noise_scores(some, rate, protocol.mains_hz, slow)
    try:
        signals = harmonise(some, rate, grid, protocol, scores["mains_uv"])  # (n, 12, T) on the grid
    except RecordError as fault:
        return [why or [fault.reason] for why in looked.reasons]
    peaks = _peaks(signals, looked, sound, cut_before(x.shape[-1], rate, grid), grid.rate, rate)
    beats = median_beats(signals, peaks, grid.rate)
    for number, row in enumerate(sound):
        noise = {name: float(values[number]) for name, values in scores.items()}
        found[row] = _signal(records[row], signals[number], peaks[number], beats[number], noise, grid.rate)
    return found


def _peaks(signals: Floats, looked: Looked, rows: list[int], before: int, rate: float, raw: float) -> list[Indices]:
    """R peaks on the grid of the beats that the gates found, those in its first to last sample."""
    times = [seconds(looked.beats[row], looked.slow[1], raw) - before / rate for row in rows]
    last = (signals.shape[-1] - 1) / rate
    return place_peaks(signals, rate, [time[(time >= 0) & (time <= last)] for time in times], NEAR_S)


def _signal(
    record: EcgRecord, signal: Floats, peaks: Indices, beat: Floats | None, noise: dict[str, Any], rate: float
) -> Signal | list[str]:
    if beat is None:
        return ["rate_implausible"]
    if max(signal.max(), -signal.min(), beat.max(), -beat.min()) > np.iinfo(np.int16).max:
        return ["amplitude_high"]
    measured = noise | rr_features(peaks, rate)
    measured |= {"qrs_ms": qrs_duration_ms(beat, rate), "digest": fingerprint(record.signal)}
    flags = noise_flags(noise) | {f"q_{name}": True for name in record.flags}
    return Signal(np.rint(signal).astype("<i2"), np.rint(beat).astype("<i2"), peaks, measured, flags)
