"""Disclosure control: what may leave a site. Small cells are hidden so that nobody can work them out, numbers rounded.

A count from 1 to minimum - 1 is hidden (0 is shown). A hidden count is safe only when the counts that are shown do not
give it back: totals and their parts are linear equations, and :func:`determined` finds every hidden count that they
solve. More counts are then hidden until none is solved and hidden groups hold at least ``minimum`` people together.
Rules of the field: Hundepool et al., Statistical Disclosure Control, Wiley 2012, chapters 4 and 6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import diseases, phenotypes
from cardionets.evaluate import disease_metrics, phenotype_metrics
from cardionets.evaluate.rows import MEAN_OF

DIGITS: Final = 4  # significant digits of every estimate that leaves
ESTIMATES: Final = ("estimate", "lower", "upper")
OPERATING: Final = ("sensitivity", "specificity", "ppv", "npv", "lr_positive", "lr_negative", "ppv_balanced")
OPERATING_ALL: Final = (*OPERATING, "npv_balanced", "accuracy_balanced")
SHARES: Final = ("sensitivity_at_specificity", "specificity_at_sensitivity")
PERSONS: Final = ("coverage", "beyond", "novelty_error")
"""Metrics whose ``n`` counts people; that of the others counts records."""
HIDDEN: Final = "kept at the site: it would show a group that is too small"
PARTIAL: Final = f"{MEAN_OF}some of the phenotypes"
REMARKS: Final = ("", "chosen on validation", HIDDEN, PARTIAL)
"""What is said beside a number, in the only words that leave."""
REASONS: Final = (
    "there are no events",
    "everybody has the event",
    "the predictions are constant",
    "the predictions do not vary or separate the classes",
    "no threshold could be chosen on a validation split",
    "the ratio has a zero count",
    "nobody has both a label and a prediction",
    "too few people or events",
)
"""Why a number does not exist, in the only words that leave."""

Counts = NDArray[np.int64]
Relation = tuple[int, tuple[int, ...]]
"""A total and its parts, as positions in a vector of counts."""


def small(counts: Counts, minimum: int) -> NDArray[np.bool_]:
    """Which counts (n,) are from 1 to minimum - 1."""
    return np.asarray((counts > 0) & (counts < minimum))


def determined(hidden: NDArray[np.bool_], relations: Sequence[Relation]) -> NDArray[np.bool_]:
    """Hidden counts (n,) that linear algebra on the shown counts gives back exactly.

    With the equations A x = b restricted to the hidden x, a count is free when the null space of A moves it.
    """
    columns = np.flatnonzero(hidden)
    found = np.zeros(len(hidden), bool)
    if not len(columns):
        return found
    matrix = np.zeros((max(len(relations), 1), len(hidden)))
    for row, (total, parts) in enumerate(relations):
        matrix[row, total] += 1
        matrix[row, list(parts)] -= 1
    _, singular, right = np.linalg.svd(matrix[:, columns])  # right (k, k)
    null = right[(singular > 1e-9).sum() :]
    found[columns] = (np.abs(null) < 1e-9).all(axis=0)
    return found


def suppress(
    counts: Counts,
    relations: Sequence[Relation],
    minimum: int,
    hidden: NDArray[np.bool_] | None = None,
    cost: Sequence[float] | None = None,
) -> NDArray[np.bool_]:
    """Which counts (n,) must be hidden: the small ones, those ``hidden`` already, and as many as protect these.

    ``cost``: whoever is cheapest is hidden next, the smallest count by default; a 0 is hidden only when nothing else is
    left in the equation.
    """
    counts = np.asarray(counts, np.int64)
    gone = small(counts, minimum) | (np.zeros(len(counts), bool) if hidden is None else hidden)
    price = np.where(counts > 0, counts if cost is None else np.asarray(cost, float), np.inf)
    while True:
        weak = _weak(counts, gone, relations, minimum)
        open_cells = sorted({i for relation in weak for i in _cells(relation) if not gone[i]}, key=lambda i: price[i])
        if not open_cells:
            return gone
        gone[open_cells[0]] = True


def _cells(relation: Relation) -> tuple[int, ...]:
    return (relation[0], *relation[1])


def _weak(counts: Counts, gone: NDArray[np.bool_], relations: Sequence[Relation], minimum: int) -> list[Relation]:
    """Equations that give a hidden count back, or whose hidden parts together are a small group."""
    solved = determined(gone, relations)
    weak = [relation for relation in relations if solved[list(_cells(relation))].any()]
    for relation in relations:
        total, parts = relation
        inside = [i for i in parts if gone[i]]
        if inside and not gone[total] and 0 < counts[inside].sum() < minimum:
            weak.append(relation)
    return weak


def rounded(values: pd.Series, digits: int = DIGITS) -> pd.Series:
    """Numbers to ``digits`` significant digits."""
    return values.map(lambda v: float(f"{float(v):.{digits}g}") if pd.notna(v) else np.nan).astype(float)


def is_rounded(values: pd.Series, digits: int = DIGITS) -> bool:
    """Whether no number has more than ``digits`` significant digits."""
    known = values.dropna().astype(float)
    return bool(np.isclose(known, rounded(known, digits), rtol=1e-12, atol=0).all())


def note_of(note: object) -> str:
    """A note in the words of :data:`REMARKS` and :data:`REASONS`: counts and free text that it holds stay at the site.

    A remark on a mean over part of the phenotypes is no reason why a number is missing.
    """
    text = "" if pd.isna(note) else str(note)  # type: ignore[call-overload]
    if text in REMARKS:
        return text
    if text.startswith(MEAN_OF):
        return PARTIAL
    head = "interval not estimable" if text.startswith("interval") else "not estimable"
    reason = next((r for r in REASONS if r in text), REASONS[-1])
    return f"{head}: because {reason}"


NOTES: Final = frozenset(REMARKS) | {
    f"{head}: because {r}" for head in ("not estimable", "interval not estimable") for r in REASONS
}


def people_of(records: pd.DataFrame, endpoints: Sequence[str]) -> pd.DataFrame:
    """Per endpoint: records and people of the test split whose truth is known, and the same of cases and controls.

    Returns columns records, people, cases, case_people, controls, control_people, indexed by endpoint; of a phenotype
    nobody is a case or a control. The truth of an endpoint that sums up others is known where that of any of them is.
    """
    tested = records[records["split"] == "test"]
    rows = {}
    for name in dict.fromkeys(endpoints):
        known, case = _truth(tested, name)
        control = known & ~case if name in _CLASSES else case
        masks = (known, case, control)
        rows[name] = [v for mask in masks for v in (int(mask.sum()), tested.loc[mask, "person"].nunique())]
    columns = ["records", "people", "cases", "case_people", "controls", "control_people"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


_CLASSES: Final = frozenset((*diseases.NAMES, *diseases.SUBTYPES))
_MEANS: Final = (phenotype_metrics.ALL, phenotype_metrics.HEADLINE)


def _truth(tested: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """Whether the endpoint is known (n,), and whether it is a case (n,)."""
    nobody = pd.Series(False, index=tested.index)
    if name in _MEANS:
        return tested[[p for p in phenotypes.NAMES if p in tested]].notna().any(axis=1), nobody
    if name in (*diseases.SUBTYPES, disease_metrics.SUBTYPES) and "subtype" in tested:
        return tested["subtype"].isin(list(diseases.SUBTYPES)), (tested["subtype"] == name).fillna(False).astype(bool)
    if name not in tested:
        return nobody, nobody
    known = tested[name].notna()
    if name not in _CLASSES:
        return known, nobody
    return known, tested[name].astype("boolean").fillna(False).astype(bool)


def suppress_metrics(
    metrics: pd.DataFrame, people: pd.DataFrame, minimum: int, close: Collection[tuple[str, float]] = ()
) -> pd.DataFrame:
    """The metrics table as it may leave: rows about small groups blank, notes in closed words, numbers rounded.

    ``people``: :func:`people_of`; an endpoint it lacks is judged by ``n`` alone. A row is blank when fewer than
    ``minimum`` people are behind it, when its endpoint has 1 to minimum - 1 cases or controls, or, for numbers of a
    two-by-two table, when a cell of that table is small. Of the subtypes, which add up, a second one is hidden too.
    ``close``: (endpoint, fraction) whose rows are blank because others differ from them by a few people.
    """
    table = metrics.reset_index(drop=True)
    blank = _small_groups(table, people, minimum) | _small_tables(table, minimum) | _small_shares(table, minimum)
    blank |= np.array([pair in close for pair in zip(table["endpoint"], table["fraction"])], bool)
    table = table.assign(note=[note_of(note) for note in table["note"]])
    for column in ESTIMATES:
        table[column] = rounded(table[column])
    table["events"] = table["events"].astype("Int64")
    table["n"] = table["n"].astype("Int64")
    table.loc[blank, [*ESTIMATES]] = np.nan
    table.loc[blank, ["n", "events"]] = pd.NA
    table.loc[blank, "note"] = HIDDEN
    return table


def _small_groups(table: pd.DataFrame, people: pd.DataFrame, minimum: int) -> NDArray[np.bool_]:
    """Rows whose people, cases or controls are too few: lost records may each be somebody's only one."""
    known = people.reindex(table["endpoint"])
    n = table["n"].to_numpy(float)
    events = table["events"].astype("Float64").to_numpy(float, na_value=np.nan)
    least = np.where(table["metric"].isin(PERSONS), n, _at_least(n, known["records"], known["people"]))
    blank = (n > 0) & (least < minimum)
    for count, records, persons in ((events, "cases", "case_people"), (n - events, "controls", "control_people")):
        least = _at_least(count, known[records], known[persons])
        blank |= (count > 0) & (least < minimum)
    endpoints = _with_partners(set(table["endpoint"][blank & np.isfinite(events)]), people)
    return np.asarray(blank | table["endpoint"].isin(endpoints).to_numpy())


def _at_least(count: NDArray[Any], records: pd.Series, people: pd.Series) -> NDArray[Any]:
    """Fewest people that ``count`` of the known records can belong to; the count itself where nothing is known."""
    lost = records.to_numpy(float) - count
    return np.asarray(np.where(np.isfinite(lost), people.to_numpy(float) - lost, count))


def _with_partners(endpoints: set[str], people: pd.DataFrame) -> set[str]:
    """Subtypes add up to the people with a subtype: with one hidden, the next smallest goes as well."""
    parts = [name for name in diseases.SUBTYPES if name in people.index]
    if len(endpoints & set(parts)) == 1 and len(parts) > 1:
        rest = [name for name in parts if name not in endpoints]
        endpoints = endpoints | {str(people.loc[rest, "cases"].astype(int).idxmin())}
    return endpoints


def _small_shares(table: pd.DataFrame, minimum: int) -> NDArray[np.bool_]:
    """Rows whose share of the cases (or controls) is, or leaves, a count of 1 to minimum - 1."""
    events = table["events"].astype("Float64").to_numpy(float, na_value=np.nan)
    n, share = table["n"].to_numpy(float), table["estimate"].to_numpy(float)
    whole = np.where(table["metric"].eq("sensitivity_at_specificity"), events, n - events)
    part = np.rint(np.nan_to_num(share * whole))
    rest = np.rint(np.nan_to_num(whole)) - part
    few = ((part > 0) & (part < minimum)) | ((rest > 0) & (rest < minimum))
    return np.asarray(few & table["metric"].isin(SHARES).to_numpy())


def _small_tables(table: pd.DataFrame, minimum: int) -> NDArray[np.bool_]:
    """Rows of an operating point (arm x endpoint) whose two-by-two table has a cell of 1 to minimum - 1."""
    keys = ["endpoint", "arm", "fraction"]
    wide = table[table["metric"].isin(["sensitivity", "specificity"])]
    wide = wide.pivot_table(index=[*keys, "n", "events"], columns="metric", values="estimate").reset_index()
    if not {"sensitivity", "specificity"} <= set(wide):
        return np.zeros(len(table), bool)
    cases, controls = wide["events"].astype(float), (wide["n"] - wide["events"]).astype(float)
    hit, clear = wide["sensitivity"] * cases, wide["specificity"] * controls
    cells = np.rint(np.column_stack([hit, cases - hit, clear, controls - clear]).astype(float))
    weak = wide[((cells > 0) & (cells < minimum)).any(axis=1)]
    marked = pd.MultiIndex.from_frame(table[keys]).isin(pd.MultiIndex.from_frame(weak[keys]))
    return np.asarray(marked & table["metric"].isin(OPERATING_ALL).to_numpy())
