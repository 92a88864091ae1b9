"""Between heart and recorder: the personal lead matrix of a torso, and what disturbs nine electrodes on moving skin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float32]
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
ELECTRODES: Final = np.zeros((8, 9), np.float32)
ELECTRODES[0, :2] = -1, 1
ELECTRODES[1, [0, 2]] = -1, 1
ELECTRODES[2:, :3] = -1 / 3
ELECTRODES[2:, 3:] = np.eye(6)


def torso(hearts: pd.DataFrame, rngs: Sequence[np.random.Generator]) -> Floats:
    """(n, 8, 3) personal lead matrices: Dower's, with 6 % anatomical scatter and electrodes 1-2 cm off their place.

    A shift along the array mixes neighbouring precordial leads, a shift up or down adds the vertical axis (Wenger &
    Kligfield, J Electrocardiol 1996;29:179: many V1 and V2 are placed too high).
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


@lru_cache(maxsize=8)
def _slow(samples: int) -> tuple[Floats, Floats]:
    """Cosine basis (12, T) of slow change, from half a cycle to six over the recording, and falling weights (12,)."""
    order = np.arange(1, 13)[:, None]
    basis = np.cos(np.pi * order * (np.arange(samples) + 0.5) / samples)
    return basis.astype(np.float32), (order[:, 0] ** -1.2).astype(np.float32)


def disturbance(samples: int, rate_hz: float, breath_hz: float, phase: float, rng: np.random.Generator) -> Floats:
    """(9, T) uV at the electrodes RA, LA, LL, V1-V6: wander, breathing, muscle noise in bursts, motion."""
    basis, weight = _slow(samples)
    scale = rng.standard_normal(4)
    wander = 20 * np.exp(0.6 * scale[0])
    coefficients = (wander * rng.standard_normal((9, 12))).astype(np.float32) * weight
    noise = coefficients @ basis
    time = np.arange(samples, dtype=np.float32) / np.float32(rate_hz)
    breath = np.sin(2 * np.pi * breath_hz * time + np.float32(phase))
    noise += (12 * np.exp(0.6 * scale[1]) * rng.standard_normal((9, 1))).astype(np.float32) * breath
    limbs = np.array([[1.4]] * 3 + [[1.0]] * 6)
    muscle = 5.0 * limbs * np.exp(0.6 * scale[2] + 0.25 * rng.standard_normal((9, 1))) * np.sqrt(rate_hz / 500)
    tension = np.exp((0.5 * weight * rng.standard_normal(12, np.float32)) @ basis)
    noise += muscle.astype(np.float32) * tension * rng.standard_normal((9, samples), np.float32)
    _move(noise, time, rng)
    return np.asarray(noise, np.float32)


def _move(noise: Floats, time: Floats, rng: np.random.Generator) -> None:
    """In 5 % of recordings one electrode is pulled: a swing of 0.1-0.4 s and some tenths of a millivolt."""
    chance, where, when, width, size, sign = rng.random(6)
    if chance < 0.05:
        bump = np.exp(-0.5 * ((time - np.float32(when * time[-1])) / np.float32(0.08 + 0.3 * width)) ** 2)
        noise[int(9 * where)] += np.float32((150 + 700 * size) * (1 if sign < 0.5 else -1)) * bump


def loosen(leads: Floats, rng: np.random.Generator) -> None:
    """In 0.4 % of recordings a chest electrode loses contact at some moment and its lead goes nearly flat."""
    chance, where, when = rng.random(3)
    if chance < 0.004:
        cut = int(when * leads.shape[1])
        leads[2 + int(6 * where), cut:] *= 0.01
