"""What the report shows, in the order of a published paper: figures and tables of each stage, centre by centre."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from cardionets import page, tables
from cardionets.config import STUDY, Study
from cardionets.figures.base import Provenance

MOST_ROWS, MOST_COLUMNS = 80, 12
PICTURES: Final = (".gif", ".png")
QUESTION: Final = re.compile(r"\*\*Question\.\*\* (.*?)\n#\s*\n", re.DOTALL)

FIGURES: Final = {
    "flow": "Recordings and people from the centre's records to the people judged, with the reason of every exclusion.",
    "people": "Age, heart rate, QRS duration and three phenotypes by sex.",
    "phenotypes": "Variance explained (R² = 1 − SSE/SST) per phenotype and arm, with person-bootstrap intervals.",
    "scatter": "Predicted against measured phenotypes on test people; below each square its lowest and highest value.",
    "agreement": "Bland-Altman plots of the headline phenotypes: bias, 95 % limits of agreement and their intervals.",
    "validate/auc": "AUC per disease and arm, with intervals that count persons; events and recordings beside.",
    "roc": "ROC curves, with AUC and intervals.",
    "label_fractions": "Mean R² of the phenotypes against the share of labelled people, per arm.",
    "moving": "A real and a drawn heart over one cycle.",
    "beating": "The 12-lead ECG of the median case; below it the real heart, the one drawn from this ECG, and doubt.",
    "sweep": "Hearts drawn on the way from one patient's ECG to another's, from the same random numbers.",
    "case_best": "The best case by similarity of the drawn to the real short axis.",
    "case_median": "The median case.",
    "case_worst": "The worst case.",
    "subgroups_diseases": "AUC in subgroups; a subgroup with fewer than 5 events or non-events has no mark.",
    "subgroups_phenotypes": "Correlation of predicted with measured phenotypes in subgroups.",
    "calibration": "Observed share against predicted risk: tenths with intervals and smooth curves, before and after.",
    "decision": "Net benefit; the band is the 95 % interval of the last arm.",
    "forests_oe": "Observed / expected events at each centre, and pooled (diamond) with prediction interval (line).",
    "forests_calibration_slope": "Calibration slope at each centre, and pooled.",
    "forests_r": "Correlation of predicted with measured phenotypes at each centre, and pooled.",
    "case_mix": "Standardised mean differences from home, and the difference in AUC, per centre.",
    "reader_study/auc": "Mean AUC of the readers per arm, every reader, and the model alone.",
    "curve": "Loss on training and validation people.",
}
"""Captions by name, or by stage/name where two stages share one."""
TABLES: Final = {
    "flow": "recordings and people at each step",
    "table_one": "characteristics, mean (SD) or n (%)",
    "adequacy": "events, and the width of interval to expect",
    "leakage": "gate against leakage",
    "phenotypes": "mean R² of the phenotypes, and paired differences",
    "correlations": "differences in correlation from covariates (Zou, Steiger)",
    "added": "what the prediction adds to age, sex, height and weight",
    "tests": "paired differences between arms (DeLong, McNemar), with Holm and Benjamini-Hochberg",
    "predictive_values": "PPV and NPV at stated prevalence",
    "cross_tabulation": "decisions against the reference standard",
    "side_by_side": "one sample, the mean of several, and what they are compared with",
    "sweep": "what the sweep changes in the heart, measured on the drawn cines",
    "ceiling": "cines drawn from the noise-free ECG and from all true phenotypes",
    "images": "similarity, identity and measurements of the drawn hearts",
    "subgroups": "subgroups, interaction tests and gaps",
    "recalibration": "calibration as received and after recalibration",
    "drops": "AUC at home minus AUC elsewhere",
    "leave_one_out": "AUC, O/E, calibration slope and r, pooled without each centre",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A section of the report: names of a stage's figures and tables.

    ``study``: of the study as a whole; ``alone``: the stage runs at one centre by design, and no other is missed.
    """

    title: str
    stage: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    words: str = ""
    study: bool = False
    alone: bool = False


FROM_TRUTH: Final = "From the simulated truth, which no other stage reads."
FIRST: Final = (Topic("What labels add", "validate", ("label_fractions",)),)
BEFORE_POOLING: Final = (
    Topic("Participants", "prepare", ("flow",), ("flow",)),
    Topic("Characteristics", "prepare", ("people",), ("table_one",)),
    Topic("Size of the sample", "validate", (), ("adequacy",), "Known before any prediction was read."),
    Topic("Gate against leakage", "validate", (), ("leakage",), "Computed by each centre before it validates."),
    Topic("Phenotypes", "validate", ("phenotypes", "scatter", "agreement"), ("phenotypes", "correlations", "added")),
    Topic("Screening", "validate", ("auc", "roc"), ("tests", "predictive_values", "cross_tabulation")),
    Topic("Drawn hearts", "images", ("beating", "moving", "case_best", "case_median", "case_worst")),
    Topic("How close the drawn hearts are", "images", (), ("side_by_side", "images")),
    Topic("How close anybody could draw", "attainable", (), ("ceiling",), FROM_TRUTH, alone=True),
    Topic("From one patient's heart to another's", "images", ("sweep",), ("sweep",)),
    Topic("Subgroups", "validate", ("subgroups_diseases", "subgroups_phenotypes"), ("subgroups",)),
    Topic("Calibration", "validate", ("calibration",), ("recalibration",)),
    Topic("Decision curves", "validate", ("decision",)),
    Topic(
        "Reader study",
        "reader_study",
        ("auc", "accuracy", "times"),
        ("auc", "differences", "accuracy", "agreement"),
        alone=True,
    ),
)
AFTER_POOLING: Final = (
    Topic("Calibration across centres", "pool", ("forests_oe", "forests_calibration_slope", "forests_r"), study=True),
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


def question(study: Study, stage: str) -> str:
    """What the notebook of a stage asks, in its own words; empty where there is no such notebook."""
    path = study.path("notebooks", f"{stage}.py")
    asked = QUESTION.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return " ".join(asked[1].replace("\n#", " ").split()) if asked else ""


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
    if absent and not topic.alone:
        found.paragraphs.append(f"This stage has not run at {', '.join(absent)}.")
    return found


def _add(found: page.Section, study: Study, folder: Path, topic: Topic, cohort: str, label: str) -> None:
    for name in topic.figures:
        path = next((p for s in PICTURES if (p := folder / "figures" / f"{name}{s}").is_file()), None)
        if path is not None:
            found.pictures.append(page.Picture.read(path, f"{label}. {_words(FIGURES, topic.stage, name)}"))
    for name in topic.tables:
        path = folder / "tables" / f"{name}.csv"
        if path.is_file():
            table = pd.read_csv(path, keep_default_na=False, dtype=str)
            title = f"{label}: {_words(TABLES, topic.stage, name)}"
            if len(table) > MOST_ROWS or table.shape[1] > MOST_COLUMNS:
                found.remarks.append(f"{title}: {len(table):,} rows, in {cohort}/{topic.stage}/tables/{name}.csv.")
            elif len(table):
                found.tables.append(tables.on_page(table.map(shorten), title, Provenance.of(study, cohort)))


def _words(captions: Mapping[str, str], stage: str, name: str) -> str:
    return captions.get(f"{stage}/{name}") or captions.get(name) or name.replace("_", " ").capitalize()


def shorten(text: str) -> str:
    """A number written with more than five characters as three significant digits; everything else as it is."""
    if len(text) < 6 or "." not in text:
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
