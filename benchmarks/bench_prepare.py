"""From a centre's files to its store: every format, every step of a recording, the whole record, one worker and two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed

from benchmarks import baselines
from benchmarks.conftest import Measure, sized
from cardionets import beats, cohorts, ecg, gates, prepare
from cardionets.cmr import place, to_grid
from cardionets.cohorts.cines import read_cine
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Study, StudyError
from cardionets.simulate.write import write_centre
from tests import test_ecg_readers as formats

CENTRES = ("ukb", "mimic", "fahzu", "sahzu", "qph")
CINES = ("ukb", "fahzu", "sahzu", "qph")


@pytest.fixture(scope="session", params=CENTRES)
def centre(request: pytest.FixtureRequest, study: Study) -> tuple[Study, str]:
    """One simulated centre in its own formats."""
    return study, written(study, request.param)


def written(study: Study, name: str) -> str:
    """Write a centre's files once."""
    if not study.path("data", name).is_dir():
        write_centre(name, sized(4, 24), 1, study.root / "data", workers=1)
    return name


def readable(read: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Those of ``items`` that are no refusal: a simulated centre has damaged files too."""
    kept = []
    for item in items:
        with suppress(StudyError):
            read(item)
            kept.append(item)
    return kept


def each(step: Callable[[Any], Any], items: list[Any]) -> Callable[[], None]:
    """One pass of ``step`` over all items."""

    def run() -> None:
        for item in items:
            step(item)

    return run


def files(study: Study, name: str) -> tuple[Any, list[Path]]:
    """The cohort and its readable recordings."""
    cohort = study.cohort(name)
    table = cohorts.index(cohort).records
    return cohort, readable(lambda path: read_ecg(path, cohort.ecg), [cohort.path / file for file in table["ecg"]])


def test_read_ecg(centre: tuple[Study, str], measure: Measure) -> None:
    cohort, paths = files(*centre)
    measure(each(lambda path: read_ecg(path, cohort.ecg), paths), per=len(paths), unit="record")


@pytest.mark.parametrize("name", sorted(formats.WRITERS))
def test_read_format(name: str, measure: Measure, tmp_path: Path) -> None:
    """Every format that is read, one recording of 12 x 5000."""
    write, suffix = formats.WRITERS[name]
    path, said = tmp_path / f"{name}{suffix}", formats.declared(name, 500)
    write(path, formats.counts(5000), 500, 5, formats.LEADS, formats.META)
    times = sized(1, 20)
    measure(each(lambda path: read_ecg(path, said), [path] * times), per=times, unit="record", rounds=3)


@pytest.mark.parametrize("name", CINES)
def test_read_cine(name: str, study: Study, measure: Measure) -> None:
    cohort = study.cohort(written(study, name))
    table = cohorts.index(cohort).records
    pairs = [(cohort.path / f, view) for view, column in prepare.VIEWS.items() for f in table[column] if f]
    pairs = readable(lambda pair: read_cine(*pair), pairs)
    measure(each(lambda pair: read_cine(*pair), pairs), per=len(pairs), unit="cine", rounds=3)


def test_cine_to_grid(study: Study, measure: Measure) -> None:
    cohort = study.cohort(written(study, "qph"))
    paths = [cohort.path / file for file in cohorts.index(cohort).records["sax"] if file]
    cines = [read_cine(path, "sax") for path in readable(lambda p: read_cine(p, "sax"), paths)]
    measure(each(lambda c: to_grid(c, study.grid, place(c)), cines), per=len(cines), unit="cine")


@pytest.mark.parametrize("step", ["gates", "filter", "r_peaks", "median_beat", "noise_scores", "fingerprint"])
def test_signal(step: str, study: Study, measure: Measure) -> None:
    cohort, paths = files(study, written(study, "mimic"))
    grid, protocol = study.grid, study.protocol
    records = [read_ecg(path, cohort.ecg) for path in paths]
    records = [r for r in records if not gates.inspect(r, protocol.quality, grid.seconds)]
    clean = [ecg.harmonise(r.signal, r.rate, grid, protocol.ecg) for r in records]
    found = [(x, beats.r_peaks(x, grid.rate)) for x in clean]
    steps: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "gates": (lambda r: gates.inspect(r, protocol.quality, grid.seconds), records),
        "filter": (lambda r: ecg.harmonise(r.signal, r.rate, grid, protocol.ecg), records),
        "r_peaks": (lambda x: beats.r_peaks(x, grid.rate), clean),
        "median_beat": (lambda pair: beats.median_beat(*pair, grid.rate), found),
        "noise_scores": (lambda r: gates.noise_scores(r.signal, r.rate, protocol.ecg.mains_hz), records),
        "fingerprint": (lambda r: gates.fingerprint(r.signal), records),
    }
    measure(each(*steps[step]), per=len(steps[step][1]), unit="record")


@pytest.mark.parametrize("way", ["filter", "asymmetric_least_squares", "seasonal_decomposition"])
def test_baseline(way: str, study: Study, measure: Measure) -> None:
    """Removing the baseline of a record of 12 x 5000: our whole filter and what others use."""
    cohort, paths = files(study, written(study, "mimic"))
    records = [record for record in (read_ecg(path, cohort.ecg) for path in paths) if record.signal.shape[1] == 5000]
    records = records[: sized(1, 8)]
    steps: dict[str, Callable[[Any], Any]] = {
        "filter": lambda r: ecg.harmonise(r.signal, r.rate, study.grid, study.protocol.ecg),
        "asymmetric_least_squares": lambda r: baselines.asymmetric_least_squares(r.signal),
        "seasonal_decomposition": lambda r: baselines.seasonal_decomposition(r.signal, r.rate),
    }
    measure(each(steps[way], records), per=len(records), unit="record", rounds=3)


def test_whole_record(centre: tuple[Study, str], measure: Measure, tmp_path: Path) -> None:
    study, name = centre
    block = prepare._slice(prepare.make_plan(study, name), 0)
    measure(lambda: prepare.run_block(block, tmp_path / "block"), per=len(block.table), unit="record", rounds=3)


@pytest.mark.parametrize("workers", [1, 2])
def test_whole_cohort(workers: int, study: Study, measure: Measure) -> None:
    """ECG alone, from the tables to the store; time against the number of records is in ``benchmarks.scaling``."""
    name = written(study, "mimic")
    count = prepare.make_plan(study, name).listing.count

    def run() -> None:
        shutil.rmtree(study.path("store", ".work"), ignore_errors=True)
        prepare.prepare(study, name, workers)

    measure(run, per=count, unit="record", rounds=3, warm=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_blocks_by_workers(workers: int, study: Study, measure: Measure, tmp_path: Path) -> None:
    """Blocks handed out as the prepare stage does it, to processes that are there already."""
    block = prepare._slice(prepare.make_plan(study, written(study, "mimic")), 0)
    work = [(block, tmp_path / f"block-{number}") for number in range(sized(2, 12))]
    handed = Parallel(n_jobs=workers)
    run = delayed(prepare.run_block)
    measure(lambda: handed(run(*some) for some in work), per=len(work) * len(block.table), unit="record")
