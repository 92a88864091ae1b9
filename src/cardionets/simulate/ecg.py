"""Ten seconds of twelve leads from a latent heart: beats of a moving dipole, seen through a torso by displaced, noisy electrodes.

Dipole: :mod:`cardionets.simulate.vcg`. Beat times: :mod:`cardionets.simulate.rhythm`. Recorder: :mod:`cardionets.simulate.device`.
Everything physiological happens at the dipole, everything else at the nine electrodes, so Einthoven's and Goldberger's identities
survive exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from cardionets.config import StudyError
from cardionets.ecg import LEADS
from cardionets.simulate import rhythm as rhythms
from cardionets.simulate import vcg
from cardionets.simulate.anatomy import Array
from cardionets.simulate.device import Device, digitise
from cardionets.simulate.vcg import determinants

__all__ = ["DOWER", "LEADS", "Device", "determinants", "digitise", "synthesise"]

Floats = npt.NDArray[np.float32]
BLOCK: Final = 32  # people computed at once; small enough for the cache
# Rows I, II, V1-V6 from Frank's x (left), y (feet), z (back): Dower, Machado, Osborne, Clin Cardiol 1980;3:87.
DOWER: Final = np.array([
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
])  # fmt: skip
# I, II and V1-V6 from the electrodes RA, LA, LL, V1-V6; V leads against Wilson's central terminal.
_ELECTRODES: Final = np.zeros((8, 9), np.float32)
_ELECTRODES[0, :2] = -1, 1
_ELECTRODES[1, [0, 2]] = -1, 1
_ELECTRODES[2:, :3] = -1 / 3
_ELECTRODES[2:, 3:] = np.eye(6)
_WINDOW_S: Final = (-0.36, 0.68)


def synthesise(hearts: pd.DataFrame, rate_hz: float, seconds: float, rngs: Sequence[np.random.Generator]) -> Floats:
    """Signals (n, 12, T) in uV at ``rate_hz``, T = rate_hz * seconds, of the ``n`` rows of ``hearts``.

    ``rngs`` holds one generator per row; a person's signal depends on the row and its generator alone, never on the batch.
    """
    if len(rngs) != len(hearts):
        raise StudyError(f"synthesise: rngs: {len(rngs)} generators for {len(hearts)} hearts; give one each.")
    samples = round(rate_hz * seconds)
    out = np.empty((len(hearts), len(LEADS), samples), np.float32)
    for start in range(0, len(hearts), BLOCK):
        rows = slice(start, start + BLOCK)
        out[rows] = _block(hearts.iloc[rows], rate_hz, samples, rngs[rows])
    return out


def _block(hearts: pd.DataFrame, rate_hz: float, samples: int, rngs: Sequence[np.random.Generator]) -> Floats:
    rhythm = rhythms.draw(hearts, samples / rate_hz, rngs)
    waves = vcg.beat(hearts)
    dipole = np.zeros((len(hearts), 3, samples), np.float32)
    _add_beats(dipole, rate_hz, waves, rhythm, hearts)
    _add_ectopics(dipole, rate_hz, rhythm, hearts, rngs)
    _add_fibrillation(dipole, rate_hz, hearts, rngs)
    leads = np.matmul(_torso(hearts, rngs), dipole)  # (n, 8, 3) (n, 3, T)
    for i, rng in enumerate(rngs):
        leads[i] += _ELECTRODES @ _disturbance(
            samples, rate_hz, float(rhythm.breath_hz[i]), float(rhythm.breath_phase[i]), rng
        )
        _loosen(leads[i], rng)
    return _twelve(leads)


def _twelve(leads: Floats) -> Floats:
    """(n, 8, T) to (n, 12, T): III by Einthoven, aVR, aVL, aVF by Goldberger."""
    one, two = leads[:, 0], leads[:, 1]
    limbs = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], 1)
    return np.concatenate([limbs, leads[:, 2:]], 1, dtype=np.float32)


def _add_beats(dipole: Floats, rate_hz: float, waves: vcg.Beat, rhythm: rhythms.Rhythm, hearts: pd.DataFrame) -> None:
    """Add every supraventricular beat: T follows the preceding RR, breathing swells the amplitude, a P without sinus looks odd."""
    mean = 60.0 / hearts["rate_bpm"].to_numpy()
    for b in range(rhythm.time.shape[1]):
        onset, kind = rhythm.time[:, b], rhythm.kind[:, b]
        swell = 1 + 0.035 * np.sin(2 * np.pi * rhythm.breath_hz * onset + rhythm.breath_phase)
        vector = waves.vector * (swell * (kind != rhythms.PREMATURE_VENTRICULAR))[:, None, None]
        odd = kind == rhythms.PREMATURE_ATRIAL
        vector[odd, :2] *= np.array([-0.6, -0.5, 1.1])
        stretch = np.clip(rhythm.rr[:, b] / mean, 0.5, 1.6) ** 0.16
        centre = waves.centre.copy()
        centre[:, 11:] *= stretch[:, None]
        _add_waves(dipole, rate_hz, onset, vector, centre, waves.rise, waves.fall)


def _add_waves(
    dipole: Floats, rate_hz: float, onset: Array, vector: Array, centre: Array, rise: Array, fall: Array
) -> None:
    """Add one beat per person at ``onset`` (n,) s; waves beyond the recording's ends are cut."""
    n, _, samples = dipole.shape
    span = np.arange(round((_WINDOW_S[1] - _WINDOW_S[0]) * rate_hz))
    first = np.ceil((onset + _WINDOW_S[0]) * rate_hz).astype(int)
    seen = (first + len(span) > 0) & (first < samples) & np.any(vector, (1, 2))
    if not seen.any():
        return
    index = first[seen, None] + span  # (m, window)
    time = ((index / rate_hz - onset[seen, None]) * 1000).astype(np.float32)
    offset = time[:, None, :] - centre[seen].astype(np.float32)[:, :, None]  # (m, wave, window) ms
    falling, rising = (width[seen].astype(np.float32)[:, :, None] for width in (1 / fall, 1 / rise))
    offset *= np.where(offset > 0, falling, rising)
    np.multiply(offset, offset, out=offset)
    offset *= -0.5
    np.maximum(offset, -30, out=offset)
    shape = np.exp(offset, out=offset)
    value = np.matmul(vector[seen].astype(np.float32).transpose(0, 2, 1), shape)  # (m, 3, window)
    inside = (index >= 0) & (index < samples)
    for row, person in enumerate(np.flatnonzero(seen)):
        keep = inside[row]
        dipole[person, :, index[row, keep][0] : index[row, keep][-1] + 1] += value[row][:, keep]


def _add_ectopics(
    dipole: Floats, rate_hz: float, rhythm: rhythms.Rhythm, hearts: pd.DataFrame, rngs: Sequence[np.random.Generator]
) -> None:
    """Add ventricular ectopic beats: no P, a wide QRS away from its focus in either ventricle, T opposite."""
    random = np.stack([rng.standard_normal(6) for rng in rngs])
    has = np.any(rhythm.kind == rhythms.PREMATURE_VENTRICULAR, 1)
    left = np.where(random[:, 0] > 0.25, -1.0, 1.0)  # focus left: forces to the right and front
    main = np.stack([left * (700 + 90 * random[:, 1]), 350 * random[:, 2], left * (750 + 150 * random[:, 3])], 1)
    size = hearts["torso_gain"].to_numpy() * np.exp(0.2 * random[:, 4])
    vector = (
        np.stack([0.6 * main, main, 0.55 * main[:, [0, 2, 1]] * [1, 0.3, 1], -0.45 * main], 1)
        * (size * has)[:, None, None]
    )
    length = 148 + 9 * random[:, 5]
    centre = np.stack([0.28 * length, 0.5 * length, 0.72 * length, length + 145], 1)
    width = np.stack([0.12 * length, 0.13 * length, 0.12 * length, np.full_like(length, 55.0)], 1)
    for b in range(rhythm.time.shape[1] if has.any() else 0):
        now = (rhythm.kind[:, b] == rhythms.PREMATURE_VENTRICULAR)[:, None, None]
        _add_waves(dipole, rate_hz, rhythm.time[:, b], vector * now, centre, width, 0.9 * width)


def _add_fibrillation(
    dipole: Floats, rate_hz: float, hearts: pd.DataFrame, rngs: Sequence[np.random.Generator]
) -> None:
    """Add f waves of 4-9 Hz with wandering frequency, size and a sawtooth's harmonics, strongest in V1.

    Dominant frequency 6.3 (SD 0.8) Hz, as measured on the body surface by Holm et al., Cardiovasc Res 1998;38:69.
    """
    for i in np.flatnonzero((hearts["rhythm"] == "af").to_numpy()).tolist():
        samples = dipole.shape[2]
        knots = np.linspace(0, 1, 24)
        place = np.linspace(0, 1, samples)
        wobble = rngs[i].standard_normal((3, 24))
        rate = np.clip(rngs[i].normal(6.3, 0.8), 4.3, 8.7)
        frequency = rate * (1 + 0.07 * np.interp(place, knots, wobble[0]))
        phase = 2 * np.pi * np.cumsum(frequency) / rate_hz
        size = 48 * np.exp(0.4 * rngs[i].standard_normal()) * hearts["torso_gain"].iloc[i]
        swell = np.exp(0.3 * np.interp(place, knots, wobble[1]))
        turn = 0.8 * np.interp(place, knots, wobble[2])
        main = size * swell * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.9) + 0.15 * np.sin(3 * phase + 1.6))
        side = size * swell * np.sin(phase + turn + 1.2)
        direction, across = np.array([-0.35, 0.45, -0.85]), np.array([0.15, 0.4, 0.1])
        dipole[i] += (direction[:, None] * main + across[:, None] * side).astype(np.float32)


def _torso(hearts: pd.DataFrame, rngs: Sequence[np.random.Generator]) -> Floats:
    """(n, 8, 3) personal lead matrices: Dower's, with 6 % anatomical scatter and electrodes 1-2 cm off their place.

    A shift along the array mixes neighbouring precordial leads, a shift up or down adds the vertical axis (Wenger & Kligfield,
    J Electrocardiol 1996;29:179; half of all V1-V2 are placed too high).
    """
    random = np.stack([rng.standard_normal((8, 5)) for rng in rngs])
    matrix = np.broadcast_to(DOWER, (len(hearts), 8, 3)) * (1 + 0.06 * random[:, :, :3])
    shift = 0.20 * random[:, 2:, 3] + 0.12 * random[:, :1, 3]  # (n, 6) of the distance to the next electrode
    before, after = matrix[:, [2, 2, 3, 4, 5, 6]], matrix[:, [3, 4, 5, 6, 7, 7]]
    moved = (
        matrix[:, 2:] + np.where(shift[..., None] > 0, after - matrix[:, 2:], matrix[:, 2:] - before) * shift[..., None]
    )
    moved[:, :, 1] += 0.10 * random[:, 2:, 4] + 0.06 * random[:, :1, 4]
    moved[:, :2, 1] -= 0.08
    return np.asarray(np.concatenate([matrix[:, :2], moved], 1), np.float32)


@dataclass(frozen=True, slots=True)
class _Slow:
    """Cosine basis of the baseline, cached per recording length."""

    basis: Floats
    weight: Floats


_SLOW: dict[tuple[int, float], _Slow] = {}


def _slow(samples: int, rate_hz: float) -> _Slow:
    key = (samples, rate_hz)
    if key not in _SLOW:
        order = np.arange(1, 13)[:, None]
        basis = np.cos(np.pi * order * (np.arange(samples) + 0.5) / samples)
        _SLOW[key] = _Slow(basis.astype(np.float32), (1.0 / order[:, 0] ** 1.2).astype(np.float32))
    return _SLOW[key]


def _disturbance(samples: int, rate_hz: float, breath_hz: float, phase: float, rng: np.random.Generator) -> Floats:
    """(9, T) uV at the electrodes RA, LA, LL, V1-V6: baseline wander with breathing, muscle noise, mains pick-up, motion."""
    slow = _slow(samples, rate_hz)
    scale = rng.standard_normal(4)
    wander = 20 * np.exp(0.6 * scale[0])
    coefficients = (wander * rng.standard_normal((9, 12))).astype(np.float32) * slow.weight
    noise = coefficients @ slow.basis
    time = np.arange(samples, dtype=np.float32) / np.float32(rate_hz)
    breath = np.sin(2 * np.pi * breath_hz * time + np.float32(phase))
    noise += (12 * np.exp(0.6 * scale[1]) * rng.standard_normal((9, 1))).astype(np.float32) * breath
    limbs = np.array([[1.4]] * 3 + [[1.0]] * 6)
    muscle = 5.0 * limbs * np.exp(0.6 * scale[2] + 0.25 * rng.standard_normal((9, 1))) * np.sqrt(rate_hz / 500)
    tension = np.exp((0.5 * slow.weight * rng.standard_normal(12, np.float32)) @ slow.basis)
    noise += muscle.astype(np.float32) * tension * rng.standard_normal((9, samples), np.float32)
    _move(noise, time, rng)
    return noise


def _move(noise: Floats, time: Floats, rng: np.random.Generator) -> None:
    """In 5 % of recordings one electrode is pulled: a swing of 0.1-0.4 s and some tenths of a millivolt."""
    chance, where, when, width, size, sign = rng.random(6)
    if chance < 0.05:
        bump = np.exp(-0.5 * ((time - np.float32(when * time[-1])) / np.float32(0.08 + 0.3 * width)) ** 2)
        noise[int(9 * where)] += np.float32((150 + 700 * size) * (1 if sign < 0.5 else -1)) * bump


def _loosen(leads: Floats, rng: np.random.Generator) -> None:
    """In 0.4 % of recordings a chest electrode loses contact at some moment and its lead goes nearly flat."""
    chance, where, when = rng.random(3)
    if chance < 0.004:
        cut = int(when * leads.shape[1])
        leads[2 + int(6 * where), cut:] *= 0.01
