"""What `dvc metrics` and `dvc plots` compare between two versions of the study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cardionets import views
from tests.conftest import ROOT
from tests.test_report import metrics

DECLARED = yaml.safe_load((ROOT / "dvc.yaml").read_text())


def dvc(root: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command], cwd=root, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def git(root: Path, *command: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *command], cwd=root, check=True, capture_output=True)


def write(root: Path, table: pd.DataFrame) -> None:
    """The report's files where the pipeline declares them."""
    out = root / "reports" / "study" / "report"
    views.write_summary(table, out / "metrics.json")
    views.write_plots(table, out / "plots")


def test_metrics_and_plots_are_declared_shown_and_compared(tmp_path: Path) -> None:
    views = {key: DECLARED[key] for key in ("metrics", "plots")}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(views))
    git(tmp_path, "init", "-q")
    dvc(tmp_path, "init", "-q")
    table = metrics()
    write(tmp_path, table)
    assert all((tmp_path / path).is_file() for path in views["metrics"])
    assert all((tmp_path / path).is_file() for plot in views["plots"] for path in plot)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "before")
    shown = json.loads(dvc(tmp_path, "metrics", "show", "--json"))
    assert shown[""]["data"]["reports/study/report/metrics.json"]["data"]["ukb"]["cad_auc"] == 0.71
    write(tmp_path, table.assign(estimate=table["estimate"] + 0.1))
    changed = json.loads(dvc(tmp_path, "metrics", "diff", "--json"))
    assert changed["reports/study/report/metrics.json"]["ukb.cad_auc"]["diff"] == pytest.approx(0.1)
    dvc(tmp_path, "plots", "diff", "HEAD", "--out", "shown")
    text = (tmp_path / "shown" / "index.html").read_text()
    assert "AUC of screening" in text
    assert '"cad"' in text
