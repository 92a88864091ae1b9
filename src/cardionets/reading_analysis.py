"""Reader study, the analysis: AUC with readers and cases random, accuracy beside the model alone, agreement, time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from cardionets import operating
from cardionets.config import Study, StudyError
from cardionets.evaluate import readers
from cardionets.evaluate.discrimination import Bools, auc, proportion
from cardionets.evaluate.estimate import Estimate, Floats, NotEstimableError, not_estimable
from cardionets.evaluate.multiplicity import holm
from cardionets.evaluate.rows import Rows, attempt
from cardionets.reading_answers import SIMULATED, SKILL, auc_of, separation_of


def model_decisions(study: Study, cohort: str, endpoint: str, arm: str) -> pd.DataFrame:
    """The model alone, at the threshold chosen at home: index record; score, positive. All labels were used.

    Raises StudyError when the arm or its threshold is absent.
    """
    path = study.path("predictions", f"{cohort}.parquet")
    if not path.is_file():
        raise StudyError(f"predictions/{path.name}: missing; run `dvc repro predict@{cohort}`.")
    table = pd.read_parquet(path)
    mine = table[(table["arm"] == arm) & (table["endpoint"] == endpoint) & (table["fraction"] == 1.0)]
    limits = operating.load(study)
    chosen = limits[(limits["arm"] == arm) & (limits["endpoint"] == endpoint) & (limits["fraction"] == 1.0)]
    if mine.empty or chosen["threshold"].notna().sum() != 1:
        text = f"predictions/{cohort}.parquet: arm {arm!r} has no prediction or no threshold for {endpoint}"
        raise StudyError(f"{text}; choose another arm, or run the screening and predict stages.")
    score = mine.set_index("record")["value"].astype(float)
    return pd.DataFrame({"score": score, "positive": score >= float(chosen["threshold"].iloc[0])})


def model_or_reason(
    study: Study, cohort: str, endpoint: str, arm: str, cases: pd.Series
) -> tuple[pd.DataFrame | None, str]:
    """`model_decisions` when they cover every record of ``cases``; else None and one sentence why not."""
    try:
        model = model_decisions(study, cohort, endpoint, arm)
    except StudyError as error:
        return None, f"The model alone is left out: {error}"
    absent = int((~cases.drop_duplicates().isin(model.index)).sum())
    if absent:
        return None, f"The model alone is left out: arm {arm} has no prediction for {absent} of the cases."
    return model, f"The model alone is arm `{arm}`."


@dataclass(frozen=True)
class Analysis:
    """Tables of a reader study; ``source`` is `SIMULATED` or "readers". The model's row has modality "model alone"."""

    source: str
    modalities: pd.DataFrame
    by_reader: pd.DataFrame
    differences: pd.DataFrame
    accuracy: pd.DataFrame
    agreement: pd.DataFrame
    times: pd.DataFrame
    model: dict[str, Estimate]
    cases: int
    events: int

    @property
    def label(self) -> str:
        """Begins every title."""
        return f"{self.source}: " if self.source == SIMULATED else ""


def analyse(answers: pd.DataFrame, model: pd.DataFrame | None, level: float = 0.95) -> Analysis:
    """Everything about checked answers (`read_answers`); ``model`` as `model_decisions`, or None to leave it out."""
    source = SIMULATED if answers["source"].eq(SIMULATED).any() else "readers"
    names, who, truth, ratings = readers.cube_of(answers)
    areas, by_reader, differences = (
        table.assign(source=source) for table in _auc_tables(names, who, truth, ratings, level)
    )
    cases = answers.drop_duplicates("case").set_index("case").sort_index()
    return Analysis(
        source,
        areas,
        by_reader,
        differences,
        _accuracy(answers, cases, model, level).assign(source=source),
        readers.agreement(answers, level).assign(source=source),
        times(answers).assign(source=source),
        {} if model is None else _alone(cases, model, level),
        len(truth),
        int(truth.sum()),
    )


def _auc_tables(names: list[str], who: list[str], truth: Bools, ratings: Floats, level: float) -> list[pd.DataFrame]:
    """Mean AUC per arm (bounds end at 0 and 1); AUC per reader and arm; differences, later arm minus earlier.

    A reader's own interval is DeLong's: it speaks for other cases, not for other readers.
    """
    counts = {"readers": len(who), "cases": len(truth), "events": int(truth.sum())}
    each = [
        (m, r, attempt(partial(auc, truth, ratings[i, j], level)))
        for i, m in enumerate(names)
        for j, r in enumerate(who)
    ]
    single = pd.DataFrame(
        [(m, r, e.value, e.lower, e.upper, len(truth), e.note) for m, r, e in each],
        columns=["modality", "reader", "auc", "lower", "upper", "cases", "note"],
    )
    columns = ["first", "second", "difference", "lower", "upper", "p"]
    try:
        found = readers.obuchowski_rockette(truth, ratings, level)
    except NotEstimableError as error:
        none = {"auc": np.nan, "lower": np.nan, "upper": np.nan, **counts, "note": not_estimable(str(error)).note}
        return [pd.DataFrame([{"modality": m} | none for m in names]), single, pd.DataFrame(columns=columns)]
    rows = [(m, e.value, max(0.0, e.lower), min(1.0, e.upper)) for m, e in zip(names, found.means)]
    modalities = pd.DataFrame(rows, columns=["modality", "auc", "lower", "upper"]).assign(**counts, note="")
    pairs = [(names[j], names[i], -e.value, -e.upper, -e.lower, p) for (i, j), (e, p) in found.differences.items()]
    differences = pd.DataFrame(pairs, columns=columns)
    return [modalities, single, differences.assign(p_holm=holm(differences["p"].to_numpy()), p_all_equal=found.p)]


def _accuracy(answers: pd.DataFrame, cases: pd.DataFrame, model: pd.DataFrame | None, level: float) -> pd.DataFrame:
    """`readers.accuracy` by level and over all readers; without a model its columns are empty."""
    decided = cases["record"].map(model["positive"]) if model is not None else cases["truth"]
    everybody = answers.assign(level="all")
    table = pd.concat([readers.accuracy(a, decided, level) for a in (everybody, answers)], ignore_index=True)
    if model is None:
        table[["minus_model", "minus_model_lower", "minus_model_upper"]] = np.nan
    return table


def _alone(cases: pd.DataFrame, model: pd.DataFrame, level: float) -> dict[str, Estimate]:
    known = model.reindex(cases["record"])
    truth = cases["truth"].to_numpy(bool)
    right = known["positive"].to_numpy(bool) == truth
    score = known["score"].to_numpy(float)
    return {
        "auc": attempt(partial(auc, truth, score, level)),
        "accuracy": attempt(partial(proportion, right, np.arange(len(right)), level)),
    }


def times(answers: pd.DataFrame) -> pd.DataFrame:
    """Seconds per case and arm: median and quartiles, over readers and cases, and within level."""
    table = pd.concat([answers.assign(level="all"), answers], ignore_index=True)
    grouped = table.groupby(["modality", "level"])["seconds"]
    quartiles = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
    return pd.DataFrame({name: grouped.quantile(share) for name, share in quartiles.items()}).reset_index()


def tidy(found: Analysis, cohort: str, endpoint: str) -> pd.DataFrame:
    """The main results as rows of the study's metrics table; their metrics begin with ``reader_``."""
    rows = Rows(cohort, "test")
    note = SIMULATED if found.source == SIMULATED else ""
    who = "SIMULATED readers" if note else "readers"
    for _, r in found.modalities.iterrows():
        e = Estimate(r["auc"], r["lower"], r["upper"], "; ".join(filter(None, [note, r["note"]])))
        rows.add(endpoint, f"{who}: {r['modality']}", 1.0, "reader_auc", e, found.cases, found.events)
    for _, r in found.accuracy[found.accuracy["level"] == "all"].iterrows():
        e = Estimate(r["accuracy"], r["lower"], r["upper"], note)
        rows.add(endpoint, f"{who}: {r['modality']}", 1.0, "reader_accuracy", e, found.cases, found.events)
    for name, e in found.model.items():
        rows.add(endpoint, "model alone", 1.0, f"reader_{name}", e, found.cases, found.events)
    return rows.frame()


def planted(found: Analysis, skill: dict[str, float] = SKILL) -> pd.DataFrame:
    """Planted accuracy and AUC of simulated readers beside what was found, and whether intervals hold them."""
    share = found.events / found.cases
    right = found.accuracy[found.accuracy["level"] == "all"].rename(columns={"accuracy": "found"})
    area = found.modalities.rename(columns={"auc": "found"})
    tables = [
        right.assign(metric="accuracy", planted=right["modality"].map(skill)),
        area.assign(metric="AUC", planted=[auc_of(separation_of(skill[str(m)], share)) for m in area["modality"]]),
    ]
    table = pd.concat(tables, ignore_index=True)[["modality", "metric", "planted", "found", "lower", "upper", "source"]]
    return table.assign(within=table["planted"].between(table["lower"], table["upper"]))
