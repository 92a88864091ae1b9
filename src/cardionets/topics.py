"""What the report shows, in the order of a published paper: figures and tables of each stage, centre by centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from cardionets import page, tables
from cardionets.config import STUDY, Study
from cardionets.figures.base import Provenance

MOST_ROWS, MOST_COLUMNS = 80, 12
PICTURES: Final = (".gif", ".png")


@dataclass(frozen=True, slots=True)
class Topic:
    """A section of the report: names of a stage's figures and tables; ``study``: of the study as a whole."""

    title: str
    stage: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    words: str = ""
    study: bool = False


BEFORE_POOLING: Final = (
    Topic("Participants", "prepare", ("flow",), ("flow",)),
    Topic("Characteristics", "prepare", ("people",), ("table_one",)),
    Topic("Size of the sample", "validate", (), ("adequacy",), "Known before any prediction was read."),
    Topic("Gate against leakage", "validate", (), ("leakage",), "Computed by each centre before it validates."),
    Topic("Phenotypes", "validate", ("phenotypes", "scatter", "agreement"), ("phenotypes", "correlations", "added")),
    Topic("Screening", "validate", ("auc", "roc"), ("tests", "predictive_values", "cross_tabulation")),
    Topic("What labels add", "validate", ("label_fractions",)),
    Topic("Drawn hearts", "images", ("moving", "case_best", "case_median", "case_worst")),
    Topic("How close the drawn hearts are", "images", (), ("images",)),
    Topic("Subgroups", "validate", ("subgroups_diseases", "subgroups_phenotypes"), ("subgroups",)),
    Topic("Calibration", "validate", ("calibration",), ("recalibration",)),
    Topic("Decision curves", "validate", ("decision",)),
    Topic(
        "Reader study", "reader_study", ("auc", "accuracy", "times"), ("auc", "differences", "accuracy", "agreement")
    ),
)
AFTER_POOLING: Final = (
    Topic("Case mix and performance", "pool", ("case_mix",), ("drops", "leave_one_out"), study=True),
    *(
        Topic(f"Learning curve: {name}", stage, ("curve",), study=True)
        for stage, name in (
            ("pretrain_ecg", "ECG"),
            ("pretrain_cmr", "CMR"),
            ("align", "alignment"),
            ("tokenizer", "tokenizer"),
            ("segmenter", "ruler"),
            ("generator", "generator"),
        )
    ),
)


def section(study: Study, reports: Path, topic: Topic, cohorts: Sequence[str]) -> page.Section | None:
    """One topic over all cohorts; None where nobody has run its stage, a sentence where some have not."""
    names = [STUDY] if topic.study else list(cohorts)
    there = [name for name in names if (reports / name / topic.stage).is_dir()]
    if not there:
        return None
    found = page.Section(topic.title, [topic.words] if topic.words else [])
    for name in there:
        label = study.cohorts[name].label if name in study.cohorts else "The study"
        _add(found, study, reports / name / topic.stage, topic, name, label)
    absent = [study.cohorts[n].label for n in names if n not in there and n in study.cohorts]
    if absent:
        found.paragraphs.append(f"This stage has not run at {', '.join(absent)}.")
    return found


def _add(found: page.Section, study: Study, folder: Path, topic: Topic, cohort: str, label: str) -> None:
    for name in topic.figures:
        path = next((p for s in PICTURES if (p := folder / "figures" / f"{name}{s}").is_file()), None)
        if path is not None:
            found.pictures.append(page.Picture.read(path, f"{label}: {name.replace('_', ' ')}"))
    for name in topic.tables:
        path = folder / "tables" / f"{name}.csv"
        if path.is_file():
            table = pd.read_csv(path, keep_default_na=False, dtype=str)
            title = f"{label}: {name.replace('_', ' ')}"
            if len(table) > MOST_ROWS or table.shape[1] > MOST_COLUMNS:
                found.paragraphs.append(f"{title}: {len(table):,} rows, in {cohort}/{topic.stage}/tables/{name}.csv.")
            elif len(table):
                found.tables.append(tables.on_page(table.map(shorten), title, Provenance.of(study, cohort)))


def shorten(text: str) -> str:
    """A number written with more than five characters as three significant digits; everything else as it is."""
    if len(text) < 6 or "." not in text:
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
