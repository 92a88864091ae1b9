"""What draws a cine from an ECG: tokenizer, generator and segmenter, their loaders, and the ECG tokens they read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from cardionets import weights
from cardionets.config import Study, StudyError
from cardionets.device import pick_device
from cardionets.encoders import ecg_settings, in_blocks, load_align, restore
from cardionets.models.align import Aligner, AlignSettings
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.ecg_mae import crops
from cardionets.models.heads import LinearHead
from cardionets.models.latent_flow import LatentFlow
from cardionets.models.mar import Mar, MarSettings, SampleSettings
from cardionets.models.segment import Segmenter, SegmentSettings
from cardionets.models.tokenizer import Tokenizer, TokenizerSettings
from cardionets.store import Store

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """Shapes that follow from the settings of encoder and tokenizer."""

    tokens: int  # of both views, as the generator packs them
    channels: int  # values of a packed token
    prefix: int  # ECG tokens
    dim: int  # of an ECG token
    features: int  # of the ECG embedding


class Generator(nn.Module):
    """The masked autoregressive generator and what it is compared with, all learnt from training people.

    ``ridge`` leads from the ECG embedding straight to the tokens: the network sees that guess and draws what is left
    over, in units of ``residual`` (per channel). ``flow`` is the older approach to the same residual, where the
    settings ask for it. ``mean_*`` is the mean training cine; ``centre`` and ``scale`` standardise the ECG tokens.
    """

    def __init__(self, settings: MarSettings, sizes: Sizes, cine: tuple[int, int, int]) -> None:
        super().__init__()
        shape = (sizes.tokens, sizes.channels, (sizes.prefix, sizes.dim))
        self.mar = Mar(settings, *shape)
        self.flow = LatentFlow(settings, *shape) if settings.latent_flow else None
        self.ridge = LinearHead(sizes.features, sizes.tokens * sizes.channels, logistic=False)
        self.register_buffer("centre", torch.zeros(sizes.prefix, sizes.dim))
        self.register_buffer("scale", torch.ones(sizes.prefix, sizes.dim))
        self.register_buffer("residual", torch.ones(sizes.channels))
        for view in VIEWS:
            self.register_buffer(f"mean_{view}", torch.zeros(cine))

    def condition(self, ecg_tokens: Tensor) -> Tensor:
        """Standardised ECG tokens (b, m, e)."""
        return (ecg_tokens - self.get_buffer("centre")) / self.get_buffer("scale")

    def ridge_tokens(self, ecg_tokens: Tensor) -> Tensor:
        """Cine tokens (b, n, c) by ridge from the ECG embedding, which the last of the ECG tokens (b, m, e) carry."""
        features = len(self.ridge.get_buffer("centre"))
        last = -(-features // ecg_tokens.shape[-1])
        flat = self.ridge(ecg_tokens[:, -last:].flatten(1)[:, :features])
        tokens: Tensor = rearrange(flat, "b (n c) -> b n c", n=self.mar.tokens)
        return tokens

    def sample(self, ecg_tokens: Tensor, noise: Tensor, order: Tensor, how: SampleSettings) -> Tensor:
        """Cine tokens (b, n, c): the ridge's guess and what the network draws about it; see :meth:`Mar.sample`.

        What is drawn is a fair sample; the temperature then draws it in towards the guess.
        """
        guess = self.ridge_tokens(ecg_tokens)
        drawn = self.mar.sample(self.condition(ecg_tokens), guess, noise, order, how)
        return guess + how.temperature * drawn * self.get_buffer("residual")

    def sample_flow(self, ecg_tokens: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """Cine tokens (b, n, c) of the older approach, which must have been trained."""
        assert self.flow is not None
        guess = self.ridge_tokens(ecg_tokens)
        steps = self.mar.settings.latent_flow
        drawn = self.flow.sample(self.condition(ecg_tokens), guess, noise, steps)
        return guess + temperature * drawn * self.get_buffer("residual")


def tokenizer_settings(study: Study) -> TokenizerSettings:
    """Block ``tokenizer``, checked against the grid."""
    settings, grid = study.block("tokenizer", TokenizerSettings), study.grid
    if (settings.frames, settings.size) != (grid.frames, grid.size):
        source = f"presets/{study.protocol.preset}.yaml: tokenizer"
        raise StudyError(f"{source}: frames and size must be the grid's {grid.frames} and {grid.size}; correct them.")
    return settings


def sizes(study: Study) -> Sizes:
    """Shapes of cine and ECG tokens under the study's preset."""
    tokenizer, mar, ecg = tokenizer_settings(study), study.block("generator", MarSettings), ecg_settings(study).encoder
    features = ecg.features + study.block("align", AlignSettings).components
    prefix = ecg.rows * min(mar.groups, ecg.columns) + ecg.beat_tokens + -(-features // ecg.dim)
    if any(side % part for side, part in zip(tokenizer.grid, mar.patch)):
        source = f"presets/{study.protocol.preset}.yaml: generator.patch"
        raise StudyError(f"{source}: {mar.patch} must divide the tokenizer's grid {tokenizer.grid}; correct it.")
    merged = math.prod(mar.patch)
    count = len(VIEWS) * math.prod(tokenizer.grid) // merged
    return Sizes(count, tokenizer.channels * merged, prefix, ecg.dim, features)


def load_tokenizer(study: Study) -> Tokenizer:
    """The tokenizer of ``weights/tokenizer``."""
    settings = tokenizer_settings(study)
    return restore(study, "tokenizer", settings, Tokenizer(settings))


def load_generator(study: Study) -> Generator:
    """The generator of ``weights/generator``. Raises StudyError when it was trained on another tokenizer or encoder."""
    settings = study.block("generator", MarSettings)
    model = Generator(settings, sizes(study), (study.grid.frames, study.grid.size, study.grid.size))
    loaded = restore(study, "generator", settings, model)
    require_same(study, "generator", ("tokenizer", "align"))
    return loaded


def load_segmenter(study: Study) -> Segmenter:
    """The segmentation network of ``weights/segmenter``, whose heads belong to the tokenizer beside it."""
    settings = study.block("segmenter", SegmentSettings)
    loaded = restore(study, "segmenter", settings, Segmenter(settings, study.grid))
    require_same(study, "segmenter", ("tokenizer",))
    return loaded


def made_with(study: Study, names: tuple[str, ...]) -> dict[str, str]:
    """Hashes of the weights that others are built on, for their cards."""
    return {f"{name}_sha256": weights.read_card(study.path("weights", name)).sha256 for name in names}


def require_same(study: Study, name: str, names: tuple[str, ...]) -> None:
    """Raise StudyError when ``weights/<name>`` was trained with other ``names`` than those that lie beside it."""
    card = weights.read_card(study.path("weights", name))
    wrong = [key for key, value in made_with(study, names).items() if card.data.get(key) != value]
    if wrong:
        others = ", ".join(key.removesuffix("_sha256") for key in wrong)
        raise StudyError(f"weights/{name}/card.json: made with another {others} than weights/{others}; train it again.")


class EcgReader:
    """The frozen aligned encoder as a reader of stores: ECG tokens (n, m, e) and embedding (n, features)."""

    def __init__(self, study: Study) -> None:
        self.groups = study.block("generator", MarSettings).groups
        self.model = load_align(study)

    def read(self, store: Store, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Tokens and embedding of the ECGs at ``rows`` of a store."""
        parts = list(self._parts(store, rows))
        if not parts:
            raise StudyError(f"store/{store.path.name}: there is no ECG to read; check its flow.csv.")
        tokens, embedding = (torch.cat(p).float().cpu().numpy() for p in zip(*parts))
        return tokens, embedding

    @torch.inference_mode()
    def _parts(self, store: Store, rows: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for some in in_blocks(len(rows)):
            signal, beat = (
                torch.from_numpy(np.asarray(a[rows[some]])).to(pick_device()) for a in (store.ecg, store.beat)
            )
            yield ecg_tokens(self.model, signal, beat, self.groups)


def ecg_tokens(model: Aligner, signal: Tensor, beat: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """ECG (b, 12, T) and beat (b, 12, B) uV -> tokens (b, m, dim) and embedding (b, features).

    The record's tokens are averaged into ``groups`` stretches of time; those of the median beat stay; the encoder's
    embedding and the CMR components it predicts follow, cut into tokens.
    """
    encoder = model.encoder
    s = encoder.settings
    (crop,) = crops(signal, s.samples, 1)
    encoded = encoder.trunk(encoder.tokens(encoder.patches(crop, beat)))  # (b, n, dim)
    pooled = encoder.pool(encoded, s.record_tokens, crop, beat)
    embedding = torch.cat([pooled, model.distil(pooled)], dim=1)
    over_time = rearrange(encoded[:, : s.record_tokens], "b (l t) d -> (b l) d t", l=s.rows)
    record = nn.functional.adaptive_avg_pool1d(over_time, min(groups, s.columns))
    record = rearrange(record, "(b l) d g -> b (l g) d", l=s.rows)
    padded = rearrange(nn.functional.pad(embedding, (0, -embedding.shape[1] % s.dim)), "b (m d) -> b m d", d=s.dim)
    return torch.cat([record, encoded[:, s.record_tokens :], padded], dim=1), embedding


def spread_of(x: Floats) -> tuple[Any, Any]:
    """Mean and SD of ECG tokens (n, m, e) over people; what does not vary gets an SD of 1."""
    sd = x.std(0)
    return x.mean(0), np.where(sd > 1e-5, sd, 1.0)
