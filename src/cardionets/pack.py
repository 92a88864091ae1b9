"""The reporting pack: checklists with links, the gate against leakage, model and data cards, methods, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cardionets import cards, checklists, page, tables, topics
from cardionets.config import Study
from cardionets.figures.base import Provenance
from cardionets.files import atomic_path

TITLE = "Reporting pack"
NOTE = (
    "Answered: software knows it, and the link leads to it. Partly: linked, and a person adds what the last column "
    "says. Items are in our own words; submit the published forms, which these rows help to fill."
)


def build(study: Study, cohorts: Sequence[str], methods: Sequence[str], out: Path, folder: Path | None = None) -> Path:
    """Write ``pack.html`` and one CSV per checklist into ``out``; returns the page.

    ``folder`` is where the page will be read, to which its links are relative, when that is not ``out``.
    """
    there = checklists.artefacts(study.root)
    sections = [_checklist(name, there, study, out, folder or out) for name in checklists.LISTS]
    gate = next(topic for topic in topics.BEFORE_POOLING if "leakage" in topic.tables)
    proof = topics.section(study, study.path("reports"), gate, cohorts)
    sections += [proof] if proof else []
    whole = Provenance.of(study, "All cohorts")
    models = [tables.on_page(card, name, whole) for name, card in cards.model_cards(study).items()]
    people = [
        tables.on_page(cards.data_card(study, c), study.cohorts[c].label, Provenance.of(study, c)) for c in cohorts
    ]
    sections += [page.Section("Models", tables=models), page.Section("Data", tables=people)]
    sections.append(page.Section("Methods", list(methods)))
    contents = [(s.anchor, s.title) for s in sections]
    body = "\n".join(s.render() for s in sections)
    text = page.render(TITLE, NOTE, body, contents, whole.line(), whole.simulated)
    return page.write(out / "pack.html", text)


def _checklist(name: str, there: dict[str, list[Path]], study: Study, out: Path, folder: Path) -> page.Section:
    filled = checklists.fill(name, there, study.root)
    with atomic_path(out / f"{name}.csv") as aside:
        filled.to_csv(aside, index=False, lineterminator="\n")
    linked = checklists.render(name, there, study.root, folder)
    return page.Section(checklists.LISTS[name], [counted(filled)], further=linked)


def counted(filled: pd.DataFrame) -> str:
    """How many items of a filled checklist are answered, partly answered, and left to people."""
    n = filled["status"].value_counts()
    parts = [f"{n.get(status, 0)} {status}" for status in ("answered", "partly", "to be written", "missing")]
    return f"{len(filled)} items: {', '.join(parts)}."


def overview(study: Study) -> page.Section:
    """For the report: what of each checklist is filled, and where the pack lies."""
    there = checklists.artefacts(study.root)
    lines = [
        f"{title}: {counted(checklists.fill(name, there, study.root))}" for name, title in checklists.LISTS.items()
    ]
    return page.Section("Reporting checklists", [*lines, "Every item, with links: pack.html beside this page."])
