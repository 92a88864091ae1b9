"""Whose heart is it? Drawn cines of a cohort against the real ones of the same people, and against cheaper guesses.

Arms: ``generated`` (one sample), ``generated_mean`` (of several), ``shuffled`` (from another person's ECG), ``ridge``
(linear from the ECG to the tokens), ``neighbour`` (cine of the training person with the nearest ECG embedding),
``training_mean``, ``reconstruction`` (the tokenizer's ceiling) and ``real``. Test people only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets import data
from cardionets.config import Study, StudyError
from cardionets.device import pick_device
from cardionets.draw import Artist, Drawn, decode
from cardionets.embed import load_cmr
from cardionets.evaluate.cines import Judge, add_features, add_impossible, add_measured, add_pictures, picture_scores
from cardionets.evaluate.estimate import Floats
from cardionets.evaluate.rows import Rows
from cardionets.generate import blocks, measure, pairs_of, rebuild
from cardionets.generator import load_segmenter
from cardionets.models.cmr_mae import VIEWS, CmrMae
from cardionets.models.segment import MEASURED
from cardionets.store import Store

ARMS = ("generated", "generated_mean", "shuffled", "ridge", "neighbour", "training_mean", "reconstruction", "real")
ON_REAL = "_on_real"  # added to metrics whose truth is what the same network measures on the real cine
MEASURED_ARMS = ("generated", "generated_mean", "shuffled", "ridge", "reconstruction", "real")
FEATURE_ARMS = ("generated", "shuffled", "ridge", "neighbour", "reconstruction")
Cines = dict[str, NDArray[np.uint8]]


def judge(study: Study, cohort: str) -> pd.DataFrame:
    """Metrics of the drawn cines of a cohort's test people: the tidy table.

    Columns: :data:`cardionets.evaluate.rows.COLUMNS`. Where the cohort has no CMR, or weights are missing, rows say why
    there is no number. Raises StudyError when the cohort has not been drawn.
    """
    store = Store.open(study.path("store", cohort), study.grid)
    rows, drawn = Rows(cohort, "test"), Drawn.open(study, cohort)
    records = _judged(store, drawn)
    if len(records) < 2:
        add_impossible(rows, VIEWS, MEASURED, "generated", f"{len(records)} test people have both cines")
        return rows.frame()
    bench = Bench(study, store, drawn, records)
    who = Judge(rows, records["person"].to_numpy(), study.protocol.statistics, study.protocol.seed)
    arms = dict(bench.arms())
    real = arms.pop("real")
    for view in VIEWS:
        scores = {arm: picture_scores(real[view], cines[view]) for arm, cines in arms.items()}
        add_pictures(who, view, scores, "generated", "shuffled")
        add_pictures(who, view, {"real": {"roughness": picture_scores(real[view], real[view])["roughness"]}}, "", "")
    _by_features(who, bench, arms, real)
    _by_measuring(who, bench, arms | {"real": real})
    return rows.frame()


def _judged(store: Store, drawn: Drawn) -> pd.DataFrame:
    """Test people's records with both cines that were drawn; ``drawn_row`` points into the drawn arrays."""
    records = store.records[store.records["split"] == "test"]
    index = drawn.index[["record", "row"]].rename(columns={"row": "drawn_row"})
    return data.one_per_person(data.with_cines(records)).merge(index, on="record").reset_index(drop=True)


@dataclass(frozen=True)
class Bench:
    """What the arms are made of, for the records to be judged."""

    study: Study
    store: Store
    drawn: Drawn
    records: pd.DataFrame

    @cached_property
    def artist(self) -> Artist:
        """The models."""
        return Artist(self.study)

    @cached_property
    def embedding(self) -> Floats:
        """ECG embedding (n, features) of the records."""
        return self.artist.reader.read(self.store, self.records["row"].to_numpy(np.int64))[1]

    @cached_property
    def hub(self) -> tuple[Store, pd.DataFrame] | None:
        """Store and training pairs of the paired cohort; None where they are not on this machine."""
        try:
            store = Store.open(self.study.path("store", self.study.protocol.study.paired), self.study.grid, True)
            return store, pairs_of(store, "train")
        except StudyError:
            return None

    def arms(self) -> Iterator[tuple[str, Cines]]:
        """Cines (n, frame, H, W) of both views per arm; an arm that cannot be made here is left out."""
        made: dict[str, Callable[[], Cines | None]] = {
            "generated": lambda: self.drawn_cines(""),
            "generated_mean": lambda: self.drawn_cines("_mean") if self.drawn.samples > 1 else None,
            "shuffled": self._shuffled,
            "ridge": self._ridge,
            "neighbour": self._neighbour,
            "training_mean": self._mean,
            "reconstruction": lambda: rebuild(self.artist.tokenizer, self.store, self.records),
            "real": lambda: real_cines(self.store, self.records),
        }
        for arm in ARMS:
            cines = made[arm]()
            if cines is not None:
                yield arm, cines

    def drawn_cines(self, kind: str) -> Cines:
        """Drawn cines of the records; ``kind``: "" one sample, "_mean" or "_spread" of several."""
        rows = self.records["drawn_row"].to_numpy(np.int64)
        return {view: np.asarray(self.drawn.arrays[f"{view}{kind}"][rows]) for view in VIEWS}

    def _shuffled(self) -> Cines:
        """Everybody gets the cine drawn from the ECG of somebody else."""
        order = np.random.default_rng(self.study.protocol.seed).permutation(len(self.records))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        return {view: cine[other] for view, cine in self.drawn_cines("").items()}

    def _ridge(self) -> Cines:
        model, parts = self.artist.generator, []
        with torch.inference_mode():
            for rows in blocks(len(self.records)):
                embedding = torch.from_numpy(self.embedding[rows]).to(pick_device())
                parts.append(decode(self.artist.tokenizer, model, model.ridge_tokens(embedding)))
        return {view: torch.cat([p[view] for p in parts]).cpu().numpy() for view in VIEWS}

    def _mean(self) -> Cines:
        shape = (len(self.records), *self.store.sax.shape[1:])
        means = {view: self.artist.generator.get_buffer(f"mean_{view}").cpu().numpy() for view in VIEWS}
        return {view: np.broadcast_to(np.rint(mean).astype(np.uint8), shape) for view, mean in means.items()}

    def _neighbour(self) -> Cines | None:
        if self.hub is None:
            return None
        store, pairs = self.hub
        _, known = self.artist.reader.read(store, pairs["row"].to_numpy(np.int64))
        centre, scale = known.mean(0), np.maximum(known.std(0), 1e-6)
        a, b = (self.embedding - centre) / scale, (known - centre) / scale
        nearest = ((b**2).sum(1) - 2 * a @ b.T).argmin(axis=1)
        return real_cines(store, pairs.iloc[nearest])


def real_cines(store: Store, records: pd.DataFrame) -> Cines:
    """Cines (n, frame, H, W) of both views of records that have them."""
    columns = data.cine_columns(store, records)
    return {view: columns[view].take(np.arange(len(records))) for view in VIEWS}


@torch.inference_mode()
def features(model: CmrMae, cines: Cines) -> Floats:
    """Embedding of both views by the CMR encoders, (n, 2 d)."""
    size, both = model.settings.encoder.size, []
    for view in VIEWS:
        margin = (cines[view].shape[-1] - size) // 2
        cut = slice(margin, margin + size)
        parts = [
            model.encoders[view](
                torch.from_numpy(np.ascontiguousarray(cines[view][rows][..., cut, cut])).to(pick_device())
            )
            for rows in blocks(len(cines[view]))
        ]
        both.append(torch.cat(parts).float().cpu().numpy())
    return np.concatenate(both, axis=1)


def _by_features(who: Judge, bench: Bench, arms: dict[str, Cines], real: Cines) -> None:
    model = load_cmr(bench.study)
    truth = features(model, real)
    training = None
    if bench.hub is not None:
        store, pairs = bench.hub
        training = features(model, real_cines(store, pairs))
    for arm in [a for a in FEATURE_ARMS if a in arms]:
        add_features(who, arm, features(model, arms[arm]), truth, training)
    add_features(who, "real", truth, truth, training)


def _by_measuring(who: Judge, bench: Bench, arms: dict[str, Cines]) -> None:
    try:
        model = load_segmenter(bench.study)
    except StudyError as fault:
        add_impossible(who.rows, (), MEASURED, "generated", f"there is no network to measure with ({fault})")
        return
    spacing = bench.store.grid.spacing_mm
    on_real = measure(model, arms["real"], spacing)
    for arm in [a for a in MEASURED_ARMS if a in arms]:
        found = on_real if arm == "real" else measure(model, arms[arm], spacing)
        add_measured(who, arm, found, bench.records)
        if arm != "real":
            add_measured(who, arm, found, on_real, ON_REAL)


def cases(study: Study, cohort: str) -> dict[str, Cines]:
    """Best, median and worst test person by the short axis' SSIM: case -> label -> cine (frame, H, W).

    Empty where nobody has real cines. With several samples the pixelwise doubt is shown too, stretched to its range.
    """
    store, drawn = Store.open(study.path("store", cohort), study.grid), Drawn.open(study, cohort)
    records = _judged(store, drawn)
    if records.empty:
        return {}
    bench = Bench(study, store, drawn, records)
    real, made = real_cines(store, records), bench.drawn_cines("")
    doubt = bench.drawn_cines("_spread") if drawn.samples > 1 else {}
    order = np.argsort(-picture_scores(real["sax"], made["sax"])["ssim"], kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {case: _side_by_side(real, made, doubt, int(row)) for case, row in chosen.items()}


def _side_by_side(real: Cines, made: Cines, doubt: Cines, row: int) -> Cines:
    out: Cines = {}
    for view in VIEWS:
        out |= {f"real {view}": real[view][row], f"drawn {view}": made[view][row]}
        if doubt:
            most = max(int(doubt[view].max()), 1)
            out[f"doubt {view}"] = (doubt[view][row].astype(np.float32) * (255 / most)).astype(np.uint8)
    return out
