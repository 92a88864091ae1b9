"""From a centre's own files to its harmonised store: read, check, filter, find beats, bring cines to the grid.

The work is cut into blocks of :data:`BLOCK` recordings that depend on nothing but themselves. A finished block is a
folder with its final name below ``store/.work``; whoever starts again, with any number of workers or as shard i of n,
skips it. When all blocks are there, :func:`cardionets.assemble.assemble` makes the store of them. The bytes are the
same in every case.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import BACKENDS, DEFAULT_BACKEND, get_active_backend
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cardionets import cohorts, store
from cardionets.assemble import assemble, save_lines
from cardionets.cmr import Cine, mask_to_grid, place, to_grid
from cardionets.cohorts import wfdb_ecg
from cardionets.cohorts.arrays import split_row
from cardionets.cohorts.cines import measure_masks, read_cine, read_mask
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Cohort, CohortEcg, EcgProtocol, Grid, QualityGates, Study, StudyError
from cardionets.ecg import EcgRecord
from cardionets.files import atomic_path
from cardionets.listing import Listing, make_listing
from cardionets.progress import track
from cardionets.signals import TOGETHER, Signal, bring

BLOCK: Final = 64
SCHEDULER: Final = "CARDIONETS_SCHEDULER"
"""Environment: address of a dask scheduler, such as tcp://10.0.0.5:8786, whose workers see the same folders."""
VIEWS: Final = {"sax": "sax", "4ch": "lax"}
"""Each view and the name of its path in the index."""

FILES: Final = ("sax", "lax", "sax_mask", "lax_mask")
"""Columns of the index that name the files of images."""
READ: Final = ("person_id", "record_id", "ecg", "age", "sex", *FILES)
"""Columns of the index that reading needs."""

Array = NDArray[Any]
_NO_CINE: Final = {"slot": -1, "mask_slot": -1, "reason": "", "mask_reason": "", "scanned": pd.NaT}


@dataclass(frozen=True)
class Plan:
    """What is to be read, in the order of the store; blocks are cut from ``listing``."""

    listing: Listing
    cohort: Cohort
    work: Path
    grid: Grid
    protocol: EcgProtocol
    gates: QualityGates

    @cached_property
    def blocks(self) -> list[Path]:
        """Folders of all blocks, finished or not."""
        count = -(-self.listing.count // BLOCK)
        return [self.work / f"block-{number:06d}" for number in range(count)]


@dataclass
class _Rows:
    """What one block collects: its table and, per array of the store, its rows."""

    table: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, list[Array]] = field(default_factory=lambda: {name: [] for name in store.ARRAYS})
    cines: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, row: Array) -> int:
        self.arrays[name].append(row)
        return len(self.arrays[name]) - 1


def make_plan(study: Study, name: str) -> Plan:
    """Index the cohort, give everybody a pseudonym and order the records by it."""
    cohort, protocol, folder = study.cohort(name), study.protocol, study.path("store", ".work")
    listing = make_listing(cohorts.index(cohort), name, protocol.split.salt, folder)
    work = folder / f"{name}-{_fingerprint(listing, cohort, study)}"
    return Plan(listing, cohort, work, study.grid, protocol.ecg, protocol.quality)


def _fingerprint(listing: Listing, cohort: Cohort, study: Study) -> str:
    """Changes with the files to read (name, size, time), the settings and the code that reads them."""
    digest = hashlib.sha256()
    for part in listing.parts(("record_id", "ecg", *FILES)):
        digest.update("\n".join([*part["record_id"], *_stamps(cohort.path, part["ecg"])]).encode())
        for column in FILES:
            digest.update("\n".join([column, *_stamps(cohort.path, part[column].unique())]).encode())
    settings = (cohort.ecg, study.grid, study.protocol.ecg, study.protocol.quality)
    digest.update("\n".join([*(block.model_dump_json() for block in settings), str(cohort.mask_labels)]).encode())
    here = Path(__file__).parent
    for path in (
        *sorted(here.glob("cohorts/*.py")),
        *(here / f"{m}.py" for m in ("ecg", "beats", "gates", "signals", "cmr", "motion", "measure")),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _stamps(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Every name with size and time of all that is read under it; of ``file.hdf5#17`` those of ``file.hdf5``."""
    for name in names:
        file = split_row(folder / name)[0]
        yield "\t".join([name, *map(_stamp, (file, *_read_with(file)))]) if name else ""


def _stamp(file: Path) -> str:
    try:
        found = file.stat()
    except (OSError, ValueError):
        return f"{file.name} -"
    return f"{file.name} {found.st_size} {found.st_mtime_ns}"


def _read_with(file: Path) -> list[Path]:
    """What is read with a file: header and signals of a WFDB record, all that lies below a folder."""
    beside = wfdb_ecg.beside(file) if file.suffix in ("", *wfdb_ecg.SUFFIXES) else []
    if beside or file.suffix in wfdb_ecg.SUFFIXES:
        return beside
    return sorted(Path(top, name) for top, _, names in os.walk(file) for name in names)


def prepare(study: Study, cohort: str, workers: int | None = None, shard: tuple[int, int] | None = None) -> Path:
    """Read a whole cohort, or shard i of n (from 1) of it, and return the store, or the work folder of the shard.

    ``workers``: processes, all cores by default (environment variable ``CARDIONETS_WORKERS``). The blocks go to the
    dask cluster that :data:`SCHEDULER` or joblib's ``parallel_config(backend="dask")`` names, if either does. After
    the last shard call once without ``shard``: it assembles the store. Raises StudyError for faults of the tables, and
    when not one record can be used.
    """
    first, of = parse_shard(f"{shard[0]}/{shard[1]}") if shard else (1, 1)
    plan = make_plan(study, cohort)
    plan.work.mkdir(parents=True, exist_ok=True)
    mine = range(first - 1, len(plan.blocks), of)
    todo = [number for number in mine if not plan.blocks[number].is_dir()]
    with _cluster():
        for _ in track(_run(plan, todo, workers), f"prepare {cohort}, blocks of {BLOCK} ECGs", total=len(todo)):
            pass
    if shard is not None:
        return plan.work
    target = study.path("store", cohort)
    assemble(plan.listing, plan.blocks, study, cohort, target)
    for old in plan.work.parent.glob(f"{cohort}-{'[0-9a-f]' * 16}"):
        shutil.rmtree(old, ignore_errors=True)
    return target


def _run(plan: Plan, todo: list[int], workers: int | None) -> Iterator[int]:
    processes = workers or _processes()
    tasks = (delayed(run_block)(_slice(plan, number), plan.blocks[number]) for number in todo)
    here = isinstance(get_active_backend()[0], BACKENDS[DEFAULT_BACKEND])
    if here and min(processes, len(todo)) < 2:
        return (call(*args, **kwargs) for call, args, kwargs in tasks)
    done: Iterator[int] = Parallel(n_jobs=processes, return_as="generator_unordered")(tasks)
    return done


@contextmanager
def _cluster() -> Iterator[None]:
    """Hand joblib the dask cluster whose address is in the environment; without one nothing changes."""
    address = os.environ.get(SCHEDULER, "")
    if not address:
        yield
        return
    try:
        from distributed import Client

        client: Any = Client(address, timeout="20s", set_as_default=True)
    except ImportError:
        raise StudyError(f"{SCHEDULER}: dask is not installed; run `pip install distributed`, or unset it.") from None
    except (OSError, ValueError) as error:
        text = f"no dask scheduler answers at {address!r} ({type(error).__name__}); correct the address, or unset it."
        raise StudyError(f"{SCHEDULER}: {text}") from None
    with client, parallel_config(backend="dask"):
        yield


def _processes() -> int:
    wanted = os.environ.get("CARDIONETS_WORKERS", "") or str(os.cpu_count() or 1)
    if not wanted.isdigit() or int(wanted) < 1:
        raise StudyError(f"CARDIONETS_WORKERS: {wanted!r} is not a number of processes; give 1 or more, or unset it.")
    return int(wanted)


def parse_shard(text: str) -> tuple[int, int]:
    """``"2/8"`` as (2, 8), the second of eight shards. Raises StudyError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise StudyError(f"--shard {text}: expected i/n with i from 1 to n, such as 2/8; correct it.")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class Block:
    """What a worker needs to know to read one block; ``measure``: the centre has no phenotypes, its masks may."""

    table: pd.DataFrame
    folder: Path
    declared: CohortEcg
    mask_labels: dict[int, int]
    measure: bool
    grid: Grid
    protocol: EcgProtocol
    gates: QualityGates


def _slice(plan: Plan, number: int) -> Block:
    listing, cohort = plan.listing, plan.cohort
    rows = listing.rows(number * BLOCK, min((number + 1) * BLOCK, listing.count), READ)
    measure = not listing.measured
    return Block(rows, cohort.path, cohort.ecg, cohort.mask_labels, measure, plan.grid, plan.protocol, plan.gates)


def run_block(block: Block, target: Path) -> int:
    """Read one block and write its folder; the number of usable records. One thread, so that sums round alike."""
    rows = _Rows()
    with threadpool_limits(1):
        entries = list(block.table.astype(object).itertuples())
        for start in range(0, len(entries), TOGETHER):
            rows.table.extend(_some(entries[start : start + TOGETHER], block, rows))
    with atomic_path(target, lasting=True) as aside:
        aside.mkdir()
        for name, (shape, dtype) in store.layout(block.grid).items():
            array = np.stack(rows.arrays[name]) if rows.arrays[name] else np.empty((0, *shape))
            np.save(aside / f"{name}.npy", array.astype(dtype, copy=False))
        save_lines(rows.table, aside)
    return len(rows.arrays["ecg"])


def _some(entries: list[Any], block: Block, rows: _Rows) -> Iterator[dict[str, Any]]:
    """A line of each record: its reasons, or its rows, features and flags. No fault of a file leaves its own line."""
    read = [_read(entry, block) for entry in entries]
    signals = iter(_brought([record for record in read if isinstance(record, EcgRecord)], block))
    for entry, record in zip(entries, read):
        found = next(signals) if isinstance(record, EcgRecord) else record
        line: dict[str, Any] = {"reason": "", "further": "", "slot": -1}
        if isinstance(found, Signal) and isinstance(record, EcgRecord):
            rows.add("beat", found.beat)
            line |= found.measured | found.flags | {"slot": rows.add("ecg", found.ecg)} | _said(record, entry)
            for view, path in VIEWS.items():
                line |= {f"{view}_{key}": value for key, value in _view(entry, view, path, block, rows).items()}
        elif isinstance(found, list):
            line |= {"reason": found[0], "further": ";".join(found[1:])}
        yield line


def _read(entry: Any, block: Block) -> EcgRecord | list[str]:
    try:
        return read_ecg(block.folder / entry.ecg, block.declared)
    except Exception as fault:
        return [reason_of(fault)]


def _brought(records: list[EcgRecord], block: Block) -> list[Signal | list[str]]:
    """Recordings on the grid, or reasons; where a fault is not expected each record answers for itself."""
    settings = block.grid, block.protocol, block.gates
    try:
        return bring(records, *settings)
    except Exception as fault:
        return [[reason_of(fault)]] if len(records) == 1 else [_brought([one], block)[0] for one in records]


def reason_of(fault: Exception) -> str:
    """The code under which the flow counts a fault: the reader's own, else "unreadable" with the kind of error."""
    reason = getattr(fault, "reason", None)
    if isinstance(reason, str) and reason:
        return reason
    return "unreadable" if isinstance(fault, StudyError) else f"unreadable: {type(fault).__name__}"


def _said(record: EcgRecord, entry: Any) -> dict[str, Any]:
    """What the file says of the person; ``q_identity`` where it contradicts the centre's table."""
    other_sex = isinstance(entry.sex, str) and record.sex is not None and record.sex != entry.sex
    other_age = record.age is not None and abs(record.age - entry.age) > 2
    said = {
        "file_age": record.age,
        "file_sex": record.sex,
        "file_date": pd.Timestamp(record.date) if record.date else pd.NaT,
        "file_device": record.device,
    }
    return said | {"q_identity": bool(other_sex or other_age)}


def _view(entry: Any, view: str, path: str, block: Block, rows: _Rows) -> dict[str, Any]:
    """The cine of one view: its place in the block and, where there is none though one was named, the reason."""
    name, mask = getattr(entry, path), getattr(entry, f"{path}_mask")
    if not name:
        return dict(_NO_CINE)
    key = (view, f"{name}|{mask}")
    if key not in rows.cines:
        rows.cines[key] = dict(_NO_CINE) | _cine(block, view, name, mask, rows)
    return rows.cines[key]


def _cine(block: Block, view: str, name: str, mask: str, rows: _Rows) -> dict[str, Any]:
    try:
        cine = read_cine(block.folder / name, view)
        drawn, why = _mask(block.folder / mask, cine, block.mask_labels) if mask else (None, "")
        where = place(cine, drawn)
        image = to_grid(cine, block.grid, where)
        outline = mask_to_grid(drawn, cine, block.grid, where) if drawn is not None else None
        measured = _measured(block.folder / mask, cine, block) if drawn is not None else {}
    except Exception as fault:
        return {"reason": reason_of(fault)}
    line = {f"measured_{key}": value for key, value in measured.items()} | {
        "slot": rows.add(view, image),
        "scanned": pd.Timestamp(cine.scanned) if cine.scanned else pd.NaT,
        "mask_reason": why,
    }
    return line | ({"mask_slot": rows.add(f"{view}_mask", outline)} if outline is not None else {})


def _mask(path: Path, cine: Cine, labels: dict[int, int]) -> tuple[Array | None, str]:
    """The mask drawn on ``cine``, or the reason why it cannot be used; the cine itself stays."""
    try:
        return read_mask(path, cine, labels), ""
    except Exception as fault:
        return None, reason_of(fault)


def _measured(path: Path, cine: Cine, block: Block) -> dict[str, float]:
    """Phenotypes from the masks of a centre that has none of its own; a stack that cannot be measured gives none."""
    if not block.measure or cine.view != "sax":
        return {}
    try:
        return measure_masks(path, cine, block.mask_labels)
    except StudyError:
        return {}
