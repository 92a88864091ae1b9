"""Operating points: the threshold of every screening arm, chosen on validation people and carried to every centre."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cardionets.config import Study, StudyError
from cardionets.files import atomic_path

FILE = "thresholds.csv"


def path(study: Study) -> Path:
    """Where the thresholds lie, beside the weights they belong to."""
    return study.path("weights", FILE)


def choose(study: Study) -> pd.DataFrame:
    """Choose thresholds on the validation people of both development cohorts together, and write them.

    Returns:
        arm, fraction, endpoint, threshold, note; the threshold reaches the protocol's specificity on those people.
    """
    # torch and the statistics, which whoever only loads thresholds does without
    from cardionets.arms import frames, load_arms
    from cardionets.evaluate.metrics import thresholds
    from cardionets.features import Features
    from cardionets.predict import tidy

    fitted = load_arms(study, "screening")
    predictions, records = [], []
    for cohort in dict.fromkeys((study.protocol.study.paired, study.protocol.study.screening)):
        features = Features(study, cohort)
        rows = np.flatnonzero(features.records["split"] == "val")
        predictions.append(tidy(features.records, list(frames(fitted, features, rows, (1.0,)))))
        records.append(features.records.iloc[rows])
    found = thresholds(pd.concat(predictions, ignore_index=True), pd.concat(records, ignore_index=True), study)
    exact = found["threshold"].map(partial(np.format_float_positional, trim="-"), na_action="ignore")  # every digit
    with atomic_path(path(study)) as aside:
        found.assign(threshold=exact).to_csv(aside, index=False, float_format="%.8g", lineterminator="\n")
    return found


def load(study: Study) -> pd.DataFrame:
    """The thresholds that :func:`choose` wrote.

    Raises:
        StudyError: when they are missing.
    """
    if not path(study).is_file():
        raise StudyError(f"weights/{FILE}: missing; run the screening stage or fetch the released weights.")
    return pd.read_csv(path(study), dtype={"note": str}).fillna({"note": ""})
