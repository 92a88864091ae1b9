"""Linear heads in closed form: ridge for phenotypes, penalised logistic regression for diseases.

Both work in the principal directions of standardised features, so that one decomposition serves every target and
penalty. Penalties are chosen per target on validation people only. A target that cannot be fitted (no value, constant,
one class) is left out with a sentence, and the others go on. A head may read random curves of its features in their
place, which makes it a smooth function of them and leaves the closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from cardionets.config import Settings

Array = NDArray[np.float64]
EM_STEPS = 30
EM_CHANGE = 1e-5  # SDs of the target: the fill has settled
NEWTON_STEPS = 25


class HeadSettings(Settings):
    """How heads are fitted on frozen features."""

    ridge: tuple[float, ...] = (
        0.0001,
        0.001,
        0.003,
        0.01,
        0.03,
        0.1,
        0.3,
        1.0,
        3.0,
        10.0,
        30.0,
        100.0,
        300.0,
    )  # per training row
    logistic: tuple[float, ...] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # per training row
    components: int = Field(
        default=128, gt=0
    )  # principal directions a logistic head may use: rare diseases overfit more
    class_weight: Literal["natural", "balanced"] = "natural"  # natural keeps probabilities calibrated
    min_labels: int = Field(default=10, ge=2)  # fewer known values than this teach nothing
    min_cases: int = Field(default=3, ge=1)  # fewer people of either class than this teach nothing
    curves: int = Field(default=1024, ge=0)  # random curves a curved arm reads in the place of its features; 0 = none
    bend: float = Field(default=0.15, gt=0)  # how soon a curve turns: gamma of the kernel, per mean squared distance


class Curves(nn.Module):
    """Random Fourier features of a Gaussian kernel (Rahimi and Recht, NIPS 2007): (n, p) -> (n, curves).

    A ridge on them is kernel ridge regression, up to the number of curves, and holds no row of anybody.
    """

    def __init__(self, features: int, count: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("frequency", torch.zeros(features, count))
        self.register_buffer("phase", torch.zeros(count))

    @classmethod
    def of(cls, x: NDArray[Any], count: int, bend: float, seed: int) -> Curves:
        """Curves drawn for training features (n, p): exp(-bend * distance^2 / (sum of the features' variances))."""
        rng, curves = np.random.default_rng(seed), cls(x.shape[1], count)
        spread = max(float(np.nanvar(x, axis=0).sum()), 1e-12)
        frequency = rng.standard_normal((x.shape[1], count)) * np.sqrt(2 * bend / spread)
        drawn = {"centre": np.nanmean(x, axis=0), "frequency": frequency, "phase": rng.uniform(0, 2 * np.pi, count)}
        curves.load_state_dict({k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in drawn.items()})
        return curves

    def forward(self, features: Tensor) -> Tensor:
        """Curves (n, count); NaN where a feature is missing."""
        angle = (features - self.get_buffer("centre")) @ self.get_buffer("frequency") + self.get_buffer("phase")
        curved: Tensor = angle.cos() * (2 / angle.shape[1]) ** 0.5
        return curved


class LinearHead(nn.Module):
    """Standardise, multiply, add: (n, p) features -> (n, k) phenotypes in their units or disease probabilities.

    With ``curves`` the features are turned into them first, and ``features`` is their number.
    """

    def __init__(self, features: int, targets: int, logistic: bool, curves: Curves | None = None) -> None:
        super().__init__()
        self.logistic, self.curves = logistic, curves
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("weight", torch.zeros(features, targets))
        self.register_buffer("bias", torch.zeros(targets))

    def forward(self, features: Tensor) -> Tensor:
        """Predictions (n, k); NaN for targets that could not be fitted."""
        features = features if self.curves is None else self.curves(features)
        x = ((features - self.get_buffer("centre")) / self.get_buffer("scale")).nan_to_num(0.0)  # missing = mean
        y = x @ self.get_buffer("weight") + self.get_buffer("bias")
        return y.sigmoid() if self.logistic else y

    @classmethod
    def like(cls, state: Mapping[str, Tensor], logistic: bool) -> LinearHead:
        """An empty head of the sizes of a stored one."""
        frequency = state.get("curves.frequency")
        curves = None if frequency is None else Curves(*frequency.shape)
        return cls(*state["weight"].shape, logistic=logistic, curves=curves)  # type: ignore[misc]


def mean_head(a: LinearHead, b: LinearHead) -> LinearHead:
    """The linear head that predicts the mean of two that read the same features."""
    head = LinearHead(*a.get_buffer("weight").shape, logistic=a.logistic)  # type: ignore[misc]
    weights = [h.get_buffer("weight") * (a.get_buffer("scale") / h.get_buffer("scale"))[:, None] for h in (a, b)]
    shift = (a.get_buffer("centre") - b.get_buffer("centre")) / b.get_buffer("scale")
    biases = [a.get_buffer("bias"), b.get_buffer("bias") + shift @ b.get_buffer("weight")]
    values = {"centre": a.get_buffer("centre"), "scale": a.get_buffer("scale")}
    values |= {"weight": (weights[0] + weights[1]) / 2, "bias": (biases[0] + biases[1]) / 2}
    head.load_state_dict(values)
    return head


@dataclass
class Fit:
    """A fitted head, the penalty chosen per target (NaN where none), and a sentence per target left out."""

    head: LinearHead
    penalty: Array
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Basis:
    """Principal directions of training features, standardised: z = ((x - centre) / scale) @ directions."""

    centre: Array
    scale: Array
    directions: Array  # (p, r)
    power: Array  # (r,) sum of squares of each component over training rows

    @classmethod
    def of(cls, x: NDArray[Any], blocks: tuple[int, ...] = ()) -> Basis:
        """Decompose (n, p) through the smaller of its two Gram matrices; a missing feature (NaN) counts as its mean.

        Features of a block (``blocks``: a number per feature, 0 = none) share one scale, that of their strongest: the
        strong directions of a learnt embedding are the informative ones. Every other feature gets SD 1.
        """
        x = np.asarray(x, np.float64)
        known = np.maximum(np.isfinite(x).sum(0), 1)
        centre = np.nansum(x, axis=0) / known
        scale = np.sqrt(np.nansum(np.square(x - centre), axis=0) / known)
        for number in set(blocks) - {0}:
            scale[np.asarray(blocks) == number] = scale[np.asarray(blocks) == number].max()
        scale = np.where(scale > 1e-9, scale, 1.0)
        z = np.nan_to_num((x - centre) / scale)
        n, p = z.shape
        values, vectors = np.linalg.eigh(z @ z.T if n < p else z.T @ z)
        keep = values > 1e-8 * max(float(values.max()), 1e-12)
        values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
        directions = z.T @ vectors / np.sqrt(values) if n < p else vectors
        return cls(centre, scale, directions, values)

    def transform(self, x: NDArray[Any]) -> Array:
        """Components (n, r) of features (n, p)."""
        z: Array = np.nan_to_num((np.asarray(x, np.float64) - self.centre) / self.scale) @ self.directions
        return z

    def head(self, weight: Array, bias: Array, logistic: bool) -> LinearHead:
        """Head from weights on components (r, k)."""
        head = LinearHead(len(self.centre), weight.shape[1], logistic)
        values = {"centre": self.centre, "scale": self.scale, "weight": self.directions @ weight, "bias": bias}
        head.load_state_dict({k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in values.items()})
        return head


def fit_ridge(
    x: NDArray[Any],
    y: NDArray[Any],
    x_val: NDArray[Any],
    y_val: NDArray[Any],
    names: tuple[str, ...],
    settings: HeadSettings,
    basis: Basis | None = None,
) -> Fit:
    """Ridge from features (n, p) to phenotypes (n, k), NaN = missing, in the phenotypes' own units.

    Missing values are filled with the current prediction until nothing changes (EM): the fixed point is the ridge
    solution on the known values alone, for all targets with one decomposition. ``basis`` of the same ``x`` saves time.
    """
    basis = basis or Basis.of(x)
    y, y_val = np.asarray(y, np.float64), np.asarray(y_val, np.float64)
    mean, sd, notes = _target_scale(y, names, settings)
    z, z_val = basis.transform(x), basis.transform(x_val)
    target, target_val = (y - mean) / sd, (y_val - mean) / sd
    best = np.full(len(names), np.inf)
    weight, bias = np.zeros((z.shape[1], len(names))), np.zeros(len(names))
    penalty = np.full(len(names), np.nan)
    w, b, equations = weight, bias, _Equations.of(z, target, basis.power)
    for alpha in sorted(settings.ridge, reverse=True):
        w, b = equations.solve(alpha * len(z), w, b)
        error = _known_mean(np.square(z_val @ w + b - target_val))
        better = error < best
        weight[:, better], bias[better], best[better], penalty[better] = w[:, better], b[better], error[better], alpha
    return Fit(basis.head(weight * np.nan_to_num(sd), bias * np.nan_to_num(sd) + mean, logistic=False), penalty, notes)


def left_out(predicted: Array, y: Array, basis: Basis, x: NDArray[Any], penalty: Array) -> Array:
    """Ridge predictions (n, k) for the training rows themselves, each by the fit without that row.

    The identity of ordinary cross-validation: y - (y - predicted) / (1 - h), h the row's leverage at the penalty (k,)
    (Golub, Heath and Wahba, Technometrics 1979;21:215). Targets must be complete.
    """
    squares, n = basis.transform(x) ** 2, len(x)
    out = np.array(predicted, np.float64)
    for alpha in np.unique(penalty[np.isfinite(penalty)]):
        leverage = 1 / n + squares @ (1 / (basis.power + alpha * n))  # (n,)
        same = penalty == alpha
        out[:, same] = y[:, same] - (y[:, same] - predicted[:, same]) / (1 - leverage)[:, None]
    return out


def _target_scale(y: Array, names: tuple[str, ...], settings: HeadSettings) -> tuple[Array, Array, list[str]]:
    """Mean and SD of known training values; NaN SD, and a sentence, for targets that cannot be fitted."""
    known = np.isfinite(y).sum(0)
    filled = np.where(np.isfinite(y), y, 0.0)
    mean = np.where(known > 0, filled.sum(0) / np.maximum(known, 1), np.nan)
    sd = np.sqrt(_known_mean(np.square(y - mean)))
    notes = []
    for i, name in enumerate(names):
        if known[i] < settings.min_labels:
            notes.append(f"{name}: only {known[i]} training people have a value; left out.")
            mean[i] = sd[i] = np.nan
        elif sd[i] <= 1e-9 * max(1.0, abs(mean[i])):
            notes.append(f"{name}: constant ({mean[i]:g}) in all training people; the constant is predicted.")
            sd[i] = np.nan
    return mean, sd, notes


@dataclass(frozen=True)
class _Equations:
    """What the ridge of targets (n, k) on components z (n, r) needs at every penalty; NaN = missing."""

    z: Array
    power: Array  # (r,)
    known: NDArray[np.bool_]  # (n, k)
    total: Array  # (k,) sum of known values
    product: Array  # (r, k) z.T @ known values

    @classmethod
    def of(cls, z: Array, target: Array, power: Array) -> _Equations:
        known = np.isfinite(target)
        filled = np.where(known, target, 0.0)
        return cls(z, power, known, filled.sum(0), z.T @ filled)

    def solve(self, alpha: float, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Weights (r, k) and biases (k,), from those at another penalty; 0 for targets that nobody has."""
        shrink, column = 1 / (self.power + alpha), self.z.sum(0)
        complete = self.known.all(0)
        b = np.where(complete, self.total / len(self.z), 0.0)
        w = np.where(complete, (self.product - np.outer(column, b)) * shrink[:, None], 0.0)
        for i in np.flatnonzero(self.known.any(0) & ~complete).tolist():
            w[:, i], b[i] = self._filled(i, shrink, column, weight[:, i], bias[i])
        return w, b

    def _filled(self, i: int, shrink: Array, column: Array, w: Array, b: float) -> tuple[Array, float]:
        """One target by EM. Only its missing rows are looked at: the others do not change from step to step."""
        z = self.z[~self.known[:, i]]  # (missing, r)
        filled = z @ w + b
        for _ in range(EM_STEPS):
            b = float(self.total[i] + filled.sum()) / len(self.z)
            w = (self.product[:, i] + z.T @ filled - column * b) * shrink
            predicted = z @ w + b
            change = float(np.abs(predicted - filled).max())
            filled = predicted
            if change < EM_CHANGE:
                break
        return w, b


def _known_mean(values: Array) -> Array:
    """Column means over finite values; inf-free: 0 where no value is known, so that the strongest penalty wins."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(0)
    return np.asarray(total / np.maximum(known.sum(0), 1))


def fit_logistic(
    x: NDArray[Any],
    y: NDArray[Any],
    x_val: NDArray[Any],
    y_val: NDArray[Any],
    names: tuple[str, ...],
    settings: HeadSettings,
    basis: Basis | None = None,
    offset: tuple[Array, Array] | None = None,
) -> Fit:
    """Penalised logistic regression from features (n, p) to diseases (n, k) in {0, 1, NaN = unknown}.

    ``offset``: log-odds (n, k) of training and validation people known before; what is fitted is added to them.
    """
    basis = basis or Basis.of(x)
    z, z_val = (basis.transform(part)[:, : settings.components] for part in (x, x_val))
    spread = z.std(0).max(initial=1e-12)
    weight, bias = np.zeros((basis.directions.shape[1], len(names))), np.full(len(names), np.nan)
    penalty, notes = np.full(len(names), np.nan), []
    for i, name in enumerate(names):
        label, label_val = np.asarray(y[:, i], np.float64), np.asarray(y_val[:, i], np.float64)
        cases, controls = int((label == 1).sum()), int((label == 0).sum())
        if min(cases, controls) < settings.min_cases:
            notes.append(f"{name}: {cases} cases and {controls} controls among training people; left out.")
            continue
        known = (offset[0][:, i], offset[1][:, i]) if offset else (np.zeros(len(z)), np.zeros(len(z_val)))
        w, b, penalty[i] = _choose_logistic(z / spread, label, z_val / spread, label_val, settings, known)
        weight[: len(w), i], bias[i] = w / spread, b
    return Fit(basis.head(weight, bias, logistic=True), penalty, notes)


def _choose_logistic(
    z: Array, label: Array, z_val: Array, label_val: Array, settings: HeadSettings, offset: tuple[Array, Array]
) -> tuple[Array, float, float]:
    rows, rows_val = np.isfinite(label), np.isfinite(label_val)
    z, label, z_val, label_val = z[rows], label[rows], z_val[rows_val], label_val[rows_val]
    start, start_val = offset[0][rows], offset[1][rows_val]
    weights = _class_weights(label, settings.class_weight)
    beta = np.zeros(z.shape[1] + 1)
    best, chosen, kept = np.inf, np.nan, beta
    for penalty in sorted(settings.logistic, reverse=True):
        beta = _newton(z, label, weights, penalty * len(z), beta, start)
        loss = _log_loss(z_val @ beta[:-1] + beta[-1] + start_val, label_val) if len(z_val) else 0.0
        if loss < best:
            best, chosen, kept = loss, penalty, beta
    return kept[:-1], float(kept[-1]), chosen


def _class_weights(label: Array, kind: str) -> Array:
    if kind == "natural":
        return np.ones(len(label))
    share = label.mean()
    return np.asarray(np.where(label == 1, 0.5 / share, 0.5 / (1 - share)))


def _newton(z: Array, label: Array, weights: Array, penalty: float, beta: Array, start: Array) -> Array:
    """Penalised maximum likelihood by iteratively reweighted least squares; the intercept is free."""
    design = np.column_stack([z, np.ones(len(z))])  # (n, r + 1)
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 1e-9
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta + start, -30, 30)))
        curvature = np.maximum(weights * p * (1 - p), 1e-9)
        slope = design.T @ (weights * (label - p)) - ridge * beta
        step = np.linalg.solve((design.T * curvature) @ design + np.diag(ridge), slope)
        beta = beta + step / max(1.0, float(np.abs(step).max()) / 5)
        if np.abs(step).max() < 1e-6:
            break
    return beta


def _log_loss(score: Array, label: Array) -> float:
    return float(np.mean(np.logaddexp(0, score) - label * score))
