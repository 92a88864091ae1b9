"""Statistics at the size of the largest cohort, and pooling of many sites."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.conftest import Measure, sized
from cardionets.evaluate.discrimination import auc, auc_difference, delong
from cardionets.evaluate.pooling import pool
from cardionets.evaluate.regression import Moments

PEOPLE = sized(500, 165_000)


@pytest.mark.parametrize("what", ["auc", "paired", "clustered"])
def test_delong(what: str, measure: Measure) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(PEOPLE) < 0.05
    scores, persons = rng.normal(size=(2, PEOPLE)) + labels, rng.integers(0, PEOPLE // 2, PEOPLE)
    calls = {
        "auc": lambda: auc(labels, scores[0]),
        "paired": lambda: auc_difference(*delong(labels, scores), 0, 1),
        "clustered": lambda: auc(labels, scores[0], persons=persons),
    }
    measure(calls[what], rounds=3)


@pytest.mark.parametrize("people", [sized(50, 4_248), sized(60, 165_000)])
def test_bootstrap_of_82_phenotypes(people: int, measure: Measure) -> None:
    """1,000 replicates of r and R2 by persons, at the size of a test split and of the largest cohort."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(people, 82))
    predicted = 0.5 * truth + rng.normal(size=truth.shape)
    replicates = sized(10, 1000)
    measure(lambda: Moments.of(truth, predicted, np.arange(people)).bootstrap(replicates, seed=0), rounds=1, warm=0)


def test_pooling_200_sites(measure: Measure) -> None:
    rng = np.random.default_rng(0)
    effects, errors = rng.normal(1.5, 0.3, 200), rng.uniform(0.1, 0.4, 200)
    measure(lambda: pool(effects, errors), unit="endpoint")
