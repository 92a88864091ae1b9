"""Draw the cines of a cohort from its ECGs, whether or not it has CMR.

``predictions/<cohort>_cines/`` holds ``sax.npy`` and ``4ch.npy`` (uint8, one drawn cine per record), ``index.parquet``
(record, person, split, row) and ``cines.json``; with several samples also their mean and spread. Patient-level: it
stays here. A record's random numbers come from its pseudonym, so that its cine does not depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cardionets import data, weights
from cardionets.config import Study, StudyError
from cardionets.device import pick_device
from cardionets.embed import open_store
from cardionets.encoders import in_blocks
from cardionets.files import atomic_path
from cardionets.generator import EcgReader, Generator, load_generator, load_tokenizer
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.mar import SampleSettings
from cardionets.models.tokenizer import Tokenizer
from cardionets.progress import track
from cardionets.store import Store

BLOCK: Final = 64  # records drawn at once; a killed run continues with the first block that is missing
SHOWN: Final = 64  # records drawn of a cohort that has no cine to judge them by
META: Final = "cines.json"
Cine = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """Drawn cines of a cohort: ``index`` (record, person, split, row) and memory-mapped arrays by name."""

    index: pd.DataFrame
    arrays: Mapping[str, Cine]
    samples: int

    @classmethod
    def open(cls, study: Study, cohort: str) -> Drawn:
        """Open ``predictions/<cohort>_cines``. Raises StudyError when it has not been drawn."""
        folder = folder_of(study, cohort)
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in meta["arrays"]}
            return cls(pd.read_parquet(folder / "index.parquet"), arrays, meta["samples"])
        except (OSError, ValueError, KeyError):
            text = f"predictions/{folder.name}: missing or cut short"
            raise StudyError(f"{text}; run `dvc repro images@{cohort}`.") from None


def folder_of(study: Study, cohort: str) -> Path:
    """Where the drawn cines of a cohort lie."""
    return study.path("predictions", f"{cohort}_cines")


def generate(study: Study, cohort: str, samples: int = 1, everybody: bool = False) -> Path:
    """Draw the cines of :func:`to_be_judged`, or of ``everybody``; returns their folder.

    With ``samples`` > 1 the folder also holds one posterior sample (``_sample``), and the mean and pixelwise SD of that
    many, per record. Work that is already there for the same weights, records and settings is kept. Raises StudyError
    when ``samples`` is below 1.
    """
    if samples < 1:
        raise StudyError(f"generate: samples: {samples} makes no cine; give 1 or more.")
    store = open_store(study, cohort)
    artist = Artist(study)
    records = store.records if everybody else to_be_judged(store.records)
    target, job = folder_of(study, cohort), _Job(store, records.reset_index(drop=True), samples)
    key = job.key(artist.key)
    if _finished(target, key):
        return target
    aside = target.with_name(f".{target.name}.work")
    _draw_blocks(artist, job, aside, key)
    _publish(job, aside, target, key)
    return target


def to_be_judged(records: pd.DataFrame) -> pd.DataFrame:
    """One record of every test person who has both real cines; without any, the first records no model was fitted on.

    `python -m cardionets generate` draws whole cohorts.
    """
    pairs = data.pairs(records, "test")
    return records[records["split"] != "train"].iloc[:SHOWN] if pairs.empty else pairs


class Artist:
    """Everything that draws: ECG reader, generator and tokenizer of a study."""

    def __init__(self, study: Study, seed: int | None = None, how: SampleSettings | None = None) -> None:
        """``seed`` and ``how`` tokens are drawn: those of the protocol and of the weights where nothing is given."""
        self.reader, self.tokenizer, self.generator = EcgReader(study), load_tokenizer(study), load_generator(study)
        self.seed = study.protocol.seed if seed is None else seed
        self.how = how or self.generator.mar.settings.sample
        cards = [weights.read_card(study.path("weights", name)).sha256 for name in ("align", "tokenizer", "generator")]
        self.key = [*cards, self.how.model_dump(mode="json"), self.seed]

    def draw(self, store: Store, records: pd.DataFrame, sample: int = 0) -> dict[str, Tensor]:
        """uint8 cines (b, frame, H, W) of both views from the ECGs of these records."""
        ecg, _ = self.reader.read(store, records["row"].to_numpy(np.int64))
        return self.draw_from(torch.from_numpy(ecg), list(records["record"]), sample)

    def samples(self, store: Store, records: pd.DataFrame, count: int) -> Iterator[dict[str, Cine]]:
        """uint8 cines (b, frame, H, W) of both views, one after the other.

        First the one at the chosen temperature; where ``count`` > 1 so many posterior samples (at 1) follow.
        """
        ecg, names = self.reader.read(store, records["row"].to_numpy(np.int64))[0], list(records["record"])
        full = self._tokens(torch.from_numpy(ecg), names, 0)
        yield self._shown(self._drawn_in(torch.from_numpy(ecg), full))
        if count > 1:
            yield self._shown(full)
            for number in range(1, count):
                yield self._shown(self._tokens(torch.from_numpy(ecg), names, number))

    def draw_from(self, ecg: Tensor, names: list[str], sample: int = 0) -> dict[str, Tensor]:
        """Cines of both views from ECG tokens (b, m, e); ``names`` (b) and ``sample`` fix the random numbers.

        Sample 0 is drawn at the chosen temperature, every other at 1. Number 0 is number 1 drawn in towards the guess:
        both start from the same noise.
        """
        tokens = self._tokens(ecg, names, max(sample - 1, 0))
        return decode(self.tokenizer, self.generator, tokens if sample else self._drawn_in(ecg, tokens))

    def _tokens(self, ecg: Tensor, names: list[str], number: int) -> Tensor:
        """Packed cine tokens (b, n, c) of a fair sample, at temperature 1."""
        noise, order = starts(self.generator, names, self.seed, number)
        how = self.how.model_copy(update={"temperature": 1.0})
        return sample_tokens(self.generator, ecg, noise, order, how)

    @torch.inference_mode()
    def _drawn_in(self, ecg: Tensor, tokens: Tensor) -> Tensor:
        """A fair sample's tokens (b, n, c) at the chosen temperature, from ECG tokens (b, m, e)."""
        return torch.lerp(self.generator.ridge_tokens(ecg.to(tokens.device)), tokens, self.how.temperature)

    def _shown(self, tokens: Tensor) -> dict[str, Cine]:
        made = decode(self.tokenizer, self.generator, tokens)
        return {view: cine.cpu().numpy() for view, cine in made.items()}


def sample_tokens(model: Generator, ecg: Tensor, noise: Tensor, order: Tensor, how: SampleSettings) -> Tensor:
    """Packed cine tokens (b, n, c) from ECG tokens (b, m, e)."""
    device = pick_device()
    return model.sample(ecg.to(device), noise.to(device), order.to(device), how)


def decode(tokenizer: Tokenizer, model: Generator, tokens: Tensor) -> dict[str, Tensor]:
    """Packed tokens (b, n, c) -> uint8 cines (b, frame, H, W) of both views."""
    return tokenizer.decode(tokenizer.unpack(tokens, model.mar.settings.patch))


def starts(model: Generator, names: list[str], seed: int, sample: int) -> tuple[Tensor, Tensor]:
    """Starting noise (b, n, c) and order of revealing (b, n), a function of seed, record name and sample alone."""
    noise, order = [], []
    for name in names:
        digest = hashlib.sha256(f"{seed} {name} {sample}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        noise.append(rng.standard_normal((model.mar.tokens, model.mar.channels), np.float32))
        order.append(rng.permutation(model.mar.tokens))
    return torch.from_numpy(np.stack(noise)), torch.from_numpy(np.stack(order))


@dataclass(frozen=True)
class _Job:
    """Records to draw and what is kept of each."""

    store: Store
    records: pd.DataFrame
    samples: int

    @property
    def arrays(self) -> list[str]:
        kinds = [""] if self.samples == 1 else ["", "_sample", "_mean", "_spread"]
        return [f"{view}{kind}" for view in VIEWS for kind in kinds]

    def key(self, weights_key: list[Any]) -> str:
        stamp = (self.store.path / "store.json").read_text(encoding="utf-8")
        names = hashlib.sha256("\n".join(self.records["record"]).encode()).hexdigest()
        return hashlib.sha256(json.dumps([weights_key, stamp, names, self.samples]).encode()).hexdigest()

    def blocks(self) -> Iterator[data.Rows]:
        return in_blocks(len(self.records), BLOCK)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _finished(folder: Path, key: str) -> bool:
    return _read_json(folder / META).get("key") == key


def _draw_blocks(artist: Artist, job: _Job, aside: Path, key: str) -> None:
    """Fill the arrays in ``aside``, block by block, after those that ``state.json`` says are done."""
    aside.mkdir(parents=True, exist_ok=True)
    state = _read_json(aside / "state.json")
    grid = job.store.grid
    shape = (len(job.records), grid.frames, grid.size, grid.size)
    resumed = state.get("key") == key and all((aside / f"{name}.npy").is_file() for name in job.arrays)
    if not resumed:
        (aside / "state.json").unlink(missing_ok=True)
    mode: Any = "r+" if resumed else "w+"
    arrays = {
        name: np.lib.format.open_memmap(aside / f"{name}.npy", mode, None if resumed else np.uint8, shape)
        for name in (job.arrays if len(job.records) else [])
    }
    done = int(state.get("done", 0)) if resumed else 0
    for number, rows in enumerate(track(list(job.blocks()), f"draw {job.store.path.name}")):
        if number < done:
            continue
        for name, values in _draw_block(artist, job, job.records.iloc[rows]).items():
            arrays[name][rows] = values
            arrays[name].flush()
        with atomic_path(aside / "state.json") as path:
            path.write_text(json.dumps({"key": key, "done": number + 1}), encoding="utf-8")


def _draw_block(artist: Artist, job: _Job, records: pd.DataFrame) -> dict[str, Cine]:
    samples = artist.samples(job.store, records, job.samples)
    out, moments = dict(next(samples)), Moments()
    for cines in samples:
        moments.add(cines)
        if moments.count == 1:
            out |= {f"{view}_sample": cine for view, cine in cines.items()}
    if moments.count:
        for view in VIEWS:
            out |= {f"{view}_mean": moments.mean(view), f"{view}_spread": moments.spread(view)}
    return out


class Moments:
    """Pixelwise mean and SD of several cines of the same records, in grey levels, without keeping the cines."""

    def __init__(self) -> None:
        self.count = 0
        self._total: dict[str, NDArray[np.float32]] = {}
        self._squares: dict[str, NDArray[np.float32]] = {}

    def add(self, cines: Mapping[str, Cine]) -> None:
        """One more cine of every view."""
        self.count += 1
        for view, cine in cines.items():
            if view not in self._total:
                self._total[view], self._squares[view] = (np.zeros(cine.shape, np.float32) for _ in range(2))
            self._total[view] += cine
            self._squares[view] += np.square(cine, dtype=np.float32)

    def mean(self, view: str) -> Cine:
        """Mean, uint8."""
        return np.rint(self._total[view] / self.count).astype(np.uint8)

    def spread(self, view: str) -> Cine:
        """SD (over the count, not one less), uint8."""
        spread = self._squares[view] * self.count
        spread -= np.square(self._total[view])  # whole numbers below 2**24 up to 16 cines: exact
        np.sqrt(np.maximum(spread, 0, out=spread), out=spread)
        spread /= self.count
        return np.rint(spread, out=spread).astype(np.uint8)


def _publish(job: _Job, aside: Path, target: Path, key: str) -> None:
    """Give the finished folder its name, index and description."""
    names = job.arrays if len(job.records) else []
    index = job.records[["record", "person", "split"]].assign(row=np.arange(len(job.records)))
    grid = job.store.grid
    meta = {"key": key, "samples": job.samples, "arrays": names, "grid": grid.model_dump()}
    meta["simulated"] = bool(job.store.meta.get("simulated", False))
    with atomic_path(target, lasting=True) as final:
        final.mkdir()
        index.to_parquet(final / "index.parquet", index=False)
        for name in names:
            (aside / f"{name}.npy").rename(final / f"{name}.npy")
        (final / META).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (aside / "state.json").unlink(missing_ok=True)
    aside.rmdir()
