"""A tour of the study for its readers: what each stage asks, what it left, and what to type where it has not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml
from IPython.display import HTML, Image, Markdown, display

from cardionets import diseases, phenotypes, tables, topics
from cardionets.config import STUDY, Study, StudyError
from cardionets.figures.base import Provenance, smaller
from cardionets.sources import FOLDER as SOURCES

ARMS = ("covariates", "beat_ridge", "scratch", "mae", "aligned", "aligned_teacher", "aligned_covariates", "cmr")


def _pipeline(study: Study) -> dict[str, bool]:
    """Stages of ``dvc.yaml`` with a notebook, in order, and whether each is run once per cohort.

    Raises StudyError without that file.
    """
    try:
        stages = yaml.safe_load(study.path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except OSError:
        raise StudyError("dvc.yaml: missing; open the tour inside a clone of the study.") from None
    return {name: "foreach" in stage for name, stage in stages.items() if name != SOURCES}


def command(study: Study, cohort: str, stage: str) -> str:
    """What to type to have a stage's results."""
    return f"dvc repro {stage}@{cohort}" if _pipeline(study)[stage] else f"dvc repro {stage}"


def published(study: Study, cohort: str, stage: str) -> Path | None:
    """What a stage left under ``reports/``, of the cohort or else of the whole study; None when nothing."""
    folders = [study.path("reports", name, stage) for name in (cohort, STUDY)]
    return next((folder for folder in folders if folder.is_dir()), None)


def stops(study: Study, cohort: str) -> pd.DataFrame:
    """Every stage in the order in which it runs.

    Returns:
        stage, question (of its notebook), result (where its page lies, or what to type).
    """
    rows = []
    for stage in _pipeline(study):
        there = published(study, cohort, stage)
        result = there.relative_to(study.root).as_posix() if there else f"not yet: {command(study, cohort, stage)}"
        rows.append((stage, topics.question(study, stage), result))
    return pd.DataFrame(rows, columns=["stage", "question", "result"])


def overview(study: Study, cohort: str) -> None:
    """Show :func:`stops` as a table."""
    display(HTML(tables.to_html(stops(study, cohort), "The stages of the study", Provenance.of(study, cohort))))


def show(study: Study, cohort: str, stage: str, *names: str) -> None:
    """Show figures that a stage published, or say what to run; one that it had no reason to draw is passed over."""
    folder = published(study, cohort, stage)
    if folder is None:
        display(
            Markdown(
                f"*Stage `{stage}` has not run here:* `{command(study, cohort, stage)}` *makes what belongs here.*"
            )
        )
        return
    for name in names:
        picture, moving = folder / "figures" / f"{name}.png", folder / "figures" / f"{name}.gif"
        if moving.is_file():
            display(Image(moving.read_bytes(), format="gif"))
        elif picture.is_file():
            display(Image(smaller(picture)))


def numbers(study: Study, cohort: str, metric: str, endpoints: Sequence[str], arms: Sequence[str] = ARMS) -> None:
    """Show one metric of test people as endpoint x arm, with its intervals, or say what to run."""
    path = study.path("results", cohort, "metrics.csv")
    if not path.is_file():
        display(Markdown(f"*No metrics of this cohort are here:* `{command(study, cohort, 'validate')}` *makes them.*"))
        return
    found = pd.read_csv(path)
    found = found[(found["metric"] == metric) & found["endpoint"].isin(endpoints) & found["arm"].isin(arms)]
    found = found[found["fraction"].isna() | (found["fraction"] == 1)]
    lines = {
        (r.endpoint, r.arm): _cell(*values)
        for r, values in zip(found.itertuples(), found[["estimate", "lower", "upper"]].to_numpy(float))
    }
    seen = [arm for arm in arms if any(key[1] == arm for key in lines)]
    rows = [[_label(name), *(lines.get((name, arm), "–") for arm in seen)] for name in endpoints]
    title = f"{metric.replace('_', ' ')} on test people, with 95 % intervals"
    frame = pd.DataFrame(rows, columns=["endpoint", *seen])
    display(
        HTML(tables.to_html(frame, title, Provenance.of(study, cohort, int(found["n"].max()) if len(found) else None)))
    )


def _cell(estimate: float, lower: float, upper: float) -> str:
    if pd.isna(estimate):
        return "not estimable"
    return f"{estimate:.2f}" if pd.isna(lower) else f"{estimate:.2f} ({lower:.2f} to {upper:.2f})"


def _label(endpoint: str) -> str:
    known = {**{k: p.label for k, p in phenotypes.BY_NAME.items()}, **{k: d.label for k, d in diseases.BY_NAME.items()}}
    return known.get(endpoint, endpoint)
