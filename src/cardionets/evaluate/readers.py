"""Reader studies: multi-reader multi-case analysis of AUC, accuracy against the model, agreement, time.

Obuchowski & Rockette, Commun Stat Simul Comput 1995;24:285, with the degrees of freedom of Hillis, Stat Med
2007;26:596: random readers, random cases, every reader reads every case under every modality.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from cardionets.config import StudyError
from cardionets.evaluate.agreement import fleiss_kappa
from cardionets.evaluate.bootstrap import clustered_mean
from cardionets.evaluate.discrimination import Bools, delong, proportion
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError
from cardionets.evaluate.rows import attempt

ANSWERS = ("reader", "level", "modality", "case", "truth", "rating", "positive", "seconds")


@dataclass(frozen=True, slots=True)
class Components:
    """Error variance, its covariances (same reader; same modality; neither), and the mean squares they go with."""

    error: float
    cov1: float
    cov2: float
    cov3: float
    ms_modality: float
    ms_reader: float
    ms_interaction: float


@dataclass(frozen=True, slots=True)
class Mrmc:
    """The test of equal modalities, each pair's difference and p value, and each modality's mean AUC over readers."""

    auc: Floats
    components: Components
    f: float
    df: tuple[float, float]
    p: float
    differences: dict[tuple[int, int], tuple[Estimate, float]]
    means: list[Estimate]


def _covariances(covariance: Floats, modalities: int, readers: int) -> tuple[float, float, float, float]:
    blocks = covariance.reshape(modalities, readers, modalities, readers)
    same_m = np.eye(modalities, dtype=bool)[:, None, :, None] & np.ones((1, readers, 1, readers), bool)
    same_r = np.eye(readers, dtype=bool)[None, :, None, :] & np.ones((modalities, 1, modalities, 1), bool)
    sets = (same_m & same_r, ~same_m & same_r, same_m & ~same_r, ~same_m & ~same_r)
    return tuple(float(blocks[s].mean()) for s in sets)  # type: ignore[return-value]


def _components(auc: Floats, covariance: Floats) -> Components:
    t, r = auc.shape
    grand, by_modality, by_reader = auc.mean(), auc.mean(axis=1), auc.mean(axis=0)
    ms_t = r * ((by_modality - grand) ** 2).sum() / (t - 1)
    ms_r = t * ((by_reader - grand) ** 2).sum() / (r - 1)
    ms_tr = ((auc - by_modality[:, None] - by_reader + grand) ** 2).sum() / ((t - 1) * (r - 1))
    return Components(*_covariances(covariance, t, r), float(ms_t), float(ms_r), float(ms_tr))


def obuchowski_rockette(truth: Bools, ratings: Floats, level: float = 0.95) -> Mrmc:
    """MRMC analysis of AUC: truth (case n,), ratings (modality t, reader r, case n), DeLong covariances."""
    t, r, n = ratings.shape
    if t < 2 or r < 2:
        raise NotEstimableError("two modalities and two readers are the least that is needed")
    flat, covariance = delong(truth, ratings.reshape(t * r, n))
    auc = flat.reshape(t, r)
    c = _components(auc, covariance)
    denominator = c.ms_interaction + r * max(c.cov2 - c.cov3, 0.0)
    if denominator <= 0:
        raise NotEstimableError("the readers do not differ at all")
    df = denominator**2 / (c.ms_interaction**2 / ((t - 1) * (r - 1))) if c.ms_interaction > 0 else np.inf
    f = c.ms_modality / denominator
    se = float(np.sqrt(2 * denominator / r))
    pairs = [(i, j) for i in range(t) for j in range(i + 1, t)]
    differences = {(i, j): _difference(auc[i].mean() - auc[j].mean(), se, df, level) for i, j in pairs}
    means = [_mean(auc[i], covariance.reshape(t, r, t, r)[i, :, i, :], level) for i in range(t)]
    return Mrmc(auc, c, float(f), (t - 1, float(df)), float(f_distribution.sf(f, t - 1, df)), differences, means)


def _difference(value: float, se: float, df: float, level: float) -> tuple[Estimate, float]:
    half = float(t_distribution.ppf(0.5 + level / 2, df)) * se
    return Estimate(float(value), float(value - half), float(value + half)), float(
        2 * t_distribution.sf(abs(value) / se, df)
    )


def _mean(auc: Floats, covariance: Floats, level: float) -> Estimate:
    r = len(auc)
    ms, cov2 = float(auc.var(ddof=1)), float(covariance[~np.eye(r, dtype=bool)].mean())
    spread = ms + r * max(cov2, 0.0)
    df = spread**2 / (ms**2 / (r - 1)) if ms > 0 else np.inf
    half = float(t_distribution.ppf(0.5 + level / 2, df)) * float(np.sqrt(spread / r))
    return Estimate(float(auc.mean()), float(auc.mean() - half), float(auc.mean() + half))


def check_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """The readers' table, or `StudyError` with all its faults: columns, ratings, doubles, holes in the design."""
    missing = [c for c in ANSWERS if c not in answers]
    if missing:
        raise StudyError(f"answers: missing columns {', '.join(missing)}; export the reading page again.")
    faults = []
    if answers.duplicated(["reader", "modality", "case"]).any():
        faults.append("answers: reader, modality, case: a case was answered twice; keep one row of each.")
    if answers[["rating", "positive", "truth"]].isna().any().any():
        faults.append("answers: rating, positive or truth is empty somewhere; ask the reader to finish.")
    if answers.groupby("case")["truth"].nunique().max() > 1:
        faults.append("answers: truth: one case has two truths; take it from the case list again.")
    sizes = answers.groupby(["reader", "modality"])["case"].nunique()
    if sizes.nunique() > 1 or len(sizes) != answers["reader"].nunique() * answers["modality"].nunique():
        faults.append("answers: case: readers have not read the same cases under every modality; complete the reading.")
    if faults:
        raise StudyError("\n".join(faults))
    return answers


def cube_of(answers: pd.DataFrame) -> tuple[list[str], list[str], Bools, Floats]:
    """Checked answers as (modalities t, readers r, truth (n,), ratings (t, r, n))."""
    table = check_answers(answers).sort_values(["modality", "reader", "case"])
    modalities, readers = (sorted(table[c].astype(str).unique()) for c in ("modality", "reader"))
    n = table["case"].nunique()
    ratings = table["rating"].to_numpy(np.float64).reshape(len(modalities), len(readers), n)
    truth = table["truth"].to_numpy(bool)[:n]
    return modalities, readers, truth, ratings


def accuracy(answers: pd.DataFrame, model: pd.Series, level: float = 0.95) -> pd.DataFrame:
    """Accuracy per modality and reader level, and its difference to the model alone on the same cases.

    ``model``: case -> the model's decision. Intervals let the answers to one case depend on each other.
    """
    table = check_answers(answers).assign(right=lambda a: a["positive"].astype(bool) == a["truth"].astype(bool))
    decided = table["case"].map(model)
    if decided.isna().any():
        raise StudyError("model decisions: a case of the reader study has none; predict these cases first.")
    table["model_right"] = decided.astype(bool) == table["truth"].astype(bool)
    rows = []
    for (modality, reader_level), part in table.groupby(["modality", "level"], sort=True):
        cases, right = part["case"].to_numpy(), part["right"].to_numpy(bool)
        gain = right.astype(float) - part["model_right"].to_numpy(float)
        own, gap = proportion(right, cases, level), attempt(partial(clustered_mean, gain, cases, level))
        counts = (part["reader"].nunique(), len(np.unique(cases)))
        bounds = (own.value, own.lower, own.upper, gap.value, gap.lower, gap.upper)
        rows.append((modality, reader_level, *counts, *bounds, part["seconds"].median()))
    columns = ["modality", "level", "readers", "cases", "accuracy", "lower", "upper"]
    return pd.DataFrame(
        rows, columns=[*columns, "minus_model", "minus_model_lower", "minus_model_upper", "median_seconds"]
    )


def agreement(answers: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Fleiss' kappa of the readers' decisions per modality, with its interval over cases."""
    table, rows = check_answers(answers), []
    for modality, part in table.groupby("modality"):
        decisions = part.pivot(index="case", columns="reader", values="positive").to_numpy(bool)
        kappa = attempt(partial(fleiss_kappa, decisions, level))
        counts = (decisions.shape[1], decisions.shape[0])
        rows.append((modality, *counts, kappa.value, kappa.lower, kappa.upper, kappa.note))
    return pd.DataFrame(rows, columns=["modality", "readers", "cases", "kappa", "lower", "upper", "note"])


def simulate_ratings(
    truth: Bools, separations: list[float], readers: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Ratings 1-5 (modality t, reader r, case n) of simulated readers. Roe & Metz, Acad Radiol 1997;4:298.

    ``separations`` is d' per modality. A case's difficulty is shared by readers, and a reader's bias by cases.
    """
    t, n, case, case_modality, reader = len(separations), len(truth), 0.55, 0.45, 0.15
    hard = rng.normal(0, case, n) + rng.normal(0, case_modality, (t, 1, n))
    own = rng.normal(0, np.sqrt(1 - case**2 - case_modality**2), (t, readers, n))
    d = np.asarray(separations)[:, None, None]
    latent = (d + rng.normal(0, reader, (t, readers, 1))) * truth + hard + own
    return np.asarray(1 + (latent[..., None] > d[..., None] * np.array([0.1, 0.4, 0.7, 1.0])).sum(axis=-1))


def simulate(truth: Bools, skill: dict[str, float], readers: int, rng: np.random.Generator) -> pd.DataFrame:
    """The answers table of simulated readers whose d' per modality is ``skill``; a rating of 3 or more is positive."""
    ratings = simulate_ratings(truth, list(skill.values()), readers, rng)
    cases = [f"case {i + 1:03d}" for i in range(len(truth))]
    rows = []
    for modality, by_reader in zip(skill, ratings):
        for k, rating in enumerate(by_reader):
            who = {"reader": f"reader {k + 1}", "level": ("junior", "senior")[k % 2], "modality": modality}
            seen = {"case": cases, "truth": truth, "rating": rating, "positive": rating >= 3}
            rows.append(pd.DataFrame({**who, **seen, "seconds": rng.gamma(4, 10, len(truth))}))
    return pd.concat(rows, ignore_index=True)
