"""What an electrocardiograph prints: amplitude, area, time and width of the waves, and the regularity of the rhythm.

Deterministic, computed in one batch on the device. They stand beside the transformer ("wide and deep", Cheng et al.
2016, arXiv 1606.07792): sizes and times that a reader would measure need no thousand recordings to be learnt, and
logarithms turn what tissue between heart and electrode multiplies into something a linear head can subtract.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cardionets.config import AFTER_S, BEFORE_S

KORS: Final = (  # x, y, z of the heart's dipole from I, II, V1-V6: Kors et al., Eur Heart J 1990;11:1083
    (0.38, -0.07, -0.13, 0.05, -0.01, 0.14, 0.06, 0.54),
    (-0.07, 0.93, 0.06, -0.02, -0.05, 0.06, -0.17, 0.13),
    (0.11, -0.23, -0.43, -0.06, -0.14, -0.20, -0.11, 0.31),
)
INDEPENDENT: Final = (0, 1, 6, 7, 8, 9, 10, 11)  # I, II, V1-V6
WINDOWS_S: Final = (  # about R: P wave, early and late QRS, whole QRS, ST segment, T wave
    (-0.27, -0.05),
    (-0.05, 0.00),
    (0.00, 0.06),
    (-0.06, 0.09),
    (0.08, 0.18),
    (0.15, 0.50),
)
LEADS: Final = 12
PER_WINDOW: Final = 4 + 3 + 4 * LEADS
P_PEAK_S: Final = (-0.264, -0.06)  # about R: where the P wave's peak is looked for
P_END_S: Final = -0.04
P_REACH_S: Final = 0.1  # about the peak: half of the longest P wave
P_LEVELS: Final = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8)  # of its peak: how long the wave is above each
P_HALVES_S: Final = (0.06, 0.08, 0.1)  # about the peak: stretches whose centre and width are taken
P_COUNT: Final = 2 + len(P_LEVELS) + 2 * len(P_HALVES_S)
LAGS_S: Final = (0.3, 2.0)  # 30 to 200 beats per minute
LAG_STEPS: Final = 43
REFRACTORY_S: Final = 0.25  # two beats are never closer
HEIGHT: Final = 0.3  # of the typical QRS above the quiet level: the least that is a beat
RHYTHM_COUNT: Final = 3  # the last measurements: heart rate and variation of RR
COUNT: Final = len(WINDOWS_S) * PER_WINDOW + P_COUNT + LAG_STEPS + RHYTHM_COUNT
LIMIT: Final = 5.0  # standard deviations: a strange device must not drown everything else


class Measurements(nn.Module):
    """Record (b, 12, T) and median beat (b, 12, B), uV -> z-scores of training people, (b, COUNT)."""

    def __init__(self, beat_samples: int) -> None:
        super().__init__()
        self.rate = beat_samples / (BEFORE_S + AFTER_S)
        self.register_buffer("kors", torch.tensor(KORS), persistent=False)
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("sd", torch.ones(COUNT))

    def forward(self, signal: Tensor, beat: Tensor) -> Tensor:
        """z-scores (b, COUNT), cut at +-5."""
        z = (self.measure(signal, beat) - self.get_buffer("mean")) / self.get_buffer("sd")
        return z.clamp(-LIMIT, LIMIT)

    def set_statistics(self, signal: Tensor, beat: Tensor) -> None:
        """Take mean and SD from training people's records (n, 12, T) and beats (n, 12, B)."""
        values = torch.cat([self.measure(s, b) for s, b in zip(torch.split(signal, 256), torch.split(beat, 256))])
        self.get_buffer("mean").copy_(values.mean(0))
        self.get_buffer("sd").copy_(values.std(0).clamp_min(1e-3))

    def measure(self, signal: Tensor, beat: Tensor) -> Tensor:
        """All measurements in their own units, (b, COUNT)."""
        x = beat.float()
        dipole = torch.einsum("kl,blt->bkt", self.get_buffer("kors"), x[:, list(INDEPENDENT)])  # (b, 3, B)
        waves = [self._window(x, dipole, *window) for window in WINDOWS_S]
        steps = self._activity(signal.float())
        return torch.cat([*waves, self._p_wave(dipole), self._regularity(*steps), self._rhythm(*steps)], dim=1)

    def _window(self, x: Tensor, dipole: Tensor, start: float, stop: float) -> Tensor:
        """One stretch of the beat: energy, centre, width, peak and mean of the dipole; per lead mean and extremes."""
        first, last = round((start + BEFORE_S) * self.rate), round((stop + BEFORE_S) * self.rate)
        x, dipole = x[..., first:last], dipole[..., first:last]
        time = torch.arange(x.shape[-1], device=x.device) / self.rate  # s
        power = dipole.square().sum(1) + 1.0  # (b, t) uV2
        energy = power.sum(1, keepdim=True)
        centre = (power * time).sum(1, keepdim=True) / energy
        width = ((power * (time - centre).square()).sum(1, keepdim=True) / energy).sqrt()
        peak = power.amax(1, keepdim=True).sqrt()
        span = x.amax(2) - x.amin(2)  # (b, 12)
        sizes = [(energy + 100).log(), centre, width, (peak + 5).log()]
        return torch.cat([*sizes, dipole.mean(2), x.mean(2), x.amax(2), x.amin(2), (span + 10).log()], dim=1)

    def _p_wave(self, dipole: Tensor) -> Tensor:
        """The P wave about its own peak, (b, P_COUNT): peak and its time, durations, centres and widths.

        Its duration follows the left atrium. A window fixed to the R peak cannot measure it, because PR moves the wave.
        """
        low, high, end = (round((t + BEFORE_S) * self.rate) for t in (*P_PEAK_S, P_END_S))
        rest = dipole[..., : max(1, round(0.012 * self.rate))].mean(2, keepdim=True)
        size = (dipole[..., :end] - rest).square().sum(1).add(1e-3).sqrt()  # (b, t) uV
        top, peak = size[:, low:high].max(1, keepdim=True)
        peak = peak + low
        reach = round(P_REACH_S * self.rate)
        steps = torch.arange(-reach, reach + 1, device=size.device)  # (2 reach + 1,)
        shape = size.gather(1, (peak + steps).clamp(0, end - 1)) / top.clamp_min(5.0)  # (b, 2 reach + 1)
        above = [((shape - level) / 0.03).sigmoid().sum(1, keepdim=True) / self.rate for level in P_LEVELS]
        values = [(top + 5).log(), peak / self.rate, *above]
        for half in P_HALVES_S:
            first = reach - round(half * self.rate)
            inner = slice(first, shape.shape[1] - first)
            weight, time = (shape[:, inner] - 0.1).clamp_min(0) + 1e-6, steps[inner] / self.rate
            centre = (weight * time).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            spread = (weight * (time - centre).square()).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
            values += [centre, spread.sqrt()]
        return torch.cat(values, dim=1)

    def _activity(self, signal: Tensor) -> tuple[Tensor, float]:
        """Steepness over 16 ms, mean of leads in units of each lead's own QRS, (b, t), and its rate in Hz."""
        every = max(1, round(0.008 * self.rate))
        x, rate = signal[:, list(INDEPENDENT), ::every], self.rate / every
        steep = (x[..., 2:] - x[..., :-2]).abs()
        level = self._tops(steep, rate)  # (b, 8, 1)
        steep = (steep / level.clamp_min(0.3 * level.mean(1, keepdim=True) + 1e-3)).clamp(max=1.5)
        summed = F.avg_pool1d(steep.mean(1, keepdim=True), 2)
        width = 2 * round(0.0225 * rate) + 1  # about 90 ms
        return F.avg_pool1d(summed, width, 1, width // 2, count_include_pad=False)[:, 0], rate / 2

    def _tops(self, x: Tensor, rate: float) -> Tensor:
        """Median of the maxima of stretches of 2 s, (b, k, t) -> (b, k, 1)."""
        width = x.shape[-1] // max(1, round(x.shape[-1] / (2 * rate)))
        return _median(F.max_pool1d(x, width))

    def _regularity(self, activity: Tensor, rate: float) -> Tensor:
        """Autocorrelation of activity (b, t) at lags of 0.3 to 2 s, (b, LAG_STEPS)."""
        steep = activity - activity.mean(1, keepdim=True)
        padded = 1 << (2 * steep.shape[1]).bit_length()  # a power of two, which every runtime transforms fast
        spectrum = torch.fft.rfft(steep, n=padded).abs().square()
        correlation = torch.fft.irfft(spectrum)[:, : steep.shape[1]]
        correlation = correlation / correlation[:, :1].clamp_min(1e-6)
        lags = torch.linspace(LAGS_S[0], LAGS_S[1], LAG_STEPS, device=steep.device) * rate
        low = lags.long().clamp(max=steep.shape[1] - 2)
        share = lags - low
        at: Tensor = correlation[:, low] * (1 - share) + correlation[:, low + 1] * share
        return at

    def _beat_times(self, activity: Tensor, rate: float) -> Tensor:
        """Times of beats in s, ascending, then infinity, (b, t - 2): maxima of activity (b, t) within 0.25 s.

        They are placed between samples by a parabola.
        """
        width = 2 * round(REFRACTORY_S * rate) + 1
        quiet, top = _median(activity), self._tops(activity[:, None], rate)[:, 0]
        before, at, after = activity[:, :-2], activity[:, 1:-1], activity[:, 2:]
        highest = F.max_pool1d(activity[:, None], width, 1, width // 2)[:, 0, 1:-1]
        beat = (at == highest) & (at > quiet + HEIGHT * (top - quiet))
        shift = 0.5 * (before - after) / (before - 2 * at + after).clamp_max(-1e-6)
        place = torch.arange(at.shape[1], device=at.device) + shift.clamp(-0.5, 0.5)
        return torch.where(beat, place / rate, torch.inf).sort(1).values

    def _rhythm(self, activity: Tensor, rate: float) -> Tensor:
        """Heart rate (1/min), SD / mean of RR, log of 1 + RMSSD (ms), (b, 3), as :mod:`cardionets.beats` has them."""
        time = self._beat_times(activity, rate)
        known = time[:, 1:].isfinite()  # (b, t), true for the first RR intervals
        rr = torch.where(known, time[:, 1:] - time[:, :-1], 0.0)
        count = known.sum(1)
        mean = (rr.sum(1) / count.clamp_min(1)).clamp_min(REFRACTORY_S)
        spread = ((rr - mean[:, None]).square() * known).sum(1) / count.clamp_min(1)
        change = (rr.diff(dim=1).square() * known[:, 1:]).sum(1) / (count - 1).clamp_min(1)
        per_minute = torch.where(count > 0, 60 / mean, 0.0)
        spread, change = (value.add(1e-6).sqrt() for value in (spread, change))  # below 1 ms nothing is measured
        return torch.stack([per_minute, spread / mean, (1000 * change).log1p()], dim=1)


def _median(x: Tensor) -> Tensor:
    """Lower median over the last axis, which stays; by sorting, because an exported program knows no median."""
    return x.sort(-1).values[..., (x.shape[-1] - 1) // 2, None]
