"""Training stages of the cine: tokenizer, segmenter, generator.

Each stage reads the paired cohort's training and validation people, writes ``weights/<model>/`` and returns its
learning curve. Validation people choose the epoch; test people are not touched. Several processes:
``torchrun --nproc_per_node=4 -m cardionets.generate train_tokenizer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cardionets import data, stage, train
from cardionets.config import Study, StudyError
from cardionets.device import pick_device
from cardionets.embed import open_store
from cardionets.encoders import in_blocks
from cardionets.evaluate.images import psnr
from cardionets.generator import (
    EcgReader,
    Floats,
    Generator,
    load_tokenizer,
    made_with,
    sizes,
    spread_of,
    tokenizer_settings,
)
from cardionets.launch import launchable
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.heads import Basis, HeadSettings, fit_ridge, left_out
from cardionets.models.latent_flow import flow_loss
from cardionets.models.mar import MarSettings, mar_loss
from cardionets.models.pose import placed, placed_masks
from cardionets.models.segment import (
    CHAMBERS,
    MEASURED,
    Segmenter,
    SegmentSettings,
    dice,
    evidence,
    segment_loss,
)
from cardionets.models.tokenizer import Patch, Tokenizer, tokenizer_loss
from cardionets.store import Store

BLOCK = 64  # cines encoded or decoded at once
FLOW = "generator_flow"  # the training run of the older approach
LEARN_CINES = 600  # enough for the principal components of patches, and to read phenotypes off areas
MASKS: Mapping[str, str] = {"sax": "sax_mask_row", "4ch": "lax_mask_row"}

Cines = Mapping[str, NDArray[np.uint8]]


@launchable("tokenizer")
def train_tokenizer(study: Study, force: bool = False) -> pd.DataFrame:
    """Train the tokenizer on the cines of training people; returns the learning curve."""
    settings, store = tokenizer_settings(study), open_store(study, study.protocol.study.paired)
    pairs = {s: data.pairs_of(store, s) for s in ("train", "val")}
    torch.manual_seed(study.protocol.seed)
    model = Tokenizer(settings).to(pick_device())
    sample = _learn(model, store, pairs["train"].iloc[_some(len(pairs["train"]), study.protocol.seed)])
    part = {s: cine_table(model, store, records) for s, records in pairs.items()}
    about = {"cohorts": [store.path.name], "pairs": len(part["train"]), "val_pairs": len(part["val"])}
    history = stage.fit(study, "tokenizer", model, part, tokenizer_loss, settings.train, about, force)
    model.set_scale(sample)
    return stage.publish(
        study, "tokenizer", settings, model, history, about, reconstruction_quality(model, part["val"])
    )


def _learn(model: Tokenizer, store: Store, records: pd.DataFrame) -> dict[str, Tensor]:
    """Fit what is closed-form, pose and principal components, on these people; returns their cines, placed."""
    table = data.Table(**data.cine_columns(store, records))
    cines = {view: cine.to(pick_device()) for view, cine in table.take(np.arange(len(table))).items()}
    model.pose.learn(cines)
    sample = placed(cines, model.pose.find(cines))
    model.learn(sample)
    return sample


@launchable("segmenter")
def train_segmenter(study: Study, force: bool = False) -> pd.DataFrame:
    """Train the segmentation network on development people's masks, and what reads its areas on their reconstructions.

    Raises StudyError when no training person has masks of both views.
    """
    settings, store = study.block("segmenter", SegmentSettings), open_store(study, study.protocol.study.paired)
    tokenizer = load_tokenizer(study)
    pairs = {s: _with_masks(store, s) for s in ("train", "val")}
    part = {s: _mask_table(tokenizer, store, records) for s, records in pairs.items()}
    torch.manual_seed(study.protocol.seed)
    model = Segmenter(settings, study.grid)
    about = {"cohorts": [store.path.name], "pairs": len(part["train"]), "val_pairs": len(part["val"])}
    about |= made_with(study, ("tokenizer",))
    history = stage.fit(study, "segmenter", model, part, segment_loss, settings.train, about, force)
    known = {s: data.pairs_of(store, s) for s in pairs}
    known["train"] = known["train"].iloc[_some(len(known["train"]), study.protocol.seed)]
    made = {s: rebuild(tokenizer, cine_table(tokenizer, store, records)) for s, records in known.items()}
    scores = fit_heads(model, {s: measure_areas(model, cines) for s, cines in made.items()}, known)
    return stage.publish(study, "segmenter", settings, model, history, about, scores | _overlap(model, part["val"]))


@launchable("generator")
def train_generator(study: Study, force: bool = False) -> pd.DataFrame:
    """Train the generator on tokens and ECGs of training people, and fit its comparisons; returns the curve."""
    settings, store = study.block("generator", MarSettings), open_store(study, study.protocol.study.paired)
    tokenizer, reader = load_tokenizer(study), EcgReader(study)
    torch.manual_seed(study.protocol.seed)
    model = Generator(settings, sizes(study), (study.grid.frames, study.grid.size, study.grid.size))
    pairs = {s: data.pairs_of(store, s) for s in ("train", "val")}
    ecg = {s: reader.read(store, records["row"].to_numpy(np.int64)) for s, records in pairs.items()}
    cines = {s: cine_table(tokenizer, store, records) for s, records in pairs.items()}
    tokens = {s: encode(tokenizer, table, settings.patch) for s, table in cines.items()}
    guesses = _compare(model, cines["train"], ecg, tokens)
    part = {s: _token_table(model, ecg[s][0], tokens[s], guesses[s]) for s in pairs}
    about = {"cohorts": [store.path.name], "pairs": len(part["train"]), "val_pairs": len(part["val"])}
    about |= made_with(study, ("tokenizer", "align"))
    history = stage.fit(study, "generator", model.mar, part, mar_loss, settings.train, about, force)
    curve, older = history.curve(), {}
    if model.flow is not None:
        beside = stage.fit(study, FLOW, model.flow, part, flow_loss, settings.train, about, force)
        curve = curve.merge(beside.curve()[["epoch", "loss", "val_loss"]], "left", "epoch", suffixes=("", "_flow"))
        older = {"val_loss_flow": beside.kept()["val_loss"]}
    stage.publish(study, "generator", settings, model, history, about, older, curve)
    train.forget(study.path("logs", FLOW))
    return curve


def _with_masks(store: Store, split: str) -> pd.DataFrame:
    pairs = data.pairs_of(store, split)
    drawn = pairs[(pairs[list(MASKS.values())] >= 0).all(axis=1)]
    if drawn.empty:
        text = f"store/{store.path.name}: no {split} person has masks of both views"
        raise StudyError(f"{text}; add masks/ to the cohort, or leave out the measuring of drawn cines.")
    return drawn


def _some(count: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(count)[:LEARN_CINES])


def blocks(count: int) -> Iterator[NDArray[np.int64]]:
    """Rows 0 to count - 1, as many at a time as are encoded or decoded at once."""
    return in_blocks(count, BLOCK)


def cine_table(tokenizer: Tokenizer, store: Store, records: pd.DataFrame) -> data.Table:
    """Cines of both views of records that have them, and the pose (n, view, 3) that makes them canonical."""
    columns = data.cine_columns(store, records)
    raw, device = data.Table(**columns), pick_device()
    found = [tokenizer.pose.find({v: cine.to(device) for v, cine in raw.take(r).items()}) for r in blocks(len(raw))]
    return data.Table(**columns, pose=data.column(torch.cat(found).cpu().numpy()))


def batches(table: data.Table) -> Iterator[dict[str, Tensor]]:
    """Canonical cines of both views, uint8 (b, frame, H, W), on the device, block by block."""
    for rows in blocks(len(table)):
        batch = {name: value.to(pick_device()) for name, value in table.take(rows).items()}
        yield placed(batch, batch["pose"])


def canonical(table: data.Table) -> dict[str, NDArray[np.uint8]]:
    """All cines of a table in canonical pose, (n, frame, H, W) per view."""
    parts = list(batches(table))
    return {view: torch.cat([p[view] for p in parts]).cpu().numpy() for view in VIEWS}


def encode(tokenizer: Tokenizer, table: data.Table, patch: Patch) -> tuple[Floats, Floats]:
    """Standardised mean and SD of the packed tokens of both views, each (n, token, values)."""
    parts = [tokenizer.posterior(batch) for batch in batches(table)]
    mean, sd = (tokenizer.pack(torch.cat(p).float(), patch).cpu().numpy() for p in zip(*parts))
    return mean, sd


def rebuild(tokenizer: Tokenizer, table: data.Table) -> dict[str, NDArray[np.uint8]]:
    """What the tokenizer makes of the cines of both views: the best that any generator of its tokens can do."""
    parts = [tokenizer.decode(tokenizer.posterior(batch)[0]) for batch in batches(table)]
    return {view: torch.cat([p[view] for p in parts]).cpu().numpy() for view in VIEWS}


def reconstruction_quality(tokenizer: Tokenizer, table: data.Table) -> dict[str, float]:
    """Mean PSNR (dB) of the cines of validation people after the tokenizer, per view."""
    made, real = rebuild(tokenizer, table), canonical(table)
    return {f"val_psnr_{view}": float(psnr(real[view], made[view]).mean()) for view in VIEWS}


def _mask_table(tokenizer: Tokenizer, store: Store, records: pd.DataFrame) -> data.Table:
    table, arrays = cine_table(tokenizer, store, records), {"sax": store.sax_mask, "4ch": store.lax_mask}
    drawn = {v: torch.from_numpy(arrays[v][records[MASKS[v]].to_numpy(np.int64)]) for v in VIEWS}
    masks = placed_masks(drawn, torch.from_numpy(table.columns["pose"].take(np.arange(len(table)))))
    columns = canonical(table) | {f"made_{view}": cine for view, cine in rebuild(tokenizer, table).items()}
    columns |= {f"mask_{view}": mask.numpy() for view, mask in masks.items()}
    return data.Table(**{name: data.column(value) for name, value in columns.items()})


def segment_all(model: Segmenter, cines: Cines) -> dict[str, NDArray[np.uint8]]:
    """Labels of cines (n, frame, H, W) of both views."""
    count = len(cines[VIEWS[0]])
    device = pick_device()
    out = {}
    for view in VIEWS:
        made = [model.segment(view, torch.from_numpy(cines[view][r]).to(device)).cpu() for r in blocks(count)]
        out[view] = torch.cat(made).numpy()
    return out


def measure_areas(model: Segmenter, cines: Cines) -> Tensor:
    """Areas of the labels of cines (n, frame, H, W) of both views, (n, view, label, frame) pixels."""
    device, count = pick_device(), len(cines[VIEWS[0]])
    parts = [model.areas({v: torch.from_numpy(cines[v][r]).to(device) for v in VIEWS}) for r in blocks(count)]
    return torch.cat(parts)


def measure(model: Segmenter, cines: Cines) -> pd.DataFrame:
    """Phenotypes :data:`MEASURED` (n rows) read off cines of both views by the segmentation network."""
    found = model.read(measure_areas(model, cines))
    return pd.DataFrame(found.cpu().numpy().astype(np.float64), columns=list(MEASURED))


def fit_heads(model: Segmenter, areas: Mapping[str, Tensor], records: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Learn to read phenotypes off areas (n, view, label, frame) of training people; r on validation people."""
    scores = {}
    for part, (names, _) in CHAMBERS.items():
        x = {s: evidence(found, part).cpu().numpy() for s, found in areas.items()}
        y = {s: records[s][list(names)].to_numpy(np.float64) for s in areas}
        head = fit_ridge(x["train"], y["train"], x["val"], y["val"], names, HeadSettings()).head
        model.heads[part].load_state_dict(head.state_dict())
    read = model.read(areas["val"]).cpu().numpy()
    for i, name in enumerate(MEASURED):
        known = records["val"][name].notna().to_numpy() & np.isfinite(read[:, i])
        if known.sum() >= 3:
            truth = records["val"][name].to_numpy(np.float64)
            scores[f"val_r_{name}"] = float(np.corrcoef(truth[known], read[known, i])[0, 1])
    return scores


def _overlap(model: Segmenter, part: data.Table) -> dict[str, float]:
    """Dice coefficient per view and label on validation people's masks."""
    batch = part.take(np.arange(len(part)))
    found = segment_all(model, {view: batch[view].numpy() for view in VIEWS})
    scores = {view: dice(torch.from_numpy(found[view]), batch[f"mask_{view}"]) for view in VIEWS}
    return {f"val_dice_{view}_{label}": v for view, part in scores.items() for label, v in part.items()}


def _compare(
    model: Generator,
    cines: data.Table,
    ecg: Mapping[str, tuple[Floats, Floats]],
    tokens: Mapping[str, tuple[Floats, Floats]],
) -> dict[str, Floats]:
    """Fill in what is learnt in closed form: scale of the ECG tokens, ridge to the cine tokens, mean training cine.

    Returns the ridge's guesses (n, token, values) per split; those of training people are made without them.
    """
    for name, value in zip(("centre", "scale"), spread_of(ecg["train"][0])):
        model.get_buffer(name).copy_(torch.from_numpy(value))
    x = {s: embedding for s, (_, embedding) in ecg.items()}
    y = {s: mean.reshape(len(mean), -1) for s, (mean, _) in tokens.items()}
    labels = tuple(f"token {i}" for i in range(y["train"].shape[1]))
    basis = Basis.of(x["train"], (1,) * x["train"].shape[1])  # an embedding's strong directions are the informative
    fit = fit_ridge(x["train"], y["train"], x["val"], y["val"], labels, HeadSettings(min_labels=2), basis)
    model.ridge = fit.head
    with torch.no_grad():
        flat = {s: fit.head(torch.from_numpy(x[s])).numpy() for s in x}
    flat["train"] = left_out(flat["train"], y["train"].astype(np.float64), basis, x["train"], fit.penalty).astype(
        np.float32
    )
    shape = tokens["train"][0].shape[1:]
    guesses = {s: part.reshape(len(part), *shape) for s, part in flat.items()}
    model.get_buffer("residual").copy_(torch.from_numpy((tokens["train"][0] - guesses["train"]).std((0, 1)).clip(1e-3)))
    for view, total in _sums(cines).items():
        model.get_buffer(f"mean_{view}").copy_(total / len(cines))
    return guesses


def _sums(cines: data.Table) -> dict[str, Tensor]:
    """Sum over people of the canonical cines, (frame, H, W) per view."""
    sums = [{view: cine.double().sum(0).cpu() for view, cine in batch.items()} for batch in batches(cines)]
    return {view: torch.stack([s[view] for s in sums]).sum(0) for view in VIEWS}


def _token_table(model: Generator, ecg: Floats, tokens: tuple[Floats, Floats], guess: Floats) -> data.Table:
    condition = model.condition(torch.from_numpy(ecg)).numpy()
    (mean, sd), residual = tokens, model.get_buffer("residual").numpy()
    left = ((mean - guess) / residual).astype(np.float32)
    columns = {"mean": left, "sd": sd / residual, "condition": condition, "guess": guess}
    return data.Table(**{name: data.column(value) for name, value in columns.items()})


if __name__ == "__main__":
    stage.run_named("generate", (train_tokenizer, train_segmenter, train_generator))
