"""Whose heart is it? Drawn cines of a cohort against the real ones of the same people, and against cheaper guesses.

Arms: ``generated`` (one cine at the temperature chosen on validation people), ``posterior_sample`` (one at temperature
1), ``generated_mean`` (of several of these), ``latent_flow`` and ``latent_flow_sample`` (the older approach, likewise),
``shuffled`` (from another person's ECG), ``ridge`` (linear from the ECG to the tokens), ``neighbour`` (cine of the
training person with the nearest ECG embedding), ``training_mean``, ``reconstruction`` (the tokenizer's ceiling) and
``real``; for measurements also ``direct``, the
regression without a picture. Test people only. Real cines are brought into the canonical pose in which cines are drawn
(:mod:`cardionets.models.pose`) by their own pixels alone, once for all arms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cardionets import data
from cardionets.config import Study, StudyError
from cardionets.device import pick_device
from cardionets.draw import Artist, Drawn, decode, starts
from cardionets.encoders import load_cmr
from cardionets.evaluate.cines import (
    OWN_METRICS,
    Judge,
    add_diseases,
    add_doubt,
    add_features,
    add_impossible,
    add_measured,
    add_pictures,
    add_stills,
    picture_scores,
)
from cardionets.evaluate.estimate import Floats
from cardionets.evaluate.rows import Rows
from cardionets.figures.cine import stretched
from cardionets.generate import blocks, canonical, cine_table, measure, rebuild
from cardionets.generator import load_segmenter
from cardionets.home import Home, features
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.segment import MEASURED
from cardionets.store import Store

ARMS = (
    *("generated", "posterior_sample", "generated_mean", "latent_flow", "latent_flow_sample"),
    *("shuffled", "ridge", "neighbour", "training_mean", "reconstruction", "real"),
)
ON_REAL = "_on_real"  # added to metrics whose truth is what the same network measures on the real cine
UNMEASURED = ("generated_mean", "neighbour", "training_mean", "latent_flow_sample")  # no patient's own sharp picture
MEASURED_ARMS = tuple(arm for arm in ARMS if arm not in UNMEASURED)
FEATURE_ARMS = tuple(arm for arm in ARMS if arm not in ("training_mean", "real"))
SEEN_BEFORE = ("shuffled", "neighbour")  # whose features are those of cines that were embedded already
STILL_ARMS = ("generated", "posterior_sample", "latent_flow_sample", "reconstruction")  # whose single images count
RIVALS = ("shuffled", "neighbour", "training_mean", "latent_flow", "latent_flow_sample", "ridge")
GAINS = tuple((arm, rival) for arm in ("generated", "posterior_sample", "generated_mean") for rival in RIVALS)
SIDE_BY_SIDE = {
    ("cine_sax", "cine_4ch"): ("ssim", "psnr", "motion", "roughness", "closing", "doubt_r", "error_over_doubt"),
    ("cine",): ("top_1", "top_5", "median_rank", "feature_distance", "frechet", "frechet_image", "nearest_training"),
    ("lv_edv", "lv_ef", "lv_mass", "rv_edv"): ("r", "bias"),
}
"""Endpoints and their metrics that stand side by side, arm by arm."""
DIRECT = "aligned"  # the arm of the predictions that "direct" shows: the same encoder, a linear head, no picture
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
        add_pictures(who, view, scores, GAINS)
        add_pictures(who, view, {"real": picture_scores(real[view], real[view], OWN_METRICS)})
        if drawn.samples > 1:
            spread = bench.drawn_cines("_spread")[view]
            add_doubt(who, view, real[view], arms["generated_mean"][view], spread, drawn.samples)
    _by_features(who, bench, arms, real)
    _by_measuring(who, bench, arms | {"real": real})
    return rows.frame()


def _judged(store: Store, drawn: Drawn) -> pd.DataFrame:
    """Test people's records with both cines that were drawn; ``drawn_row`` points into the drawn arrays."""
    index = drawn.index[["record", "row"]].rename(columns={"row": "drawn_row"})
    return data.pairs(store.records, "test").merge(index, on="record").reset_index(drop=True)


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
    def ecg(self) -> tuple[Floats, Floats]:
        """ECG tokens (n, m, e) and embedding (n, features) of the records."""
        return self.artist.reader.read(self.store, self.records["row"].to_numpy(np.int64))

    @cached_property
    def table(self) -> data.Table:
        """Real cines of the records and their pose."""
        return cine_table(self.artist.tokenizer, self.store, self.records)

    @cached_property
    def home(self) -> Home | None:
        """What the training people look like to the CMR encoder; None where they are not on this machine."""
        return Home.of(self.study, self.artist, *self.hub) if self.hub is not None else None

    @cached_property
    def hub(self) -> tuple[Store, pd.DataFrame] | None:
        """Store and training pairs of the paired cohort; None where they are not on this machine."""
        try:
            store = Store.open(self.study.path("store", self.study.protocol.study.paired), self.study.grid, True)
            return store, data.pairs_of(store, "train")
        except StudyError:
            return None

    def arms(self) -> Iterator[tuple[str, Cines]]:
        """Cines (n, frame, H, W) of both views per arm; an arm that cannot be made here is left out."""
        made: dict[str, Callable[[], Cines | None]] = {
            "generated": lambda: self.drawn_cines(""),
            "generated_mean": lambda: self.drawn_cines("_mean") if self.drawn.samples > 1 else None,
            "posterior_sample": lambda: self.drawn_cines("_sample") if self.drawn.samples > 1 else None,
            "latent_flow": lambda: self._flow(self.artist.how.temperature),
            "latent_flow_sample": lambda: self._flow(1.0) if self.drawn.samples > 1 else None,
            "shuffled": self._shuffled,
            "ridge": self._ridge,
            "neighbour": self._neighbour,
            "training_mean": self._mean,
            "reconstruction": lambda: rebuild(self.artist.tokenizer, self.table),
            "real": lambda: canonical(self.table),
        }
        for arm in ARMS:
            cines = made[arm]()
            if cines is not None:
                yield arm, cines

    def drawn_cines(self, kind: str) -> Cines:
        """Drawn cines of the records; ``kind``: "", "_sample", "_mean" or "_spread"."""
        rows = self.records["drawn_row"].to_numpy(np.int64)
        return {view: np.asarray(self.drawn.arrays[f"{view}{kind}"][rows]) for view in VIEWS}

    @cached_property
    def other(self) -> NDArray[np.int64]:
        """Somebody else for everybody (n,)."""
        order = np.random.default_rng(self.study.protocol.seed).permutation(len(self.records))
        other = np.empty_like(order)
        other[order] = np.roll(order, 1)
        return other

    def _shuffled(self) -> Cines:
        """Everybody gets the cine drawn from the ECG of somebody else."""
        return {view: cine[self.other] for view, cine in self.drawn_cines("").items()}

    def _flow(self, temperature: float) -> Cines | None:
        """One sample of the older approach, from the same noise as the first of the generator."""
        if self.artist.generator.flow is None:
            return None
        ridge, full = self.artist.generator.ridge_tokens, self.flow_tokens
        return self._decoded(lambda rows, ecg: torch.lerp(ridge(ecg), full[rows].to(ecg.device), temperature))

    @cached_property
    def flow_tokens(self) -> Tensor:
        """Tokens (n, n tokens, c) of the older approach at temperature 1, drawn once for every temperature."""
        model, names, parts = self.artist.generator, list(self.records["record"]), []
        with torch.inference_mode():
            for rows in blocks(len(names)):
                noise, _ = starts(model, [names[row] for row in rows], self.artist.seed, 0)
                ecg = torch.from_numpy(self.ecg[0][rows]).to(pick_device())
                parts.append(model.sample_flow(ecg, noise.to(ecg.device), 1.0).cpu())
        return torch.cat(parts)

    def _ridge(self) -> Cines:
        return self._decoded(lambda rows, tokens: self.artist.generator.ridge_tokens(tokens))

    def _decoded(self, draw: Callable[[NDArray[np.int64], Tensor], Tensor]) -> Cines:
        """Cines of the tokens that ``draw`` makes of rows (b,) and their ECG tokens (b, m, e)."""
        parts = []
        with torch.inference_mode():
            for rows in blocks(len(self.records)):
                tokens = torch.from_numpy(self.ecg[0][rows]).to(pick_device())
                parts.append(decode(self.artist.tokenizer, self.artist.generator, draw(rows, tokens)))
        return {view: torch.cat([p[view] for p in parts]).cpu().numpy() for view in VIEWS}

    def _mean(self) -> Cines:
        shape = (len(self.records), *self.store.sax.shape[1:])
        means = {view: self.artist.generator.get_buffer(f"mean_{view}").cpu().numpy() for view in VIEWS}
        return {view: np.broadcast_to(np.rint(mean).astype(np.uint8), shape) for view, mean in means.items()}

    @cached_property
    def nearest(self) -> NDArray[np.int64] | None:
        """Number of the training person with the nearest ECG embedding (n,); None where there is none."""
        if self.home is None:
            return None
        known = self.home.ecg
        centre, scale = known.mean(0), np.maximum(known.std(0), 1e-6)
        a, b = (self.ecg[1] - centre) / scale, (known - centre) / scale
        return np.asarray(((b**2).sum(1) - 2 * a @ b.T).argmin(axis=1))

    def _neighbour(self) -> Cines | None:
        if self.hub is None or self.home is None or self.nearest is None:
            return None
        store, pairs = self.hub
        pose = data.column(self.home.pose, self.nearest)
        return canonical(data.Table(**data.cine_columns(store, pairs.iloc[self.nearest]), pose=pose))


def _by_features(who: Judge, bench: Bench, arms: dict[str, Cines], real: Cines) -> None:
    model = load_cmr(bench.study)
    truth = features(model, real)
    home = bench.home
    seen = {arm: features(model, arms[arm]) for arm in FEATURE_ARMS if arm in arms and arm not in SEEN_BEFORE}
    seen |= {"shuffled": seen["generated"][bench.other], "real": truth}
    if home and bench.nearest is not None:
        seen["neighbour"] = home.features["train"][bench.nearest]
    for arm, found in seen.items():
        add_features(who, arm, found, truth, home.features["train"] if home else None)
        if home:
            add_diseases(who, arm, home.diseases(found), bench.records)
    enough = len(truth) > truth.shape[1]  # else no distance can be estimated, and the rows say so
    still = features(model, _stills(real)) if enough else truth
    for arm in STILL_ARMS:
        if arm in arms:
            add_stills(who, arm, features(model, _stills(arms[arm])) if enough else truth, still)


def _stills(cines: Cines) -> Cines:
    """Cines (n, frame, H, W) that show their first frame, end-diastole, throughout."""
    return {view: np.broadcast_to(cine[:, :1], cine.shape) for view, cine in cines.items()}


def _by_measuring(who: Judge, bench: Bench, arms: dict[str, Cines]) -> None:
    try:
        model = load_segmenter(bench.study)
    except StudyError as fault:
        add_impossible(who.rows, (), MEASURED, "generated", f"there is no network to measure with ({fault})")
        return
    wanted = [arm for arm in MEASURED_ARMS if arm in arms]
    found = {arm: measure(model, arms[arm]) for arm in wanted if arm != "shuffled"}
    found["shuffled"] = found["generated"].iloc[bench.other].reset_index(drop=True)
    for arm in wanted:
        add_measured(who, arm, found[arm], bench.records)
        if arm != "real":
            add_measured(who, arm, found[arm], found["real"], ON_REAL)
    direct = _direct(bench)
    if direct is not None:
        add_measured(who, "direct", direct, bench.records)


def _direct(bench: Bench) -> pd.DataFrame | None:
    """Phenotypes (n rows) that the regression without a picture predicts; None where it has not been run."""
    path = bench.study.path("predictions", f"{bench.store.path.name}.parquet")
    if not path.is_file():
        return None
    rows = pd.read_parquet(path, filters=[("arm", "==", DIRECT), ("fraction", "==", 1.0)])
    rows = rows[rows["endpoint"].isin(MEASURED)]
    wide = rows.pivot_table(index="record", columns="endpoint", values="value", observed=True)
    return wide.reindex(index=bench.records["record"], columns=list(MEASURED)).reset_index(drop=True)


def side_by_side(found: pd.DataFrame) -> pd.DataFrame:
    """The headline metrics of :func:`judge`, a row each, arms in columns."""
    shown = [arm for arm in (*ARMS, "direct") if arm in set(found["arm"]) and arm not in ("real", "latent_flow_sample")]
    rows = []
    for endpoints, metrics in SIDE_BY_SIDE.items():
        for endpoint, metric in product(endpoints, metrics):
            part = found[(found["endpoint"] == endpoint) & (found["metric"] == metric) & found["estimate"].notna()]
            if len(part):
                values = part.drop_duplicates("arm").set_index("arm")["estimate"].reindex(shown)
                rows.append({"what": f"{endpoint} {metric}", **values, "n": int(part["n"].max())})
    return pd.DataFrame(rows, columns=["what", *shown, "n"])


def verdicts(found: pd.DataFrame) -> list[str]:
    """In words, per view and arm: which rivals the drawn cines beat in SSIM and PSNR, person by person, and which not.

    A gain counts where its interval excludes 0. Empty where nothing could be judged.
    """
    sentences = []
    for view, metric, arm in product(VIEWS, ("ssim", "psnr"), ("generated", "posterior_sample", "generated_mean")):
        rows = found[(found["endpoint"] == f"cine_{view}") & (found["metric"] == metric)].set_index("arm")
        gains: dict[str, Any] = {r: rows.loc[f"{arm} - {r}"] for r in RIVALS if f"{arm} - {r}" in rows.index}
        sides = {"better than": 1, "no different from": 0, "worse than": -1}
        parts = [
            f"{word} " + ", ".join(f"{r} ({g['estimate']:+.3f})" for r, g in gains.items() if _side(g) == side)
            for word, side in sides.items()
            if any(_side(g) == side for g in gains.values())
        ]
        if parts:
            sentences.append(f"{metric.upper()}, {view}, {arm}: {'; '.join(parts)}.")
    return sentences


def _side(gain: pd.Series) -> int:
    return int(gain["lower"] > 0) - int(gain["upper"] < 0)


@dataclass(frozen=True)
class Case:
    """A record that is shown, and its cines (frame, H, W) by label: real, drawn, and doubt where there is any."""

    record: str
    cines: Cines


def cases(study: Study, cohort: str) -> dict[str, Case]:
    """Best, median and worst test person by the short axis' SSIM.

    Empty where nobody has real cines. With several samples the pixelwise doubt is shown too, stretched to its range.
    """
    store, drawn = Store.open(study.path("store", cohort), study.grid), Drawn.open(study, cohort)
    records = _judged(store, drawn)
    if records.empty:
        return {}
    bench = Bench(study, store, drawn, records)
    real, made = canonical(bench.table), bench.drawn_cines("")
    doubt = bench.drawn_cines("_spread") if drawn.samples > 1 else {}
    order = np.argsort(-picture_scores(real["sax"], made["sax"], ("ssim",))["ssim"], kind="stable")
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    names = records["record"]
    return {case: Case(names[row], _beside(real, made, doubt, int(row))) for case, row in chosen.items()}


def _beside(real: Cines, made: Cines, doubt: Cines, row: int) -> Cines:
    out: Cines = {}
    for view in VIEWS:
        out |= {f"real {view}": real[view][row], f"drawn {view}": made[view][row]}
        if doubt:
            label, shown = stretched(doubt[view][row], view)
            out[label] = shown
    return out
