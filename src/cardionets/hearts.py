"""The drawn hearts of a whole cohort as files that other programs open: NIfTI with spacing and phase, GIF, MP4.

Only ECGs are needed: a cohort without CMR, or with one view of it, is drawn like any other. ``<out>/block-00003/``
holds the files of 64 records with ``block.json`` and ``index.csv``, and appears when all of it is written, so that
shards never meet and a killed run goes on with the first block that is missing. A record's cine depends on its ECG, its
pseudonym and the seed, not on block, shard or neighbours. Patient-level: it stays here.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cardionets import weights
from cardionets.config import Study, StudyError, check
from cardionets.draw import BLOCK, Artist, Cine, Moments
from cardionets.embed import open_store
from cardionets.figures import cine as moving
from cardionets.files import atomic_path
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.mar import MarSettings, SampleSettings
from cardionets.progress import track
from cardionets.store import Store

Beats = NDArray[np.float64]  # milliseconds (n,)
FORMATS: Final = ("nifti", "gif", "mp4")
ENCODER: Final = "ffmpeg"  # of MP4, where it is installed
BEATS: Final = 4  # that an MP4 repeats: players do not loop as browsers loop a GIF
ASSUMED_MS: Final = 1000.0  # a beat of a record whose heart rate is unknown
WORDS: Final = "drawn from an ECG; not an acquired image"


@dataclass(frozen=True)
class Order:
    """What is wanted: of whom, how many cines each, how they are sampled, in which files."""

    samples: int = 1  # above 1: so many posterior samples, their mean and spread, beside the cine at low temperature
    seed: int | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)  # fields of SampleSettings, over those of the weights
    formats: tuple[str, ...] = ("nifti", "gif")
    everybody: bool = False  # training people as well, whose hearts the generator has seen
    records: tuple[str, ...] = ()  # these alone

    def how(self, study: Study) -> SampleSettings:
        """The sampling settings. Raises StudyError with every fault of the order at once."""
        faults, settings = [], study.block("generator", MarSettings).sample
        if self.samples < 1:
            faults.append(f"generate: samples: {self.samples} makes no cine; give 1 or more.")
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            faults.append(f"generate: formats: {unknown or 'none'}; choose from {', '.join(FORMATS)}.")
        try:
            settings = check(SampleSettings, settings.model_dump() | dict(self.sampling), "generate")
        except StudyError as fault:
            faults.append(str(fault))
        if faults:
            raise StudyError("\n".join(faults))
        return settings


@dataclass(frozen=True)
class _Job:
    study: Study
    store: Store
    records: pd.DataFrame
    order: Order
    artist: Artist
    out: Path

    @property
    def key(self) -> str:
        """Changes with anything that may change a file."""
        stamp = (self.store.path / "store.json").read_text(encoding="utf-8")
        names = "\n".join(self.records["record"])
        parts = [self.artist.key, stamp, names, self.order.samples, sorted(self.order.formats)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def blocks(self) -> list[Path]:
        return [self.out / f"block-{i:05d}" for i in range(-(-len(self.records) // BLOCK))]

    @property
    def simulated(self) -> bool:
        return bool(self.store.meta.get("simulated", False))

    @cached_property
    def source(self) -> dict[str, Any]:
        """What a file says of where it comes from."""
        card = weights.read_card(self.study.path("weights", "generator"))
        sampling = self.artist.how.model_dump(mode="json")
        return {
            "source": WORDS,
            "simulated": self.simulated,
            "seed": self.artist.seed,
            **sampling,
            "weights": card.sha256,
        }


def generate(study: Study, cohort: str, out: Path, order: Order, shard: tuple[int, int] | None = None) -> list[str]:
    """Draw a cohort into ``out``, or shard i of n (from 1) of it; returns what people should know, in sentences.

    After the last shard call once without ``shard``: it draws what is missing and writes ``index.csv`` of the whole.
    Raises StudyError for an order or weights that make no sense, for records that are not there, and when ``out``
    holds other cines than those ordered.
    """
    how = order.how(study)
    store = open_store(study, cohort)
    records, notes = _wanted(store, order)
    order, more = _playable(order)
    job = _Job(study, store, records, order, Artist(study, order.seed, how), out)
    _refuse_others(job)
    first, of = shard or (1, 1)
    todo = [(number, path) for number, path in enumerate(job.blocks) if number % of == first - 1 and not path.is_dir()]
    for number, path in track(todo, f"generate {cohort}, blocks of {BLOCK} ECGs"):
        _draw_block(job, records.iloc[number * BLOCK : (number + 1) * BLOCK], path)
    if shard is None:
        parts = [pd.read_csv(path / "index.csv").assign(folder=path.name) for path in job.blocks]
        with atomic_path(out / "index.csv") as aside:
            pd.concat(parts).to_csv(aside, index=False, lineterminator="\n")
    return [*notes, *more]


def _wanted(store: Store, order: Order) -> tuple[pd.DataFrame, list[str]]:
    """Records to draw, and what there is to say of them and of those left out."""
    name, records, notes = store.path.name, store.records, []
    if order.records:
        unknown = sorted(set(order.records) - set(records["record"]))
        if unknown:
            raise StudyError(f"store/{name}: no record {', '.join(unknown)}; see the column record of its records.")
        records = records[records["record"].isin(order.records)]
    elif not order.everybody:
        training = records["split"] == "train"
        records = records[~training]
        if training.any():
            notes.append(f"{int(training.sum()):,} ECGs of training people were left out; --everybody draws them.")
    if records.empty:
        raise StudyError(f"store/{name}: there is no ECG to draw from; add --everybody, or see its flow.csv.")
    views = int(((records["sax_row"] >= 0) & (records["lax_row"] >= 0)).sum())
    if views < len(records):
        notes.append(f"{len(records) - views:,} of {len(records):,} have no CMR of both views to be judged by.")
    unmeasured = int((~(records["rate_bpm"] > 0)).sum())
    if unmeasured:
        notes.append(f"{unmeasured:,} have no heart rate: their beat is shown as {ASSUMED_MS:.0f} ms.")
    return records.reset_index(drop=True), notes


def _playable(order: Order) -> tuple[Order, list[str]]:
    """The order without MP4 where nothing here can write it."""
    if "mp4" not in order.formats or shutil.which(ENCODER):
        return order, []
    left = tuple(name for name in order.formats if name != "mp4") or ("gif",)
    text = f"No MP4 was written, because {ENCODER} is not installed; written instead: {', '.join(left)}."
    return Order(**vars(order) | {"formats": left}), [text]


def _refuse_others(job: _Job) -> None:
    """Never mix cines of two weights, seeds or settings in one folder."""
    for path in sorted(job.out.glob("block-*/block.json")):
        if json.loads(path.read_text(encoding="utf-8")).get("key") != job.key:
            text = "holds cines of other weights, records or settings"
            raise StudyError(f"{job.out.name}/{path.parent.name}: {text}; choose another --out, or remove it.")


def _draw_block(job: _Job, records: pd.DataFrame, folder: Path) -> None:
    rate = records["rate_bpm"].to_numpy(np.float64)
    beats = np.where(rate > 0, 60_000 / np.where(rate > 0, rate, 1.0), ASSUMED_MS)
    with atomic_path(folder, lasting=True) as aside:
        aside.mkdir()
        shown = _draw_samples(job, records, beats, aside)
        for i, (record, beat_ms) in enumerate(zip(records["record"], beats)):
            _write_film(job, {label: cine[i] for label, cine in shown.items()}, beat_ms, aside / record)
        index = records[["record", "person", "split", "rate_bpm"]]
        index = index.assign(beat_ms=beats.round(3), frame_ms=(beats / job.store.grid.frames).round(3))
        index.to_csv(aside / "index.csv", index=False, lineterminator="\n")
        (aside / "block.json").write_text(json.dumps({"key": job.key, **job.source}, indent=1) + "\n", "utf-8")


def _draw_samples(job: _Job, records: pd.DataFrame, beats: Beats, folder: Path) -> dict[str, Cine]:
    """Write every sample; returns what is shown moving, label -> (b, frame, H, W): the first, and their spread."""
    names, moments = list(records["record"]), Moments()
    samples = job.artist.samples(job.store, records, job.order.samples)
    first = next(samples)
    _write_niftis(job, first, names, beats, folder, "")
    for cines in samples:
        moments.add(cines)
        _write_niftis(job, cines, names, beats, folder, f"_{moments.count}")
    if not moments.count:
        return first
    spread = {view: moments.spread(view) for view in VIEWS}
    _write_niftis(job, {view: moments.mean(view) for view in VIEWS}, names, beats, folder, "_mean")
    _write_niftis(job, spread, names, beats, folder, "_doubt")
    return first | {f"{moving.DOUBT} {view}": cine for view, cine in spread.items()}


def _write_niftis(
    job: _Job, cines: Mapping[str, Cine], names: Sequence[str], beats: Beats, folder: Path, suffix: str
) -> None:
    if "nifti" not in job.order.formats:
        return
    for view, made in cines.items():
        for name, cine, beat_ms in zip(names, made, beats):
            about = job.source | {"view": view, "content": suffix.strip("_") or "chosen temperature"}
            data = nifti(cine, job.store.grid.spacing_mm, beat_ms, about)
            (folder / f"{name}_{view}{suffix}.nii.gz").write_bytes(data)


def nifti(cine: Cine, spacing_mm: float, beat_ms: float, about: Mapping[str, Any]) -> bytes:
    """A cine (frame, H, W) as compressed NIfTI (x, y, 1, frame): mm, ms per frame, and ``about`` as its comment.

    The comment also lists the phase of every frame as a share of the RR interval, from end-diastole.
    """
    import nibabel as nib

    image = nib.Nifti1Image(np.ascontiguousarray(cine.transpose(2, 1, 0)[:, :, None]), np.diag([spacing_mm] * 3 + [1]))
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((spacing_mm, spacing_mm, spacing_mm, beat_ms / len(cine)))
    image.header["descrip"] = WORDS.encode()
    phases = [round(i / len(cine), 4) for i in range(len(cine))]
    comment = json.dumps(dict(about) | {"phase": phases}).encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment))
    return gzip.compress(image.to_bytes(), mtime=0)


def _write_film(job: _Job, cines: Mapping[str, Cine], beat_ms: float, stem: Path) -> None:
    shown = {}
    for label, cine in cines.items():
        doubt = label.startswith(moving.DOUBT)
        name, values = moving.stretched(cine, label.split()[-1]) if doubt else (label, cine)
        shown[name] = values
    wanted = set(job.order.formats) & {"gif", "mp4"}
    if not wanted:
        return
    pages = moving.film(shown, simulated=job.simulated)
    if "gif" in wanted:
        stem.with_name(stem.name + ".gif").write_bytes(moving.gif(pages, beat_ms / 1000))
    if "mp4" in wanted:
        _write_mp4(pages, beat_ms, stem.with_name(stem.name + ".mp4"))


def _write_mp4(pages: Sequence[Any], beat_ms: float, path: Path) -> None:
    width, height = (side - side % 2 for side in pages[0].size)  # the pixel format wants even sides
    frames = b"".join(page.convert("RGB").crop((0, 0, width, height)).tobytes() for page in pages)
    rate = f"{1000 * len(pages) / beat_ms:.4f}"
    command = [ENCODER, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", rate, "-i", "-", "-pix_fmt", "yuv420p", "-flags", "+bitexact", "-fflags", "+bitexact", str(path)]
    done = subprocess.run(command, input=frames * BEATS, capture_output=True, check=False)
    if done.returncode:
        raise StudyError(f"generate: {ENCODER} could not write an MP4; leave mp4 out of --formats.")
