"""The two pages people open: the index of every stage, and the pooled report of the study. Every number is computed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cardionets import figures, pack, page, pdf, received, tables, topics
from cardionets.config import STUDY, Study, StudyError
from cardionets.evaluate.people import COLUMNS as PEOPLE
from cardionets.evaluate.pooling import pool_metrics, pool_rows, usable
from cardionets.figures.base import Provenance, png_bytes
from cardionets.findings import Findings

STAGES = {
    "prepare": "Data and participants",
    "pretrain_ecg": "Pre-training on ECG",
    "pretrain_cmr": "Pre-training on CMR",
    "align": "ECG-CMR alignment",
    "phenotypes": "Phenotype heads",
    "screening": "Screening heads",
    "tokenizer": "Cine tokenizer",
    "generator": "Cine generator",
    "predict": "Predictions",
    "validate": "Performance",
    "images": "Generated cines",
    "pool": "Pooling across centres",
    "reader_study": "Reader study",
    "patient": "One patient",
    "report": "Report",
}
TITLE = "From the ECG to cardiac MRI: study report"
POOLED = ("auc", "oe", "calibration_slope", "mean_r2")


def read_results(results: Path, *more: Path) -> pd.DataFrame:
    """The tidy metrics of all cohorts: every ``<folder>/<cohort>/*.csv`` with the metrics' columns, in order of name.

    ``more``: further folders, such as ``received/``. What a site has kept to itself has no ``n`` and is left out.
    """
    found = []
    for path in (path for folder in (results, *more) for path in sorted(folder.glob("[!.]*/*.csv"))):
        table = pd.read_csv(path)
        if {"cohort", "endpoint", "arm", "metric", "estimate"} <= set(table.columns):
            found.append(table[table["n"].notna()].astype({"n": "int64"}))
    if not found:
        raise StudyError(f"{results.name}: no metrics table was found; run the validate stages first.")
    return pd.concat(found, ignore_index=True)


def read_people(*folders: Path) -> pd.DataFrame:
    """Who the people of each cohort are: every ``<folder>/<cohort>/case_mix.csv``, stacked in order of name."""
    found = [pd.read_csv(path) for folder in folders for path in sorted(folder.glob("[!.]*/case_mix.csv"))]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(PEOPLE))


_label = received.label


def _order(study: Study, reports: Path) -> list[Path]:
    names = [STUDY, *study.cohorts]
    folders = [reports / name for name in names] + sorted(p for p in reports.iterdir() if p.name not in names)
    return [folder for folder in folders if folder.is_dir()]


def _stages(folder: Path) -> list[Path]:
    known = list(STAGES)
    present = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and any(p.rglob("*"))]
    return sorted(present, key=lambda p: (known.index(p.name) if p.name in known else len(known), p.name))


def _card(study: Study, reports: Path, stage: Path) -> str:
    def link(path: Path) -> str:
        return html.escape(path.relative_to(reports).as_posix())

    title = html.escape(STAGES.get(stage.name, stage.name.replace("_", " ").capitalize()))
    main = next((p for p in (stage / f"{stage.name}.html", *sorted(stage.glob("*.html"))) if p.is_file()), None)
    head = f'<a href="{link(main)}">{title}</a>' if main else title
    pictures = [p for p in sorted(stage.glob("figures/*")) if p.suffix in topics.PICTURES]
    shown = f'<img loading="lazy" alt="{html.escape(pictures[0].stem)}" src="{link(pictures[0])}">' if pictures else ""
    rows = sorted(stage.glob("tables/*.csv"))
    files = "".join(f'<li><a href="{link(p)}">{html.escape(p.name)}</a></li>' for p in [*pictures, *rows])
    held = f"{_count(len(pictures), 'figure')}, {_count(len(rows), 'table')}"
    listed = f"<details><summary>{held}</summary><ul>{files}</ul></details>" if files else ""
    asked = html.escape(topics.question(study, stage.name))
    return f'<div class="card"><h3>{head}</h3><p class="dim">{asked}</p>{shown}{listed}</div>'


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def build_index(study: Study, reports: Path | None = None, front: str = "") -> Path:
    """Write ``reports/index.html``: every stage of every cohort that has run, with its notebook, figures and tables.

    ``front`` is the page to read first, relative to ``reports``. Links are relative, so that the folder can be moved or
    zipped. Raises `StudyError` when nothing has run.
    """
    reports = reports or study.path("reports")
    folders = [f for f in _order(study, reports) if _stages(f)] if reports.is_dir() else []
    if not folders:
        raise StudyError(f"{reports.name}: no stage has run yet; run `make study` first.")
    read_first = f'<p><a href="{html.escape(front)}"><b>Read first: the report of the study on one page</b></a></p>'
    sections = [read_first] if front else []
    for folder in folders:
        cards = "\n".join(_card(study, reports, stage) for stage in _stages(folder))
        name = html.escape(_label(study, folder.name))
        sections.append(
            f'<section id="{folder.name}">\n<h2>{name}</h2>\n<div class="grid">\n{cards}\n</div>\n</section>'
        )
    provenance = Provenance.of(study, "All cohorts")
    contents = [(folder.name, _label(study, folder.name)) for folder in folders]
    lead = "Every stage of the study: the executed notebook, its figures and its tables."
    text = page.render("Study reports", lead, "\n".join(sections), contents, provenance.line(), provenance.simulated)
    return page.write(reports / "index.html", text)


def best_arm(metrics: pd.DataFrame, preferred: str = "aligned") -> str:
    """The arm the report is about: ``preferred`` where present, else the first; never chosen by its result."""
    arms = [a for a in metrics["arm"].astype(str).unique() if " minus " not in a]
    if not arms:
        raise StudyError("metrics: no arm was evaluated; run the validate stages first.")
    return preferred if preferred in arms else arms[0]


def methods_paragraphs(study: Study) -> list[str]:
    """Methods in words, from the settings that were in force."""
    p = study.protocol
    labels = [(c.role, c.label) for c in study.cohorts.values()]
    roles = {r: ", ".join(label for role, label in labels if role == r) for r in ("development", "external")}
    ecg = f"ECGs were resampled to {study.grid.rate} Hz and filtered at {p.ecg.band_hz[0]:g}–{p.ecg.band_hz[1]:g} Hz"
    fractions = ", ".join(f"{f:.0%}" for f in p.endpoints.label_fractions)
    cines = (
        f"{study.grid.frames} frames of {study.grid.size} × {study.grid.size} pixels at {study.grid.spacing_mm:g} mm"
    )
    split = f"{p.split.train:.0%} training, {p.split.val:.0%} validation and {p.split.test:.0%} test"
    s = p.statistics
    return [
        f"Development cohorts: {roles['development']}. External cohorts: {roles['external'] or 'none'}.",
        f"People were divided by a salted hash of the person into {split}; external cohorts were tested whole."
        f" {ecg}; cines were resampled to {cines}. Labels were used at {fractions}.",
        f"Intervals are {s.level:.0%}. R² is 1 − SSE/SST; its intervals and paired differences rest on {s.bootstrap:,}"
        " bootstrap samples of persons. AUCs have DeLong intervals on the logit scale, clustered by person, or score"
        " intervals where a class has fewer than 30 persons; thresholds"
        f" for a specificity of {s.specificity:.0%} were chosen on validation. Centres were pooled by REML with"
        " Hartung-Knapp intervals.",
        f"Preset {p.preset}; seed {p.seed}; protocol {figures.protocol_hash(study)}.",
    ]


def pooled_section(study: Study, metrics: pd.DataFrame, arm: str, cohorts: Sequence[str]) -> page.Section:
    """Forest plots of the AUC over ``cohorts`` for every disease with two or more usable centres."""
    level = study.protocol.statistics.level
    rows = metrics[(metrics["metric"] == "auc") & (metrics["arm"] == arm) & metrics["cohort"].isin(cohorts)]
    rows = rows[rows["fraction"] == rows["fraction"].max()]
    section = page.Section("Pooled across centres", [_pool_lead(study, cohorts)])
    for endpoint, group in rows.groupby("endpoint", sort=False):
        known = usable(group)
        if len(known) < 2:
            section.paragraphs.append(f"{tables.endpoint_label(str(endpoint))}: fewer than 2 centres are estimable.")
            continue
        pooled = pool_rows("auc", known, level)
        shown = known.assign(cohort=[_label(study, c) for c in known["cohort"]])
        title = tables.endpoint_label(str(endpoint))
        figure = figures.forest(shown, pooled, "AUC", title, 0.5)
        data = png_bytes(figure, Provenance.of(study, "External cohorts"))
        section.pictures.append(page.Picture(data, f"{title}: AUC of {arm} at each centre, and pooled."))
    top = metrics[(metrics["arm"] == arm) & metrics["cohort"].isin(cohorts)]
    top = top[(top["fraction"] == top["fraction"].max()) & top["metric"].isin(POOLED)]
    if len(top):
        note = Provenance.of(study, "External cohorts")
        section.tables.append(tables.on_page(_round(pool_metrics(top, level)), "Pooled estimates", note))
    return section


def _pool_lead(study: Study, cohorts: Sequence[str]) -> str:
    names = ", ".join(_label(study, c) for c in cohorts)
    return (
        f"Random effects over {len(cohorts)} external cohorts ({names}); development cohorts are not pooled with them."
    )


def _round(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.assign(endpoint=[tables.endpoint_label(str(e)) for e in table["endpoint"]])
    for column in table.select_dtypes("number").columns:
        shown[column] = np.round(table[column].astype(float), 3)
    return shown.dropna(axis=1, how="all")


def metric_sections(study: Study, metrics: pd.DataFrame) -> list[page.Section]:
    """The main metrics of every cohort, arms in columns: phenotypes open, diseases folded below them."""
    known = metrics[metrics["estimate"].notna()]
    of_cines = known.loc[known["endpoint"].astype(str).str.startswith("cine"), "arm"]
    drawn = known["arm"].isin({*of_cines, "real"})
    own = ~drawn & ~known["arm"].astype(str).str.contains("+", regex=False)  # recalibrated arms have their own table
    wanted = {
        "Main results": [
            ("mean_r2", "Mean R² of phenotypes", own),
            ("r2_share", "Share of the attainable R², which the ECG of a simulated heart carries", own),
        ],
        "Screening in numbers": [
            ("auc", "AUC", own),
            ("auprc", "AUPRC", own),
            ("oe", "Observed / expected", own),
            ("auc", "AUC of the disease heads on cines: real, drawn from the ECG, and their rivals", drawn),
        ],
    }
    sections = []
    for heading, metric_list in wanted.items():
        found = [_metric_table(study, known[some], metric, title) for metric, title, some in metric_list]
        shown = [table for table in found if table is not None]
        if shown:
            sections.append(page.Section(heading, tables=shown, folded=heading != "Main results"))
    return sections


def _metric_table(study: Study, metrics: pd.DataFrame, metric: str, title: str) -> page.Table | None:
    some = metrics[metrics["metric"] == metric]
    if some.empty:
        return None
    wide = tables.metrics_wide(some, metric, float(some["fraction"].max()))
    wide["cohort"] = [_label(study, str(c)) for c in wide["cohort"]]
    return tables.on_page(wide, title, Provenance.of(study, "All cohorts"))


def build_study(study: Study, metrics: pd.DataFrame, reports: Path | None = None, out: Path | None = None) -> Path:
    """Write the pooled report of the study as one HTML page with everything embedded, and beside it as PDF.

    metrics: tidy metrics of all cohorts (`read_results`). Figures and tables come from ``reports/<cohort>/<stage>/``.
    Returns the page, ``reports/study/index.html`` unless ``out`` names another.
    """
    reports = reports or study.path("reports")
    arm = best_arm(metrics)
    everybody = present(study, metrics, reports)
    sites = received.sites(study)
    external = [c for c in received.external(study) if c in everybody or c in sites]
    sections = [
        Findings(study, metrics, arm, external).section(),
        *_topics(study, reports, topics.FIRST, everybody),
        *metric_sections(study, metrics),
        *_topics(study, reports, topics.BEFORE_POOLING, everybody),
        pooled_section(study, metrics, arm, external),
        *([received.section(study)] if sites else []),
        *_topics(study, reports, topics.AFTER_POOLING, everybody),
        page.Section("Methods", methods_paragraphs(study)),
        pack.overview(study),
    ]
    provenance = Provenance.of(study, "All cohorts")
    count = len({*everybody, *sites})
    lead = f"{count} cohorts, {len(external)} of them external, {len(sites)} received. The arm reported is {arm}."
    contents = [(s.anchor, s.title) for s in sections]
    body = "\n".join(s.render() for s in sections)
    text = page.render(TITLE, lead, body, contents, provenance.line(), provenance.simulated)
    target = out or reports / STUDY / "index.html"
    pdf.write(target.with_suffix(".pdf"), TITLE, lead, sections, provenance.line(), provenance.simulated)
    return page.write(target, text)


def present(study: Study, metrics: pd.DataFrame, reports: Path) -> list[str]:
    """The study's cohorts that have metrics or have run a stage, in the order of ``cohorts.yaml``."""
    return [c for c in study.cohorts if (metrics["cohort"] == c).any() or (reports / c).is_dir()]


def _topics(study: Study, reports: Path, shown: Sequence[topics.Topic], cohorts: Sequence[str]) -> list[page.Section]:
    found = (topics.section(study, reports, topic, cohorts) for topic in shown)
    return [section for section in found if section is not None]
