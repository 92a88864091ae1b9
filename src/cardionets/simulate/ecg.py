"""Ten seconds of twelve leads from a latent heart: a dipole's beats, seen through a torso by noisy, shifted electrodes.

Waves: :mod:`.vcg`; beat times: :mod:`.rhythm`; torso and disturbance: :mod:`.electrodes`; recorder: :mod:`.device`.
Everything physiological happens at the dipole, everything else at the nine electrodes, so Einthoven's and Goldberger's
identities survive exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from cardionets.config import StudyError
from cardionets.ecg import LEADS
from cardionets.simulate import electrodes, vcg
from cardionets.simulate import rhythm as rhythms
from cardionets.simulate.anatomy import Array
from cardionets.simulate.device import Device, digitise
from cardionets.simulate.electrodes import DOWER
from cardionets.simulate.vcg import determinants

__all__ = ["DOWER", "LEADS", "Device", "determinants", "digitise", "synthesise"]

Floats = npt.NDArray[np.float32]
BLOCK: Final = 32  # people computed at once; small enough for the cache
_WINDOW_S: Final = (-0.36, 0.68)


def synthesise(hearts: pd.DataFrame, rate_hz: float, seconds: float, rngs: Sequence[np.random.Generator]) -> Floats:
    """Signals (n, 12, T) in uV at ``rate_hz``, T = rate_hz * seconds, of the ``n`` rows of ``hearts``.

    ``rngs`` holds one generator per row; a signal depends on its row and generator alone, never on the batch.
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
    leads = np.matmul(electrodes.torso(hearts, rngs), dipole)  # (n, 8, 3) (n, 3, T)
    for i, rng in enumerate(rngs):
        breath = float(rhythm.breath_hz[i]), float(rhythm.breath_phase[i])
        leads[i] += electrodes.ELECTRODES @ electrodes.disturbance(samples, rate_hz, *breath, rng)
        electrodes.loosen(leads[i], rng)
    return _twelve(leads)


def _twelve(leads: Floats) -> Floats:
    """(n, 8, T) to (n, 12, T): III by Einthoven, aVR, aVL, aVF by Goldberger."""
    one, two = leads[:, 0], leads[:, 1]
    limbs = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], 1)
    return np.concatenate([limbs, leads[:, 2:]], 1, dtype=np.float32)


def _add_beats(dipole: Floats, rate_hz: float, waves: vcg.Beat, rhythm: rhythms.Rhythm, hearts: pd.DataFrame) -> None:
    """Add every supraventricular beat: T follows the preceding RR, breathing swells it, an ectopic P looks odd."""
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
    samples = dipole.shape[2]
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
        size = 42 * np.exp(0.4 * rngs[i].standard_normal()) * hearts["torso_gain"].iloc[i]
        swell = np.exp(0.3 * np.interp(place, knots, wobble[1]))
        turn = 0.8 * np.interp(place, knots, wobble[2])
        main = size * swell * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.9) + 0.15 * np.sin(3 * phase + 1.6))
        side = size * swell * np.sin(phase + turn + 1.2)
        direction, across = np.array([-0.35, 0.45, -0.85]), np.array([0.15, 0.4, 0.1])
        dipole[i] += (direction[:, None] * main + across[:, None] * side).astype(np.float32)
