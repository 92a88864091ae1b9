import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from cardionets.evaluate import calibration as cal
from cardionets.evaluate import utility
from cardionets.evaluate.estimate import NotEstimableError


def cohort(n: int, seed: int, shift: float = 0.0, stretch: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from true risks, and predicted risks whose log-odds are (true - shift) / stretch."""
    rng = np.random.default_rng(seed)
    lp = rng.normal(-1.5, 1.2, n)
    return rng.random(n) < expit(lp), expit((lp - shift) / stretch)


def test_intercept_and_slope_match_statsmodels() -> None:
    labels, risk = cohort(400, 0, 0.3, 1.4)
    persons = np.repeat(np.arange(200), 2)
    slope = cal.slope(labels, risk, persons=persons)
    design = sm.add_constant(logit(risk))
    fit = sm.Logit(labels.astype(float), design).fit(disp=0)
    assert slope.value == pytest.approx(fit.params[1], abs=1e-7)
    robust = sm.GLM(labels.astype(float), design, sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": persons, "use_correction": False}
    )
    se = (slope.upper - slope.lower) / (2 * 1.959964)
    assert se == pytest.approx(robust.bse[1] * np.sqrt(200 / 199), rel=1e-5)
    plain = sm.GLM(labels.astype(float), np.ones((400, 1)), sm.families.Binomial(), offset=logit(risk)).fit()
    found = cal.intercept(labels, risk)
    assert found.value == pytest.approx(plain.params[0], abs=1e-7)
    assert (found.upper - found.lower) / (2 * 1.959964) == pytest.approx(plain.bse[0], rel=1e-5)


def test_miscalibration_is_recovered() -> None:
    labels, risk = cohort(40_000, 1, shift=0.5, stretch=1.5)
    assert cal.slope(labels, risk).value == pytest.approx(1.5, abs=0.06)
    labels, risk = cohort(40_000, 2, shift=0.5)
    assert cal.intercept(labels, risk).value == pytest.approx(0.5, abs=0.05)
    labels, risk = cohort(40_000, 3)
    assert cal.observed_expected(labels, risk).value == pytest.approx(1, abs=0.03)
    found = cal.ici(labels, risk)
    assert found.value < 0.01 and found.lower == 0
    assert cal.ici(*cohort(40_000, 4, shift=1.0)).lower > 0.05


def test_intervals_cover_what_is_true() -> None:
    # 1,000 replicates of 400 people, standard error 0.7 %: intercept 0, slope 1, O/E 1 are true
    hits = np.zeros(3)
    for seed in range(1000):
        labels, risk = cohort(400, seed)
        people = np.arange(400)
        for k, (estimate, truth) in enumerate(
            [
                (cal.intercept(labels, risk, persons=people), 0),
                (cal.slope(labels, risk, persons=people), 1),
                (cal.observed_expected(labels, risk), 1),
            ]
        ):
            hits[k] += estimate.lower <= truth <= estimate.upper
    assert (hits / 1000 >= 0.93).all()
    assert (hits[:2] / 1000 <= 0.97).all()
    assert hits[2] / 1000 <= 0.99  # conservative: the binomial variance ignores that the risks explain part of it


def test_intervals_of_the_ici_and_of_the_parts_of_the_brier_score_cover() -> None:
    # 500 replicates (standard error 1 %) of 600 people whose risks are half a logit too low; truths from a million
    shift, bins = 0.5, np.linspace(0, 1, 11)[1:-1]
    truth = expit(np.random.default_rng(0).normal(-1.5, 1.2, 1_000_000))
    told = expit(logit(truth) - shift)
    group = np.searchsorted(np.quantile(told, bins), told, side="right")
    size = np.bincount(group)
    seen, said = np.bincount(group, truth) / size, np.bincount(group, told) / size
    base = truth.mean()
    truths = {"ici": np.abs(told - truth).mean(), "uncertainty": base * (1 - base)}
    truths |= {"reliability": np.average((said - seen) ** 2, weights=size)}
    truths |= {"resolution": np.average((seen - base) ** 2, weights=size)}
    hits = dict.fromkeys(truths, 0)
    for seed in range(500):
        labels, risk = cohort(600, seed, shift)
        people = np.arange(600)
        found = cal.brier_parts(labels, risk, persons=people, replicates=150) | {"ici": cal.ici(labels, risk)}
        for name, value in truths.items():
            hits[name] += found[name].lower <= value <= found[name].upper
    assert all(0.93 <= count / 500 <= 0.97 for count in hits.values())


def test_perfect_calibration_is_within_the_interval_of_the_ici() -> None:
    # 150 replicates (standard error 1.8 %)
    hits = sum(cal.ici(*cohort(300, seed), persons=np.arange(300)).lower == 0 for seed in range(150))
    assert 0.91 <= hits / 150 <= 0.98


def test_observed_expected_interval_is_debrays() -> None:
    labels = np.arange(200) < 30
    estimate = cal.observed_expected(labels, np.full(200, 0.1))
    assert estimate.value == pytest.approx(1.5)
    assert np.log(estimate.upper / 1.5) == pytest.approx(1.959964 * np.sqrt((1 - 0.15) / 30), rel=1e-6)


def test_brier_and_its_parts() -> None:
    labels, risk = cohort(500, 5)
    assert cal.brier(labels, risk) == pytest.approx(np.mean((labels - risk) ** 2))
    coarse = np.round(risk, 1)  # few distinct risks: nothing is left within bins
    parts = {name: part.value for name, part in cal.brier_parts(labels, coarse, bins=1000).items()}
    assert parts["within_bins"] == pytest.approx(0, abs=1e-12)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    assert total == pytest.approx(cal.brier(labels, coarse), abs=1e-3)  # up to the noise of the bootstrap


def test_chance_is_taken_off_the_parts_of_the_brier_score() -> None:
    # Ferro & Fricker's closed form; theirs takes the risks as given, a bootstrap draws them
    labels, risk = cohort(500, 5)
    frame = pd.DataFrame({"y": labels.astype(float), "p": risk}).groupby(cal._quantile_bins(risk, 10))
    mean, share, n = frame.mean(), frame.size() / 500, frame.size()
    chance = (share * mean["y"] * (1 - mean["y"]) / (n - 1)).sum()
    plain = (share * (mean["p"] - mean["y"]) ** 2).sum()
    found = cal.brier_parts(labels, risk, replicates=5000)["reliability"]
    assert found.value == pytest.approx(plain - chance, abs=0.1 * chance)


def test_flexible_curve_is_linear_in_the_tails_and_follows_the_truth() -> None:
    labels, risk = cohort(20_000, 6, shift=0.7)
    curve = cal.flexible_curve(labels, risk)
    wanted = np.array([0.1, 0.2, 0.4])
    assert curve(wanted) == pytest.approx(expit(logit(wanted) + 0.7), abs=0.02)
    far = logit(curve(expit(np.array([6.0, 7.0, 8.0]))))
    assert np.diff(far, 2) == pytest.approx([0], abs=1e-6)


@pytest.mark.parametrize("method", ["intercept", "intercept_slope", "isotonic"])
def test_recalibration_helps_people_it_was_not_fitted_on(method: cal.Recalibration) -> None:
    labels, risk = cohort(3000, 7, shift=-0.8, stretch=0.7)
    persons = np.repeat(np.arange(1500), 2)
    updated = cal.recalibrated(labels, risk, method, persons)
    assert cal.brier(labels, updated) < cal.brier(labels, risk)
    assert abs(np.log(cal.observed_expected(labels, updated).value)) < 0.05
    flipped = labels.copy()
    flipped[:2] = ~flipped[:2]
    assert cal.recalibrated(flipped, risk, method, persons)[:2] == pytest.approx(updated[:2])  # own outcome is not seen


def test_reasons_why_not() -> None:
    labels = np.arange(20) < 8
    with pytest.raises(NotEstimableError, match="constant"):
        cal.slope(labels, np.full(20, 0.3))
    with pytest.raises(NotEstimableError, match="separate"):
        cal.slope(labels, np.where(labels, 0.9, 0.1))
    with pytest.raises(NotEstimableError, match="no events"):
        cal.intercept(np.zeros(5, bool), np.full(5, 0.2))
    with pytest.raises(NotEstimableError, match="one person"):
        cal.intercept(labels, np.linspace(0.1, 0.9, 20), persons=np.zeros(20))


def test_net_benefit_by_hand_and_treat_all_slopes() -> None:
    # 100 people, 20 events; at t = 0.2 twelve true and sixteen false positives: 0.12 - 0.16 / 4 = 0.08
    labels = np.arange(100) < 20
    risk = np.where(labels, np.where(np.arange(100) < 12, 0.5, 0.1), np.where(np.arange(100) < 36, 0.3, 0.05))
    assert utility.net_benefit(labels, risk, np.array([0.2]))[0] == pytest.approx(0.08)
    t = np.array([0.05, 0.2, 0.5])
    assert utility.net_benefit(labels, np.ones(100), t) == pytest.approx(utility.treat_all(0.2, t))
    assert utility.treat_all(0.2, t) == pytest.approx([0.2 - 0.8 * 0.05 / 0.95, 0.0, -0.6])
    with pytest.raises(NotEstimableError, match="inside"):
        utility.net_benefit(labels, risk, np.array([1.0]))


def test_net_benefit_matches_the_published_family_history_example() -> None:
    # Net benefit of family history for prostate cancer, 750 men: R's dcurves 0.2, dca(cancer ~ famhistory, df_binary)
    labels, family = np.zeros(750, bool), np.zeros(750)
    labels[:105], family[:24], family[105 : 105 + 91] = True, 1.0, 1.0
    t = np.array([0.01, 0.05, 0.10, 0.15, 0.20, 0.25])
    published = [0.0307744108, 0.0256140351, 0.0185185185, 0.0105882353, 0.0016666667, -0.0084444444]
    assert utility.net_benefit(labels, family, t) == pytest.approx(published, abs=1e-10)
    everybody = [0.1313131313, 0.0947368421, 0.0444444444, -0.0117647059, -0.0750000000, -0.1466666667]
    assert utility.treat_all(0.14, t) == pytest.approx(everybody, abs=1e-10)


def test_decision_curve_interval_covers() -> None:
    # 300 replicates (standard error 1.3 %) of 300 people; the truth from 200,000
    t = np.array([0.15])
    truth = utility.net_benefit(*cohort(200_000, 10**6), t)[0]
    hits = 0
    for seed in range(300):
        labels, risk = cohort(300, seed)
        row = utility.decision_curve(labels, risk, t, np.arange(300), replicates=300, seed=seed).iloc[0]
        hits += row["lower"] <= truth <= row["upper"]
    assert 0.91 <= hits / 300 <= 0.985
