"""One ECG -> one page: what was read, whether it may be used, and what the study's models say of the heart behind it.

The page (:mod:`cardionets.patient_page`) is self-contained and names nobody: no record, person, path or date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cardionets import at_site, phenotypes, weights
from cardionets.at_site import Update
from cardionets.cohorts.arrays import split_row
from cardionets.cohorts.ecg_files import detect, read_ecg
from cardionets.config import RANGES, CohortEcg, Study, StudyError
from cardionets.ecg import EcgRecord, RecordError
from cardionets.gates import NOISE_FLAGS, fingerprint
from cardionets.signals import bring

if TYPE_CHECKING:
    from cardionets.norms import Norms, Range
    from cardionets.said import Said

Floats = NDArray[np.float32]
MEASURED: Final = ("rate_bpm", "rr_cv", "rr_rmssd_ms", "qrs_ms")
COVARIATES: Final = ("age", "sex", "height_cm", "weight_kg")


@dataclass(frozen=True)
class Person:
    """What is known of the person; None is unknown."""

    age: float | None = None
    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None

    def __post_init__(self) -> None:
        faults = [
            f"patient: {name}: {value:g} is not between {low} and {high} {unit}; correct it."
            for name, (low, high, unit) in RANGES.items()
            if (value := getattr(self, name)) is not None and not low <= value <= high
        ]
        faults += (
            [f"patient: sex: {self.sex!r} is neither F nor M; correct it."] if self.sex not in (*"FM", None) else []
        )
        if faults:
            raise StudyError("\n".join(faults))

    @property
    def complete(self) -> bool:
        """Whether the arm that also reads covariates has all it needs."""
        return None not in (self.age, self.sex, self.height_cm, self.weight_kg)

    def or_else(self, other: Person) -> Person:
        """This, with gaps filled from ``other``."""
        mine = {name: getattr(self, name) for name in COVARIATES}
        return Person(**{k: getattr(other, k) if v is None else v for k, v in mine.items()})

    def features(self) -> Floats:
        """As :func:`cardionets.features.covariates`: (1, 4)."""
        male = {"M": 1.0, "F": 0.0}.get(self.sex or "")
        values = [self.age, self.height_cm, self.weight_kg, male]
        return np.array([[np.nan if v is None else v for v in values]], np.float32)


@dataclass
class Recording:
    """One ECG as it was read; ``signal`` and ``beat`` are what the models see, None when it was refused.

    ``shown``: float32 (12, T) uV at ``shown_rate`` Hz for the plot, None when nothing could be read. ``reasons`` are
    codes of the gates, or of the reader with ``unread`` set; ``fault`` is the reader's sentence: it names the file, so
    it is not for the page. ``flags`` are the store's ``q_*`` names without ``q_``.
    """

    what: dict[str, str]
    person: Person = Person()
    shown: Floats | None = None
    shown_rate: float = 0.0
    signal: NDArray[np.int16] | None = None
    beat: NDArray[np.int16] | None = None
    reasons: list[str] = field(default_factory=list)
    unread: bool = False
    fault: str = ""
    flags: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    name: str = ""  # seeds the drawn cines; a hash of the signal, never shown
    simulated: bool = False

    def seen(self) -> tuple[NDArray[np.int16], NDArray[np.int16], Floats | None]:
        """What the networks see: signal, beat, and covariates where all of them are known."""
        assert self.signal is not None and self.beat is not None
        return self.signal, self.beat, self.person.features() if self.person.complete else None


@dataclass(frozen=True)
class Estimate:
    """One phenotype in its unit; an interval or a range is missing where it cannot be known."""

    phenotype: phenotypes.Phenotype
    value: float
    lower: float
    upper: float
    reference: Range | None

    @property
    def position(self) -> str:
        """Where the value lies in the range; with a question mark when the interval reaches across a limit."""
        if self.reference is None or not np.isfinite(self.value):
            return ""
        low, high = self.reference.lower, self.reference.upper
        place = "below" if self.value < low else "above" if self.value > high else "within"
        crosses = any(self.lower < limit < self.upper for limit in (low, high))
        return f"{place}, uncertain" if crosses or not np.isfinite(self.lower) else place


@dataclass(frozen=True)
class Risk:
    """Probability of one disease, the operating threshold (NaN = none) and how common it is among ``people``.

    ``released`` is the probability before the site's recalibration; NaN where there is none, and ``value`` is as the
    development centres have it.
    """

    disease: str
    value: float
    threshold: float
    prevalence: float
    people: int
    released: float = float("nan")


@dataclass
class Answer:
    """What the models say of one recording."""

    arm: str
    disease_arms: dict[str, str]
    estimates: list[Estimate]
    risks: list[Risk]
    interval_people: int
    simulated: bool
    notes: list[str]


def of_file(study: Study, path: Path, declared: CohortEcg | None = None, person: Person | None = None) -> Recording:
    """Read a file of any supported format and pass it through the gates; a refused one comes back with its reasons.

    Raises StudyError when there is no such file.
    """
    declared, person = declared or CohortEcg(), person or Person()
    what: dict[str, str] = {}
    try:
        what["Format"] = _format(path, detect(path))
        record = read_ecg(path, declared)
    except RecordError as fault:
        if fault.reason == "missing":
            raise
        return Recording(what, person, reasons=[fault.reason], unread=True, fault=str(fault))
    what |= {"Unit": f"{record.unit}; shown in mV"}
    what |= {"Sampling rate": f"{record.rate:g} Hz", "Length": f"{record.seconds:.1f} s"}
    what["Leads"] = "12" + (
        ", limb leads derived from I and II" if "derived_limb_leads" in record.flags else ", stored"
    )
    said = Person(age=record.age, sex=record.sex)
    found = Recording(what, person.or_else(said), name=fingerprint(np.nan_to_num(record.signal)))
    found.flags = list(record.flags)
    found.shown, found.shown_rate = _centred(record.signal), record.rate
    _bring(found, record, study)
    return found


def _format(path: Path, kind: str) -> str:
    """In words, by the file's first bytes and, in XML, the name of its outermost element."""
    from cardionets.glossary import DIALECTS, FORMATS

    name = FORMATS[kind][0].split(":")[0].split(";")[0]
    if kind != "xml":
        return name
    try:
        with split_row(path)[0].open("rb") as handle:
            head = re.search(rb"<(?:\w+:)?([A-Za-z]\w*)[\s>]", handle.read(20_000).replace(b"\0", b""))
    except OSError:
        head = None
    return DIALECTS.get(head[1].decode() if head else "", "XML")


def _centred(signal: Floats) -> Floats:
    """Without each lead's offset: (12, T) -> (12, T); what is not a number is not drawn."""
    whole = np.where(np.isfinite(signal), signal, np.nan)
    middle = np.nan_to_num(np.nanmedian(np.where(np.isfinite(whole).any(1, keepdims=True), whole, 0), axis=1))
    return np.asarray(whole - middle[:, None], np.float32)


def _bring(found: Recording, record: EcgRecord, study: Study) -> None:
    """Fill in what the models see, exactly as the prepare stage makes it, or the reasons why they see nothing."""
    (signal,) = bring([record], study.grid, study.protocol.ecg, study.protocol.quality)
    if isinstance(signal, list):
        found.reasons = signal
        return
    found.signal, found.beat = signal.ecg, signal.beat
    found.shown, found.shown_rate = signal.ecg.astype(np.float32), float(study.grid.rate)
    found.measured = {name: float(signal.measured[name]) for name in MEASURED}
    found.flags += [name.removeprefix("q_") for name in NOISE_FLAGS if signal.flags[name]]


def of_record(study: Study, cohort: str, record: str = "") -> Recording:
    """A record of a store by its pseudonym; "" is the first record of a test person. Raises StudyError when absent."""
    import pandas as pd

    from cardionets.store import Store

    store = Store.open(study.path("store", cohort), study.grid, hide_test=True)
    table = store.records
    own = table[(table["record"] == record) if record else (table["split"] == "test")]
    if own.empty:
        raise StudyError(
            f"store/{cohort}: record {record or 'of a test person'}: not there; choose one of its records."
        )
    row = own.iloc[0]
    sex = None if pd.isna(row["sex"]) else str(row["sex"])
    numbers = {name: None if pd.isna(row[name]) else float(row[name]) for name in RANGES}
    signal, beat = (np.array(array[int(row["row"])]) for array in (store.ecg, store.beat))
    what = {
        "Format": "a record of the study's store",
        "Sampling rate": f"{study.grid.rate} Hz",
        "Length": f"{study.grid.seconds} s",
        "Leads": "12",
        "Unit": "uV; shown in mV",
    }
    return Recording(
        what,
        Person(sex=sex, **numbers),
        signal.astype(np.float32),
        float(study.grid.rate),
        signal,
        beat,
        flags=[name.removeprefix("q_") for name in map(str, table) if name.startswith("q_") and bool(row[name])],
        measured={name: float(row[name]) for name in MEASURED},
        name=fingerprint(signal),
        simulated=study.cohort(cohort).simulated,
    )


def answer(study: Study, recording: Recording, cohort: str = "") -> Answer:
    """Phenotypes and disease probabilities of a recording that passed the gates.

    The arm reads covariates too when all four are known. ``cohort``: the site whose calibration the probabilities
    get, where its validation left one. Raises StudyError for missing or foreign weights.
    """
    from cardionets.patient_models import say

    return complete(study, recording, say(study, *recording.seen()), cohort)


def complete(study: Study, recording: Recording, said: Said, cohort: str = "") -> Answer:
    """What the networks said, with intervals, reference ranges, thresholds and the calibration of ``cohort``."""
    from cardionets.norms import Norms

    norms = Norms.load(study, said.arm)
    person = recording.person
    estimates = [_estimate(norms, said.arm, name, value, person) for name, value in said.phenotypes.items()]
    behind = max((norms.half_width(said.arm, name)[1] for name in said.phenotypes), default=0)
    updates = at_site.load(study, cohort, said.disease_arms)
    risks, notes = _risks(study, norms, said, updates)
    return Answer(said.arm, said.disease_arms, estimates, risks, behind, said.simulated, norms.notes + notes)


def _estimate(norms: Norms, arm: str, name: str, value: float, person: Person) -> Estimate:
    item = phenotypes.BY_NAME[name]
    half, _ = norms.half_width(arm, name)
    floor = -np.inf if item.unit == "%" else 0.0  # volumes, masses, lengths and areas are not negative
    return Estimate(item, value, max(value - half, floor), value + half, norms.range(name, person.sex, person.age))


def _risks(study: Study, norms: Norms, said: Said, updates: Mapping[str, Update]) -> tuple[list[Risk], list[str]]:
    import pandas as pd

    from cardionets import operating

    try:
        table, notes = operating.load(study), []
    except StudyError:
        table = pd.DataFrame({"arm": [], "endpoint": [], "threshold": []})
        notes = ["Operating thresholds are not given: their table is not here."]
    own = {(arm, name): at for arm, name, at in table[["arm", "endpoint", "threshold"]].itertuples(index=False)}
    found = [
        Risk(name, value, own.get((said.disease_arms[name], name), np.nan), *norms.share(name))
        for name, value in said.diseases.items()
    ]
    return [_here(risk, updates.get(risk.disease)) for risk in found], notes


def _here(risk: Risk, update: Update | None) -> Risk:
    """The risk in the site's calibration. Its threshold moves along: the same people are above it."""
    if update is None:
        return risk
    value, threshold = update.risk(risk.value), update.risk(risk.threshold)
    return Risk(risk.disease, value, threshold, update.events / update.n, update.n, risk.value)


def cines(study: Study, recording: Recording) -> dict[str, NDArray[np.uint8]]:
    """Drawn cines (frame, H, W) of both views, empty when there is no generator here. May raise StudyError."""
    if not study.path("weights", "generator", weights.CARD).is_file():
        return {}
    import torch

    from cardionets.draw import Artist
    from cardionets.patient_models import one_store

    artist = Artist(study)
    tokens, _ = artist.reader.read(one_store(*recording.seen()[:2]), np.zeros(1, np.int64))
    drawn = artist.draw_from(torch.from_numpy(tokens), [recording.name])
    return {view: cine[0].cpu().numpy() for view, cine in drawn.items()}
