import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score

from cardionets.evaluate import bootstrap
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.regression import Moments, r_interval, steiger, zou


def pair(n: int, seed: int, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(140, 30, (n, columns))
    return truth, 140 + 0.7 * (truth - 140) + rng.normal(0, 20, (n, columns)) + 5


def test_scores_are_those_of_scipy_and_scikit_learn() -> None:
    y, p = pair(80, 0)
    found = Moments.of(y, p, np.arange(80)).scores()
    for j in range(3):
        assert found["r2"][j] == pytest.approx(r2_score(y[:, j], p[:, j]))
        assert found["r"][j] == pytest.approx(pearsonr(y[:, j], p[:, j])[0])
        assert found["mae"][j] == pytest.approx(mean_absolute_error(y[:, j], p[:, j]))
        assert found["bias"][j] == pytest.approx((p - y)[:, j].mean())
        assert found["slope"][j] == pytest.approx(np.polyfit(p[:, j], y[:, j], 1)[0])
        sy, sp = y[:, j].std(), p[:, j].std()
        gap = (y - p)[:, j].mean()
        assert found["ccc"][j] == pytest.approx(2 * found["r"][j] * sy * sp / (sy**2 + sp**2 + gap**2))


def test_r2_is_not_a_squared_correlation_and_may_be_negative() -> None:
    y, _ = pair(50, 1, 1)
    found = Moments.of(y, 3 * y, np.arange(50)).scores()
    assert found["r"][0] == pytest.approx(1)
    assert found["r2"][0] < 0


def test_missing_values_and_constants() -> None:
    y, p = pair(60, 2)
    y[:20, 0] = np.nan
    p[40:, 1] = np.nan
    y[:, 2] = 0.1 + 0.2
    found = Moments.of(y, p, np.arange(60)).scores()
    assert found["r2"][0] == pytest.approx(r2_score(y[20:, 0], p[20:, 0]))
    assert found["r2"][1] == pytest.approx(r2_score(y[:40, 1], p[:40, 1]))
    assert np.isnan([found["r2"][2], found["r"][2]]).all()
    constant = Moments.of(y[:, :1], np.full((60, 1), 140.0), np.arange(60)).scores()
    assert np.isnan(constant["r"][0])
    assert constant["r2"][0] <= 0


def test_matrix_bootstrap_equals_the_plain_loop() -> None:
    y, p = pair(120, 3)
    persons = np.repeat(np.arange(60), 2)
    fast = Moments.of(y, p, persons).bootstrap(40, seed=7)
    weights = np.concatenate(list(bootstrap.weight_blocks(60, 40, 7)))
    for b in range(40):
        rows = np.concatenate([np.flatnonzero(persons == i) for i in range(60) for _ in range(int(weights[b, i]))])
        assert fast["r2"][b] == pytest.approx([r2_score(y[rows, j], p[rows, j]) for j in range(3)])
        assert fast["r"][b] == pytest.approx([pearsonr(y[rows, j], p[rows, j])[0] for j in range(3)])


def test_weights_keep_people_and_strata_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    strata = np.arange(30) < 4
    weights = np.concatenate(list(bootstrap.weight_blocks(30, 25, 1, strata)))
    assert (weights.sum(axis=1) == 30).all()
    assert (weights[:, strata].sum(axis=1) == 4).all()
    assert np.array_equal(weights, np.concatenate(list(bootstrap.weight_blocks(30, 25, 1, strata))))
    monkeypatch.setattr(bootstrap, "BLOCK_CELLS", 60)
    assert len(list(bootstrap.weight_blocks(30, 25, 1))) == 13


def test_r_interval_covers_and_is_fishers() -> None:
    # Altman & Gardner, BMJ 1988;296:1238 (worked by hand): r = 0.5, n = 28 -> z 0.5493 +- 1.96/5
    estimate = r_interval(0.5, 28)
    assert (estimate.lower, estimate.upper) == pytest.approx(
        (np.tanh(0.549306 - 0.391993), np.tanh(0.549306 + 0.391993)), abs=1e-5
    )
    # 4,000 replicates, standard error 0.35 %
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 40))
    y = 0.6 * x + 0.8 * rng.normal(size=x.shape)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y)]
    inside = [(e := r_interval(v, 40)).lower <= 0.6 <= e.upper for v in r]
    assert 0.93 <= np.mean(inside) <= 0.97
    with pytest.raises(NotEstimableError, match="3 people"):
        r_interval(0.5, 3)


def test_steiger_and_zou_match_published_examples() -> None:
    # Silver, Hittner & May, Appl Psychol Meas 2006;30:152 (depcor)
    z, p = steiger(0.3, 0.4, 0.5, 100)
    assert (z, p) == pytest.approx((-1.0718, 0.2838), abs=1e-4)
    # Steiger, Psychol Bull 1980;87:249, case A, with full precision (Diedenhofen & Musch, PLoS One 2015;10:e0121945)
    assert steiger(0.4, 0.5, 0.1, 103)[0] == pytest.approx(-0.8887185, abs=1e-7)
    # Zou, Psychol Methods 2007;12:409, example 2
    estimate = zou(0.396, 0.179, 0.088, 66)
    assert (estimate.lower, estimate.upper) == pytest.approx((-0.093, 0.517), abs=5e-4)


def test_steiger_keeps_its_size_and_zou_covers() -> None:
    # 3,000 replicates, n = 100: standard error 0.4 %
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3000, 100))
    shared = rng.normal(size=truth.shape)
    one, two = (0.6 * truth + 0.5 * shared + 0.62 * rng.normal(size=truth.shape) for _ in range(2))
    rejected = covered = 0
    for y, a, b in zip(truth, one, two):
        r = np.corrcoef([y, a, b])
        rejected += steiger(r[0, 1], r[0, 2], r[1, 2], 100)[1] < 0.05
        interval = zou(r[0, 1], r[0, 2], r[1, 2], 100)
        covered += interval.lower <= 0 <= interval.upper
    assert 0.03 <= rejected / 3000 <= 0.07
    assert 0.93 <= covered / 3000 <= 0.97
