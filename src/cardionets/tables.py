"""Tables of the study: Table 1 per centre, and metrics with intervals, as CSV, HTML and LaTeX."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from cardionets import diseases, page, phenotypes
from cardionets.config import StudyError
from cardionets.figures.base import Provenance
from cardionets.files import atomic_path

CONTINUOUS: Final[dict[str, str]] = {
    "age": "Age (years)",
    "height_cm": "Height (cm)",
    "weight_kg": "Weight (kg)",
    "rate_bpm": "Heart rate (bpm)",
    "qrs_ms": "QRS duration (ms)",
    "interval_days": "CMR after ECG (days)",
}
LONG: Final = 60  # rows; beyond, a printed table runs over pages
Groups = Mapping[str, pd.DataFrame]


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f}"


def _mean_sd(values: pd.Series) -> str:
    known = pd.to_numeric(values, errors="coerce").dropna()
    if known.empty:
        return "–"
    return f"{_number(known.mean())} ({_number(known.std())})" if len(known) > 1 else _number(known.mean())


def _share(hits: pd.Series) -> str:
    known = hits.dropna()
    return f"{int(known.sum()):,} ({100 * known.astype(float).mean():.1f} %)" if len(known) else "–"


def smd_continuous(a: pd.Series, b: pd.Series) -> float:
    """Standardised mean difference with the pooled standard deviation. Austin, Commun Stat 2009;38:1228."""
    a, b = (pd.to_numeric(s, errors="coerce").dropna() for s in (a, b))
    spread = np.sqrt((a.var() + b.var()) / 2) if len(a) > 1 and len(b) > 1 else np.nan
    return float((b.mean() - a.mean()) / spread) if spread > 0 else float("nan")


def smd_share(a: pd.Series, b: pd.Series) -> float:
    """Standardised difference of two shares."""
    p, q = (s.dropna().astype(float).mean() for s in (a, b))
    spread = np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    return float((q - p) / spread) if spread > 0 else float("nan")


def _rows(group_columns: set[str]) -> list[tuple[str, str, str]]:
    """(characteristic, column, kind) of Table 1, for the columns that any group has."""
    rows = [("Female", "sex", "female")]
    rows += [(label, column, "mean") for column, label in CONTINUOUS.items()]
    rows += [(d.label, d.name, "share") for d in diseases.DISEASES]
    rows += [(phenotypes.BY_NAME[name].title, name, "mean") for name in phenotypes.HEADLINE]
    return [row for row in rows if row[1] in group_columns]


def _values(group: pd.DataFrame, column: str, kind: str) -> pd.Series:
    if column not in group:
        return pd.Series([pd.NA] * len(group), dtype="Float64")
    if kind == "female":
        return group[column].map({"F": 1.0, "M": 0.0})
    return group[column].astype("boolean").astype("Float64") if kind == "share" else group[column]


def table_one(groups: Groups, reference: str | None = None) -> pd.DataFrame:
    """Table 1 (TRIPOD+AI item 20b): mean (SD) or n (%) per group, missing, and SMD against ``reference``.

    groups: label -> one row per person with the records' columns. Unknown disease status is missing, not absent.
    """
    if reference is not None and reference not in groups:
        raise StudyError(f"Table 1: reference group {reference!r} is not among {', '.join(groups)}.")
    columns = {c for group in groups.values() for c in group.columns}
    people: dict[str, Any] = {"characteristic": "People", **{label: f"{len(g):,}" for label, g in groups.items()}}
    table = [people]
    for label, column, kind in _rows(columns):
        values = {name: _values(group, column, kind) for name, group in groups.items()}
        suffix = ", n (%)" if kind != "mean" else ", mean (SD)"
        row: dict[str, Any] = {"characteristic": label + suffix}
        row |= {name: _mean_sd(v) if kind == "mean" else _share(v) for name, v in values.items()}
        row["missing"] = " / ".join(f"{int(v.isna().sum()):,}" for v in values.values())
        if reference is not None:
            compare = smd_continuous if kind == "mean" else smd_share
            others = {name: compare(values[reference], v) for name, v in values.items() if name != reference}
            row |= {f"SMD {name}": round(value, 2) for name, value in others.items()}
        table.append(row)
    return pd.DataFrame(table).fillna({"missing": ""})


def endpoint_label(name: str) -> str:
    """The label of a phenotype, disease or summary endpoint for people."""
    if name in phenotypes.BY_NAME:
        return phenotypes.BY_NAME[name].title
    if name in diseases.BY_NAME:
        return diseases.BY_NAME[name].label
    if name in diseases.SUBTYPES:
        return diseases.SUBTYPE_LABELS[name]
    return name.replace("_", " ").capitalize()


def interval_text(row: pd.Series, digits: int = 3) -> str:
    """``0.812 (0.790 to 0.833)``; without an interval the number alone; without a number a dash."""
    if pd.isna(row["estimate"]):
        return "–"
    value = f"{row['estimate']:.{digits}f}"
    if pd.isna(row["lower"]) or pd.isna(row["upper"]):
        return value.replace("-", "−")
    return f"{value} ({row['lower']:.{digits}f} to {row['upper']:.{digits}f})".replace("-", "−")


def metrics_wide(
    metrics: pd.DataFrame, metric: str, fraction: float = 1.0, endpoints: Sequence[str] | None = None, digits: int = 3
) -> pd.DataFrame:
    """One metric, endpoints in rows and arms in columns, as ``estimate (lower–upper)`` with n and events."""
    keep = (metrics["metric"] == metric) & (metrics["fraction"] == fraction)
    table = metrics[keep & metrics["endpoint"].isin(endpoints or metrics["endpoint"].unique())]
    if table.empty:
        raise StudyError(f"metrics: no row has metric = {metric}, fraction = {fraction:g}; evaluate this cohort again.")
    shown = table.assign(text=[interval_text(row, digits) for _, row in table.iterrows()])
    keys = [c for c in ("cohort", "endpoint") if c in shown]
    wide = shown.pivot_table(index=keys, columns="arm", values="text", aggfunc="first", sort=False).reset_index()
    counts = shown.groupby(keys, sort=False)[["n", "events"]].max().astype("Int64").reset_index()
    merged = wide.merge(counts, on=keys)
    merged["endpoint"] = merged["endpoint"].map(endpoint_label)
    return merged.loc[:, [c for c in merged if c != "events" or merged["events"].notna().any()]]


def footnoted(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Remarks said once, below the table: beside the interval ``note`` keeps their numbers, if anybody has one."""
    if "note" not in frame:
        return frame, []
    texts = [text for text in dict.fromkeys(frame["note"].dropna().astype(str)) if text]
    numbers = {text: str(i) for i, text in enumerate(texts, 1)}
    shown = frame.drop(columns="note")
    if texts:
        place = max((i for i, c in enumerate(shown, 1) if c in ("estimate", "lower", "upper")), default=shown.shape[1])
        shown.insert(place, "note", frame["note"].map(numbers).fillna(""))
    return shown, [f"{i}: {text.rstrip('.')}." for text, i in numbers.items()]


def to_html(frame: pd.DataFrame, title: str = "", provenance: Provenance | None = None) -> str:
    """The table as an HTML fragment with its own style, four digits of each number; the same bytes for the same table.

    Title above; remarks, the provenance, and SIMULATED where it is, below.
    """
    frame, notes = footnoted(frame.apply(_brief))
    shown = frame.rename_axis(columns=None).rename(columns=lambda c: str(c).replace("_", " "))
    filled = shown.astype(object).where(shown.notna(), "–")
    rows = filled.to_html(index=False, border=0, float_format=lambda v: f"{v:.4g}", classes="study")
    below = [_line(text) for text in (*notes, *([provenance.line()] if provenance else []))]
    below += [_line("SIMULATED data", "simulated")] if provenance and provenance.simulated else []
    return f'<div class="study-table"><style>{_style()}</style>{_line(title, "title")}{rows}{"".join(below)}</div>'


def _line(text: str, kind: str = "note") -> str:
    return f'<p class="{kind}">{html.escape(text)}</p>'


@cache
def _style() -> str:
    return (files("cardionets") / "assets" / "table.css").read_text(encoding="utf-8")


def _brief(column: pd.Series) -> pd.Series:
    """Four significant digits of floating-point numbers, whole ones without a point; everything else as it is."""
    if column.dtype.kind != "f":
        return column
    known = column.dropna()
    if len(known) and np.isfinite(known).all() and (known % 1 == 0).all():
        return column.astype("Int64")
    return column.map(lambda v: float(f"{v:.4g}"))


def on_page(frame: pd.DataFrame, title: str, provenance: Provenance) -> page.Table:
    """The table for the report, as HTML and in print."""
    origin = provenance.line() + (" · SIMULATED data" if provenance.simulated else "")
    printed, notes = footnoted(frame)
    return page.Table(printed, title, " ".join([*notes, origin]), to_html(frame, title, provenance))


def save_table(frame: pd.DataFrame, stem: Path, title: str, provenance: Provenance) -> list[Path]:
    """Write ``stem``.csv (numbers), .html and .tex (for people)."""
    rendered = {
        ".csv": frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        ".html": to_html(frame, title, provenance),
        ".tex": _latex(frame, title, provenance),
    }
    written = []
    for suffix, text in rendered.items():
        target = stem.with_name(stem.name + suffix)
        with atomic_path(target) as aside:
            aside.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _latex(frame: pd.DataFrame, title: str, provenance: Provenance) -> str:
    frame, notes = footnoted(frame)
    note = " ".join([*notes, provenance.line() + (" SIMULATED data." if provenance.simulated else "")])
    body = frame.rename(columns=lambda c: str(c).replace("_", " ")).astype(object).where(frame.notna().to_numpy(), "--")
    escaped = body.map(lambda v: f"{v:.4g}" if isinstance(v, float) else _tex(str(v)))
    escaped.columns = [_tex(str(c)) for c in escaped.columns]
    cells = [[str(c) for c in escaped.columns], *escaped.to_numpy().tolist()]
    lines = [" & ".join(row) + r" \\" for row in cells]
    head, *rows = lines
    kind = "longtable" if len(rows) > LONG else "tabular"
    caption = rf"\caption{{{_tex(title)}. {_tex(note)}}}"
    layout = rf"\begin{{{kind}}}{{{'l' * frame.shape[1]}}}"
    inner = [r"\hline", head, r"\hline", *rows, r"\hline", rf"\end{{{kind}}}", ""]
    if kind == "longtable":
        return "\n".join([layout, rf"{caption} \\", *inner])
    return "\n".join([r"\begin{table}", caption, layout, *inner[:-1], r"\end{table}", ""])


SIGNS: Final = {
    "–": "--", "−": "$-$", "²": "$^2$", "⁻³": "$^{-3}$", "⁻¹": "$^{-1}$", "·": r"$\cdot$", "±": r"$\pm$",
    "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "<": "$<$", ">": "$>$", "τ": r"$\tau$",
}  # fmt: skip
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {c: "\\" + c for c in "&%$#_{}"}


def _tex(text: str) -> str:
    """Text for LaTeX: its special characters escaped, signs of ours as its commands."""
    escaped = "".join(SPECIAL.get(c, c) for c in text)
    for mark, plain in SIGNS.items():
        escaped = escaped.replace(mark, plain)
    return escaped
