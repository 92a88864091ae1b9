"""When the heart beats: sinus rhythm with respiratory and slow variation, ectopic beats, and atrial fibrillation.

Every person brings a generator, and the same number of variates is drawn from it whatever the rhythm, so that a
person's beats do not depend on who else is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from cardionets.simulate.anatomy import Array

NORMAL, PREMATURE_ATRIAL, PREMATURE_VENTRICULAR = 0, 1, 2
_LEAD_IN_S: Final = 1.2  # beats start before the recording, so that its first second looks like any other


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Beats of n people, each (n, beat): ``time`` s of QRS onset, ``rr`` s before it, ``kind`` (NORMAL, PREMATURE_*).

    ``breath_hz`` and ``breath_phase`` (n,) belong to the same respiration that modulates rate, amplitude and baseline.
    """

    time: Array
    rr: Array
    kind: Array
    breath_hz: Array
    breath_phase: Array


def draw(hearts: pd.DataFrame, seconds: float, rngs: Sequence[np.random.Generator]) -> Rhythm:
    """Beat times that cover ``seconds`` (and a little before and after)."""
    count = int(4 * (seconds + 2 * _LEAD_IN_S)) + 2
    normal = np.stack([rng.standard_normal((2, count + 4)) for rng in rngs])
    uniform = np.stack([rng.random((2, count + 4)) for rng in rngs])
    rate = hearts["rate_bpm"].to_numpy()
    mean = 60.0 / rate
    breath = 0.24 * np.exp(0.15 * normal[:, 0, -1])
    phase = 2 * np.pi * uniform[:, 0, -1]
    kind = _ectopy(hearts, uniform, count)
    start = -_LEAD_IN_S - uniform[:, 0, -2] * mean
    sinus = _sinus(hearts, normal, uniform, mean, breath, phase, start, count)
    fibrillation = _fibrillation(normal, mean, count)
    af = (hearts["rhythm"] == "af").to_numpy()[:, None]
    kind = np.where(af & (kind == PREMATURE_ATRIAL), NORMAL, kind)
    rr = _premature(np.where(af, fibrillation, sinus), kind)
    return Rhythm(start[:, None] + np.cumsum(rr, 1), rr, kind, breath, phase)


def _sinus(
    hearts: pd.DataFrame,
    normal: Array,
    uniform: Array,
    mean: Array,
    breath: Array,
    phase: Array,
    start: Array,
    count: int,
) -> Array:
    """RR (n, beat): breathing's part, marked in 6 %, falls by 2 % a year (O'Brien et al., Br Heart J 1986;55:348)."""
    age = hearts["age"].to_numpy()
    marked = np.where(uniform[:, 0, -3] < 0.06, 3.5, 1.0)
    respiratory = np.clip(0.020 * np.exp(-0.02 * (age - 62) + 0.5 * normal[:, 0, -2]) * marked, 0, 0.22)
    slow = np.clip(0.018 * np.exp(0.4 * normal[:, 0, -3]), 0, 0.08)
    slow_phase = 2 * np.pi * uniform[:, 0, -4]
    rr, now = np.empty((len(mean), count)), start.copy()
    for b in range(count):
        swing = respiratory * np.sin(2 * np.pi * breath * now + phase) + slow * np.sin(
            2 * np.pi * 0.095 * now + slow_phase
        )
        rr[:, b] = mean * (1 + swing + 0.006 * normal[:, 1, b])
        now += rr[:, b]
    return rr


def _fibrillation(normal: Array, mean: Array, count: int) -> Array:
    """RR (n, beat): a refractory floor and a right-skewed random part, coefficient of variation about 0.12-0.30."""
    floor = 0.48 * mean[:, None]
    spread = np.clip(0.42 * np.exp(0.22 * normal[:, 0, -4]), 0.25, 0.75)[:, None]
    return np.asarray(floor + 0.52 * mean[:, None] * np.exp(spread * normal[:, 1, :count] - spread**2 / 2))


def _ectopy(hearts: pd.DataFrame, uniform: Array, count: int) -> Array:
    """Kind of each beat: some 5 % of people have atrial, 4 % ventricular ectopics; age, scar, weak ventricles add."""
    age, scar = hearts["age"].to_numpy(), hearts["fibrosis"].to_numpy()
    likelihood = np.exp(0.03 * (age - 64))
    atrial = 0.045 * likelihood * (1 + 2 * (hearts["la_max"].to_numpy() > 95))
    ventricular = 0.03 * likelihood * (1 + 4 * scar + 0.06 * np.clip(55 - hearts["lv_ef"].to_numpy(), 0, 40))
    chance = np.select([uniform[:, 1, -1] < atrial, uniform[:, 1, -1] > 1 - ventricular], [1, 2], 0)
    burden = 0.06 + 0.16 * uniform[:, 1, -2]
    happens = uniform[:, 1, :count] < burden[:, None]
    happens[:, 1:] &= ~happens[:, :-1]
    return np.asarray(np.where(happens, chance[:, None], NORMAL))


def _premature(rr: Array, kind: Array) -> Array:
    """Shorten the RR before an ectopic beat; a pause follows, fully compensatory when the beat is ventricular."""
    out = rr.copy()
    early = np.where(kind == PREMATURE_ATRIAL, 0.70, 0.62)
    out = np.where(kind != NORMAL, np.maximum(out * early, 0.36), out)
    before, borrowed = kind[:, :-1], rr[:, :-1] - out[:, :-1]
    out[:, 1:] += np.where(
        before == PREMATURE_VENTRICULAR, borrowed, np.where(before == PREMATURE_ATRIAL, 0.25 * borrowed, 0.0)
    )
    return np.asarray(out)
