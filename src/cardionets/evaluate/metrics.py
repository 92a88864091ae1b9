"""From predictions and records to the tidy metrics table."""

from __future__ import annotations

import pandas as pd

from cardionets.config import Study, StudyError
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.disease_metrics import DiseaseMetrics, add_subtypes, choose_thresholds
from cardionets.evaluate.multiplicity import adjusted_rows
from cardionets.evaluate.phenotype_metrics import add_phenotypes
from cardionets.evaluate.rows import Rows


def thresholds(predictions: pd.DataFrame, records: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Thresholds chosen on the validation split of a development cohort: arm, fraction, endpoint, threshold, note."""
    return choose_thresholds(predictions, records, study.protocol)


def evaluate(
    predictions: pd.DataFrame,
    records: pd.DataFrame,
    study: Study,
    *,
    cohort: str | None = None,
    transferred: pd.DataFrame | None = None,
    reference: str | None = None,
) -> pd.DataFrame:
    """Judge the test split of one cohort: one row per endpoint x arm x fraction x metric.

    predictions: record, person, split, arm, fraction, endpoint, value. records: the store's table. ``transferred``
    holds `thresholds` of the development cohort; without it they are chosen on this cohort's validation split.
    ``reference`` is the arm that every other is compared with, phenotype by phenotype. Returns `rows.COLUMNS`; what the
    data cannot answer is a row whose note starts "not estimable: because". Raises `StudyError` when the tables lack
    columns, disagree or hold no test rows.
    """
    cube = Cube.of(predictions, records, "test")
    if not cube.arms:
        raise StudyError("predictions: no row has split 'test'; predict this cohort again.")
    rows = Rows(cohort or _centre(records), "test")
    add_phenotypes(rows, cube, study.protocol, reference)
    chosen = thresholds(predictions, records, study) if transferred is None else transferred
    DiseaseMetrics(rows, study.protocol, chosen).add(cube)
    add_subtypes(rows, cube, study.protocol)
    table = rows.frame()
    return pd.concat([table, adjusted_rows(table)], ignore_index=True) if len(table) else table


def _centre(records: pd.DataFrame) -> str:
    centres = list(records["centre"].dropna().unique()) if "centre" in records else []
    if len(centres) != 1:
        raise StudyError("records: centre: one centre is expected; pass the cohort's name.")
    return str(centres[0])
