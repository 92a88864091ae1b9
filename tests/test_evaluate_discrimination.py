import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cardionets.evaluate import discrimination as dis
from cardionets.evaluate.disease_metrics import CURVES, Sample, curve_statistics
from cardionets.evaluate.estimate import Estimate, NotEstimableError, mean_of_two
from cardionets.evaluate.readers import obuchowski_rockette
from tests.oracles import ASAH_NDKA, ASAH_POOR, ASAH_S100B, ASAH_WFNS, van_dyke

ASAH = np.stack([ASAH_S100B, ASAH_NDKA, ASAH_WFNS])


def test_auc_and_delong_match_proc() -> None:
    # pROC 1.18 on aSAH: auc, var, cov, ci (DeLong), roc.test
    auc, covariance = dis.delong(ASAH_POOR, ASAH)
    assert auc == pytest.approx([0.7313685637, 0.6119579946, 0.8236788618], abs=1e-9)
    assert covariance[0, 0] == pytest.approx(0.0026686824572, abs=1e-12)
    assert covariance[1, 1] == pytest.approx(0.0031908105494, abs=1e-12)
    assert covariance[0, 1] == pytest.approx(-0.0007561649381, abs=1e-12)
    for scores, bounds in zip(ASAH, [(0.6301182, 0.8326189), (0.501245, 0.722671), (0.7485349, 0.8988228)]):
        estimate = dis.auc(ASAH_POOR, scores, scale="auc")
        assert (estimate.lower, estimate.upper) == pytest.approx(bounds, abs=1e-6)


@pytest.mark.parametrize(
    ("i", "j", "p", "bounds"),
    [
        (0, 1, 0.1642952, (-0.04887060642, 0.28769174463)),
        (0, 2, 0.02717578, (-0.17421441925, -0.01040617696)),
        (1, 2, 0.00514558, (-0.36004056348, -0.06340117093)),
    ],
)
def test_paired_delong_test_matches_proc(i: int, j: int, p: float, bounds: tuple[float, float]) -> None:
    estimate, found = dis.auc_difference(*dis.delong(ASAH_POOR, ASAH), i, j)
    assert found == pytest.approx(p, abs=1e-7)
    assert (estimate.lower, estimate.upper) == pytest.approx(bounds, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_auc_and_average_precision_agree_with_scikit_learn_under_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(40) < rng.integers(1, 39))
    scores = rng.integers(0, levels, 40).astype(float)
    assert dis.delong(labels, scores)[0][0] == pytest.approx(roc_auc_score(labels, scores))
    ones = np.ones((1, 40))
    assert dis.weighted_auc(labels, scores, ones)[0] == pytest.approx(roc_auc_score(labels, scores))
    assert dis.weighted_average_precision(labels, scores, ones)[0] == pytest.approx(
        average_precision_score(labels, scores)
    )


def test_weights_mean_copies_of_people() -> None:
    rng = np.random.default_rng(1)
    labels, scores, times = rng.random(50) < 0.4, rng.normal(size=50).round(1), rng.integers(0, 4, 50)
    copied = np.repeat(labels, times), np.repeat(scores, times)
    weights = times[None].astype(float)
    assert dis.weighted_auc(labels, scores, weights)[0] == pytest.approx(roc_auc_score(*copied))
    assert dis.weighted_average_precision(labels, scores, weights)[0] == pytest.approx(average_precision_score(*copied))
    w = np.where(labels, 1.0, labels.sum() / (~labels).sum())
    even = average_precision_score(labels, scores, sample_weight=w)
    assert dis.weighted_average_precision(labels, scores, np.ones((1, 50)), 0.5)[0] == pytest.approx(even)


def test_clustering_one_record_per_person_is_delong_and_copies_add_nothing() -> None:
    rng = np.random.default_rng(2)
    labels, scores = rng.random(300) < 0.3, rng.normal(size=(2, 300))
    plain = dis.delong(labels, scores)
    own = dis.delong(labels, scores, np.arange(300))
    assert own[1] == pytest.approx(plain[1])
    twice = dis.delong(np.tile(labels, 2), np.tile(scores, 2), np.tile(np.arange(300), 2))
    assert twice[0] == pytest.approx(plain[0])
    assert twice[1] == pytest.approx(plain[1], rel=1e-9)  # a second copy of everybody is no new evidence


def test_delong_interval_covers_95_percent() -> None:
    # 2,000 replicates: the share covered has a standard error of 0.5 %, so 93-97 % is four of them
    rng = np.random.default_rng(3)
    from scipy.stats import norm

    truth, hits, size = norm.cdf(1 / np.sqrt(2)), 0, 0
    labels = np.arange(150) < 50
    for _ in range(2000):
        scores = rng.normal(size=(2, 150)) * 0.7 + rng.normal(size=150) * 0.7
        scores[:, labels] += 1.0 * np.sqrt(0.98)
        auc, covariance = dis.delong(labels, scores)
        estimate = dis.auc(labels, scores[0])
        hits += estimate.lower <= truth <= estimate.upper
        size += dis.auc_difference(auc, covariance, 0, 1)[1] < 0.05
    assert 0.93 <= hits / 2000 <= 0.97
    assert 0.03 <= size / 2000 <= 0.07  # two equally good scores: the paired test keeps its size


@pytest.mark.parametrize(("events", "others", "mean"), [(2, 100, 0.8), (5, 60, 0.95), (12, 200, 0.9)])
def test_interval_of_few_cases_covers_where_delong_does_not(events: int, others: int, mean: float) -> None:
    # 400 replicates: 95 % has a standard error of 1.1 %; DeLong's covers 70 to 90 % here
    from scipy.stats import norm

    rng, labels = np.random.default_rng(5), np.arange(events + others) < events
    scores = rng.normal(size=(400, len(labels))) + labels * np.sqrt(2) * norm.ppf(mean)
    found = [dis.auc(labels, row) for row in scores]
    assert 0.92 <= np.mean([e.lower <= mean <= e.upper for e in found]) <= 0.995


def test_score_interval_narrows_with_people_and_turns_over_with_the_scores() -> None:
    few, many, turned = dis.score_interval(0.9, 5, 50), dis.score_interval(0.9, 50, 500), dis.score_interval(0.1, 50, 5)
    assert few.lower < many.lower < 0.9 < many.upper < few.upper
    assert (turned.lower, turned.upper) == pytest.approx((1 - few.upper, 1 - few.lower))


def test_clustered_interval_covers_with_repeated_records() -> None:
    # 1,000 replicates, 80 people with 1-4 records each; ignoring persons would cover clearly less
    from scipy.stats import norm

    rng, good, naive = np.random.default_rng(4), 0, 0
    truth = norm.cdf(1 / np.sqrt(2))
    for _ in range(1000):
        persons = np.repeat(np.arange(80), rng.integers(1, 5, 80))
        sick = (np.arange(80) < 30)[persons]
        scores = (rng.normal(size=80) * 0.9)[persons] + rng.normal(size=len(persons)) * np.sqrt(1 - 0.81) + sick
        inside = dis.auc(sick, scores, persons=persons)
        alone = dis.auc(sick, scores)
        good += inside.lower <= truth <= inside.upper
        naive += alone.lower <= truth <= alone.upper
    assert 0.93 <= good / 1000 <= 0.975
    assert naive / 1000 < 0.90


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95])
def test_thresholds_reach_what_they_promise(wanted: float) -> None:
    rng = np.random.default_rng(5)
    labels, scores = rng.random(400) < 0.3, rng.normal(size=400).round(1)
    t = dis.threshold_at_specificity(labels, scores, wanted)
    below = scores[~labels] < t
    assert below.mean() >= wanted
    assert (scores[~labels] < np.unique(scores[scores < t])[-1]).mean() < wanted  # any lower threshold falls short
    t = dis.threshold_at_sensitivity(labels, scores, wanted)
    assert (scores[labels] >= t).mean() >= wanted
    assert (scores[labels] > t).mean() < wanted


def test_operating_point_and_predictive_values() -> None:
    labels = np.repeat([True, False], [100, 900])
    scores = np.concatenate([np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [90, 810])])
    point = dis.operating_point(labels, scores, 0.5, np.arange(1000))
    assert point.sensitivity.value == pytest.approx(0.8)
    assert point.specificity.value == pytest.approx(0.9)
    assert point.ppv.value == pytest.approx(80 / 170)
    assert point.lr_positive.value == pytest.approx(8.0)
    assert point.lr_negative.value == pytest.approx(0.2 / 0.9)
    plus, minus = Estimate(0.8 / 0.1, 6.0, 10.0), Estimate(0.2 / 0.9, 0.1, 0.4)
    ppv, npv = dis.at_prevalence(plus, minus, 0.1)
    assert (ppv.value, npv.value) == pytest.approx((80 / 170, 810 / 830))
    assert (ppv.lower, npv.upper) == pytest.approx((6 / 9 / (1 + 6 / 9), 1 / (1 + 0.1 / 9)))
    assert dis.at_prevalence(plus, minus, 0.5)[0].value == pytest.approx(0.8 / 0.9)
    with pytest.raises(NotEstimableError, match="inside 0-1"):
        dis.at_prevalence(plus, minus, 1.0)
    unknown = Estimate(float("nan"), note="not estimable: because the ratio has a zero count")
    assert dis.at_prevalence(unknown, minus, 0.1)[0].note == unknown.note


@pytest.mark.parametrize(
    ("scores", "wanted", "sensitivity", "specificity"),
    [
        (ASAH_S100B, 0.9, 0.3902439024, 0.2305555556),
        (ASAH_S100B, 0.8, 0.6341463415, 0.4472222222),
        (ASAH_S100B, 0.95, 0.3414634146, 0.1680555556),
        (ASAH_NDKA, 0.9, 0.1951219512, 0.1666666667),
    ],
)
def test_points_of_the_roc_match_proc(
    scores: np.ndarray, wanted: float, sensitivity: float, specificity: float
) -> None:
    # coords(roc(outcome, s100b), 0.9, input = "specificity", ret = "sensitivity") and the reverse, pROC 1.18
    counts = dis.called_counts(ASAH_POOR, scores, np.ones((1, len(scores))))
    found = [x.item() for x in dis.at_operating(*counts, wanted)]
    assert found == pytest.approx([sensitivity, specificity], abs=1e-9)


def test_points_of_a_roc_with_one_step_and_of_constant_scores() -> None:
    labels = np.arange(10) < 4
    for scores in (labels.astype(float), np.zeros(10)):
        sensitivity, specificity = dis.at_operating(*dis.called_counts(labels, scores, np.ones((1, 10))), 0.9)
        expected = (1.0, 1.0) if scores.any() else (0.1, 0.1)  # perfect, and the diagonal
        assert (sensitivity.item(), specificity.item()) == pytest.approx(expected)


def test_intervals_of_curves_cover() -> None:
    # 600 replicates (standard error 0.9 %) of 400 people; truths of two normals 1.2 apart, specificity 0.9, the
    # area under precision and recall by quadrature
    rate = norm.sf(np.linspace(-8, 8, 200_001) - 1.2)  # of cases, falling along the thresholds
    precision = rate / (rate + norm.sf(np.linspace(-8, 8, 200_001)))
    area, point = np.trapezoid(precision[::-1], rate[::-1]), 1 - norm.cdf(norm.ppf(0.9) - 1.2)
    truths, hits = np.array([area, area, point, point]), np.zeros(4)
    rng, labels = np.random.default_rng(0), np.arange(400) < 200
    for seed in range(600):
        sample = Sample(labels, (rng.normal(size=400) + 1.2 * labels)[None], np.arange(400))
        found = curve_statistics(sample, 200, seed, 0.95, 0.9)[0]
        hits += [found[name].lower <= truth <= found[name].upper for name, truth in zip(CURVES, truths)]
    assert area == pytest.approx(0.797, abs=1e-3)
    assert ((hits / 600 >= 0.93) & (hits / 600 <= 0.97)).all()


def test_intervals_of_predictive_values_and_balanced_accuracy_cover() -> None:
    # 1,000 replicates (standard error 0.7 %) of 300 people, at a stated prevalence of 10 %
    se, sp, rng = 1 - norm.cdf(0.8 - 1.2), norm.cdf(0.8), np.random.default_rng(0)
    truths = 0.1 * se / (0.1 * se + 0.9 * (1 - sp)), 0.9 * sp / (0.9 * sp + 0.1 * (1 - se)), (se + sp) / 2
    hits = np.zeros(3)
    for _ in range(1000):
        labels = np.arange(300) < 90
        point = dis.operating_point(labels, rng.normal(size=300) + 1.2 * labels, 0.8, np.arange(300))
        found = *dis.at_prevalence(point.lr_positive, point.lr_negative, 0.1), mean_of_two(*_pair(point))
        hits += [e.lower <= truth <= e.upper for e, truth in zip(found, truths)]
    assert ((hits / 1000 >= 0.93) & (hits / 1000 <= 0.98)).all()


def test_copies_of_records_narrow_no_interval_of_an_operating_point() -> None:
    rng, people = np.random.default_rng(2), np.arange(200)
    labels = rng.random(200) < 0.3
    scores = rng.normal(size=200) + labels
    one = dis.operating_point(labels, scores, 0.8, people)
    five = dis.operating_point(*(np.repeat(x, 5) for x in (labels, scores)), 0.8, np.repeat(people, 5))
    for name in ("sensitivity", "specificity", "lr_positive", "lr_negative"):
        a, b = getattr(one, name), getattr(five, name)
        assert (b.value, b.lower, b.upper) == pytest.approx((a.value, a.lower, a.upper)), name


def test_a_threshold_keeps_its_promise_in_single_precision() -> None:
    rng = np.random.default_rng(6)
    labels, scores = rng.random(300) < 0.2, rng.random(300).astype(np.float32)
    t = dis.threshold_at_specificity(labels, scores.astype(np.float64), 0.9)
    controls = np.sort(scores[~labels])
    last = controls[int(np.ceil(0.9 * len(controls) - 1e-9)) - 1]
    assert last < np.float32(t) <= scores[scores > last].min()
    assert dis.threshold_at_specificity(np.array([True, False]), np.array([0.1, 0.5]), 0.9) > 0.5  # nobody is above


def _pair(point: dis.Operating) -> tuple[Estimate, Estimate]:
    return point.sensitivity, point.specificity


def test_mcnemar_holds_its_size() -> None:
    # 2,000 replicates (standard error 0.5 %) of 200 people whose two decisions are equally often right
    rng, rejected = np.random.default_rng(3), 0
    for _ in range(2000):
        easy = rng.random(200)
        a, b = (easy + rng.normal(0, 0.5, 200) > 0.3 for _ in range(2))
        rejected += dis.mcnemar(a, b)[1] < 0.05
    assert 0.02 <= rejected / 2000 <= 0.06  # the continuity correction keeps it below 5 %


def test_wilson_interval_by_hand_and_design_effect() -> None:
    # Newcombe, Stat Med 1998;17:857, table I: 81 of 263 gives 0.2553-0.3662
    estimate = dis.wilson(81 / 263, 263)
    assert (estimate.lower, estimate.upper) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    hits = np.tile(np.arange(100) < 30, 3)
    one, many = dis.proportion(hits, np.arange(300)), dis.proportion(hits, np.tile(np.arange(100), 3))
    assert many.upper - many.lower == pytest.approx((one.upper - one.lower) * np.sqrt(3), rel=0.05)


def test_mcnemar_matches_its_textbook_values() -> None:
    # Agresti, Categorical Data Analysis, table 10.1 as decisions: 150 and 86 discordant
    a = np.repeat([True, True, False, False], [794, 150, 86, 570])
    b = np.repeat([True, False, True, False], [794, 150, 86, 570])
    statistic, p = dis.mcnemar(a, b)
    assert statistic == pytest.approx((64 - 1) ** 2 / 236)
    assert p == pytest.approx(4.115e-5, rel=1e-3)  # R: mcnemar.test
    assert dis.mcnemar(a[930:960], b[930:960])[1] < 1


def test_three_classes_macro_auc() -> None:
    rng = np.random.default_rng(6)
    classes = rng.choice(["dcm", "hcm", "rcm"], 200)
    scores = {name: rng.normal(size=200) + (classes == name) for name in ("dcm", "hcm", "rcm")}
    expected = np.mean([roc_auc_score(classes == name, s) for name, s in scores.items()])
    assert dis.macro_ovr_auc(classes, scores)[0] == pytest.approx(expected)
    with pytest.raises(NotEstimableError, match="rcm"):
        dis.macro_ovr_auc(np.array(["dcm", "hcm"] * 100), scores)


@pytest.mark.parametrize(("labels", "why"), [([0, 0, 0], "no events"), ([1, 1, 1], "everybody"), ([], "nobody")])
def test_one_class_has_a_reason(labels: list[int], why: str) -> None:
    with pytest.raises(NotEstimableError, match=why):
        dis.auc(np.array(labels, dtype=bool), np.zeros(len(labels)))


def test_perfect_and_single_scores_have_an_interval_and_missing_ones_a_reason() -> None:
    labels = np.arange(10) < 5
    perfect = dis.auc(labels, labels.astype(float))
    assert (perfect.value, perfect.upper) == (1, 1) and 0.4 < perfect.lower < 0.8
    assert dis.auc(labels, -labels.astype(float)) == dis.Estimate(0.0, 0.0, pytest.approx(1 - perfect.lower))
    one = dis.auc(np.array([True, False, False]), np.arange(3.0))
    assert one.value == 0 and one.lower == 0 and one.upper > 0.5
    with pytest.raises(NotEstimableError, match="missing"):
        dis.auc(labels, np.where(labels, np.nan, 0.0))
    same = dis.auc_difference(*dis.delong(labels, np.stack([np.arange(10.0)] * 2)), 0, 1)
    assert same[0].value == 0
    assert "alike" in same[0].note


def test_obuchowski_rockette_matches_mrmcaov_on_van_dyke() -> None:
    # Smith & Hillis, MRMCaov user guide: mrmc(empirical_auc, cov = DeLong), random readers and cases
    result = obuchowski_rockette(*van_dyke())
    c = result.components
    assert [c.error, c.cov1, c.cov2, c.cov3] == pytest.approx(
        [0.0007921325, 0.000342009, 0.0003395265, 0.0002358497], abs=1e-9
    )
    assert (c.ms_modality, c.ms_interaction) == pytest.approx((0.004796171, 0.0005510306), abs=1e-8)
    assert result.f == pytest.approx(4.484854, abs=1e-5)
    assert result.df[1] == pytest.approx(15.06611, abs=1e-4)
    assert result.p == pytest.approx(0.05123303, abs=1e-7)
    difference, p = result.differences[0, 1]
    assert (difference.value, difference.lower, difference.upper) == pytest.approx(
        (-0.04380032, -0.0878671960, 0.0002665519), abs=1e-7
    )
    assert p == pytest.approx(result.p)
    first, second = result.means
    assert (first.value, first.lower, first.upper) == pytest.approx((0.8970370, 0.8253461, 0.9687280), abs=1e-6)
    assert (second.lower, second.upper) == pytest.approx((0.8942155, 0.9874592), abs=1e-6)
