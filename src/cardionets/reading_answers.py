"""Reader study, the answers: read the readers' CSVs back and check them against the key; or simulate them.

Simulated readers write the same CSVs as a page exports, marked as such, so that the analysis is proved on the same way
that real answers take. Whatever comes from them is labelled `SIMULATED`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from cardionets import reading
from cardionets.config import StudyError
from cardionets.evaluate import readers
from cardionets.files import atomic_path

SIMULATED: Final = "SIMULATED READERS"
SKILL: Final[dict[str, float]] = {reading.ECG: 0.55, reading.DRAWN: 0.70, reading.REAL: 0.75}
"""Accuracy planted in simulated readers, per arm: what six readers reached in the study's first version."""
MAX_SECONDS: Final = 7200.0
CUTS: Final = np.array([0.1, 0.4, 0.7, 1.0])  # of the separation: where `readers.simulate` changes its rating
READER_SD: Final = 0.15  # of a simulated reader's own separation


def read_key(path: Path) -> pd.DataFrame:
    """The key of a kit. Raises StudyError when it is missing or lacks columns."""
    if not path.is_file():
        raise StudyError(f"{path.name}: missing beside the answers; copy it from the kit that the readers had.")
    key = pd.read_csv(path, dtype={"kit": str, "record": str, "number": str})
    missing = [c for c in reading.KEY if c not in key]
    if missing:
        raise StudyError(f"{path.name}: missing columns {', '.join(missing)}; copy it from the kit again.")
    return key.astype({"truth": bool})[list(reading.KEY)]


def read_answers(folder: Path, key: pd.DataFrame | None = None) -> pd.DataFrame:
    """The answers in ``folder`` (every CSV but key.csv), joined to the key and complete.

    Returns the columns of `readers.ANSWERS` and session, position, record, answered, source, comment. Raises one
    StudyError with every fault of every file.
    """
    key = read_key(folder / "key.csv") if key is None else key.astype({"number": str})
    paths = sorted(p for p in folder.glob("*.csv") if p.name != "key.csv")
    if not paths:
        raise StudyError(f"{folder.name}: no answers; put the CSV files that the readers exported into this folder.")
    tables, faults = {}, []
    for path in paths:
        try:
            tables[path.name] = _read_csv(path)
        except (ValueError, UnicodeDecodeError) as error:
            faults.append(f"{path.name}: not a readable CSV ({error}); export the answers again.")
    for name, table in tables.items():
        faults += _file_faults(name, table, key)
    faults += _set_faults(tables, key)
    if faults:
        raise StudyError("\n".join(faults))
    given = pd.concat(tables.values(), ignore_index=True).drop(columns=["kit", "reader", "session"])
    joined = key.astype({"reader": str}).merge(given, on="number", how="left", validate="one_to_one")
    positive = joined["positive"].str.strip().str.lower().eq("yes")
    numbers = {c: pd.to_numeric(joined[c]) for c in ("rating", "seconds")}
    return readers.check_answers(joined.assign(positive=positive, **numbers))


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV as text; a spreadsheet may have saved it with semicolons or a byte-order mark."""
    text = path.read_text(encoding="utf-8-sig")
    head = text.split("\n", 1)[0]
    separator = ";" if ";" in head and "," not in head else ","
    return pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)


def _pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["reader"].astype(str), table["session"].astype(str)))


def _file_faults(name: str, table: pd.DataFrame, key: pd.DataFrame) -> list[str]:
    missing = [c for c in reading.COLUMNS if c not in table]
    if missing:
        return [f"{name}: missing columns {', '.join(missing)}; export the answers again and return the file as it is."]
    faults = []
    if set(table["kit"]) - set(key["kit"]):
        faults.append(
            f"{name}: kit: {_some(table['kit'])} is not the key's; use the key.csv that these pages came with."
        )
    pairs = _pairs(table)
    own = key[[pair in pairs for pair in zip(key["reader"], key["session"].astype(str))]]
    if len(pairs) != 1 or own.empty:
        shown = _some([f"{reader} session {session}" for reader, session in sorted(pairs)])
        faults.append(
            f"{name}: reader, session: {shown or 'nothing'} is not one session of the key; return one file each."
        )
    numbers = table["number"]
    unknown, doubles = sorted(set(numbers) - set(own["number"])), sorted(set(numbers[numbers.duplicated()]))
    if unknown:
        faults.append(f"{name}: number: unknown case {_some(unknown)}; take the page of this kit, reader and session.")
    if doubles:
        faults.append(f"{name}: number: case {_some(doubles)} is answered twice; keep one row of each.")
    return faults + list(_value_faults(name, table, own))


def _value_faults(name: str, table: pd.DataFrame, own: pd.DataFrame) -> Iterator[str]:
    empty = table.loc[table["rating"].eq("") | table["positive"].eq(""), "number"]
    absent = sorted({*empty, *(set(own["number"]) - set(table["number"]))})
    if absent:
        yield f"{name}: rating, positive: no answer to case {_some(absent)}; ask the reader to finish and export again."
    limits = {"rating": (1, len(reading.RATINGS)), "seconds": (0, MAX_SECONDS)}
    for column, (low, high) in limits.items():
        known = table[table[column].ne("")] if column == "rating" else table[~table["number"].isin(empty)]
        value = pd.to_numeric(known[column], errors="coerce")
        wrong = ~value.between(low, high) | (value.ne(value.round()) if column == "rating" else False)
        if wrong.any():
            text = f"{name}: {column}: out of range in case {_some(known.loc[wrong, 'number'])}"
            yield f"{text}; it must lie between {low} and {high:g}."
    words = table["positive"].str.strip().str.lower()
    if not words.isin(["yes", "no", ""]).all():
        wrong_cases = _some(table.loc[~words.isin(["yes", "no", ""]), "number"])
        yield f"{name}: positive: neither yes nor no in case {wrong_cases}; export the answers again."


def _set_faults(tables: Mapping[str, pd.DataFrame], key: pd.DataFrame) -> list[str]:
    """Faults between files: a session twice, a session absent, simulated and real readers together."""
    seen: dict[tuple[str, str], list[str]] = {}
    sound = {n: t for n, t in tables.items() if {"reader", "session", "source"} <= set(t)}
    for name, table in sound.items():
        for pair in _pairs(table):
            seen.setdefault(pair, []).append(name)
    faults = [
        f"{', '.join(names)}: {reader} session {session} was returned twice; keep one file."
        for (reader, session), names in sorted(seen.items())
        if len(names) > 1
    ]
    for reader, session in sorted(_pairs(key) - set(seen)):
        text = f"answers: {reader} session {session}: no file"
        faults.append(f"{text}; wait for it, or take all rows of {reader} out of key.csv and say so in the report.")
    sources = {source == SIMULATED for table in sound.values() for source in table["source"]}
    if len(sources) > 1:
        faults.append("answers: source: simulated and real readers are mixed; analyse them apart.")
    return faults


def _some(values: object, most: int = 5) -> str:
    names = list(dict.fromkeys(str(v) for v in values))  # type: ignore[attr-defined]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def deviations(answers: pd.DataFrame, washout_days: int) -> list[str]:
    """Sentences on sessions read out of order or closer together than the washout (by the time of the answers)."""
    when = pd.to_datetime(answers["answered"], errors="coerce", utc=True)
    ends = answers.assign(when=when).groupby(["reader", "session"])["when"].agg(["min", "max"]).sort_index()
    found = []
    for reader, part in ends.groupby(level="reader"):
        gaps = (part["min"].to_numpy()[1:] - part["max"].to_numpy()[:-1]) / np.timedelta64(1, "D")
        for session, gap in enumerate(gaps, start=2):
            if not gap >= washout_days:
                days = f"{gap:.1f} days after" if np.isfinite(gap) else "at an unknown time after"
                found.append(f"{reader}: session {session} was read {days} the one before ({washout_days} asked).")
    return found


def _spread() -> float:
    return float(np.sqrt(1 + READER_SD**2))  # of a simulated reader's ratings of cases with the finding


def accuracy_of(separation: float, share: float = 0.5) -> float:
    """Expected accuracy of simulated readers (positive from rating 3) with this d' on ``share`` positive cases."""
    cut = separation * CUTS[1]
    return float(share * norm.sf((cut - separation) / _spread()) + (1 - share) * norm.cdf(cut))


def separation_of(accuracy: float, share: float = 0.5) -> float:
    """The d' with that expected accuracy. Raises StudyError outside what readers can have (0.51 to 0.99)."""
    if not 0.51 <= accuracy <= 0.99 or accuracy <= accuracy_of(0.01, share):
        raise StudyError(f"simulated readers: accuracy {accuracy} cannot be planted; give one from 0.51 to 0.99.")
    return float(brentq(lambda d: accuracy_of(d, share) - accuracy, 0.01, 12.0))


def auc_of(separation: float) -> float:
    """Expected AUC of simulated readers' five-step ratings, ties counted one half."""
    edges = np.array([-np.inf, *(separation * CUTS), np.inf])
    negative, positive = np.diff(norm.cdf(edges)), np.diff(norm.cdf((edges - separation) / _spread()))
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum())


def simulate_answers(folder: Path, key: pd.DataFrame, skill: Mapping[str, float], seed: int, washout: int = 28) -> Path:
    """Write key.csv and one CSV per reader and session, as pages export them, of simulated readers.

    ``skill``: accuracy per arm, of which the key's arms are used.
    """
    truth = key.drop_duplicates("case").sort_values("case")["truth"].to_numpy(bool)
    arms = [arm for arm in reading.ARMS if arm in set(key["modality"])]
    planted = {arm: separation_of(skill[arm], float(truth.mean())) for arm in arms}
    made = readers.simulate(truth, planted, key["reader"].nunique(), np.random.default_rng([seed, 2]))
    made = made[["reader", "modality", "case", "rating", "positive", "seconds"]]
    table = key.merge(made, on=["reader", "modality", "case"], validate="one_to_one")
    days = pd.to_timedelta((table["session"] - 1) * (washout + 1), unit="D") + pd.to_timedelta(table["position"], "min")
    answered = (pd.Timestamp("2000-01-01") + days).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    words = {"positive": table["positive"].map({True: "yes", False: "no"}), "seconds": table["seconds"].round(1)}
    table = table.assign(**words, answered=answered, source=SIMULATED, comment="")
    with atomic_path(folder) as aside:
        aside.mkdir(parents=True)
        key.to_csv(aside / "key.csv", index=False, lineterminator="\n")
        for _, part in table.groupby(["reader", "session"], sort=False):
            path = aside / f"SIMULATED_{reading.stem(part.iloc[0])}.csv"
            part[list(reading.COLUMNS)].to_csv(path, index=False, lineterminator="\n")
    return folder
