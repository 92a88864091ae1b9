"""Data that determine nothing: every table says "not estimable: because ...", and nothing crashes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from cardionets import phenotypes
from cardionets.evaluate import added, multiplicity, panels, people, pooling, recalibration, subgroups, utility
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.metrics import evaluate
from tests.test_evaluate_metrics import example, study

Tables = tuple[pd.DataFrame, pd.DataFrame]
REASON = "not estimable: because"


def _values(predictions: pd.DataFrame, value: object) -> pd.DataFrame:
    return predictions.assign(value=value)


def one_class(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return p, r.assign(cad=pd.array([False] * len(r), dtype="boolean"))


def everybody_ill(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return p, r.assign(cad=pd.array([True] * len(r), dtype="boolean"))


def constant_scores(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return _values(p, 0.5), r


def ties_everywhere(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return _values(p, (np.arange(len(p)) % 2) * 0.5), r


def missing_predictions(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return _values(p, np.nan), r


def missing_truth(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return p, r.assign(cad=pd.array([pd.NA] * len(r), dtype="boolean"), lv_mass=np.nan, lv_ef=np.nan)


def one_person(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return p[p["record"] == "r1"], r[r["record"] == "r1"]


def constant_truth(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return p, r.assign(lv_mass=100.0, lv_ef=60.0)


def infinite_scores(p: pd.DataFrame, r: pd.DataFrame) -> Tables:
    return _values(p, np.where(np.arange(len(p)) % 3 == 0, np.inf, 0.5)), r


HARD = (one_class, everybody_ill, constant_scores, ties_everywhere, missing_predictions, missing_truth, one_person)
HARD += (constant_truth, infinite_scores)


@pytest.mark.parametrize("spoil", HARD, ids=lambda f: f.__name__)
def test_a_number_or_a_reason_and_never_a_crash(spoil: Callable[[pd.DataFrame, pd.DataFrame], Tables]) -> None:
    predictions, records = spoil(*example(60, names=("lv_mass", "lv_ef")))
    protocol = study().protocol
    table = evaluate(predictions, records, study(100), reference="covariates")
    _checked(table)
    cube = Cube.of_arm(predictions, records, "aligned")
    _checked(recalibration.before_and_after(cube, protocol, "ukb"))
    _checked(subgroups.evaluate(predictions, records, protocol, "aligned", "ukb"))
    _checked(pooling.pool_metrics(pd.concat([table, table.assign(cohort="b")])))
    curves = utility.decision_curves(Cube.of(predictions, records, "test"), ["aligned"], protocol)
    if len(curves):
        missing = curves["net_benefit"].isna() if "net_benefit" in curves else pd.Series(True, index=curves.index)
        assert curves.loc[missing, "note"].str.startswith(REASON).all()
    stated = panels.stated_prevalence(table, "aligned", [0.1])
    if len(stated):
        assert stated.loc[stated["ppv"].isna(), "note"].str.startswith(REASON).all()
    panels.cross_tabulation(table, "aligned")
    assert len(multiplicity.adequacy(records, protocol))
    assert len(people.characteristics(records, "ukb"))


def _checked(table: pd.DataFrame) -> None:
    """A missing estimate has its reason; a missing interval of a number that should have one too; no infinity."""
    if table.empty:
        return
    values = table[["estimate", "lower", "upper"]].to_numpy(float)
    assert not np.isinf(values).any()
    silent = table["estimate"].isna() & ~table["note"].fillna("").str.startswith(REASON)
    adjusted = table["metric"].str.endswith(("_holm", "_bh"))  # they carry the note of the p value they adjust
    assert table.loc[silent & ~adjusted, ["endpoint", "arm", "metric", "note"]].values.tolist() == []


def test_added_value_says_why_not() -> None:
    predictions, records = example(20, names=("lv_mass",))
    records = records.assign(height_cm=170.0, weight_kg=70.0, lv_mass=np.nan)
    found = added.added_value(predictions, records, "aligned", ["lv_mass", "la_max"])
    assert found["note"].str.startswith(REASON).all()


def test_every_phenotype_has_a_name_for_its_square() -> None:
    assert len({p.label for p in phenotypes.PHENOTYPES}) == 82
