"""The validate notebook on cohorts that can say little: it ends, and every table says why a number is missing."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cardionets import diseases, operating
from cardionets.config import OUT_VARIABLE, Study
from cardionets.workbook import Workbook
from tests.conftest import ROOT
from tests.toy_study import build

ARMS = ("covariates", "beat_ridge", "aligned", "aligned_teacher")
HEADLINE = ["lv_mass", "lv_ef"]
SCREENED = ["cad", "cardiomyopathy"]
REASON = "not estimable: because"
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def no_events_and_no_cmr(records: pd.DataFrame) -> pd.DataFrame:
    healthy = pd.array([False] * len(records), dtype="boolean")
    return records.assign(**dict.fromkeys(diseases.NAMES, healthy), **dict.fromkeys(HEADLINE, np.nan))


def everybody_ill_and_one_sex(records: pd.DataFrame) -> pd.DataFrame:
    ill = pd.array([True] * len(records), dtype="boolean")
    return records.assign(**dict.fromkeys(diseases.NAMES, ill), sex="F", lv_mass=100.0, lv_ef=60.0)


def nothing_known(records: pd.DataFrame) -> pd.DataFrame:
    unknown = pd.array([pd.NA] * len(records), dtype="boolean")
    blank = dict.fromkeys(["age", "height_cm", "weight_kg"], np.nan)
    return records.assign(**dict.fromkeys(diseases.NAMES, unknown), sex=None, lv_mass=np.nan, lv_ef=np.nan, **blank)


def some_lent(records: pd.DataFrame) -> pd.DataFrame:
    """A site that lends training people: only the others are judged."""
    lent = np.arange(len(records)) < 12
    return nothing_known(records).assign(split=np.where(lent, "train", "test"))


def one_person(records: pd.DataFrame) -> pd.DataFrame:
    return records.iloc[:1].assign(lv_mass=100.0, lv_ef=60.0)


@pytest.mark.parametrize(
    "spoil", [no_events_and_no_cmr, everybody_ill_and_one_sex, nothing_known, some_lent, one_person]
)
def test_a_cohort_that_can_say_little_is_validated(
    spoil: Spoil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _cohort(tmp_path / "study", spoil)
    out = tmp_path / "out"
    monkeypatch.chdir(study.root)
    monkeypatch.setenv(OUT_VARIABLE, str(out))
    monkeypatch.setattr(Workbook, "figure", lambda self, figure, name, n=None: figure.draw_without_rendering())
    text = (ROOT / "notebooks" / "validate.py").read_text()
    notebook = tmp_path / "validate.py"
    notebook.write_text(re.sub(r'^cohort = "ukb"$', 'cohort = "qph"', text, flags=re.MULTILINE))
    runpy.run_path(str(notebook))
    found = pd.read_csv(study.path("results", "qph", "metrics.csv"))
    missing = found[found["estimate"].isna() & ~found["metric"].str.endswith(("_holm", "_bh"))]
    assert len(missing)
    assert missing["note"].fillna("").str.startswith(REASON).all()
    tables = {path.stem for path in (out / "tables").glob("*.csv")}
    assert {"adequacy", "diseases", "recalibration", "subgroups", "tests"} <= tables
    assert all((out / "tables" / f"{name}{end}").is_file() for name in tables for end in (".html", ".tex"))


def _cohort(root: Path, spoil: Spoil) -> Study:
    """A toy study whose external cohort has predictions of every arm and what ``spoil`` leaves of its records."""
    study = build(root, people=24)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["endpoints"] |= {"diseases": SCREENED, "headline_phenotypes": HEADLINE}
    params["statistics"]["bootstrap"] = 100
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    path = study.path("store", "qph", "records.parquet")
    spoil(pd.read_parquet(path)).to_parquet(path, index=False)
    _predictions(study, pd.read_parquet(path))
    if spoil is some_lent:
        with (root / "cohorts.yaml").open("a") as handle:  # its last block is that of qph
            handle.write("    lends_training: true\n")
    return Study(root)


def _predictions(study: Study, records: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    who = records.loc[records["split"] == "test", ["record", "person", "split"]]
    parts = [
        who.assign(arm=arm, fraction=1.0, endpoint=name, value=rng.uniform(0.1, 0.9, len(who)))
        for arm in ARMS
        for name in (*SCREENED, *HEADLINE)
    ]
    study.path("predictions").mkdir()
    study.path("weights").mkdir()
    pd.concat(parts).to_parquet(study.path("predictions", "qph.parquet"), index=False)
    strange = records[["record"]].assign(novelty=1.0, beyond=False)
    strange.to_parquet(study.path("predictions", "qph_novelty.parquet"), index=False)
    widths = pd.DataFrame([("aligned_teacher", name, 1.0, 0.9) for name in HEADLINE])
    widths.columns = ["arm", "endpoint", "half_width", "level"]
    widths.to_csv(study.path("weights", "conformal.csv"), index=False)
    chosen = pd.DataFrame([(arm, 1.0, name, 0.5, "") for arm in ARMS for name in SCREENED])
    chosen.columns = ["arm", "fraction", "endpoint", "threshold", "note"]
    chosen.to_csv(operating.path(study), index=False)
