"""Fine-tuning at a site: the released heads moved towards a site's own training people, as an arm of its own.

A site that lends training people (``lends_training`` in ``cohorts.yaml``) has the arm ``aligned_site``: the released
head on the aligned encoder plus a linear correction learnt from the site's training people, its penalty chosen on the
site's validation people. An endpoint's released head stays as it is unless the correction is closer to the validation
people by more than the standard error of that gain (the rule of Breiman et al., Classification and Regression Trees,
1984, 3.4.3). Only test people are judged; the encoder and the other arms are untouched, and nothing learnt here leaves
the site.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets import data
from cardionets.arm_table import ARMS
from cardionets.arms import ArmSettings, Fitted
from cardionets.config import Study
from cardionets.evaluate.calibration import log_odds
from cardionets.features import Features
from cardionets.frozen import predict_head
from cardionets.models.heads import Basis, Fit, LinearHead, fit_logistic, fit_ridge

ARM = "aligned_site"
START = "aligned"
Rows = NDArray[np.int64]
Doubles = NDArray[np.float64]


def learn(study: Study, fitted: Fitted, features: Features) -> LinearHead | None:
    """The correction learnt from the site's training people; None, and a sentence says why, where there are none."""
    people = {split: first_records(features.records, split) for split in ("train", "val")}
    if not all(map(len, people.values())):
        print(f"{ARM}: left out, because there is no {'training' if len(people['val']) else 'validation'} person.")
        return None
    return _correction(study, fitted, features, _released(fitted), people)


def frame(fitted: Fitted, correction: LinearHead, features: Features, rows: Rows) -> pd.DataFrame:
    """Predictions of ``aligned_site`` for the records at ``rows``, wide in endpoints, as `arms.frames` yields them."""
    start = _start(_released(fitted), features, rows)
    values = start + predict_head(correction, features.join(ARMS[START].features, rows))
    if fitted.task == "diseases":
        values = 1 / (1 + np.exp(-values))
    return pd.DataFrame(values, columns=list(fitted.endpoints), index=rows).assign(arm=ARM, fraction=1.0)


def _released(fitted: Fitted) -> LinearHead:
    head = fitted.models[START, 1.0]
    assert isinstance(head, LinearHead)
    return head


def first_records(records: pd.DataFrame, split: str) -> Rows:
    """Row numbers of one record of each person of a split, chosen by pseudonym."""
    return np.flatnonzero(~records["person"].duplicated() & (records["split"] == split))


def _start(released: LinearHead, features: Features, rows: Rows) -> Doubles:
    """What the released head says, (n, k): phenotypes in their units, diseases as log-odds."""
    said = predict_head(released, features.join(ARMS[START].features, rows)).astype(np.float64)
    return np.asarray(log_odds(said) if released.logistic else said)


def _correction(
    study: Study, fitted: Fitted, features: Features, released: LinearHead, people: dict[str, Rows]
) -> LinearHead:
    """The linear correction in the scale of :func:`_start`; NaN for endpoints the site has too few labels of."""
    settings = study.block("heads", ArmSettings).heads
    names = ARMS[START].features
    x, x_val = (features.join(names, people[split]) for split in ("train", "val"))
    y, y_val = (_labels(fitted, features.records.iloc[people[split]]) for split in ("train", "val"))
    start, start_val = (_start(released, features, people[split]) for split in ("train", "val"))
    basis = Basis.of(x, features.blocks(names))
    fit: Fit
    if fitted.task == "phenotypes":
        fit = fit_ridge(x, y - start, x_val, y_val - start_val, fitted.endpoints, settings, basis)
    else:
        y = np.where(np.isfinite(start), y, np.nan)
        fit = fit_logistic(x, y, x_val, y_val, fitted.endpoints, settings, basis, (start, start_val))
        fit.head.logistic = False
    for note in fit.notes:
        print(f"{ARM}: {note}", flush=True)
    moved = start_val + predict_head(fit.head, x_val)
    _leave(fit.head, _gains(_loss(fitted, start_val, y_val), _loss(fitted, moved, y_val)))
    return fit.head


def _loss(fitted: Fitted, said: Doubles, truth: Doubles) -> Doubles:
    """Loss of each person (n, k), NaN where unknown: squared error, or the log loss of log-odds."""
    if fitted.task == "phenotypes":
        return np.square(said - truth)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp(0, said) - truth * said)


def _gains(before: Doubles, after: Doubles) -> NDArray[np.bool_]:
    """Endpoints (k,) whose mean loss falls by more than the standard error of its fall; none from a single person."""
    fall = before - after
    known = np.isfinite(fall).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(fall, axis=0) / known
        error = np.sqrt(np.nansum(np.square(fall - mean), axis=0) / (known * (known - 1)))
        return np.asarray(mean > error)


def _leave(head: LinearHead, gained: NDArray[np.bool_]) -> None:
    """Make the correction 0 for every endpoint that did not gain; those that could not be fitted stay NaN."""
    stays = torch.from_numpy(~gained) & head.get_buffer("bias").isfinite()
    head.get_buffer("weight")[:, stays] = 0.0
    head.get_buffer("bias")[stays] = 0.0


def _labels(fitted: Fitted, records: pd.DataFrame) -> Doubles:
    return data.targets(records) if fitted.task == "phenotypes" else data.labels(records, fitted.endpoints)
