import numpy as np
import pytest

from cardionets.evaluate import agreement
from cardionets.evaluate.estimate import NotEstimableError
from tests.oracles import MINI_WRIGHT, SHROUT_FLEISS, WRIGHT


def test_bland_altman_1986_peak_flow() -> None:
    # Lancet 1986;327:307: bias -2.1, SD 38.8; bias -22.0 to 17.8; each limit +- 34.6 around mean -+ 2 SD
    limits = agreement.bland_altman(WRIGHT, MINI_WRIGHT)
    assert limits.bias.value == pytest.approx(-2.1, abs=0.05)
    assert limits.sd == pytest.approx(38.8, abs=0.05)
    assert (limits.bias.lower, limits.bias.upper) == pytest.approx((-22.0, 17.8), abs=0.15)
    assert limits.upper.value - limits.bias.value == pytest.approx(1.96 * 38.8, abs=0.1)
    assert limits.upper.upper - limits.upper.value == pytest.approx(34.6, abs=0.15)


def test_limits_of_agreement_cover() -> None:
    # 4,000 replicates of 60 pairs, standard error 0.35 %: the true upper limit is 1.96
    rng = np.random.default_rng(0)
    hits = 0
    for row in rng.normal(size=(4000, 60)):
        edge = agreement.bland_altman(row, np.zeros(60)).upper
        hits += edge.lower <= 1.96 <= edge.upper
    assert 0.93 <= hits / 4000 <= 0.97


def test_shrout_fleiss_1979() -> None:
    # Psychol Bull 1979;86:420: ICC(2,1) = .29; interval as McGraw & Wong 1996 (R psych::ICC: 0.019, 0.76)
    estimate = agreement.icc21(SHROUT_FLEISS)
    assert estimate.value == pytest.approx(0.29, abs=0.005)
    assert (estimate.lower, estimate.upper) == pytest.approx((0.019, 0.761), abs=0.001)
    # table 3: mean squares 11.24, 32.49 (97.49 / 3), 1.02
    assert agreement.mean_squares(SHROUT_FLEISS) == pytest.approx((11.24, 32.49, 1.02), abs=0.01)


def test_ccc_of_a_shift_and_its_coverage() -> None:
    # 2,000 replicates of 100 people: rho 0.8, shift 0.3 SD -> CCC 1.6 / (2 + 0.09)
    rng = np.random.default_rng(1)
    truth, hits = 1.6 / 2.09, 0
    for _ in range(2000):
        x = rng.normal(size=100)
        y = 0.8 * x + 0.6 * rng.normal(size=100) + 0.3
        estimate = agreement.ccc(x, y)
        hits += estimate.lower <= truth <= estimate.upper
    assert 0.93 <= hits / 2000 <= 0.97
    x = np.arange(10.0)
    assert agreement.ccc(x, x).value == pytest.approx(1)


def test_kappa_by_hand() -> None:
    # Cohen's kappa of 20/5/10/15 in 50: (0.7 - 0.5) / 0.5 = 0.4
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    estimate = agreement.kappa(first, second)
    assert estimate.value == pytest.approx(0.4)
    assert estimate.lower < 0.4 < estimate.upper
    from statsmodels.stats.inter_rater import cohens_kappa

    reference = cohens_kappa([[20, 5], [10, 15]])
    assert (estimate.lower, estimate.upper) == pytest.approx((reference.kappa_low, reference.kappa_upp), abs=1e-6)


def test_fleiss_kappa_matches_statsmodels() -> None:
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    ratings = np.random.default_rng(2).integers(0, 3, (40, 5))
    assert agreement.fleiss_kappa(ratings).value == pytest.approx(fleiss_kappa(aggregate_raters(ratings)[0]))


def test_interval_of_fleiss_kappa_is_the_jackknifes_and_covers() -> None:
    # 1,000 replicates (standard error 0.7 %) of 80 people and 5 raters who see the same latent finding
    rng, hits = np.random.default_rng(0), 0
    one = rng.random((12, 4)) < 0.4
    left = [agreement.fleiss_kappa(np.delete(one, i, axis=0)).value for i in range(12)]
    found = agreement.fleiss_kappa(one)
    assert (found.upper - found.value) / 1.959964 == pytest.approx(np.sqrt(11 * np.var(left)), rel=1e-5)

    def rated(people: int) -> np.ndarray:
        return rng.normal(size=(people, 1)) + rng.normal(size=(people, 5)) > 0.5

    truth = agreement.fleiss_kappa(rated(400_000)).value
    for _ in range(1000):
        found = agreement.fleiss_kappa(rated(80))
        hits += found.lower <= truth <= found.upper
    assert 0.93 <= hits / 1000 <= 0.97
    alone = agreement.fleiss_kappa(np.array([[1, 0], [0, 0], [0, 0]]))
    assert np.isnan(alone.lower) and alone.note.startswith("interval not estimable: because one person")


def test_reasons_why_not() -> None:
    with pytest.raises(NotEstimableError, match="2 pairs"):
        agreement.bland_altman(np.array([1.0, 2.0, np.nan]), np.zeros(3))
    with pytest.raises(NotEstimableError, match="vary"):
        agreement.icc21(np.ones((4, 2)))
    with pytest.raises(NotEstimableError, match="one category"):
        agreement.kappa(np.ones(4), np.ones(4))
    with pytest.raises(NotEstimableError, match="variation"):
        agreement.ccc(np.ones(10), np.arange(10.0))
