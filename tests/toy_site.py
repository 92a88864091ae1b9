"""A hospital in miniature: store, predictions and results of one cohort, as `make site` leaves them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.special import expit

from cardionets import diseases, flow, store
from cardionets.config import Study
from cardionets.evaluate import metrics, recalibration
from tests.conftest import ROOT
from tests.toy_study import GRID, PRESET, _records

ARMS = ("covariates", "aligned")


def clone(root: Path) -> Study:
    """Settings of a study at toy size below ``root``, without any data."""
    root.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"preset": "toy"}
    params["statistics"]["bootstrap"] = 100
    (root / "presets").mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "presets" / "toy.yaml").write_text(yaml.safe_dump(PRESET | {"grid": GRID}))
    shutil.copy(ROOT / "cohorts.yaml", root / "cohorts.yaml")
    return Study(root)


def add(study: Study, name: str, people: int = 240, seed: int = 0, only: bool | None = None, repeats: int = 0) -> None:
    """Store, predictions and results of the cohort; ``only``: everybody has this label of every disease.

    ``repeats``: how many further recordings the first person has.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=people)
    records = _records(study, name, latent, rng).assign(sax_row=-1, lax_row=-1, split="test")
    records["person"] = [f"{abs(hash_of(f'{name}{seed}{i}')):016x}" for i in range(people)]
    records["record"] = [f"{abs(hash_of(f'{name}{seed}r{i}')):016x}" for i in range(people)]
    records.loc[: repeats - 1, "person"] = records.loc[0, "person"] if repeats else records.loc[: repeats - 1, "person"]
    for disease in diseases.NAMES:
        label = latent + rng.normal(size=people) > 0.8 if only is None else np.full(people, only)
        records[disease] = pd.array(label, dtype="boolean")
    signals = np.zeros((people, 12, 500), np.int16)
    parts = [("ecg", 0, signals), ("beat", 0, np.zeros((people, 12, 40), np.int16))]
    reason = pd.Series([""] * people)
    steps = flow.table(records, reason, records["split"], {}, {})
    store.write(study.path("store", name), study.grid, {"centre": name}, records, steps, parts)
    predictions = _predictions(records, latent, rng)
    study.path("predictions").mkdir(exist_ok=True)
    predictions.to_parquet(study.path("predictions", f"{name}.parquet"), index=False)
    judge(study, name)


def hash_of(text: str) -> int:
    """A 64-bit number that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


def _predictions(records: pd.DataFrame, latent: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for arm, noise in zip(ARMS, (2.0, 0.5)):
        for disease in diseases.NAMES:
            risk = expit(-1 + latent + rng.normal(0, noise, len(latent)))
            part = records[["record", "person", "split"]].assign(arm=arm, fraction=1.0, endpoint=disease, value=risk)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def thresholds() -> pd.DataFrame:
    """One threshold per arm and disease, as the hub releases them."""
    rows = [(arm, 1.0, name, 0.5, "") for arm in ARMS for name in diseases.NAMES]
    return pd.DataFrame(rows, columns=["arm", "fraction", "endpoint", "threshold", "note"])


def judge(study: Study, name: str) -> None:
    """The validate stage of one cohort."""
    records = pd.read_parquet(study.path("store", name, "records.parquet"))
    predictions = pd.read_parquet(study.path("predictions", f"{name}.parquet"))
    found = metrics.evaluate(predictions, records, study, cohort=name, transferred=thresholds())
    found = pd.concat([found, recalibration.evaluate(predictions, records, study, name)])
    study.path("results", name).mkdir(parents=True, exist_ok=True)
    found.to_csv(study.path("results", name, "metrics.csv"), index=False, float_format="%.8g")
