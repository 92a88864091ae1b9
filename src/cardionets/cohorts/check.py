"""What is understood of a cohort before anything runs: one line per item, OK, warning or error, with the remedy.

Reads a sample of the recordings and cines and writes nothing. It may name files of the site: it is for the site's own
eyes.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from cardionets import beats, cohorts, gates, phenotypes, splits
from cardionets.cmr import Cine
from cardionets.cohorts import Index, labels
from cardionets.cohorts.arrays import split_row
from cardionets.cohorts.cines import read_cine, read_mask
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Cohort, Study, StudyError
from cardionets.ecg import RecordError, decimate
from cardionets.progress import track

LEVELS: Final = ("OK", "warning", "error")
COLUMNS: Final = ("level", "item", "finding", "remedy")
PLAUSIBLE: Final = {"lv_edv": (60.0, 350.0), "lv_mass": (35.0, 300.0), "lv_ef": (15.0, 85.0), "rv_edv": (60.0, 350.0)}
"""Where the median of a centre must lie; outside it the unit is wrong (litres, fractions, indexed values)."""
FILES: Final = {
    "ecg": "ECG files",
    "sax": "short axis",
    "lax": "four-chamber",
    "sax_mask": "short-axis masks",
    "lax_mask": "four-chamber masks",
}
"""Columns that name files."""
SHOWN: Final = 3
USUAL_QRS_MS: Final = (75.0, 140.0)
"""Where the median QRS duration of a centre lies; a rate that is half or double moves it out."""
ENOUGH: Final = 10
"""Recordings from which the median of a centre says something."""


@dataclass
class Findings:
    """Collects lines in the order in which they are found."""

    lines: list[dict[str, str]] = field(default_factory=list)

    def add(self, level: str, item: str, finding: str, remedy: str = "") -> None:
        """Add one line; ``level`` is one of :data:`LEVELS`."""
        self.lines.append(dict(zip(COLUMNS, (level, item, finding, remedy), strict=True)))

    def judge(self, bad: bool, item: str, finding: str, remedy: str, level: str = "warning") -> None:
        """Add a line that is OK unless ``bad``; the remedy is for the bad case."""
        self.add(level if bad else "OK", item, finding, remedy if bad else "")

    def table(self) -> pd.DataFrame:
        """All lines, columns :data:`COLUMNS`."""
        return pd.DataFrame(self.lines, columns=list(COLUMNS))


def check(study: Study, cohort: str, sample: int = 50) -> pd.DataFrame:
    """Findings on one cohort: columns level ("OK", "warning", "error"), item, finding, remedy.

    ``sample``: how many recordings are opened (and per view a fifth as many cines, and of those with a mask), chosen
    by pseudonym, the same each time.
    """
    found, settings = Findings(), study.cohort(cohort)
    found.add("OK", "settings", f"{settings.label}: layout {settings.layout}, role {settings.role}, {settings.path}")
    try:
        index = cohorts.index(settings)
    except StudyError as error:
        for line in str(error).splitlines():
            finding, _, remedy = line.rpartition("; ")
            found.add("error", "tables", finding or line, remedy)
        return found.table()
    _counts(found, index, settings)
    order = np.argsort(splits.pseudonyms(index.records["record"], "record", cohort, study.protocol.split.salt))
    ordered = index.records.iloc[order]
    usable = ordered[ordered["excluded"] == ""]
    _files(found, usable, settings.path)
    read = _signals(found, usable.head(sample), settings, study)
    _people(found, usable, read)
    _cines(found, usable, settings, max(1, sample // 5))
    _labels(found, Index(usable, index.codes), study)
    _phenotypes(found, usable)
    _splits(found, usable, settings, study, cohort)
    return found.table()


def render(findings: pd.DataFrame) -> str:
    """The findings as text for a terminal, 110 characters wide, with a last line that counts them."""
    lines = []
    for level, item, finding, remedy in findings[list(COLUMNS)].astype(str).to_numpy():
        text = f"{finding}. Remedy: {remedy}" if remedy else finding
        head = f"{level:<8} {item:<23} "
        lines.append(textwrap.fill(text, 110, initial_indent=head, subsequent_indent=" " * len(head)))
    counts = findings["level"].value_counts()
    return "\n".join([*lines, ", ".join(f"{counts.get(level, 0)} {level}" for level in LEVELS)])


def _counts(found: Findings, index: Index, settings: Cohort) -> None:
    records = index.records
    found.add("OK", "records", f"{len(records):,} ECGs of {records['person'].nunique():,} people")
    for note in index.notes:
        found.add(
            "warning",
            "tables",
            note,
            "nothing to do where this is meant; else add the missing rows, map the columns or mend the headers",
        )
    for reason, number in records["excluded"][records["excluded"] != ""].value_counts().items():
        found.add("OK", "excluded", f"{number:,} ECGs: {reason}")
    for _, path in labels.exclusion_lists(settings):
        named = labels.read_people(path)
        hit = named & {*records["person"], *records["record"]}
        text = f"{path.name}: {len(named):,} identifiers listed, {len(hit):,} found"
        remedy = (
            "compare their spelling with that of the tables (0017 is not 17); nothing to do if none has an ECG here"
        )
        found.judge(bool(named) and not hit, "exclusion list", text, remedy)
    if settings.layout == "ukb" and not any(settings.path.glob("withdrawn*.csv")):
        found.add(
            "warning", "excluded", "no withdrawal list", f"put the latest withdrawn*.csv into {settings.path.name}"
        )


def _files(found: Findings, records: pd.DataFrame, folder: Path) -> None:
    for column, item in FILES.items():
        named = records[column][records[column] != ""]
        if named.empty:
            found.add("OK", item, "none named")
            continue
        lost = [name for name in named.unique() if not split_row(folder / name)[0].exists()]
        text = f"{len(named):,} named, {len(lost):,} missing" + _examples(lost)
        level = "error" if len(lost) == named.nunique() else "warning"
        found.judge(bool(lost), item, text, f"copy them below {folder}, or correct the names in the table", level)


def _examples(names: Iterable[str]) -> str:
    shown = list(names)[:SHOWN]
    return f" (such as {', '.join(shown)})" if shown else ""


def _signals(found: Findings, records: pd.DataFrame, settings: Cohort, study: Study) -> pd.DataFrame:
    """Read a sample; one row per readable recording."""
    rows, faults = [], []
    for entry in track(records.itertuples(), "check: reading ECGs", total=len(records)):
        try:
            rows.append(_measure(settings.path / str(entry.ecg), str(entry.Index), settings, study))
        except Exception as fault:
            faults.append(f"{Path(str(entry.ecg)).name}: {fault}" if not isinstance(fault, StudyError) else str(fault))
    text = f"{len(rows)} of {len(rows) + len(faults)} sampled ECGs can be read"
    level = "error" if not rows else "warning"
    found.judge(bool(faults), "reading", text, "; ".join(dict.fromkeys(faults[:SHOWN])), level)
    table = pd.DataFrame(rows)
    if rows:
        _signal_lines(found, table, study)
    return table


def _measure(path: Path, key: str, settings: Cohort, study: Study) -> dict[str, Any]:
    record = read_ecg(path, settings.ecg)
    slow, rate = decimate(record.signal, record.rate)
    centred = slow - np.median(slow, axis=1, keepdims=True)
    peaks = beats.r_peaks(centred, rate)
    reasons = gates.inspect(record, study.protocol.quality, study.grid.seconds)
    return {
        "key": int(key),
        "format": path.suffix.lower(),
        "rate": record.rate,
        "seconds": round(record.seconds, 2),
        "bpm": beats.rr_features(peaks, rate)["rate_bpm"],
        "unit": record.unit,
        **_qrs(centred, peaks, rate),
        "uv": float(np.median(np.nanpercentile(np.abs(centred), 99, axis=1))),
        "flags": record.flags,
        "reasons": reasons,
        "age": record.age,
        "sex": record.sex,
    }


def _qrs(signal: Any, peaks: Any, rate: float) -> dict[str, float]:
    """Height and duration of the median beat; NaN where there is no beat."""
    try:
        beat = beats.median_beat(signal, peaks, rate)
    except RecordError:
        return {"qrs_uv": float("nan"), "qrs_ms": float("nan")}
    return {"qrs_uv": gates.qrs_size_uv(beat), "qrs_ms": beats.qrs_duration_ms(beat, rate)}


def _gain(found: Findings, sizes: pd.Series) -> None:
    """One person's QRS may be large or small; the median of a centre tells a wrong gain."""
    known = sizes.dropna().to_numpy()
    if not len(known):
        return
    suspicion = gates.gain_suspicion(known)
    text = _spread(sizes, " uV (QRS, median lead)") + (f"; {suspicion}" if suspicion else "")
    remedy = "compare one printed ECG with its file; declare ecg.gain_factor or ecg.unit in cohorts.yaml"
    found.judge(suspicion is not None, "gain", text, remedy, "error" if len(known) >= ENOUGH else "warning")


def _signal_lines(found: Findings, table: pd.DataFrame, study: Study) -> None:
    found.add("OK", "format", _tally(table["format"]))
    flags = Counter(flag for flags in table["flags"] for flag in flags)
    beyond = "; ".join(f"{name} in {n}" for name, n in flags.items())
    found.add("OK", "unit", _tally(table["unit"]))
    found.add("OK", "leads", "all 12 found by name" + (f"; {beyond}" if beyond else ""))
    found.judge(
        table["rate"].nunique() > 1, "rate", _tally(table["rate"], " Hz"), "several rates: make sure none is wrong"
    )
    known = table["qrs_ms"].dropna()
    if len(known):
        wrong = not USUAL_QRS_MS[0] <= known.median() <= USUAL_QRS_MS[1]
        remedy = "the rate in Hz is likely wrong (a half or double): compare one printed ECG, declare ecg.rate"
        level = "error" if len(known) >= ENOUGH else "warning"
        found.judge(wrong, "QRS duration", _spread(known, " ms"), remedy, level)
    short = (table["seconds"] < study.grid.seconds - 0.01).mean()
    remedy = f"{short:.0%} are shorter than the {study.grid.seconds} s of the grid and will be left out"
    found.judge(short > 0, "length", _spread(table["seconds"], " s"), remedy)
    found.judge(
        not 100 <= table["uv"].median() <= 3000,
        "amplitude",
        _spread(table["uv"], " uV (99th percentile of |signal|, median lead)"),
        "declare ecg.unit or ecg.gain_factor in cohorts.yaml",
        "error",
    )
    _gain(found, table["qrs_uv"])
    found.judge(
        not 40 <= table["bpm"].median() <= 130, "heart rate", _spread(table["bpm"], " /min"), "check the rate in Hz"
    )
    reasons = Counter(reason for reasons in table["reasons"] for reason in reasons)
    bad = (table["reasons"].str.len() > 0).mean()
    text = f"{bad:.0%} of the sample would be left out" + "".join(f"; {name}: {n}" for name, n in reasons.most_common())
    found.judge(bad > 0.1, "gates", text, _gate_remedy(reasons), "error" if bad > 0.5 else "warning")


def _gate_remedy(reasons: Counter[str]) -> str:
    worst = reasons.most_common(1)[0][0] if reasons else ""
    if worst.startswith("amplitude"):
        return "the gain or unit is wrong: declare ecg.gain_factor or ecg.unit"
    if worst.startswith(("identity", "leads_swapped")):
        return "leads are mislabelled: declare their order as ecg.leads"
    return f"look at some of these recordings ({worst})"


def _tally(values: pd.Series, unit: str = "") -> str:
    return ", ".join(f"{value:g}{unit}: {n}" if unit else f"{value}: {n}" for value, n in values.value_counts().items())


def _spread(values: pd.Series, unit: str) -> str:
    low, middle, high = np.nanpercentile(values.astype(float), [5, 50, 95])
    return f"{middle:,.4g} ({low:,.4g} to {high:,.4g}){unit}"


def _people(found: Findings, records: pd.DataFrame, read: pd.DataFrame) -> None:
    for name in ("age", "sex", "height_cm", "weight_kg", "ecg_date"):
        lost = records[name].isna().mean()
        remedy = "missing values stay missing; arms with covariates impute them from training people"
        found.judge(lost > 0.2, name, f"{lost:.0%} missing", remedy)
    if read.empty:
        return
    table = records.reindex(read["key"]).reset_index(drop=True)
    sex, age = read["sex"], pd.to_numeric(read["age"])
    other = (sex.notna() & table["sex"].notna() & (sex != table["sex"])) | ((age - table["age"]).abs() > 2)
    wrong = int(other.fillna(False).sum())
    text = f"{wrong} of {len(read)} sampled files contradict the table in age or sex"
    found.judge(wrong > 0, "identity", text, "make sure that files and rows belong together", "error")


def _cines(found: Findings, records: pd.DataFrame, settings: Cohort, sample: int) -> None:
    """Read some cines of each view, and as many that have a mask together with their masks."""
    for column, view in {"sax": "sax", "lax": "4ch"}.items():
        table = records[records[column] != ""].drop_duplicates(column)[[column, f"{column}_mask"]]
        chosen = pd.concat([table.head(sample), table[table[f"{column}_mask"] != ""].head(sample)]).drop_duplicates()
        read = [_cine(settings, view, *names) for names in chosen.itertuples(index=False, name=None)]
        sizes = dict.fromkeys(one["size"] for one in read if "size" in one)
        _readable(found, f"{view} cines", [one["cine"] for one in read], "; " + ", ".join(sizes))
        _readable(found, f"{view} masks", [one["mask"] for one in read if "mask" in one])


def _cine(settings: Cohort, view: str, name: str, mask: str) -> dict[str, str]:
    """The fault of a ``cine`` and of its ``mask``, where it has one, "" being none; its ``size`` where it was read."""
    try:
        cine = read_cine(settings.path / name, view)
    except Exception as fault:
        return {"cine": str(fault)}
    height, width = cine.frames.shape[1:]
    spacing = " x ".join(f"{step:.3g}" for step in cine.spacing_mm)
    said = {"cine": "", "size": f"{len(cine.frames)} frames of {height} x {width} at {spacing} mm"}
    return said | ({"mask": _mask_fault(settings, cine, mask)} if mask else {})


def _mask_fault(settings: Cohort, cine: Cine, name: str) -> str:
    try:
        read_mask(settings.path / name, cine, settings.mask_labels)
    except Exception as fault:
        return str(fault)
    return ""


def _readable(found: Findings, item: str, said: list[str], more: str = "") -> None:
    """How many of the sampled files of one kind can be read; ``said``: the fault of each, "" where there is none."""
    faults = [fault for fault in said if fault]
    if said:
        text = f"{len(said) - len(faults)} of {len(said)} sampled {item.split()[1]} can be read{more}"
        level = "error" if len(faults) == len(said) else "warning"
        found.judge(bool(faults), item, text, "; ".join(dict.fromkeys(faults[:SHOWN])), level)


def _labels(found: Findings, index: Index, study: Study) -> None:
    endpoints = study.protocol.endpoints
    table = labels.disease_table(index, endpoints.diseases, endpoints.window)
    for name in endpoints.diseases:
        positive, known = int(table[name].sum()), int(table[name].notna().sum())
        if not known:
            found.add("OK", name, "unknown for everybody: not reported for this cohort")
            continue
        text = (
            f"{positive:,} of {known:,} ({positive / known:.1%}), {len(table) - known:,} unknown ({endpoints.window})"
        )
        few = min(positive, known - positive) < study.protocol.statistics.minimum_cell
        found.judge(few, name, text, "too few: it will be reported as not estimable")


def _phenotypes(found: Findings, records: pd.DataFrame) -> None:
    present = records[[name for name in phenotypes.NAMES if name in records]].notna()
    people = int(present.any(axis=1).sum())
    found.add("OK", "phenotypes", f"{int(present.any().sum())} of {len(phenotypes.NAMES)}, for {people:,} ECGs")
    for name, (low, high) in PLAUSIBLE.items():
        if name in present and present[name].any():
            item = phenotypes.BY_NAME[name]
            middle = records[name].median()
            text = f"median {middle:.4g}, expected {low:g} to {high:g} {item.unit}"
            found.judge(not low <= middle <= high, name, text, f"convert it to {item.unit}, not indexed", "error")


def _splits(found: Findings, records: pd.DataFrame, settings: Cohort, study: Study, name: str) -> None:
    if settings.role == "external":
        found.add(
            "OK", "split", f"external: all {records['person'].nunique():,} people are tested, nobody is trained on"
        )
        return
    person = splits.pseudonyms(records["person"], "person", name, study.protocol.split.salt)
    table = pd.DataFrame({"person": person, "split": splits.assign(person, study.protocol.split)})
    sizes = table.drop_duplicates().groupby("split").size().reindex(list(splits.SPLITS), fill_value=0)
    text = ", ".join(f"{split} {count:,}" for split, count in sizes.items())
    overlap = splits.person_overlap(table)
    found.judge(overlap > 0, "split", f"people: {text}; in two splits: {overlap}", "report this fault", "error")
    found.judge(bool(sizes.min() < 20), "split sizes", f"smallest: {sizes.min()} people", "more people are needed")
