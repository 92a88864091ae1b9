"""The electrocardiogram as every later stage sees it: twelve leads by name, microvolts, one rate, one band.

Leads I, II, III and aVR, aVL, aVF are linear in the three limb electrodes (Einthoven 1913; Goldberger 1942):
``III = II - I``, ``aVR = -(I + II) / 2``, ``aVL = I - II / 2``, ``aVF = II - I / 2``. Devices that store eight leads
rely on it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from cardionets.config import EcgProtocol, Grid, StudyError

Floats = NDArray[np.float32]

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
STORED8: tuple[str, ...] = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
INDEPENDENT: list[int] = [LEADS.index(lead) for lead in STORED8]
"""Rows of the leads that do not follow from others."""

# Rows: III, aVR, aVL, aVF; columns: I, II.
LIMB_FROM_I_II = np.array([[-1.0, 1.0], [-0.5, -0.5], [1.0, -0.5], [-0.5, 1.0]], np.float32)
_DERIVED = ("III", "aVR", "aVL", "aVF")

_PREFIX = re.compile(r"^(?:MDC_?ECG_?LEAD|MDC|ECG|EKG|LEAD|CHANNEL)[\s_:.-]*")
_BY_KEY = {lead.upper(): lead for lead in LEADS}
_BY_KEY |= {"D" + k: v for k, v in _BY_KEY.items() if k in ("I", "II", "III")}
_BY_KEY |= {"ML" + k: v for k, v in _BY_KEY.items() if k in ("I", "II", "III")}
_BY_KEY |= {"C" + k[1]: v for k, v in _BY_KEY.items() if k[0] == "V"}

_ORDER = 2
_PAD_SECONDS = 1.5
_BRIDGE_SECONDS = 0.5
_NOTCH_Q = 25.0
_HALF = 200
"""Characters kept at either end of a message."""


class RecordError(StudyError):
    """A recording that cannot be trusted or understood; ``reason`` is the code the flow diagram counts.

    What a damaged file puts into the middle of a message is cut out: file and remedy stand at its ends.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message if len(message) <= 2 * _HALF else f"{message[:_HALF]} ... {message[-_HALF:]}")
        self.reason = reason


@dataclass(frozen=True)
class EcgRecord:
    """One recording as the file states it.

    ``signal``: float32 (lead 12, sample T) in uV, canonical order; ``rate`` in Hz, ``age`` in years, ``sex`` F or M.
    What the file does not say is None. ``flags`` names what the reader did beyond copying, e.g. ``derived_limb_leads``;
    ``unit`` where the microvolts come from, ``device`` the electrocardiograph's model.
    """

    signal: Floats
    rate: float
    person: str | None = None
    date: dt.datetime | None = None
    age: float | None = None
    sex: str | None = None
    source: str = ""
    flags: tuple[str, ...] = ()
    unit: str = ""
    device: str | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self.signal.shape[1] / self.rate)


@lru_cache(maxsize=4096)
def lead_name(name: str) -> str | None:
    """Canonical name of a lead, or None for any other channel.

    Any case; ``MLII``, ``Lead I``, ``Lead I (Einthoven)``, ``MDC_ECG_LEAD_AVR``, ``DII`` and ``C1`` are understood.
    """
    key = re.sub(r"\(.*?\)", "", name.upper()).split(",")[0].strip()
    while (shorter := _PREFIX.sub("", key)) != key and shorter:
        key = shorter
    return _BY_KEY.get(re.sub(r"[\s_.-]", "", key)) if not key.startswith("-") else None


def canonical(signal: NDArray[Any], names: Sequence[str]) -> Floats:
    """Reorder (lead, T) by lead NAME into float32 (12, T); other channels are dropped.

    III, aVR, aVL and aVF are derived from I and II where they are not stored. Raises ``RecordError`` (``lead_missing``,
    ``lead_repeated``) naming the leads.
    """
    found: dict[str, int] = {}
    for row, name in enumerate(names):
        lead = lead_name(name)
        if lead in found:
            raise RecordError("lead_repeated", f"lead {lead} is stored twice ({', '.join(names)}); remove one of them.")
        if lead:
            found[lead] = row
    missing = [lead for lead in LEADS if lead not in found]
    if hopeless := [lead for lead in missing if lead not in _DERIVED or not {"I", "II"} <= found.keys()]:
        text = f"leads {', '.join(hopeless)} are missing (stored: {', '.join(names)}); declare the names as ecg.leads."
        raise RecordError("lead_missing", text)
    if not missing:
        return np.ascontiguousarray(signal[[found[lead] for lead in LEADS]], np.float32)
    out = np.empty((12, signal.shape[1]), np.float32)
    for lead, row in found.items():
        out[LEADS.index(lead)] = signal[row]
    limb = LIMB_FROM_I_II @ out[:2]  # (III aVR aVL aVF, T)
    for lead in missing:
        out[LEADS.index(lead)] = limb[_DERIVED.index(lead)]
    return out


def derived_leads(names: Sequence[str]) -> tuple[str, ...]:
    """The limb leads that ``canonical`` has to derive for these stored names."""
    stored = {lead_name(name) for name in names}
    return tuple(lead for lead in _DERIVED if lead not in stored)


@dataclass(frozen=True)
class _Circle:
    """A recording of ``samples`` laid on a circle of ``length``, and the same circle at the target rate.

    It starts ``before`` samples early; on the target's circle of ``out`` samples it fills ``kept`` after ``skip``.
    """

    before: int
    length: int
    out: int
    skip: int
    kept: int


@lru_cache(maxsize=256)
def _circle(samples: int, rate: float, target: float) -> _Circle:
    ratio = Fraction(target / rate).limit_denominator(2000)
    up, down = ratio.numerator, ratio.denominator
    before = min(-(-round(_PAD_SECONDS * rate) // down), (samples - 1) // down) * down
    wanted = samples + 2 * before + round(_BRIDGE_SECONDS * rate)
    units = scipy.fft.next_fast_len(-(-wanted // down), real=True)
    return _Circle(before, units * down, units * up, before // down * up, -(-samples * up // down))


def _laid(signal: NDArray[Any], middle: NDArray[Any], circle: _Circle) -> Floats:
    # (..., T) - (..., 1) -> (..., length): both ends mirrored through their last sample, a line from end to start
    before, samples = circle.before, signal.shape[-1]
    end = before + samples + before
    out = np.empty((*signal.shape[:-1], circle.length), np.float32)
    x = np.subtract(signal, middle, out=out[..., before : before + samples], casting="same_kind")
    out[..., :before] = 2 * x[..., :1] - x[..., before:0:-1]
    out[..., before + samples : end] = 2 * x[..., -1:] - x[..., -2 : -2 - before : -1]
    share = np.linspace(0, 1, circle.length - end + 2, dtype=np.float32)[1:-1]
    out[..., end:] = out[..., end - 1 : end] * (1 - share) + out[..., :1] * share
    return out


def _spectrum(
    signal: NDArray[Any], middle: NDArray[Any], rate: float, target: float
) -> tuple[NDArray[np.complex64], _Circle]:
    """Spectrum (..., F) of (..., T) less ``middle`` on the circle at the target rate, scaled for :func:`_signal`."""
    circle = _circle(signal.shape[-1], rate, target)
    found = scipy.fft.rfft(_laid(signal, middle, circle))
    bins = circle.out // 2 + 1
    if found.shape[-1] < bins:
        found = np.concatenate([found, np.zeros((*found.shape[:-1], bins - found.shape[-1]), found.dtype)], axis=-1)
    scaled: NDArray[np.complex64] = found[..., :bins]
    scaled *= np.float32(circle.out / circle.length)
    return scaled, circle


def _signal(spectrum: NDArray[np.complex64], circle: _Circle) -> Floats:
    whole: Floats = scipy.fft.irfft(spectrum, circle.out)
    return whole[..., circle.skip : circle.skip + circle.kept]


@lru_cache(maxsize=256)
def _band(low: float, high: float, rate: float, samples: int) -> Floats:
    """Gain (F,) of a Butterworth band of order 2, forwards and backwards: its squared magnitude."""
    if not 0 < low < high < rate / 2:
        text = f"{low:g}-{high:g} Hz does not fit below half of the stored rate {rate:g} Hz; lower it."
        raise StudyError(f"params.yaml: ecg.band_hz: {text}")
    sections = scipy.signal.butter(_ORDER, [low, high], "bandpass", fs=rate, output="sos")
    _, gain = scipy.signal.freqz_sos(sections, worN=scipy.fft.rfftfreq(samples, 1 / rate), fs=rate)
    return np.asarray(np.abs(gain) ** 2, np.float32)


@lru_cache(maxsize=256)
def _notch(mains: float, rate: float, samples: int) -> Floats:
    _, gain = scipy.signal.freqz(
        *scipy.signal.iirnotch(mains, _NOTCH_Q, fs=rate), worN=scipy.fft.rfftfreq(samples, 1 / rate), fs=rate
    )
    return np.asarray(np.abs(gain) ** 2, np.float32)


@lru_cache(maxsize=32)
def _probe(samples: int, mains: float, rate: float) -> NDArray[np.float32]:
    # (T, 6): cosine and sine at the mains frequency and 3 Hz to either side, under a Hann window of unit gain
    window = np.hanning(samples)
    phase = 2 * np.pi * np.arange(samples)[:, None] / rate * (mains + np.array([0.0, -3.0, 3.0]))
    both = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    return np.asarray(both * window[:, None] * 2 / window.sum(), np.float32)


def mains_uv(x: NDArray[Any], rate: float, mains_hz: float) -> NDArray[np.float32]:
    """Amplitude in uV of the mains line above its surroundings, the largest over leads: (..., 12, T) -> (...)."""
    if mains_hz + 3 >= rate / 2:
        return np.zeros(x.shape[:-2], np.float32)
    centred = x - x.mean(-1, keepdims=True)
    parts = (centred.astype(np.float32, copy=False) @ _probe(x.shape[-1], mains_hz, rate)).reshape(*x.shape[:-1], 2, 3)
    line, below, above = np.moveaxis(np.hypot(parts[..., 0, :], parts[..., 1, :]), -1, 0)
    excess = np.maximum(line - np.maximum(below, above), 0).max(-1)
    return np.asarray(excess, np.float32)


def decimate(signal: NDArray[Any], rate: float) -> tuple[Floats, float]:
    """Averages of neighbouring samples, down to 120 Hz or a little more: (..., T) -> (..., T // k) and the new rate."""
    k = max(1, int(rate // 120))
    usable = signal.shape[-1] // k * k
    parts = np.asarray(signal[..., :usable], np.float32).reshape(*signal.shape[:-1], -1, k)
    mean = parts[..., 0].copy()
    for i in range(1, k):
        mean += parts[..., i]
    return mean / np.float32(k), rate / k


NOTCH_ABOVE_UV = 10.0


def cut_before(samples: int, rate: float, grid: Grid) -> int:
    """Samples on the grid that :func:`harmonise` leaves out before the first one it keeps."""
    return (_circle(samples, rate, grid.rate).kept - grid.samples) // 2


def harmonise(
    signal: NDArray[Any], rate: float, grid: Grid, protocol: EcgProtocol, mains: NDArray[Any] | float | None = None
) -> Floats:
    """Recordings of equal rate and length onto the grid: (..., 12, T) -> float32 (..., 12, grid.samples), uV.

    Resampled, band-passed forwards and backwards (Butterworth of order 2, so -6 dB at the edges and no phase), notched
    only where more than ``NOTCH_ABOVE_UV`` of mains is found, and cut to the middle ``grid.seconds``. All of it is one
    multiplication of the spectrum. Records do not influence each other. ``mains``: :func:`mains_uv` where it is known
    already. Raises ``RecordError`` (``nan``, ``too_short``).
    """
    if not np.isfinite(signal).all():
        raise RecordError("nan", "the signal has samples that are not numbers; run cardionets.gates.look first.")
    circle = _circle(signal.shape[-1], rate, grid.rate)
    if circle.kept < grid.samples:
        text = f"the record lasts {signal.shape[-1] / rate:.2f} s, the grid needs {grid.seconds} s; exclude it."
        raise RecordError("too_short", text)
    gain = _band(*protocol.band_hz, float(grid.rate), circle.out)
    spectrum, circle = _spectrum(signal, signal.mean(axis=-1, keepdims=True), rate, grid.rate)
    spectrum *= gain
    found = mains_uv(signal, rate, protocol.mains_hz) if mains is None else np.asarray(mains)
    if (noisy := found > NOTCH_ABOVE_UV).any():
        notch = _notch(protocol.mains_hz, float(grid.rate), circle.out)
        spectrum[noisy] *= notch
    y = _signal(spectrum, circle)
    start = cut_before(signal.shape[-1], rate, grid)
    return np.ascontiguousarray(y[..., start : start + grid.samples], np.float32)
