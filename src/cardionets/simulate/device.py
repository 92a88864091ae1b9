"""What an electrocardiograph does to the signal: its band, its own noise, mains residue, and whole counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import signal as dsp

from cardionets.config import StudyError
from cardionets.ecg import LEADS


@dataclass(frozen=True, slots=True)
class Device:
    """An electrocardiograph: sampling (Hz), uV per count, band (Hz), own noise (uV rms), mains it hangs on (Hz).

    ``model``: the name under which it signs its recordings.
    """

    rate_hz: int = 500
    lsb_uv: float = 5.0
    highpass_hz: float = 0.05
    lowpass_hz: float = 150.0
    noise_uv: float = 2.0
    mains_hz: float = 50.0
    model: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.highpass_hz < self.lowpass_hz < self.rate_hz / 2:
            raise StudyError("Device: highpass_hz < lowpass_hz < rate_hz / 2 must hold; correct the centre's device.")
        if min(self.lsb_uv, self.noise_uv + 1e-9, self.mains_hz) <= 0:
            raise StudyError("Device: lsb_uv, noise_uv, mains_hz: must be positive; correct the centre's device.")


_STORED = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]


def digitise(
    signals_uv: npt.NDArray[np.float32], device: Device, rng: np.random.Generator | Sequence[np.random.Generator]
) -> npt.NDArray[np.int32]:
    """Counts (..., 12, T) int32 of ``signals_uv`` (..., 12, T), already sampled at ``device.rate_hz``.

    The eight independent leads are filtered (second-order Butterworth low pass, first-order high pass, in real time),
    get the device's noise and mains residue, and are rounded; III, aVR, aVL and aVF follow from the counts of I and II
    as a recorder computes them (III exactly, the others to half a count). One generator per recording makes the
    result independent of batching.
    """
    batch = np.asarray(signals_uv, np.float32).reshape(-1, *signals_uv.shape[-2:])  # (n, 12, T)
    rngs = [rng] * len(batch) if isinstance(rng, np.random.Generator) else list(rng)
    if len(rngs) != len(batch):
        raise StudyError(f"digitise: rng: {len(rngs)} generators for {len(batch)} recordings; give one each.")
    counts = np.stack([_one(recording[_STORED], device, own) for recording, own in zip(batch, rngs)])
    return counts.reshape(signals_uv.shape)


def _one(leads: npt.NDArray[np.float32], device: Device, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """(8, T) uV to (12, T) counts."""
    time = np.arange(leads.shape[1], dtype=np.float32) / device.rate_hz
    noisy = _band(leads, device) + device.noise_uv * rng.standard_normal(leads.shape, np.float32)
    residue = 1.2 * np.exp(0.8 * rng.standard_normal()) * rng.normal(1.0, 0.4, (8, 1))
    noisy += (residue * np.sin(2 * np.pi * (device.mains_hz * time + rng.random()))).astype(np.float32)
    stored = np.rint(noisy / device.lsb_uv).astype(np.int32)
    first, second = stored[0], stored[1]
    half = [-(first + second), 2 * first - second, 2 * second - first]
    limbs = np.stack([first, second, second - first, *(np.floor_divide(twice + 1, 2) for twice in half)])
    return np.concatenate([limbs, stored[2:]])


@lru_cache
def _filter(device: Device) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Second-order sections of the band-pass and their settled state for a constant input of 1."""
    sections = [dsp.butter(2, device.lowpass_hz, "lowpass", fs=device.rate_hz, output="sos")]
    if device.highpass_hz > 0:
        sections.append(dsp.butter(1, device.highpass_hz, "highpass", fs=device.rate_hz, output="sos"))
    sos = np.concatenate(sections)
    return sos, dsp.sosfilt_zi(sos)


def _band(leads: npt.NDArray[np.float32], device: Device) -> npt.NDArray[np.float32]:
    """Causal band-pass that starts settled on the first sample, as a recorder that has been running does."""
    sos, state = _filter(device)
    settled = state[:, None, :] * leads[None, :, :1]  # (section, 8, 2)
    return np.asarray(dsp.sosfilt(sos, leads, axis=-1, zi=settled)[0], np.float32)
