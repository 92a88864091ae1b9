"""Small segmentation network: chambers and myocardium of a whole cine at once, to measure cines that were drawn.

Frames are channels, as in the CMR encoders; a U of two levels (Ronneberger et al. 2015, arXiv 1505.04597) over patches
of 4 x 4 pixels. It is trained on masks of development people, on real cines and on what the tokenizer makes of them, so
that it reads drawn cines as well as real ones. A phenotype is read off the areas of its own chamber and wall over the
cycle, by a ridge on their logarithms that was fitted on development people's reconstructions. An area is the sum of
probabilities, not of pixels: a pixel has 7 mm2, and what ejection moves is often less.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from cardionets.cmr import LA, LV, MYO, RA, RV
from cardionets.config import Grid, Settings
from cardionets.device import Draw
from cardionets.models.cmr_mae import VIEWS
from cardionets.models.heads import LinearHead
from cardionets.models.tokenizer import STEM, Residual
from cardionets.train import Batch, TrainSettings

LOGITS_OF = "b (l f p q) h w -> b l f (h p) (w q)"
AT_ONCE = 4  # cines whose logits are made together: they stay in the cache
LABELS = 6  # background, LV cavity, LV myocardium, RV cavity, LA, RA
SEEN: Mapping[str, int] = {"sax": 4, "4ch": LABELS}  # that a view can show: no atria in a mid-ventricular short axis
LEAST = 1.0  # pixels: a chamber below that is not drawn
Area = tuple[str, int]  # of a label in a view
CHAMBERS: Mapping[str, tuple[tuple[str, ...], tuple[Area, ...]]] = {
    "lv": (("lv_edv", "lv_esv", "lv_ef", "lv_mass"), (("sax", LV), ("4ch", LV), ("sax", MYO), ("4ch", MYO))),
    "rv": (("rv_edv", "rv_ef"), (("sax", RV), ("4ch", RV))),
    "la": (("la_max",), (("4ch", LA),)),
    "ra": (("ra_max",), (("4ch", RA),)),
    "wall": (("wt_global",), (("sax", LV), ("sax", MYO))),
}
"""Phenotypes of a chamber, and the areas they are read from."""
MEASURED = tuple(name for names, _ in CHAMBERS.values() for name in names)


class SegmentSettings(Settings):
    """Sizes and budget of the segmentation network."""

    width: int = Field(gt=0)  # feature maps at a quarter of the resolution; doubled at an eighth
    blocks: int = Field(default=1, gt=0)  # residual blocks per level
    hidden: int = Field(default=256, gt=0)  # features of a place, from which its pixels in all frames are read
    frames: int = Field(default=4, gt=0)  # drawn per step: neighbours in time teach the same, and the loss is dear
    shift: int = Field(default=4, ge=0)  # random displacement in pixels: few masks, many places
    gain: float = Field(default=0.2, ge=0, lt=1)  # random brightness
    train: TrainSettings


class ViewSegmenter(nn.Module):
    """Network of one view: scaled cine (b, frame, H, W) -> logits (b, label, frame, H, W)."""

    def __init__(self, settings: SegmentSettings, frames: int, labels: int) -> None:
        super().__init__()
        self.frames, self.seen, w, count = frames, labels, settings.width, settings.blocks
        self.stem = nn.Conv2d(frames * STEM**2, w, 1)
        self.fine = nn.Sequential(*[Residual(w) for _ in range(count)])
        self.down = nn.Conv2d(w, 2 * w, 2, stride=2)
        self.coarse = nn.Sequential(*[Residual(2 * w) for _ in range(count)])
        self.up = nn.ConvTranspose2d(2 * w, w, 2, stride=2)
        self.last = nn.Sequential(*[Residual(w) for _ in range(count)])
        self.widen = nn.Sequential(nn.Conv2d(w, settings.hidden, 1), nn.SiLU())
        self.out = nn.Conv2d(settings.hidden, labels * frames * STEM**2, 1)

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """Logits of every pixel, of all frames or of ``frames`` (k,) alone."""
        return self._logits(self.features(x), frames)

    def features(self, x: Tensor) -> Tensor:
        """What the pixels of all frames are read from, (b, hidden, H / STEM, W / STEM)."""
        fine = self.fine(self.stem(rearrange(x, "b f (h p) (w q) -> b (f p q) h w", p=STEM, q=STEM)))
        read: Tensor = self.widen(self.last(fine + self.up(self.coarse(self.down(fine)))))
        return read

    def labels(self, x: Tensor) -> Tensor:
        """Label of highest logit, uint8 (b, frame, H, W)."""
        parts = torch.split(self.features(x), AT_ONCE)
        return torch.cat([self._logits(part).argmax(1).to(torch.uint8) for part in parts])

    def areas(self, x: Tensor) -> Tensor:
        """Expected pixels of every label in every frame, (b, label, frame)."""
        return torch.cat([self._areas(self.out(part)) for part in torch.split(self.features(x), AT_ONCE)])

    def _logits(self, features: Tensor, frames: Tensor | None = None) -> Tensor:
        weight, bias = self.out.weight.flatten(1), self.out.bias
        if frames is not None:
            weight, bias = (self._of(w, frames) for w in (weight, bias))
        patches = F.conv2d(features, weight[..., None, None], bias)
        logits: Tensor = rearrange(patches, LOGITS_OF, l=self.seen, p=STEM, q=STEM)
        return logits

    def _areas(self, patches: Tensor) -> Tensor:
        """Channels (b, label * frame * STEM**2, h, w) -> (b, LABELS, frame); 0 for labels that are never seen."""
        places = rearrange(patches, "b (l f p) h w -> b l f (p h w)", l=self.seen, p=STEM**2)
        return F.pad(places.softmax(1).sum(-1), (0, 0, 0, LABELS - self.seen))

    def _of(self, parameter: Tensor | None, frames: Tensor) -> Tensor:
        """Rows (label, frame, pixel) of the last layer's weight or bias that belong to ``frames``."""
        assert parameter is not None
        by_frame = parameter.reshape(self.seen, self.frames, STEM**2, -1)[:, frames]  # (label, k, pixel, width or 1)
        return by_frame.flatten(0, 2) if parameter.ndim > 1 else by_frame.flatten()


class Segmenter(nn.Module):
    """One network per view, and the heads that turn areas into phenotypes."""

    def __init__(self, settings: SegmentSettings, grid: Grid) -> None:
        super().__init__()
        self.settings = settings
        self.views = nn.ModuleDict({view: ViewSegmenter(settings, grid.frames, SEEN[view]) for view in VIEWS})
        self.heads = nn.ModuleDict(
            {part: LinearHead(grid.frames * len(of), len(names), False) for part, (names, of) in CHAMBERS.items()}
        )

    def view(self, view: str) -> ViewSegmenter:
        """The network of one view."""
        network = self.views[view]
        assert isinstance(network, ViewSegmenter)
        return network

    @torch.inference_mode()
    def segment(self, view: str, cine: Tensor) -> Tensor:
        """uint8 cine (b, frame, H, W) -> labels uint8 of the same shape."""
        return self.view(view).labels(scaled(cine))

    @torch.inference_mode()
    def areas(self, cines: Mapping[str, Tensor]) -> Tensor:
        """uint8 cines (b, frame, H, W) of both views -> expected pixels of every label, (b, view, label, frame)."""
        return torch.stack([self.view(view).areas(scaled(cines[view])) for view in VIEWS], dim=1)

    @torch.inference_mode()
    def read(self, areas: Tensor) -> Tensor:
        """Areas (b, view, label, frame) -> phenotypes :data:`MEASURED` (b, k); NaN where a chamber is not drawn."""
        found = []
        for part in CHAMBERS:
            x = evidence(areas, part)
            found.append(self.heads[part](x).masked_fill((x <= 0).any(1, keepdim=True), torch.nan))
        return torch.cat(found, dim=1)


def evidence(areas: Tensor, part: str) -> Tensor:
    """What the phenotypes of a part are read from: logarithms of areas, (b, area * frame); 0 where nothing is drawn."""
    chosen = [areas[:, VIEWS.index(view), label] for view, label in CHAMBERS[part][1]]
    return torch.cat(chosen, dim=1).clamp_min(LEAST).log()


def scaled(cine: Tensor) -> Tensor:
    """uint8 -> [-1, 1]."""
    return cine.float() / 127.5 - 1


def segment_loss(model: Segmenter, batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Cross entropy and overlap loss; ``batch``: sax, 4ch, their reconstructions made_*, and masks mask_*, uint8."""
    parts: dict[str, Tensor] = {}
    for view in VIEWS:
        real, made, mask = batch[view], batch[f"made_{view}"], batch[f"mask_{view}"]
        drawn = draw.uniform(len(real), 1, 1, 1) < 0.5
        cine = scaled(torch.where(drawn, made, real))
        if model.training:
            cine, mask = jitter(cine, mask, model.settings, draw)
        frames = draw.integers(0, mask.shape[1], model.settings.frames)
        logits, target = model.views[view](cine, frames), mask[:, frames].long()
        target = target.masked_fill(target >= SEEN[view], 0)
        parts[view] = F.cross_entropy(logits, target) + 0.5 * overlap_loss(logits, target)
    return {"loss": torch.stack(list(parts.values())).mean(), **parts}


def jitter(cine: Tensor, mask: Tensor, settings: SegmentSettings, draw: Draw) -> tuple[Tensor, Tensor]:
    """The same random displacement of scaled cine and mask (b, frame, H, W), and random brightness of the cine."""
    b, frames, height, width = cine.shape
    offset = draw.integers(-settings.shift, settings.shift + 1, b, 2)
    down = (torch.arange(height, device=cine.device) + offset[:, :1]).clamp(0, height - 1)
    across = (torch.arange(width, device=cine.device) + offset[:, 1:]).clamp(0, width - 1)
    place = (down[:, None, :, None] * width + across[:, None, None, :]).expand(-1, frames, -1, -1).flatten(2)
    moved = [x.flatten(2).gather(2, place).reshape(x.shape) for x in (cine, mask)]
    gain = 1 + settings.gain * (2 * draw.uniform(b, 1, 1, 1) - 1)
    return (moved[0] + 1) * gain - 1, moved[1]


def overlap_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, mean over labels (Milletari et al. 2016, arXiv 1606.04797)."""
    share = logits.softmax(1).transpose(0, 1).flatten(1)  # (label, pixels of all cines)
    truth = torch.zeros_like(share).scatter_(0, target.flatten()[None], 1.0)
    dice = 2 * (share * truth).sum(1) / (share.sum(1) + truth.sum(1)).clamp_min(1.0)
    return 1 - dice[1:].mean()


def dice(found: Tensor, truth: Tensor) -> dict[int, float]:
    """Dice coefficient of each label that the truth has, over all pixels of (n, frame, H, W)."""
    scores = {}
    for label in range(1, LABELS):
        a, b = found == label, truth == label
        if b.any():
            scores[label] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return scores
