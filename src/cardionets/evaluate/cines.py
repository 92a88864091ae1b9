"""Metrics of drawn cines: per person first, then means with person-bootstrap intervals, all arms on the same people.

``cine_sax`` and ``cine_4ch`` are judged as pictures, ``cine`` (both views) by features, and phenotypes by what is
measured on the drawn cines. Nothing here knows a model: arrays and frames in, rows of the tidy table out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets.config import Statistics
from cardionets.evaluate import images
from cardionets.evaluate.agreement import bland_altman
from cardionets.evaluate.bootstrap import person_codes, person_sums, resample_sums
from cardionets.evaluate.discrimination import Bools, auc, proportion
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable, percentile
from cardionets.evaluate.regression import Moments
from cardionets.evaluate.rows import Rows, attempt
from cardionets.evaluate.scales import FISHER, IDENTITY, LOG, bootstrap_interval

PICTURE_METRICS: Final = ("ssim", "psnr", "motion", "roughness", "closing")
CLOSENESS: Final = ("ssim", "psnr")  # to the real cine, frame by frame
GAINS: Final = ("ssim", "psnr", "motion")  # that are compared person by person
OWN_METRICS: Final = ("roughness", "closing")  # of a cine by itself
RETRIEVAL_METRICS: Final = ("top_1", "top_5", "top_10", "median_rank")
PHENOTYPE_METRICS: Final = ("r", "bias", "mae")
SSIM_EVERY: Final = 2  # SSIM is the mean over every second frame: neighbours in time say the same
CHUNK: Final = 4  # cines scored at once: what is made of them stays in the cache
Cines = NDArray[np.uint8]


@dataclass(frozen=True)
class Judge:
    """Where rows go, whose they are (person of each cine, (n,)), and how intervals are made."""

    rows: Rows
    persons: NDArray[Any]
    statistics: Statistics
    seed: int

    def mean(self, endpoint: str, arm: str, metric: str, values: Floats) -> None:
        """Append the mean over cines of ``values`` (n,), NaN left out."""
        self._add(endpoint, arm, metric, int(np.isfinite(values).sum()), lambda: self._mean(values))

    def _mean(self, values: Floats) -> Estimate:
        known = np.isfinite(values)
        if known.sum() < 2:
            raise NotEstimableError(f"{known.sum()} people are too few (2 are needed)")
        codes, people = person_codes(self.persons)
        both = np.column_stack([np.where(known, values, 0.0), known])  # (n, 2)
        totals = resample_sums(person_sums(both, codes, people), self.statistics.bootstrap, self.seed)
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = totals[:, 0] / totals[:, 1]
        return bootstrap_interval(float(values[known].mean()), replicates, self.statistics.level, IDENTITY)

    def share(self, endpoint: str, arm: str, metric: str, hits: Bools) -> None:
        """Append the share of ``hits`` (n,)."""
        compute = partial(proportion, hits, self.persons, self.statistics.level)
        self._add(endpoint, arm, metric, len(hits), compute)

    def median(self, endpoint: str, arm: str, metric: str, values: Floats) -> None:
        """Append the median of ``values`` (n,), with percentiles of resampled people."""
        rng = np.random.default_rng(self.seed)
        drawn = np.median(values[rng.integers(len(values), size=(self.statistics.bootstrap, len(values)))], axis=1)
        found = percentile(float(np.median(values)), drawn, self.statistics.level)
        self.rows.add(endpoint, arm, 1.0, metric, found, len(values))

    def value(self, endpoint: str, arm: str, metric: str, compute: Any, n: int) -> None:
        """Append a number without interval, or the reason why there is none."""
        self._add(endpoint, arm, metric, n, compute)

    def _add(self, endpoint: str, arm: str, metric: str, n: int, compute: Any) -> None:
        self.rows.add(endpoint, arm, 1.0, metric, attempt(compute), n)


def picture_scores(real: Cines, made: Cines, metrics: Sequence[str] = PICTURE_METRICS) -> dict[str, Floats]:
    """SSIM, PSNR, motion similarity, roughness and closing of each drawn cine (n, frame, H, W), or some; each (n,)."""
    starts = range(0, len(real), CHUNK)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda s: _scores(real[s : s + CHUNK], made[s : s + CHUNK], metrics), starts))
    return {name: np.concatenate([p[name] for p in parts]) for name in metrics}


def _scores(real: Cines, made: Cines, metrics: Sequence[str]) -> dict[str, Floats]:
    found = {} if set(CLOSENESS) >= set(metrics) else images.dynamics(real, made)
    if "ssim" in metrics:
        found["ssim"] = images.ssim(real[:, ::SSIM_EVERY], made[:, ::SSIM_EVERY]).mean(axis=1)
    if "psnr" in metrics:
        found["psnr"] = np.minimum(images.cine_psnr(real, made), 100.0)
    return found


def add_pictures(
    judge: Judge, view: str, scores: Mapping[str, Mapping[str, Floats]], pairs: Sequence[tuple[str, str]] = ()
) -> None:
    """Mean of every picture metric per arm, and the paired gain of the first over the second arm of each pair."""
    for arm, found in scores.items():
        for metric, values in found.items():
            judge.mean(f"cine_{view}", arm, metric, values)
    for of, against in pairs:
        if not {of, against} <= scores.keys():
            continue
        for metric in GAINS:
            gain = scores[of][metric] - scores[against][metric]
            judge.mean(f"cine_{view}", f"{of} - {against}", metric, gain)


def add_doubt(judge: Judge, view: str, real: Cines, mean: Cines, spread: Cines, samples: int) -> None:
    """Whether the spread of several cines per person tells where, and by how much, their mean is wrong."""
    cuts = [slice(start, start + CHUNK) for start in range(0, len(real), CHUNK)]
    parts = [images.spread_and_error(real[cut], mean[cut], spread[cut], samples) for cut in cuts]
    r, ratio = (np.concatenate(values) for values in zip(*parts))
    judge.mean(f"cine_{view}", "generated_mean", "doubt_r", r)
    judge.mean(f"cine_{view}", "generated_mean", "error_over_doubt", ratio)


def add_diseases(judge: Judge, arm: str, scores: pd.DataFrame, truth: pd.DataFrame) -> None:
    """AUC of every disease read off an arm's cines; ``scores`` and ``truth`` one row per person, NA = unknown."""
    for name in scores.columns:
        label = pd.to_numeric(truth[name], errors="coerce").astype("Float64").to_numpy(np.float64, na_value=np.nan)
        value = scores[name].to_numpy(np.float64)
        known = np.isfinite(label) & np.isfinite(value)
        cases = label[known] == 1
        found = attempt(partial(auc, cases, value[known], judge.statistics.level, judge.persons[known]))
        judge.rows.add(name, arm, 1.0, "auc", found, int(known.sum()), int(cases.sum()))


def add_features(judge: Judge, arm: str, made: Floats, real: Floats, training: Floats | None) -> None:
    """Identity, distance and memorisation in feature space; ``made`` and ``real`` (n, d) of the same people in order.

    Features are standardised by the real ones. ``training`` (m, d): features of training cines, where they are at hand.
    """
    z_made, z_real, z_training = _standardised(real, made, real, training)
    ranks = images.retrieval_ranks(z_made, z_real).astype(np.float64)
    for k in (1, 5, 10):
        judge.share("cine", arm, f"top_{k}", ranks <= k)
    judge.median("cine", arm, "median_rank", ranks)
    judge.mean("cine", arm, "feature_distance", np.sqrt(((z_made - z_real) ** 2).mean(axis=1)))
    judge.value("cine", arm, "frechet", lambda: images.frechet_distance(z_real, z_made), len(made))
    if z_training is not None:
        judge.mean("cine", arm, "nearest_training", _nearest(z_made, z_training))


def add_stills(judge: Judge, arm: str, made: Floats, real: Floats) -> None:
    """Frechet distance of single images, by features (n, d) of end-diastolic frames that stand still."""
    z_made, z_real = _standardised(real, made, real)
    judge.value("cine", arm, "frechet_image", lambda: images.frechet_distance(z_real, z_made), len(made))


def _standardised(by: Floats, *features: Any) -> list[Any]:
    """Features (n, d) in SDs of ``by`` about its mean; None stays."""
    centre, scale = by.mean(axis=0), by.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return [None if x is None else (x - centre) / scale for x in features]


def _nearest(x: Floats, others: Floats) -> Floats:
    """Distance per feature from each row of (n, d) to the nearest row of (m, d)."""
    square = (x**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * x @ others.T
    return np.asarray(np.sqrt(np.maximum(square.min(axis=1), 0) / x.shape[1]))


def add_measured(judge: Judge, arm: str, measured: pd.DataFrame, truth: pd.DataFrame, suffix: str = "") -> None:
    """r, bias, MAE and limits of agreement of phenotypes measured on drawn cines against ``truth``, row by row.

    ``suffix`` is added to the names of the metrics where the truth is not that of the records.
    """
    names = list(measured.columns)
    y, p = truth[names].to_numpy(np.float64), measured.to_numpy(np.float64)
    moments = Moments.of(y, p, judge.persons)
    found, replicates = moments.scores(), moments.bootstrap(judge.statistics.bootstrap, judge.seed)
    known = np.isfinite(y) & np.isfinite(p)
    scales = {"r": FISHER, "bias": IDENTITY, "mae": LOG}
    for i, name in enumerate(names):
        for metric, scale in scales.items():
            value, drawn = float(found[metric][i]), replicates[metric][:, i]
            interval = _interval(value, drawn, judge.statistics.level, scale)
            judge.value(name, arm, metric + suffix, interval, int(known[:, i].sum()))
        for side in ("lower", "upper"):
            judge.value(name, arm, f"loa_{side}{suffix}", _limit(p[:, i], y[:, i], side), int(known[:, i].sum()))


def _interval(value: float, drawn: Floats, level: float, scale: Any) -> Any:
    def compute() -> Estimate:
        if not np.isfinite(value):
            raise NotEstimableError("the truth or the measurement does not vary, or nobody has both")
        return bootstrap_interval(value, drawn, level, scale)

    return compute


def _limit(first: Floats, second: Floats, side: str) -> Any:
    def compute() -> Estimate:
        limits = bland_altman(first, second)
        return limits.lower if side == "lower" else limits.upper

    return compute


def add_impossible(rows: Rows, views: Sequence[str], phenotypes: Sequence[str], arm: str, reason: str) -> None:
    """One row per endpoint and headline metric that says why there is no number."""
    wanted = [(f"cine_{view}", metric) for view in views for metric in PICTURE_METRICS]
    wanted += [("cine", metric) for metric in RETRIEVAL_METRICS]
    wanted += [(name, metric) for name in phenotypes for metric in PHENOTYPE_METRICS]
    for endpoint, metric in wanted:
        rows.add(endpoint, arm, 1.0, metric, not_estimable(reason), 0)
