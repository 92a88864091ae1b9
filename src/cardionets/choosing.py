"""At which temperature to draw: decided on validation people, who are shown here and nowhere else.

A temperature is the share that is kept of what is drawn about the linear guess: low ones draw near the likeliest heart,
close to the truth and too smooth; at 1 the generator's own spread is drawn. The rule: the highest temperature on the
list at which the drawn cine is, by SSIM, at least as close to the real one as the mean training cine is, in both views;
the lowest where none is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cardionets import data
from cardionets.config import Study
from cardionets.device import pick_device
from cardionets.draw import Artist, decode, sample_tokens, starts
from cardionets.embed import open_store
from cardionets.evaluate.cines import CLOSENESS, picture_scores
from cardionets.generate import canonical, cine_table, encode
from cardionets.models.cmr_mae import VIEWS

GRID = (1.0, 0.5, 0.2, 0.1)


def temperatures(study: Study, grid: Sequence[float] = GRID, people: int = 128) -> pd.DataFrame:
    """SSIM and PSNR per view, and variance of the tokens as a share of the real, for arms and temperatures.

    Of the first ``people`` validation people with both views; ``n`` says how many there were.
    """
    store, artist = open_store(study, study.protocol.study.paired), Artist(study)
    records = data.pairs_of(store, "val").iloc[:people]
    table = cine_table(artist.tokenizer, store, records)
    ecg, _ = artist.reader.read(store, records["row"].to_numpy(np.int64))
    truth, real = encode(artist.tokenizer, table, artist.generator.mar.settings.patch)[0], canonical(table)
    rows = []
    for arm, temperature, tokens in _drawn(artist, torch.from_numpy(ecg), list(records["record"]), grid):
        cines = {v: c.cpu().numpy() for v, c in decode(artist.tokenizer, artist.generator, tokens).items()}
        row = _closeness(real, cines)
        variance = float(tokens.var(0, correction=0).mean()) / float(truth.var(axis=0).mean())
        rows.append({"arm": arm, "temperature": temperature, **row, "variance": variance, "n": len(records)})
    means = {view: artist.generator.get_buffer(f"mean_{view}").cpu().numpy() for view in VIEWS}
    rows.insert(1, _of_the_mean(real, means))
    return pd.DataFrame(rows)


@torch.inference_mode()
def _drawn(artist: Artist, ecg: Tensor, names: list[str], grid: Sequence[float]) -> Iterator[tuple[str, float, Tensor]]:
    """Arm, temperature and packed tokens (b, n, c)."""
    model, on_device = artist.generator, ecg.to(pick_device())
    noise, order = starts(model, names, artist.seed, 0)
    guess = model.ridge_tokens(on_device)
    yield "ridge", float("nan"), guess
    full = {"generated": sample_tokens(model, ecg, noise, order, artist.how.model_copy(update={"temperature": 1.0}))}
    if model.flow is not None:
        full["latent_flow"] = model.sample_flow(on_device, noise.to(on_device.device), 1.0)
    for temperature, (arm, tokens) in product(grid, full.items()):
        yield arm, temperature, torch.lerp(guess, tokens, temperature)


def _of_the_mean(real: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, object]:
    shown = {v: np.broadcast_to(np.rint(means[v]).astype(np.uint8), real[v].shape) for v in VIEWS}
    who = {"arm": "training_mean", "temperature": float("nan")}
    return {**who, **_closeness(real, shown), "variance": 0.0, "n": len(real[VIEWS[0]])}


def _closeness(real: dict[str, np.ndarray], cines: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean SSIM and PSNR of each view."""
    scores = {view: picture_scores(real[view], cines[view], CLOSENESS) for view in VIEWS}
    return {f"{metric}_{view}": float(scores[view][metric].mean()) for metric in CLOSENESS for view in VIEWS}


def choose(table: pd.DataFrame) -> float:
    """The temperature that the rule of this module takes from :func:`temperatures`."""
    columns = [f"ssim_{view}" for view in VIEWS]
    bar = table.loc[table["arm"] == "training_mean", columns].iloc[0]
    drawn = table[table["arm"] == "generated"]
    good = drawn.loc[(drawn[columns] >= bar).all(axis=1), "temperature"]
    return float(good.max() if len(good) else drawn["temperature"].min())
