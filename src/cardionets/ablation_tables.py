"""What the ablation found: every variant against the whole, the whole against its rivals and against the ceiling.

Every number is a median over seeds, with a percentile interval of a bootstrap over people (the same people in every
seed, variant and arm). Differences and ratios use the seeds that both sides have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from cardionets import ablation, attainable, phenotypes
from cardionets.config import Study
from cardionets.evaluate.estimate import Estimate, not_estimable
from cardionets.evaluate.paired import R2, Score, median
from cardionets.store import Store

METHODS: Final = ("aligned_teacher", "aligned")
INTERVAL: Final = ("lower", "upper")
Key = tuple[str, float]  # arm and label fraction


@dataclass(frozen=True)
class Found:
    """R2 of every variant, seed, arm and fraction, on the people of one split."""

    study: Study
    split: str
    scores: Mapping[tuple[str, int], Mapping[Key, R2]]

    @classmethod
    def of(cls, study: Study, seeds: Mapping[str, Sequence[int]], split: str = "test") -> Found:
        """Score the predictions that lie under ``ablation/work`` for these variants and seeds."""
        truth = _truth(study, split)
        each = {
            (variant, seed): _scores(study, truth, variant, seed, split) for variant, s in seeds.items() for seed in s
        }
        return cls(study, split, each)

    def several(self, variant: str, key: Key) -> dict[int, R2]:
        """Seed -> R2 of one arm and fraction, for the seeds that have it."""
        return {s: arms[key] for (v, s), arms in self.scores.items() if v == variant and key in arms}

    def keys(self, variant: str) -> list[Key]:
        """Arms and fractions of a variant."""
        return sorted({key for (v, _), arms in self.scores.items() if v == variant for key in arms})

    def estimate(self, scores: Sequence[Score]) -> Estimate:
        """Median over seeds with its interval."""
        if not scores:
            return not_estimable("no seed has both sides")
        return median(scores).estimate(self.study.protocol.statistics.level)


def variants(found: Found) -> pd.DataFrame:
    """Mean R2 over the phenotypes per variant, arm and fraction, and what is lost against ``whole``.

    Returns:
        variant, about, arm, fraction, seeds, n (people), r2, lower, upper, loss, worse, better (its interval).
    """
    rows = []
    for variant in dict.fromkeys(v for v, _ in found.scores):
        for key in found.keys(variant):
            mine, whole = found.several(variant, key), found.several("whole", key)
            own = found.estimate([r2.mean() for r2 in mine.values()])
            loss = found.estimate([whole[s].mean().minus(mine[s].mean()) for s in mine if s in whole])
            about, n = ablation.VARIANTS[variant].about, next(iter(mine.values())).people
            rows.append((variant, about, *key, len(mine), n, own.value, own.lower, own.upper, *_triple(loss)))
    start = ["variant", "about", "arm", "fraction", "seeds", "n", "r2", *INTERVAL]
    return pd.DataFrame(rows, columns=[*start, "loss", "worse", "better"])


def gains(found: Found) -> pd.DataFrame:
    """How far the whole recipe lies above each rival, in mean R2 and as a share of the rival's.

    Returns:
        arm, minus, fraction, seeds, n, gain, lower, upper, relative, relative_lower, relative_upper.
    """
    keys, rows = found.keys("whole"), []
    pairs = [(arm, rival) for arm in METHODS for rival in dict.fromkeys(a for a, _ in keys) if rival not in METHODS]
    for fraction in sorted({f for _, f in keys}):
        for arm, rival in pairs:
            mine, other = (found.several("whole", (name, fraction)) for name in (arm, rival))
            both = [(mine[s].mean(), other[s].mean()) for s in mine if s in other]
            if both:
                gain = found.estimate([a.minus(b) for a, b in both])
                share = found.estimate([a.minus(b).over(b) for a, b in both])
                n = next(iter(mine.values())).people
                rows.append((arm, rival, fraction, len(both), n, *_triple(gain), *_triple(share)))
    wanted = ["arm", "minus", "fraction", "seeds", "n", "gain", *INTERVAL]
    return pd.DataFrame(rows, columns=[*wanted, "relative", "relative_lower", "relative_upper"])


def shares(found: Found) -> pd.DataFrame:
    """R2 of the whole recipe at full labels beside the attainable R2, for the headline phenotypes and their mean.

    Only a simulated cohort has a ceiling: another gives an empty table.

    Returns:
        endpoint, arm, seeds, n, r2, attainable, share, lower, upper (of the share).
    """
    study, rows = found.study, []
    ceiling = _ceiling(study, found.split)
    names = [] if ceiling is None else [attainable.ALL, *study.protocol.endpoints.headline_phenotypes]
    for name in names:
        assert ceiling is not None
        top = _one(ceiling, name)
        for arm in (arm for arm, fraction in found.keys("whole") if fraction == 1.0):
            mine = [_one(r2, name) for r2 in found.several("whole", (arm, 1.0)).values()]
            share = found.estimate([score.over(top) for score in mine])
            rows.append((name, arm, len(mine), ceiling.people, median(mine).value, top.value, *_triple(share)))
    return pd.DataFrame(rows, columns=["endpoint", "arm", "seeds", "n", "r2", "attainable", "share", *INTERVAL])


def _one(r2: R2, name: str) -> Score:
    return r2.mean() if name == attainable.ALL else r2.of_one(name)


def _triple(estimate: Estimate) -> Iterator[float]:
    return iter((estimate.value, estimate.lower, estimate.upper))


def _truth(study: Study, split: str) -> pd.DataFrame:
    """Measured phenotypes by record."""
    store = Store.open(study.path("store", study.protocol.study.paired), study.grid, hide_test=split != "test")
    return store.records.set_index("record")[list(phenotypes.NAMES)]


def _scores(study: Study, truth: pd.DataFrame, variant: str, seed: int, split: str) -> dict[Key, R2]:
    path = ablation.predictions(study, variant, seed)
    found, statistics = pd.read_parquet(path, filters=[("split", "==", split)]), study.protocol.statistics
    return {
        (str(arm), float(str(fraction))): R2.of(group, truth, statistics.bootstrap, study.protocol.seed)
        for (arm, fraction), group in found.groupby(["arm", "fraction"], observed=True)
    }


def _ceiling(study: Study, split: str) -> R2 | None:
    """R2 of the attainable ceiling; None for a real cohort."""
    cohort = study.protocol.study.paired
    if not study.cohort(cohort).simulated:
        return None
    tidy = attainable.attainable(study, cohort).query("split == @split")
    return R2.of(tidy, _truth(study, split), study.protocol.statistics.bootstrap, study.protocol.seed)
