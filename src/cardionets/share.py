"""Sharing: a site's results as a bundle, after a person has seen everything that is about to leave."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cardionets import __version__, aggregates, bundle, page, tables
from cardionets.config import Study, StudyError
from cardionets.disclosure import HIDDEN
from cardionets.figures import auc_forest
from cardionets.figures import shared as draw
from cardionets.figures.base import Provenance, png_bytes
from cardionets.files import atomic_path
from cardionets.screen import Private

QUESTION = "Type yes to write the bundle, anything else to stop: "
REVIEW = "review.html"


def share(study: Study, cohort: str, yes: bool = False, ask: Callable[[str], str] = input) -> Path | None:
    """Review, confirm and write ``site/<cohort>-<version>.zip``; None when the reviewer says no.

    What will leave lies under ``site/<cohort>/`` with ``review.html`` on top. Raises StudyError when anything in it
    must not leave, with every finding.
    """
    folder = study.path("site", cohort)
    private = Private.of(study, cohort)
    reviewed = prepare(study, cohort, folder, private)
    print(_summary(study, folder, reviewed), flush=True)
    if not yes and ask(QUESTION).strip().lower() != "yes":
        print("Nothing was written beside the review.")
        return None
    target = study.path("site", f"{cohort}-{__version__}.zip")
    digest = _zip(study, cohort, folder, reviewed, private, target)
    print(
        f"Written: site/{target.name}, SHA-256 {digest}\nSend this one file; tell the hash by another way.", flush=True
    )
    return target


def prepare(study: Study, cohort: str, folder: Path, private: Private) -> dict[str, str]:
    """Make everything that would leave and its review page in ``folder``; returns name -> SHA-256 of each file.

    Raises StudyError with every finding, and leaves nothing behind then.
    """
    made = aggregates.tables(study, cohort)
    files = {f"{name}.csv": _csv(frame) for name, frame in made.items() if len(frame)}
    files |= {f"figures/{name}.png": png_bytes(f, _about(study, cohort)) for name, f in _figures(made)}
    _require_clean(study, cohort, files, private)
    with atomic_path(folder) as aside:
        aside.mkdir()
        for name, data in files.items():
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_bytes(data)
        (aside / REVIEW).write_text(_page(study, cohort, made, files), encoding="utf-8")
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _zip(study: Study, cohort: str, folder: Path, reviewed: dict[str, str], private: Private, target: Path) -> str:
    """Read again what was reviewed, check it again, and write it."""
    files = {name: (folder / name).read_bytes() for name in reviewed}
    changed = [name for name, data in files.items() if hashlib.sha256(data).hexdigest() != reviewed[name]]
    if changed:
        raise StudyError(f"site/{cohort}: {', '.join(changed)} changed after the review; share again.")
    _require_clean(study, cohort, files, private)
    return bundle.write(target, bundle.manifest_of(study, cohort, files), files)


def _require_clean(study: Study, cohort: str, files: dict[str, bytes], private: Private) -> None:
    found = bundle.violations(study, bundle.manifest_of(study, cohort, files), files, private)
    if found:
        raise StudyError("\n".join(["share: nothing was written, because:", *found]))


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n").encode()


def _about(study: Study, cohort: str) -> Provenance:
    return Provenance.of(study, cohort)


def _figures(made: dict[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Every figure of the bundle, drawn from its own tables."""
    yield "flow", draw.shared_flow(made["flow"], "People at each step")
    metrics = made["metrics"][~made["metrics"]["arm"].str.contains("+", regex=False)]
    known = metrics[metrics["metric"].eq("auc") & metrics["n"].notna()]
    if len(known):
        yield "auc", auc_forest(known, title="AUC per disease")
    for endpoint, group in made["risk_bins"].groupby("endpoint", sort=False):
        yield f"risk_{endpoint}", draw.binned_risk(group, str(endpoint))
    for arm, group in made["clouds"].groupby("arm", sort=False):
        yield f"cloud_{arm}", draw.cloud(group, str(arm))


def _summary(study: Study, folder: Path, reviewed: dict[str, str]) -> str:
    lines = ["Everything that will leave, and nothing else:"]
    for name in reviewed:
        size = (folder / name).stat().st_size
        rows = f"{sum(1 for _ in (folder / name).open('rb')) - 1:,} rows, " if name.endswith(".csv") else ""
        lines.append(f"  {name}: {rows}{size / 1000:,.0f} kB")
    minimum = study.protocol.statistics.minimum_cell
    lines.append(f"Counts from 1 to {minimum - 1}, and what would give them away, are hidden.")
    return "\n".join([*lines, f"Look at all of it: site/{folder.name}/{REVIEW}"])


def _page(study: Study, cohort: str, made: dict[str, pd.DataFrame], files: dict[str, bytes]) -> str:
    """The reviewer's page: every table and figure of the bundle in full."""
    provenance, sections = _about(study, cohort), []
    for name, frame in made.items():
        section = page.Section(name.replace("_", " ").capitalize(), folded=len(frame) > 60)
        section.paragraphs.append(_words(frame))
        if len(frame) > 60:
            section.further = _plain(frame)
        else:
            section.tables.append(tables.on_page(frame, name, provenance))
        sections.append(section)
    pictures = [page.Picture(data, name) for name, data in files.items() if name.endswith(".png")]
    sections.append(page.Section("Figures", pictures=pictures))
    lead = f"Everything that will leave {provenance.cohort}, and nothing else. Read it before you type yes."
    contents = [(s.anchor, s.title) for s in sections]
    body = "\n".join(s.render() for s in sections)
    return page.render("Review before sharing", lead, body, contents, provenance.line(), provenance.simulated)


def _plain(frame: pd.DataFrame) -> str:
    """A long table, quickly."""
    return str(frame.to_html(index=False, na_rep="", border=0))


def _words(frame: pd.DataFrame) -> str:
    hidden: Any = frame["note"].eq(HIDDEN).sum() if "note" in frame else frame.isna().any(axis=1).sum()
    return f"{len(frame):,} rows; {int(hidden):,} of them hidden or in part."
