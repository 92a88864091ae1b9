"""From simulation to reality: models and heads trained on SIMULATED people alone, on open recordings.

`python -m benchmarks.reality FOLDER [--study .]`: every WFDB record below FOLDER (12 leads, with SNOMED codes in its
header) goes through the same gates and the same weights as at a site; nothing is fitted or chosen on it. Printed, and
written to `reports/benchmarks/reality.csv`:

- heart rate: what the pre-trained encoder's own rhythm head says, against the R peaks, and once more for the recordings
  whose rate lies within two SD of training people's;
- bundle branch blocks and atrial fibrillation: AUC of every screening arm that predicts them (DeLong). A header says
  what its ECG shows, which is the endpoint ``af_rhythm``; the head for fibrillation ever is held against the same
  answers. A signal that is stored under two names counts once;
- fibrillation: each arm minus the rule on RR variability, paired on the same recordings.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from cardionets import arms, data
from cardionets.config import Study, StudyError
from cardionets.embed import open_store
from cardionets.encoders import embed_ecgs, load_ecg
from cardionets.evaluate import discrimination
from cardionets.evaluate.bootstrap import weight_blocks
from cardionets.evaluate.estimate import percentile
from cardionets.evaluate.rows import Rows
from cardionets.features import Features
from cardionets.models.ecg_mae import EcgMae
from cardionets.prepare import prepare
from cardionets.store import Store

NAME: Final = "open"
DISEASES: Final = ("rbbb", "lbbb", "atrial_fibrillation", "af_rhythm")
RULE: Final = "rr_rule"
CLOSE_BPM: Final = 4.0
OUT: Final = Path(__file__).parents[1] / "reports" / "benchmarks" / "reality.csv"
Floats = NDArray[np.float64]


class RateReader(nn.Module):
    """The rhythm head of the pre-trained model on a whole recording: (b, 12, T), (b, 12, B) uV -> (b, 1) per min."""

    def __init__(self, model: EcgMae) -> None:
        super().__init__()
        self.model = model

    def forward(self, signal: Tensor, beat: Tensor) -> Tensor:
        """Heart rate (b, 1)."""
        rr = self.model.rr_head(self.model.encoder(signal, beat))
        read: Tensor = rr * self.model.get_buffer("rr_sd") + self.model.get_buffer("rr_mean")
        return read[:, :1]


def site(study: Study, recordings: Path, root: Path) -> Study:
    """A folder with the study's settings and weights in which the open recordings are one more external cohort."""
    for name in ("params.yaml", "presets"):
        source = study.path(name)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "weights").symlink_to(study.path("weights").resolve(), target_is_directory=True)
    twice = root / "second_copies.txt"
    twice.write_text("".join(f"{name}\n" for name in second_copies(recordings)), encoding="utf-8")
    block = {"label": "Open recordings", "path": str(recordings), "depends": str(recordings), "layout": "wfdb"}
    block["exclude"] = str(twice)
    cohorts = yaml.safe_load(study.path("cohorts.yaml").read_text(encoding="utf-8"))
    cohorts["cohorts"][NAME] = block | {"role": "external", "include": ["**/*.hea"]}
    (root / "cohorts.yaml").write_text(yaml.safe_dump(cohorts), encoding="utf-8")
    return Study(root)


def second_copies(recordings: Path) -> list[str]:
    """Names of records whose signal and answers an earlier record has too; which of the two stays does not matter."""
    first: dict[str, str] = {}
    found = []
    for header in sorted(recordings.rglob("*.hea")):
        signals = [p for p in sorted(header.parent.glob(f"{header.stem}.*")) if p.suffix in (".mat", ".dat")]
        said = [line for line in header.read_bytes().splitlines() if line.startswith(b"#")]
        parts = [p.read_bytes() for p in signals] + said
        name = header.relative_to(recordings).with_suffix("").as_posix()
        if signals and first.setdefault(hashlib.sha256(b"".join(parts)).hexdigest(), name) != name:
            found.append(name)
    return found


def rate(study: Study, rows: Rows) -> None:
    """Absolute difference of the read heart rate from that of the R peaks; once more where training people's rates lie.

    Median and 90th percentile with bootstrap intervals, and the share within 4 per minute.
    """
    store, model = open_store(study, NAME), load_ecg(study)
    read = embed_ecgs(RateReader(model).eval(), store, model.encoder.settings.samples)[:, 0]
    true = store.records["rate_bpm"].to_numpy(np.float64)
    apart = np.abs(read[store.records["row"]] - true)
    centre, spread = float(model.get_buffer("rr_mean")[0]), float(model.get_buffer("rr_sd")[0])
    usual = np.abs(true - centre) <= 2 * spread
    for name, some in (("heart_rate", np.isfinite(apart)), ("heart_rate_usual", np.isfinite(apart) & usual)):
        if some.any():
            _rate_rows(study, rows, name, apart[some])


def _rate_rows(study: Study, rows: Rows, name: str, apart: Floats) -> None:
    statistics, n = study.protocol.statistics, len(apart)
    weights = np.concatenate(list(weight_blocks(n, statistics.bootstrap, study.protocol.seed)))
    samples = [np.repeat(apart, drawn.astype(int)) for drawn in weights]
    for metric, share in (("rate_error_median", 0.5), ("rate_error_p90", 0.9)):
        found = percentile(float(np.quantile(apart, share)), [np.quantile(s, share) for s in samples], statistics.level)
        rows.add(name, "ecg_mae", 1.0, metric, found, n)
    close = float((apart <= CLOSE_BPM).mean())
    rows.add(name, "ecg_mae", 1.0, "within_4", discrimination.wilson(close, n, statistics.level), n)


def diseases(study: Study, rows: Rows) -> None:
    """AUC of every screening arm that predicts these diseases, and its difference from the RR rule."""
    features, fitted = Features(study, NAME), arms.load_arms(study, "screening")
    everybody, known = np.arange(len(features.records)), Store.open(study.path("store", NAME), study.grid).records
    said = {str(f["arm"].iloc[0]): f for f in arms.frames(fitted, features, everybody, (1.0,))}
    for disease in DISEASES:
        truth = data.labels(known, [disease])[:, 0]
        scores = {arm: f[disease].to_numpy(np.float64) for arm, f in said.items() if f[disease].notna().any()}
        _judge(rows, disease, truth, scores, study.protocol.statistics.level)


def _judge(rows: Rows, disease: str, truth: Floats, scores: dict[str, Floats], level: float) -> None:
    known = np.isfinite(truth) & np.all([np.isfinite(s) for s in scores.values()], axis=0)
    label, names = truth[known] > 0.5, list(scores)
    n, cases = int(known.sum()), int(label.sum())
    if not 0 < cases < n:
        return
    aucs, covariance = discrimination.delong(label, np.array([scores[a][known] for a in names]))
    for arm in names:
        rows.add(disease, arm, 1.0, "auc", discrimination.auc(label, scores[arm][known], level), n, cases)
    for i, arm in enumerate(names):
        if RULE in names and arm != RULE:
            difference, _ = discrimination.auc_difference(aucs, covariance, i, names.index(RULE), level)
            rows.add(disease, f"{arm} minus {RULE}", 1.0, "auc_difference", difference, n, cases)


def judge(study: Study, recordings: Path) -> pd.DataFrame:
    """All figures as a tidy metrics table. Raises StudyError when no recording below the folder can be used."""
    if not recordings.is_dir():
        raise StudyError(
            f"{recordings}: no such folder; name one with WFDB records, such as the CinC 2021 training set."
        )
    with tempfile.TemporaryDirectory() as folder:
        here = site(study, recordings.resolve(), Path(folder))
        prepare(here, NAME)
        rows = Rows(NAME, "test")
        rate(here, rows)
        diseases(here, rows)
    return rows.frame().drop(columns=["fraction", "note"])


def main() -> None:
    """Judge and print."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.reality", description=__doc__.splitlines()[0])
    top.add_argument("recordings", type=Path, help="folder of WFDB records with SNOMED codes, searched at any depth")
    top.add_argument("--study", type=Path, default=Path(), help="the study whose weights are judged (default: here)")
    top.add_argument("--out", type=Path, default=OUT, help="table to write (default reports/benchmarks/reality.csv)")
    args = top.parse_args()
    found = judge(Study(args.study), args.recordings)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(args.out, index=False, float_format="%.4g")
    print(found.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
