"""A miniature study on disk: three small stores whose ECG, cine and labels follow one latent number per person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cardionets import diseases, phenotypes, schema, splits, store
from cardionets.config import Study

GRID = {"rate": 50, "seconds": 10, "frames": 4, "size": 16, "spacing_mm": 9.6}
TRAIN = {"epochs": 2, "batch": 16, "lr": 1e-3, "checkpoint_seconds": 0}
DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}
PRESET = {
    "grid": GRID,
    "ecg_mae": {
        "encoder": {
            **{"samples": 450, "patch_leads": 12, "patch_samples": 10, "dim": 16, "depth": 1, "heads": 2},
            **{"beat_samples": 40, "beat_patch": 8, "measurements": True},
        },
        **DECODER,
        "mask": 0.6,
        "train": TRAIN,
    },
    "cmr_mae": {
        "encoder": {"frames": 4, "size": 16, "patch": 4, "dim": 16, "depth": 1, "heads": 2, "wide": 6},
        **DECODER,
        "mask": 0.5,
        "contrast_dim": 8,
        "contrast_weight": 0.1,
        "train": TRAIN,
    },
    "align": {
        "hidden": 16,
        "contrast_dim": 8,
        "components": 12,
        "contrast_weight": 0.1,
        "distil_weight": 1.0,
        "train": TRAIN,
    },
    "heads": {
        "heads": {"min_labels": 3, "min_cases": 2},
        "scratch": {**TRAIN, "batch": 8},
        "finetune": {**TRAIN, "batch": 8, "lr": 1e-4},
        "stretch": 0.0,
    },
}


def build(root: Path, people: int = 60) -> Study:
    """Write settings and the stores ukb (paired), mimic (ECG only) and qph (external) below ``root``."""
    here = Path(__file__).resolve().parent.parent
    params = yaml.safe_load((here / "params.yaml").read_text()) | {"preset": "toy"}
    params["endpoints"]["label_fractions"] = [0.5, 1.0]
    (root / "presets").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "cohorts.yaml").write_text((here / "cohorts.yaml").read_text())
    (root / "presets" / "toy.yaml").write_text(yaml.safe_dump(PRESET))
    study = Study(root)
    for number, name in enumerate(("ukb", "mimic", "qph")):
        _store(study, name, people, np.random.default_rng(number))
    return study


def _store(study: Study, name: str, n: int, rng: np.random.Generator) -> None:
    latent = rng.normal(size=n)
    beat = np.zeros((n, 12, 40), np.int16)
    beat[:, :, 12:16] = (800 + 200 * latent[:, None, None] + 20 * rng.normal(size=(n, 12, 4))).astype(np.int16)
    ecg = np.tile(beat, (1, 1, 13))[..., :500] + rng.integers(-20, 20, (n, 12, 500)).astype(np.int16)
    records = _records(study, name, latent, rng)
    parts = [("ecg", 0, ecg), ("beat", 0, beat)]
    if name != "mimic":
        records["sax_row"] = records["lax_row"] = np.arange(n)
        cine = np.clip(120 + 30 * latent[:, None, None, None] + 10 * rng.normal(size=(n, 4, 16, 16)), 0, 255)
        parts += [("sax", 0, cine.astype(np.uint8)), ("4ch", 0, cine[..., ::-1].astype(np.uint8))]
    store.write(study.path("store", name), study.grid, {"centre": name}, records, pd.DataFrame({"step": []}), parts)


def _records(study: Study, name: str, latent: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    n = len(latent)
    people = [f"{name}-{i}" for i in range(n)]
    external = study.cohort(name).role == "external"
    columns: dict[str, object] = {
        "record": [f"r-{p}" for p in people],
        "person": people,
        "centre": name,
        "split": "test" if external else splits.assign(people, study.protocol.split),
        "row": np.arange(n),
        **dict.fromkeys(("sax_row", "lax_row", "sax_mask_row", "lax_mask_row"), np.full(n, -1)),
        "interval_days": np.full(n, np.nan),
        "age": rng.uniform(45, 80, n),
        "height_cm": np.where(rng.random(n) < 0.1, np.nan, rng.normal(170, 9, n)),
        "weight_kg": rng.normal(80, 10, n),
        "sex": rng.choice(["F", "M"], n).astype(object),
        "rate_bpm": rng.uniform(50, 90, n),
        "rr_cv": np.where(rng.random(n) < 0.2, 0.2, 0.03),
        "rr_rmssd_ms": np.where(rng.random(n) < 0.1, np.nan, rng.uniform(10, 60, n)),
        "qrs_ms": rng.uniform(80, 120, n),
        **dict.fromkeys(schema.NOISE, rng.uniform(0, 20, n)),
    }
    measured = name == "ukb"
    for i, phenotype in enumerate(phenotypes.NAMES):
        value = 100 + 10 * latent + rng.normal(size=n) * (1 + i % 3)
        columns[phenotype] = np.where(rng.random(n) < 0.05, np.nan, value) if measured else np.full(n, np.nan)
    for disease in diseases.NAMES:
        columns[disease] = pd.array(latent + rng.normal(size=n) > 0.8, dtype="boolean")
    kinds = np.array(list(diseases.SUBTYPES))[(np.arange(n) // 3) % 3]
    columns["subtype"] = pd.array(np.where(columns["cardiomyopathy"], kinds, None), dtype="string")  # type: ignore[call-overload]
    return pd.DataFrame(columns)
