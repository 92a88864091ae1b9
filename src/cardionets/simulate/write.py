"""Writes simulated centres to disk in their own layouts, in parallel, with the same bytes for any number of workers.

People are written in chunks by joblib processes. Whatever is drawn for a recording or a person takes its randomness
from (seed, centre, purpose, its own number), so neither the chunks nor their order matter. A centre is written aside as
a whole and then takes its name; the stamp inside it says what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cardionets.beats import median_beat, r_peaks
from cardionets.config import Study, StudyError
from cardionets.ecg import LEADS, STORED8, RecordError
from cardionets.files import atomic_path, sha256
from cardionets.progress import clock, track
from cardionets.simulate import ecg_files, faults
from cardionets.simulate.centres import CENTRES, Centre, SimulateSettings
from cardionets.simulate.ecg import digitise, synthesise
from cardionets.simulate.images import write_images
from cardionets.simulate.plan import Plan, cmr_dates, make_plan, record_truth, stream, truth
from cardionets.simulate.tables import write_tables

SECONDS: Final = 10
CHUNK: Final = 16
"""People per task: a few megabytes of signals."""

BESIDE: Final = ("beats.py", "cmr.py", "diseases.py", "phenotypes.py")
"""Sources outside this package whose numbers reach the files."""

STAMP: Final = ".simulated.json"
SUMS: Final = "SHA256SUMS.txt"  # of every file of a centre, as PhysioNet publishes them: ``sha256sum -c`` reads it
NOTICE: Final = "SIMULATED RECORDING of a person who does not exist"
ABOUT_TRUTH: Final = "What is true of SIMULATED people, one table per centre. Of real people nobody knows it."
MIMIC_LEADS: Final = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
WRITERS: Final[dict[str, tuple[Callable[..., None], tuple[str, ...]]]] = {
    "cardiosoft": (ecg_files.write_cardiosoft, LEADS),
    "mimic": (ecg_files.write_wfdb, MIMIC_LEADS),
    "wfdb": (ecg_files.write_wfdb, LEADS),
    "muse": (ecg_files.write_muse, STORED8),
    "dicom": (ecg_files.write_dicom_ecg, LEADS),
}
"""Writer and stored leads, in stored order, of every format."""


@dataclass(frozen=True)
class Part:
    """What one task writes: rows of a plan, with their numbers in the whole centre (``people``, ``records`` index)."""

    centre: Centre
    seed: int
    folder: Path
    people: pd.DataFrame
    records: pd.DataFrame
    signals: pd.DataFrame


def split(plan: Plan, folder: Path) -> Iterator[Part]:
    """The plan in tasks of ``CHUNK`` people, recordings with their people."""
    people = pd.concat([plan.people.assign(cmr_date=cmr_dates(plan)), plan.hearts], axis=1)
    signals, owner = plan.signal_hearts(), plan.records["person"].to_numpy()
    for start in range(0, len(people), CHUNK):
        rows = slice(*np.searchsorted(owner, [start, start + CHUNK]))
        mine = people.iloc[start : start + CHUNK]
        yield Part(plan.centre, plan.seed, folder, mine, plan.records.iloc[rows], signals.iloc[rows])


def write_part(part: Part) -> int:
    """Write the recordings and images of one part, on one thread so that sums round alike; its number of people."""
    with threadpool_limits(1):
        _write_ecgs(part)
        if part.centre.scanner is not None:
            for number, person in zip(part.people.index.tolist(), _rows(part.people)):
                if person["cmr"]:
                    write_images(part.centre, person, part.folder, part.seed, number)
    return len(part.people)


def _write_ecgs(part: Part) -> None:
    centre, records = part.centre, part.records
    sources = records["source"].tolist()
    devices = [centre.devices[number] for number in records["recorder"]]
    signals = synthesise(part.signals, centre.devices[0].rate_hz, SECONDS, _streams(part, "ecg", sources))
    counts = map(digitise, signals, devices, _streams(part, "device", sources))  # (12, T) each
    write, leads = WRITERS[centre.ecg_format]
    order = [LEADS.index(lead) for lead in leads]
    names = [name.lower() for name in leads] if centre.ecg_format == "wfdb" else leads
    people = _rows(part.people.loc[records["person"]])
    for row, device, number, record, person in zip(counts, devices, records.index.tolist(), _rows(records), people):
        spoiled = faults.spoil(row, record["fault"], stream(part.seed, centre.index, "faults", number))
        path = part.folder / centre.ecg_path(person["person"], record["record"])
        meta = _meta(record, person) | {"device": device.model}
        if centre.median_beats:
            meta["beat"] = _beat(spoiled[order], device.rate_hz)
        write(path, spoiled[order], device.rate_hz, device.lsb_uv, names, meta)
        if record["fault"] == "truncated":
            faults.truncate(path.with_suffix(".dat") if path.suffix == ".hea" else path)


def _streams(part: Part, purpose: str, numbers: list[int]) -> list[np.random.Generator]:
    return [stream(part.seed, part.centre.index, purpose, number) for number in numbers]


def _beat(counts: faults.Counts, rate_hz: float) -> faults.Counts | None:
    """Median beat (lead, B) in counts, as the recorder prints it; None where no beat is found."""
    try:
        return np.rint(median_beat(counts, r_peaks(counts, rate_hz), rate_hz)).astype(np.int32)
    except RecordError:
        return None


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _meta(record: dict[str, Any], person: dict[str, Any]) -> dict[str, Any]:
    """What the recorder writes beside the signal."""
    pr = {} if person["rhythm"] == "af" else {"PQInterval": round(person["pr_ms"])}
    measured = {"VentricularRate": round(record["rate_bpm"]), "QRSDuration": round(person["qrs_ms"])} | pr
    return {
        "person": person["person"],
        "date": record["date"].to_pydatetime(),
        "age": int(person["age"]),
        "sex": person["sex"],
        "height_cm": round(person["height_cm"]),
        "weight_kg": round(person["weight_kg"]),
        "measurements": measured,
        "comments": (NOTICE,),
    }


@lru_cache(maxsize=1)
def simulator_version() -> str:
    """SHA-256 over the sources that decide the bytes: any change of the simulator makes the written centres stale."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for path in [*sorted(here.glob("*.py")), *(here.parent / name for name in BESIDE)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _stamp(people: int, seed: int) -> dict[str, Any]:
    return {"simulated": True, "people": people, "seed": seed, "simulator": simulator_version()}


def is_current(name: str, people: int, seed: int, out: Path) -> bool:
    """Whether centre ``name`` below ``out`` was finished by this simulator from this seed and number of people."""
    stamp = out / name / STAMP
    if not stamp.is_file() or not all(path.is_file() for path in _truth_paths(name, out)):
        return False
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == _stamp(people, seed))
    except ValueError:
        return False


def _truth_paths(name: str, out: Path) -> tuple[Path, Path]:
    return out / "truth" / f"{name}.parquet", out / "truth" / f"{name}_records.parquet"


def write_centre(name: str, people: int, seed: int, out: Path, workers: int = 2) -> Path:
    """Write centre ``name`` to ``out/<name>`` and its truth to ``out/truth``; returns the centre's folder.

    The bytes depend on (name, people, seed) alone. An interrupted call leaves an older folder of that name
    as it was. Raises ``StudyError`` for an unknown centre, a number below 1, and a folder of that name that another
    hand has filled.
    """
    if name not in CENTRES:
        raise StudyError(f"simulate: {name}: no such centre; known: {', '.join(CENTRES)}.")
    if workers < 1:
        raise StudyError(f"--workers: {workers}: at least one process is needed; give 1 or more.")
    _require_own(out / name)
    plan = make_plan(CENTRES[name], people, seed)
    with atomic_path(out / name) as aside:
        aside.mkdir()
        write_tables(plan, aside)
        tasks = (delayed(write_part)(part) for part in split(plan, aside))
        with closing(Parallel(n_jobs=workers, return_as="generator")(tasks)) as done:
            for _ in track(_one_by_one(done), f"simulate {name}: people", total=people):
                pass
        _write_truth(plan, out)
        write_sums(aside)
        (aside / STAMP).write_text(json.dumps(_stamp(people, seed), indent=1) + "\n", encoding="utf-8")
    return out / name


def _require_own(folder: Path) -> None:
    """Refuse to replace what this simulator has not written: real people's files may lie there."""
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.is_symlink() or (folder.exists() and not empty and not _is_simulated(folder)):
        raise StudyError(
            f"{folder.parent.name}/{folder.name}: a link, or files without the simulator's {STAMP}, which it never"
            f" replaces; write `simulated: false` into cohorts.{folder.name} of cohorts.yaml, or move them away."
        )


def _is_simulated(folder: Path) -> bool:
    """Whether the stamp in ``folder`` says that the simulator wrote it."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("simulated") is True


def write_sums(folder: Path) -> None:
    """Write SHA-256 and name of every file below ``folder``, sorted by name, to :data:`SUMS`: what DVC watches."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        sums = pool.map(lambda name: sha256(folder / name), names)
        text = "".join(f"{found}  {name}\n" for found, name in zip(sums, names))
    (folder / SUMS).write_text(text, encoding="utf-8")


def _one_by_one(counts: Iterator[int]) -> Iterator[int]:
    for count in counts:
        yield from range(count)


def _write_truth(plan: Plan, out: Path) -> None:
    for path, table in zip(_truth_paths(plan.centre.name, out), (truth(plan), record_truth(plan))):
        with atomic_path(path) as aside:
            table.to_parquet(aside, index=False)


def write_study(study: Study, workers: int = 2) -> None:
    """Write the SIMULATED centres of the study's preset to ``data/``; finished ones of the same simulator are kept.

    A centre that ``cohorts.yaml`` says is real, or lies elsewhere, is left alone, and a line says so. ``data/truth`` is
    there afterwards even where nobody is simulated.
    """
    wanted = study.block("simulate", SimulateSettings).model_dump()
    with atomic_path(study.path("data", "truth", "README.txt")) as aside:
        aside.write_text(ABOUT_TRUTH + "\n", encoding="utf-8")
    start, total = time.monotonic(), 0
    for name, people in wanted.items():
        if reason := _real(study, name):
            print(f"simulate {name}: left alone, {reason}{_still_listed(study, name)}", flush=True)
            continue
        total += people
        if is_current(name, people, study.protocol.seed, study.path("data")):
            print(f"simulate {name}: {people:,} SIMULATED people are there already", flush=True)
            continue
        began = time.monotonic()
        write_centre(name, people, study.protocol.seed, study.path("data"), workers)
        print(f"simulate {name}: {people:,} SIMULATED people in {clock(time.monotonic() - began)}", flush=True)
    print(f"simulate: {total:,} people in {clock(time.monotonic() - start)}", flush=True)


def _real(study: Study, name: str) -> str:
    """Why a centre of this name is not the simulator's; empty where it is."""
    if name not in study.cohorts:
        return ""
    cohort = study.cohort(name)
    if not cohort.simulated:
        return "because cohorts.yaml says that its people are real"
    elsewhere = cohort.path != study.path("data", name).resolve()
    return f"because cohorts.yaml names another folder than data/{name}" if elsewhere else ""


def _still_listed(study: Study, name: str) -> str:
    """What to do where ``data.dvc`` waits for checksums of a centre that is not simulated; empty where it does not."""
    sums, listed = f"data/{name}/{SUMS}", study.path("data.dvc")
    waits = listed.is_file() and sums in listed.read_text(encoding="utf-8") and not study.path(sums).is_file()
    return f"; delete the lines of {sums} from data.dvc, or DVC will miss it" if waits else ""
