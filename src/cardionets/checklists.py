"""Reporting checklists filled by the pipeline: what software can know is linked, what a person must write is said.

Items are in our own words, under the numbers of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378), STARD 2015 (Bossuyt
et al., BMJ 2015;351:h5527) with the topics that STARD-AI adds (Sounderajah et al., Nat Med 2025), unnumbered here, and
CLAIM 2024 (Tejani et al., Radiol Artif Intell 2024;6:e240300). The published lists are what a journal asks for.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import pandas as pd

LISTS: Final = {"tripod_ai": "TRIPOD+AI", "stard_ai": "STARD 2015 with STARD-AI topics", "claim_2024": "CLAIM 2024"}
ARTEFACTS: Final[dict[str, tuple[str, str]]] = {
    "adequacy": ("size of the sample", "reports/*/validate/tables/adequacy.html"),
    "calibration": ("calibration", "reports/*/validate/figures/calibration.png"),
    "case_mix": ("case mix against home", "reports/study/pool/tables/case_mix.html"),
    "contract": ("input contract", "docs/input-contract.md"),
    "cross_tabulation": ("cross tabulation", "reports/*/validate/tables/cross_tabulation.html"),
    "decision": ("decision curves", "reports/*/validate/figures/decision.png"),
    "diseases": ("accuracy", "reports/*/validate/tables/diseases.html"),
    "diseases_code": ("code lists and phenotypes", "src/cardionets/diseases.py"),
    "flow": ("flow of participants", "reports/*/prepare/figures/flow.png"),
    "images": ("drawn cines, best to worst", "reports/*/images/images.html"),
    "leakage": ("gate against leakage", "reports/*/validate/tables/leakage.html"),
    "leave_one_out": ("without each centre", "reports/study/pool/tables/leave_one_out.html"),
    "licence": ("code and locked software", "LICENSE"),
    "phenotypes": ("phenotypes", "reports/*/validate/tables/phenotypes.html"),
    "pooled": ("pooled estimates", "reports/study/pool/tables/pooled.html"),
    "predictions": ("prediction stage", "reports/*/predict/predict.html"),
    "predictive_values": ("predictive values", "reports/*/validate/tables/predictive_values.html"),
    "protocol": ("frozen protocol", "params.yaml"),
    "reader_study": ("reader study", "reports/*/reader_study/reader_study.html"),
    "recalibration": ("recalibration", "reports/*/validate/tables/recalibration.html"),
    "splits": ("partition", "reports/*/prepare/tables/splits.html"),
    "subgroups": ("subgroups", "reports/*/validate/tables/subgroups.html"),
    "table_one": ("characteristics", "reports/*/prepare/tables/table_one.html"),
    "tests": ("paired tests", "reports/*/validate/tables/tests.html"),
    "thresholds": ("thresholds", "weights/thresholds.csv"),
    "training": ("training", "reports/study/*/*.html"),
    "weights": ("model cards as files", "weights/*/card.json"),
}
"""What an item may point at: words for it, and where it lies below the repository."""
SECTIONS: Final = {"report": "study.html", "models": "#models", "data": "#data", "methods": "#methods"}
"""Artefacts that are pages or sections of the pack itself."""


def load(name: str) -> pd.DataFrame:
    """One list as a table: item, topic, where (artefacts, ;-separated), person (what somebody must write)."""
    with as_file(files("cardionets") / "assets" / "checklists" / f"{name}.csv") as path:
        return pd.read_csv(path, dtype=str, keep_default_na=False)


def artefacts(root: Path) -> dict[str, list[Path]]:
    """Every artefact that exists below ``root``: key -> files, in order of name."""
    found = {key: sorted(p for p in root.glob(pattern) if p.is_file()) for key, (_, pattern) in ARTEFACTS.items()}
    own = root / "reports" / "study" / "report"
    found["training"] = [p for p in found["training"] if p.parent not in (own, root / "reports" / "study" / "pool")]
    return {key: paths for key, paths in found.items() if paths}


def fill(name: str, there: Mapping[str, list[Path]], root: Path) -> pd.DataFrame:
    """One list, filled: item, topic, status, answered by, to be written.

    Status: ``answered`` (nothing left to write), ``partly`` (linked, and a person adds to it), ``to be written``, or
    ``missing`` where the artefact that would answer it has not been made.
    """
    rows = []
    for _, row in load(name).iterrows():
        keys = [key for key in row["where"].split(";") if key]
        known = [key for key in keys if key in there or key in SECTIONS]
        where = [_place(key, there, root) for key in known]
        rows.append((row["item"], row["topic"], _status(keys, known, row["person"]), "; ".join(where), row["person"]))
    return pd.DataFrame(rows, columns=["item", "topic", "status", "answered by", "to be written"])


def _status(keys: list[str], known: list[str], person: str) -> str:
    if keys and not known:
        return "missing"
    if not keys:
        return "to be written"
    return "partly" if person else "answered"


def _place(key: str, there: Mapping[str, list[Path]], root: Path) -> str:
    if key in SECTIONS:
        return {"report": "study report"}.get(key, f"section {key}")
    first = there[key][0].relative_to(root).as_posix()
    more = f" and {len(there[key]) - 1} more" if len(there[key]) > 1 else ""
    return f"{ARTEFACTS[key][0]} ({first}{more})"


def render(name: str, there: Mapping[str, list[Path]], root: Path, folder: Path) -> str:
    """The filled list as an HTML table with links relative to ``folder``."""
    filled = fill(name, there, root)
    lines = []
    for (_, row), keys in zip(filled.iterrows(), load(name)["where"]):
        links = "; ".join(filter(None, (_links(key, there, folder) for key in keys.split(";"))))
        cells = [html.escape(str(row[c])) for c in ("item", "topic", "status")]
        cells += [links or "–", html.escape(row["to be written"]) or "–"]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{html.escape(column.capitalize())}</th>" for column in filled.columns)
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _links(key: str, there: Mapping[str, list[Path]], folder: Path) -> str:
    if key in SECTIONS:
        words = {"report": "study report"}.get(key, f"{key} (below)")
        return f'<a href="{SECTIONS[key]}">{words}</a>'
    if key not in there:
        return ""
    paths = there[key]
    anchors = [f'<a href="{html.escape(_relative(p, folder))}">{html.escape(_whose(p))}</a>' for p in paths]
    return f"{html.escape(ARTEFACTS[key][0])}: {', '.join(anchors)}"


def _relative(path: Path, folder: Path) -> str:
    base = next(parent for parent in (folder, *folder.parents) if path.is_relative_to(parent))
    return "../" * len(folder.relative_to(base).parts) + path.relative_to(base).as_posix()


def _whose(path: Path) -> str:
    """The cohort, or the stage, that a file belongs to."""
    parts = path.parts
    if "reports" in parts:
        place = parts[parts.index("reports") + 1 :]
        return place[1] if place[0] == "study" else place[0]
    return path.parent.name if path.name == "card.json" else path.name
