"""Latent hearts: published marginals, exact identities, physiology's direction, case mix."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from cardionets import diseases, phenotypes
from cardionets.config import StudyError
from cardionets.simulate import anatomy
from cardionets.simulate.heart import COVARIATES, ELECTRICAL, STATES, VARIATION, CaseMix, bernoulli, sample

SICK = CaseMix(
    dcm=0.08, hcm=0.08, rcm=0.05, infarct=0.15, cad=0.25, af=0.2, valve=0.1, pulmonary_hypertension=0.1, lbbb=0.05
)

# Mean and SD by sex. Ventricles, atria: Petersen et al., JCMR 2017;19:18 (healthy, 45-74 y). The simulated population
# is unselected and not healthy, hence the tolerance of 8 % on means and 35 % on SDs.
PUBLISHED = {
    ("lv_edv", "M"): (166, 32),
    ("lv_edv", "F"): (124, 21),
    ("lv_esv", "M"): (69, 16),
    ("lv_esv", "F"): (49, 11),
    ("lv_sv", "M"): (96, 20),
    ("lv_sv", "F"): (75, 14),
    ("lv_ef", "M"): (58, 5),
    ("lv_ef", "F"): (61, 5),
    ("lv_mass", "M"): (103, 21),
    ("lv_mass", "F"): (70, 13),
    ("rv_edv", "M"): (182, 36),
    ("rv_edv", "F"): (130, 24),
    ("rv_ef", "M"): (54, 6),
    ("rv_ef", "F"): (58, 6),
    ("la_max", "M"): (71, 19),
    ("la_max", "F"): (62, 17),
    ("la_ef", "M"): (60, 7),
    ("la_ef", "F"): (61, 8),
    ("ra_max", "M"): (93, 27),
    ("ra_max", "F"): (69, 17),
    ("ra_ef", "M"): (46, 9),
    ("ra_ef", "F"): (53, 9),
}


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return sample(8000, CaseMix(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return sample(8000, SICK, np.random.default_rng(2))


def _explained(people: pd.DataFrame, name: str) -> float:
    """R2 of a phenotype on age, sex, height and weight by least squares."""
    male = (people["sex"] == "M").to_numpy(float)
    columns = [
        np.ones(len(people)),
        male,
        *(people[c] for c in ("age", "height_cm", "weight_kg")),
        male * people["weight_kg"],
    ]
    x, y = np.column_stack(columns), people[name].to_numpy()
    return float(1 - np.var(y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) / np.var(y))


def test_columns_are_the_contract_and_nothing_is_missing(people: pd.DataFrame) -> None:
    expected = [*COVARIATES, *STATES, *phenotypes.NAMES, *ELECTRICAL, *diseases.DIAGNOSES, *VARIATION]
    assert list(people.columns) == expected
    assert not people.isna().any().any()
    assert set(people["sex"]) == {"F", "M"}
    assert set(people["rhythm"]) == {"sinus", "af"}
    assert set(people["conduction"]) <= {"none", "rbbb", "lbbb"}
    assert all(people[name].dtype == bool for name in diseases.DIAGNOSES)


@pytest.mark.parametrize(("name", "sex"), PUBLISHED)
def test_marginals_are_those_published(people: pd.DataFrame, name: str, sex: str) -> None:
    mean, sd = PUBLISHED[name, sex]
    values = people.loc[people["sex"] == sex, name]
    assert values.mean() == pytest.approx(mean, rel=0.08)
    assert values.std() == pytest.approx(sd, rel=0.35)


def _assert_identities(h: pd.DataFrame) -> None:
    for chamber in ("lv", "rv"):
        np.testing.assert_allclose(h[f"{chamber}_sv"], h[f"{chamber}_edv"] - h[f"{chamber}_esv"], rtol=1e-9)
        np.testing.assert_allclose(h[f"{chamber}_ef"], 100 * h[f"{chamber}_sv"] / h[f"{chamber}_edv"], rtol=1e-9)
    for chamber in ("la", "ra"):
        np.testing.assert_allclose(h[f"{chamber}_sv"], h[f"{chamber}_max"] - h[f"{chamber}_min"], rtol=1e-9)
        np.testing.assert_allclose(h[f"{chamber}_ef"], 100 * h[f"{chamber}_sv"] / h[f"{chamber}_max"], rtol=1e-9)
    np.testing.assert_allclose(h["lv_co"], h["lv_sv"] * h["rate_bpm"] / 1000, rtol=1e-9)
    for prefix, count in (("wt", 16), ("ecc", 16), ("err", 16), ("ell", 6)):
        segments = h[[f"{prefix}_{i}" for i in range(1, count + 1)]]
        np.testing.assert_allclose(h[f"{prefix}_global"], segments.mean(axis=1), rtol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 0.3), st.floats(45, 80))
@settings(max_examples=25, deadline=None)
def test_identities_and_ranges_hold_for_any_case_mix(seed: int, n: int, share: float, age: float) -> None:
    mix = CaseMix(
        age_mean=age, age_low=20, age_high=95, dcm=share, hcm=share, rcm=share, infarct=share, af=share, valve=share
    )
    h = sample(n, mix, np.random.default_rng(seed))
    assert len(h) == n
    assert np.isfinite(h.select_dtypes("number")).all(axis=None)
    _assert_identities(h)
    assert (h[[c for c in phenotypes.NAMES if not c.startswith(("ecc", "ell"))]] > 0).all(axis=None)
    assert (h[[c for c in phenotypes.NAMES if c.startswith(("ecc", "ell"))]] < 0).all(axis=None)
    assert h["lv_ef"].between(10, 85).all()
    assert h["infarct_extent"].between(0, 1).all() and h["fibrosis"].between(0, 1).all()
    assert ((h["infarct_extent"] > 0) == (h["infarct"] != "none")).all()


def test_same_seed_same_hearts_other_seed_other_hearts() -> None:
    one, two, three = (sample(40, CaseMix(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, two)
    assert (one["lv_mass"] != three["lv_mass"]).all()


def test_covariates_explain_no_more_than_in_people(people: pd.DataFrame) -> None:
    assert 0.42 < _explained(people, "lv_mass") < 0.57
    assert 0.40 < _explained(people, "lv_edv") < 0.55
    assert 0.02 < _explained(people, "lv_ef") < 0.09
    assert 0.08 < _explained(people, "la_max") < 0.25
    assert 0.20 < _explained(people, "aao_dist") < 0.45


def test_related_phenotypes_correlate_as_in_people(people: pd.DataFrame) -> None:
    r = people[["lv_edv", "rv_edv", "lv_ef", "ecc_global", "err_global", "ell_global", "lv_mass", "qrs_ms"]].corr()
    assert 0.75 < r.loc["lv_edv", "rv_edv"] < 0.95
    assert -0.75 < r.loc["lv_ef", "ecc_global"] < -0.45
    assert 0.35 < r.loc["lv_ef", "err_global"] < 0.7
    assert -0.7 < r.loc["lv_ef", "ell_global"] < -0.3
    assert 0.6 < r.loc["lv_edv", "lv_mass"] < 0.85
    assert 0.3 < r.loc["lv_mass", "qrs_ms"] < 0.6
    forward = people["rv_sv"] / people["lv_sv"]
    assert forward[~people["valve"]].mean() == pytest.approx(1.01, abs=0.02)


def test_shell_weighs_what_it_should() -> None:
    volume, mass = np.array([80.0, 150.0, 300.0]), np.array([60.0, 110.0, 200.0])
    t = anatomy.shell_thickness(volume, mass)
    radius = np.cbrt(1.5e3 * volume / (np.pi * anatomy.LENGTH_RATIO))
    outer = 2 / 3 * np.pi * (radius + t) ** 2 * (anatomy.LENGTH_RATIO * radius + t) / 1000
    np.testing.assert_allclose((outer - volume) * anatomy.DENSITY, mass, rtol=1e-9)
    assert anatomy.shell_thickness(np.array([150.0]), np.array([105.0]))[0] == pytest.approx(6.5, abs=0.8)


@pytest.mark.parametrize("territory", ["anterior", "inferior", "lateral"])
def test_infarct_thins_and_weakens_its_own_territory(patients: pd.DataFrame, territory: str) -> None:
    hit = patients[(patients["infarct"] == territory) & (patients["infarct_extent"] > 0.4)]
    healthy = patients[patients["infarct"] == "none"]
    own = anatomy.TERRITORY[territory]
    other = [i for i in range(1, 17) if i not in own]

    def ratio(prefix: str, segments: object) -> float:
        names = [f"{prefix}_{i}" for i in segments]  # type: ignore[attr-defined]
        return float(hit[names].mean(axis=None) / healthy[names].mean(axis=None))

    assert ratio("wt", own) < 0.92 * ratio("wt", other)
    assert ratio("ecc", own) < 0.75 * ratio("ecc", other)
    assert hit["lv_ef"].mean() < healthy["lv_ef"].mean() - 5


def test_muscle_diseases_have_their_shape(patients: pd.DataFrame) -> None:
    by = patients.groupby("subtype")[["lv_edv", "lv_ef", "lv_mass", "la_max", "wt_global", "wt_2", "wt_5"]].mean()
    assert by.loc["dcm", "lv_ef"] < 45 and by.loc["dcm", "lv_edv"] > 1.2 * by.loc["none", "lv_edv"]
    assert by.loc["hcm", "wt_2"] > 13 and by.loc["hcm", "wt_2"] / by.loc["hcm", "wt_5"] > 1.3
    assert (
        by.loc["rcm", "lv_edv"] < 0.95 * by.loc["none", "lv_edv"]
        and by.loc["rcm", "la_max"] > 1.4 * by.loc["none", "la_max"]
    )
    fibrillating = patients[patients["rhythm"] == "af"]
    assert fibrillating["la_ef"].mean() < 40 and fibrillating["la_max"].mean() > 85
    loaded = patients[patients["pulmonary_hypertension"]]
    assert loaded["rv_edv"].mean() > 1.1 * patients.loc[~patients["pulmonary_hypertension"], "rv_edv"].mean()


def test_aorta_stiffens_and_widens_with_age(people: pd.DataFrame) -> None:
    young, old = people[people["age"] < 55], people[people["age"] > 72]
    assert old["aao_dist"].median() < 0.65 * young["aao_dist"].median()
    assert old["aao_max"].mean() > 1.05 * young["aao_max"].mean()
    assert (people["aao_min"] < people["aao_max"]).all()


def test_prevalence_follows_the_case_mix() -> None:
    h = sample(20_000, SICK, np.random.default_rng(7))
    for name in ("cad", "af", "valve", "pulmonary_hypertension", "lbbb", "heart_failure"):
        column = "atrial_fibrillation" if name == "af" else name
        assert h[column].mean() == pytest.approx(getattr(SICK, name), rel=0.15), name
    assert (h["rhythm"] == "af").mean() == pytest.approx(SICK.af * SICK.af_now, rel=0.2)
    assert (h["subtype"] == "hcm").mean() == pytest.approx(SICK.hcm, rel=0.15)
    assert h.loc[h["heart_failure"], "lv_ef"].mean() < h.loc[~h["heart_failure"], "lv_ef"].mean() - 5
    assert not (h["rbbb"] & h["lbbb"]).any()


def test_bernoulli_respects_prevalence_and_eligibility() -> None:
    rng = np.random.default_rng(0)
    eligible = np.arange(40_000) % 2 == 0
    hit = bernoulli(rng.standard_normal(40_000), 0.2, rng, among=eligible)
    assert hit.mean() == pytest.approx(0.2, abs=0.01)
    assert not hit[~eligible].any()
    assert not bernoulli(np.zeros(100), 0.0, rng).any()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"af": 1.5}, "af"),
        ({"women": -0.1}, "women"),
        ({"age_mean": 20.0}, "age_mean"),
        ({"dcm": 0.6, "hcm": 0.6}, "dcm"),
    ],
)
def test_impossible_case_mix_is_refused_with_its_field(change: dict[str, float], field: str) -> None:
    with pytest.raises(StudyError, match=field):
        CaseMix(**change)


def test_nobody_cannot_be_sampled() -> None:
    with pytest.raises(StudyError, match="at least one person"):
        sample(0, CaseMix(), np.random.default_rng(0))
