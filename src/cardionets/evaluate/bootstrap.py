"""Person-cluster bootstrap as weights: a replicate is how often each person was drawn, never a copy of the data.

A statistic that is a function of per-person sums is then one matrix product for all replicates.
Source: Field & Welsh, JRSS B 2007;69:369 (cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, wald

BLOCK_CELLS = 4_000_000  # replicates x persons held at once: 32 MB


def person_codes(persons: Sequence[Any] | NDArray[Any] | pd.Series) -> tuple[NDArray[np.int64], int]:
    """Persons as codes 0..P-1 in order of first appearance, and P."""
    codes, unique = pd.factorize(np.asarray(persons, dtype=object))
    return codes.astype(np.int64), len(unique)


def _draw(members: NDArray[np.int64], replicates: int, persons: int, rng: np.random.Generator) -> Floats:
    drawn = members[rng.integers(len(members), size=(replicates, len(members)))]  # (b, members)
    cells = drawn + persons * np.arange(replicates)[:, None]
    return np.bincount(cells.ravel(), minlength=replicates * persons).reshape(replicates, persons).astype(np.float64)


def weight_blocks(persons: int, replicates: int, seed: int, strata: NDArray[Any] | None = None) -> Iterator[Floats]:
    """Blocks (b, person P) of draw counts, ``replicates`` rows in all; each row adds up to P.

    With ``strata`` (P,) persons are drawn within their stratum, so that every replicate keeps the events.
    """
    if strata is None and replicates * persons <= BLOCK_CELLS:
        yield _whole(persons, replicates, seed)
        return
    rng = np.random.default_rng(seed)
    labels = np.zeros(persons, dtype=np.int64) if strata is None else np.unique(strata, return_inverse=True)[1]
    members = [np.flatnonzero(labels == stratum) for stratum in range(labels.max(initial=0) + 1)]
    block = max(1, min(replicates, BLOCK_CELLS // max(persons, 1)))
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        yield sum((_draw(m, size, persons, rng) for m in members), np.zeros((size, persons)))


@lru_cache(maxsize=2)  # one set of people is judged in many ways
def _whole(persons: int, replicates: int, seed: int) -> Floats:
    """All draw counts (replicate, person P) at once; never to be written to."""
    counts = _draw(np.arange(persons), replicates, persons, np.random.default_rng(seed))
    counts.setflags(write=False)
    return counts


def person_sums(values: Floats, codes: NDArray[np.int64], persons: int) -> Floats:
    """Sum rows (n, ...) by person -> (P, ...)."""
    n = len(codes)
    gather = sparse.csr_matrix((np.ones(n), (codes, np.arange(n))), shape=(persons, n))
    flat = np.asarray(gather @ values.reshape(n, -1))
    return flat.reshape(persons, *values.shape[1:])


def resample_sums(sums: Floats, replicates: int, seed: int, strata: NDArray[Any] | None = None) -> Floats:
    """Bootstrap totals (B, ...) of per-person sums (P, ...)."""
    persons = len(sums)
    flat = sums.reshape(persons, -1)
    totals = [weights @ flat for weights in weight_blocks(persons, replicates, seed, strata)]
    return np.concatenate(totals).reshape(replicates, *sums.shape[1:])


def clustered_error(values: Floats, persons: NDArray[Any]) -> float:
    """Standard error of the mean of record values (n,); records of one person may depend on each other."""
    codes, people = person_codes(persons)
    if people < 2:
        raise NotEstimableError("there are fewer than 2 people")
    residual = person_sums(values - values.mean(), codes, people)
    return float(np.sqrt((residual**2).sum() * people / (people - 1))) / len(values)


def clustered_mean(values: Floats, persons: NDArray[Any], level: float) -> Estimate:
    """Mean of record values (n,) with a normal interval from :func:`clustered_error`."""
    error = clustered_error(values, persons)
    return wald(float(values.mean()), error, level)
