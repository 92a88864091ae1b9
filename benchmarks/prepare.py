"""Milliseconds per record of every step from a centre's files to the store: `python benchmarks/prepare.py [people]`.

Simulated files of the five centres, each in its own formats, are written to a temporary folder and read on one core.
Printed is the median over records of the best of five runs each, in CPU time.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import solveh_banded
from statsmodels.tsa.seasonal import seasonal_decompose
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cardionets import beats, cohorts, ecg, gates, prepare
from cardionets.cmr import place, to_grid
from cardionets.cohorts.cines import read_cine
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Cohort, Study, StudyError
from cardionets.simulate.write import write_centre

FORMATS = {
    "ukb": ("CardioSoft XML, 500 Hz", "zip of DICOM"),
    "mimic": ("WFDB, 500 Hz", ""),
    "fahzu": ("WFDB, 1000 Hz", "zip of a study"),
    "sahzu": ("MUSE XML, 500 Hz", "zip of a study"),
    "qph": ("DICOM waveform", "NIfTI"),
}
RUNS = 5


def milliseconds(step: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """Median over ``items`` of the shortest of ``RUNS`` runs of ``step``."""
    best = []
    for item in items:
        spent = []
        for _ in range(RUNS):
            start = time.process_time()
            step(item)
            spent.append(time.process_time() - start)
        best.append(1000 * min(spent))
    return float(np.median(best)) if best else float("nan")


def line(name: str, step: Callable[[Any], Any], items: Iterable[Any]) -> None:
    print(f"{name:<40}{milliseconds(step, items):9.3f}", flush=True)


def readable(read: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Those of ``items`` that are no refusal: a simulated centre has damaged files too."""
    kept = []
    for item in items:
        with suppress(StudyError):
            read(item)
            kept.append(item)
    return kept


def signals(paths: list[Path], cohort: Cohort, study: Study) -> None:
    """Every step of a recording after its file is read."""
    grid, protocol = study.grid, study.protocol
    records = [read_ecg(path, cohort.ecg) for path in paths]
    line("  gates", lambda r: gates.inspect(r, protocol.quality, grid.seconds), records)
    line("  resample and filter", lambda r: ecg.harmonise(r.signal, r.rate, grid, protocol.ecg), records)
    usable = [r for r in records if not gates.inspect(r, protocol.quality, grid.seconds)]
    clean = [ecg.harmonise(r.signal, r.rate, grid, protocol.ecg) for r in usable]
    line("  R peaks", lambda x: beats.r_peaks(x, grid.rate), clean)
    found = [(x, beats.r_peaks(x, grid.rate)) for x in clean]
    line("  median beat", lambda pair: beats.median_beat(*pair, grid.rate), found)
    median = [beats.median_beat(*pair, grid.rate) for pair in found]
    line("  QRS duration", lambda beat: beats.qrs_duration_ms(beat, grid.rate), median)
    line("  quality flags", lambda r: gates.quality_flags(r.signal, r.rate, protocol.ecg.mains_hz), records)
    line("  fingerprint", lambda r: gates.fingerprint(r.signal), records)


def baselines(paths: list[Path], cohort: Cohort, study: Study) -> None:
    """Our filter beside two usual ways to remove the baseline of a recording, twelve leads each."""
    records = [read_ecg(path, cohort.ecg) for path in paths[:4]]
    ours = milliseconds(lambda r: ecg.harmonise(r.signal, r.rate, study.grid, study.protocol.ecg), records)
    rivals = {"asymmetric least squares": asymmetric_least_squares, "seasonal decomposition": seasonal_trend}
    for name, remove in rivals.items():
        spent = milliseconds(partial(_each_lead, remove), records[:2])
        print(f"{'  ' + name:<40}{spent:9.3f}   {spent / ours:.0f} times ours", flush=True)


def _each_lead(remove: Callable[[Any, float], Any], record: Any) -> None:
    for lead in record.signal:
        remove(lead, record.rate)


def asymmetric_least_squares(lead: Any, rate: float, stiff: float = 1e7, share: float = 0.01) -> Any:
    """Baseline of (T,) after Eilers and Boelens (2005): ten rounds of a weighted Whittaker smoother, banded solver."""
    n = len(lead)
    bands = np.zeros((3, n))
    bands[0, 2:], bands[1, 1:], bands[2] = 1, -4, 6
    bands[1, [1, -1]], bands[2, [0, -1]], bands[2, [1, -2]] = -2, 1, 5
    weight = np.ones(n)
    for _ in range(10):
        system = stiff * bands
        system[2] += weight
        baseline = solveh_banded(system, weight * lead)
        weight = np.where(lead > baseline, share, 1 - share)
    return lead - baseline


def seasonal_trend(lead: Any, rate: float) -> Any:
    """(T,) without the trend of a classical additive decomposition whose season is one second."""
    return lead - seasonal_decompose(lead, period=round(rate)).trend


def images(kind: str, paths: list[tuple[Path, str]], study: Study) -> None:
    """Every step of a cine."""
    line(f"  read {kind}", lambda pair: read_cine(*pair), paths)
    cines = [read_cine(*pair) for pair in paths]
    line("  find heart and end-diastole", place, cines)
    line("  to grid", lambda pair: to_grid(pair[0], study.grid, pair[1]), [(cine, place(cine)) for cine in cines])


def whole(plan: prepare.Plan, folder: Path) -> None:
    """One block as `prepare` reads and writes it, per record."""
    block = prepare._slice(plan, 0)
    spent = milliseconds(lambda target: prepare.run_block(block, target), [folder / "block"])
    print(f"{'  whole record, store write included':<40}{spent / len(block.table):9.3f}\n", flush=True)


def centre(name: str, people: int, folder: Path) -> None:
    """All figures of one centre."""
    study = Study(Path(__file__).parents[1])
    write_centre(name, people, 1, folder, workers=1)
    study.cohorts[name] = study.cohorts[name].model_copy(update={"path": folder / name})
    cohort, table = study.cohort(name), cohorts.index(study.cohort(name)).records
    paths = readable(lambda path: read_ecg(path, cohort.ecg), (cohort.path / file for file in table["ecg"]))
    print(f"{name}: {len(table)} ECGs")
    line(f"  read {FORMATS[name][0]}", lambda path: read_ecg(path, cohort.ecg), paths)
    signals(paths, cohort, study)
    if name == "mimic":
        baselines(paths, cohort, study)
    cines = [(cohort.path / file, view) for view, column in prepare.VIEWS.items() for file in table[column] if file]
    cines = readable(lambda pair: read_cine(*pair), cines)
    if cines:
        images(FORMATS[name][1], cines, study)
    whole(prepare.make_plan(study, name), folder)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    print(f"{'step':<40}{'ms':>9}")
    with threadpool_limits(1), tempfile.TemporaryDirectory() as temporary:
        for each in FORMATS:
            centre(each, wanted, Path(temporary))
