"""Where in the ECG a prediction comes from: integrated gradients on record and median beat, and a test of them.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) on the straight path from a baseline to the person's
ECG: the average median beat of training people, and the person's own record, so faint that only its rhythm is left (a
flat record has no rhythm, and no network has seen one). They add up to the difference of the two predictions; what
rhythm alone contributes is not among them. Whether they mean something is tested by deletion (Samek et al. 2017, IEEE
TNNLS 28:2660): the stretches that count most are put back to the baseline, and the prediction must fall back further
than for stretches drawn by lot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cardionets.arm_table import ARMS
from cardionets.config import BEFORE_S, Study, StudyError
from cardionets.device import pick_device
from cardionets.embed import open_store
from cardionets.encoders import ecg_settings, load_align, load_ecg
from cardionets.evaluate.bootstrap import resample_sums
from cardionets.evaluate.estimate import percentile
from cardionets.frozen import load_head
from cardionets.models.ecg_mae import crops
from cardionets.progress import track

Floats = NDArray[np.float32]
Predict = Callable[[Tensor, Tensor], Tensor]  # record (b, 12, T) and beat (b, 12, B), uV -> (b, k)
Part = Literal["record", "beat"]
STEPS: Final = 8  # midpoints of the path
BATCH: Final = 32
TILE_S: Final = 0.04  # a stretch of one lead that is deleted, and shown, as a whole
SHARES: Final = (0.05, 0.1, 0.2, 0.4)  # of all stretches deleted
LOTS: Final = 2  # random deletions per person
FAINT: Final = 0.02  # of a record's amplitude is left in the baseline
DELETION: Final = ["endpoint", "part", "share", "n", "ranked", "random", "difference", "lower", "upper"]
WAVES: Final = {"P": (-0.28, -0.06), "QRS": (-0.06, 0.09), "ST": (0.09, 0.15), "T": (0.15, 0.52)}  # s about R


@dataclass(frozen=True)
class Ecgs:
    """Records (n, 12, T) and median beats (n, 12, B) in uV, float."""

    record: Tensor
    beat: Tensor

    def __len__(self) -> int:
        return len(self.beat)

    def rows(self, rows: slice) -> Ecgs:
        """Some of them."""
        return Ecgs(self.record[rows], self.beat[rows])


@dataclass(frozen=True)
class Attribution:
    """What each sample contributes to each endpoint: record (n, k, 12, T) and beat (n, k, 12, B).

    In the endpoint's unit (log odds of a disease); summed over everything it is the prediction minus the baseline's.
    """

    endpoints: tuple[str, ...]
    record: Floats
    beat: Floats

    def of(self, part: Part, endpoint: str) -> Floats:
        """One endpoint's contributions of one input, (n, 12, length)."""
        values: Floats = getattr(self, part)
        return values[:, self.endpoints.index(endpoint)]


@dataclass(frozen=True)
class Explainer:
    """A predictor of named endpoints from ECGs, and the average beat (1, 12, B) that everybody is compared with."""

    predict: Predict
    endpoints: tuple[str, ...]
    average: Tensor

    def base(self, ecgs: Ecgs) -> Ecgs:
        """The baseline of each ECG, of the same shape."""
        return Ecgs(FAINT * ecgs.record, self.average.expand_as(ecgs.beat))

    def explain(self, ecgs: Ecgs, endpoints: Sequence[str], steps: int = STEPS) -> Attribution:
        """Integrated gradients of ``endpoints`` for every ECG. Raises StudyError for an endpoint it does not predict.

        One forward pass serves all endpoints; memory is n x k x 12 x (T + B) floats.
        """
        strange = [name for name in endpoints if name not in self.endpoints]
        if strange:
            raise StudyError(
                f"attribution: {', '.join(strange)}: not predicted by this arm; choose among its endpoints."
            )
        columns = [self.endpoints.index(name) for name in endpoints]
        cuts = [slice(start, start + BATCH) for start in range(0, len(ecgs), BATCH)]
        base = self.base(ecgs)
        parts = [
            integrated_gradients(self.predict, ecgs.rows(cut), base.rows(cut), columns, steps)
            for cut in track(cuts, "attribution")
        ]
        record, beat = (np.concatenate([part[i].cpu().numpy() for part in parts]) for i in (0, 1))
        return Attribution(tuple(endpoints), record, beat)


def integrated_gradients(
    predict: Predict, ecgs: Ecgs, base: Ecgs, columns: Sequence[int], steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Contributions of every sample to some columns of a prediction: record (b, k, 12, T) and beat (b, k, 12, B)."""
    way = (ecgs.record - base.record, ecgs.beat - base.beat)
    total = [torch.zeros(len(ecgs), len(columns), *w.shape[1:], device=w.device) for w in way]
    for step in range(steps):
        share = (step + 0.5) / steps
        here = [(s + share * w).requires_grad_() for s, w in zip((base.record, base.beat), way)]
        predicted = predict(*here)  # (b, all endpoints)
        for j, column in enumerate(columns):
            slopes = torch.autograd.grad(predicted[:, column].sum(), here, retain_graph=True, materialize_grads=True)
            for t, slope, w in zip(total, slopes, way):
                t[:, j] += slope * w / steps
    return total[0], total[1]


def explainer(study: Study, name: Literal["phenotypes", "screening"] = "phenotypes", arm: str = "") -> Explainer:
    """The aligned arm of ``weights/<name>``; diseases are explained as log odds.

    The average beat is the one ``weights/ecg_mae`` was pre-trained with: no store is needed. Raises StudyError for an
    arm that reads more than the ECG.
    """
    arm = arm or ("aligned_teacher" if name == "phenotypes" else "aligned")
    if arm not in ARMS or ARMS[arm].features != ("aligned",):
        raise StudyError(f"weights/{name}: arm {arm}: does not read the aligned ECG alone; choose aligned.")
    head, card = load_head(study, name, arm)
    aligner = load_align(study)
    head.logistic = False
    head.to(pick_device())

    def predict(signal: Tensor, beats: Tensor) -> Tensor:
        y: Tensor = head(aligner(signal, beats))
        return y

    average = load_ecg(study).get_buffer("beat_mean")[None]  # (1, 12, B) uV
    return Explainer(predict, tuple(card.config["endpoints"]), average)


def load_ecgs(study: Study, cohort: str, people: int) -> Ecgs:
    """One record each of ``people`` test people of a cohort, chosen by pseudonym; no label."""
    store = open_store(study, cohort)
    records = store.records[store.records["split"] == "test"].drop_duplicates("person")
    if records.empty:
        raise StudyError(f"store/{cohort}: nobody is a test person; check the split in params.yaml.")
    rows = np.sort(records["row"].to_numpy()[:people])
    return as_ecgs(study, np.asarray(store.ecg[rows]), np.asarray(store.beat[rows]))


def as_ecgs(study: Study, signal: NDArray[np.int16], beat: NDArray[np.int16]) -> Ecgs:
    """Stored signals (n, 12, T) and beats (n, 12, B) as what the encoder sees: floats, the middle of the record."""
    whole = torch.from_numpy(np.asarray(signal, np.float32))
    (middle,) = crops(whole, ecg_settings(study).encoder.samples, 1)
    device = pick_device()
    return Ecgs(middle.to(device), torch.from_numpy(np.asarray(beat, np.float32)).to(device))


def tiles(values: Floats, width: int) -> Floats:
    """Sums over stretches of ``width`` samples, (..., length) -> (..., ceil(length / width)); the last may be short."""
    summed: Floats = np.add.reduceat(values, np.arange(0, values.shape[-1], width), axis=-1)
    return summed


def typical(attribution: Attribution, endpoint: str, rate: int) -> Floats:
    """Mean absolute contribution of every stretch of the median beat over people, as share of all, (12, stretches)."""
    size = np.abs(tiles(attribution.of("beat", endpoint), tile_width(rate))).mean(0)
    return np.asarray(size / max(float(size.sum()), 1e-12), np.float32)


def tile_width(rate: int) -> int:
    """Samples of a stretch of :data:`TILE_S`."""
    return max(1, round(TILE_S * rate))


def wave_shares(attribution: Attribution, rate: int) -> pd.DataFrame:
    """Share of each wave of the median beat in the absolute contributions, and the record's share beside the beat.

    Returns:
        endpoint, P, QRS, ST, T (together 1) and record: its part beside the whole beat.
    """
    rows = []
    edges = {wave: [round((t + BEFORE_S) * rate) for t in window] for wave, window in WAVES.items()}
    for endpoint in attribution.endpoints:
        beat, record = attribution.of("beat", endpoint), attribution.of("record", endpoint)
        sizes = {wave: float(np.abs(beat[..., slice(*edge)]).sum()) for wave, edge in edges.items()}
        total = max(sum(sizes.values()), 1e-12)
        whole = [float(np.abs(part.sum((1, 2))).mean()) for part in (record, beat)]
        shares = {wave: size / total for wave, size in sizes.items()}
        rows.append({"endpoint": endpoint, **shares, "record": whole[0] / max(sum(whole), 1e-12)})
    return pd.DataFrame(rows)


def deletion_test(
    explainer: Explainer,
    ecgs: Ecgs,
    attribution: Attribution,
    part: Part,
    width: int,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How far predictions fall back when stretches of ``width`` samples return to the baseline, ranked or by lot.

    Stretches are ranked by their contribution towards the person's side of the baseline. Falls are in SDs of the
    predictions; the interval of the paired difference is a percentile bootstrap over people.

    Returns:
        endpoint, part, share (deleted), n, ranked, random, difference, lower, upper.
    """
    before = _predicted(explainer, ecgs, attribution.endpoints)  # (n, k)
    lots = _by_lot(explainer, ecgs, attribution, part, width, seed)
    rows = []
    for j, endpoint in enumerate(attribution.endpoints):
        pull = tiles(attribution.of(part, endpoint), width)  # (n, 12, stretches)
        side = np.where(pull.sum((1, 2)) < 0, -1.0, 1.0)
        order = np.argsort(-(pull * side[:, None, None]).reshape(len(pull), -1), axis=1)
        unit = side / max(float(before[:, j].std()), 1e-12)
        for share, by_lot in zip(SHARES, lots):
            after = _predicted(explainer, _deleted(explainer, ecgs, part, order, share, width), (endpoint,))[:, 0]
            ranked, random = unit * (before[:, j] - after), unit * (before[:, j] - by_lot[:, j])
            gap = ranked - random
            found = percentile(float(gap.mean()), resample_sums(gap, replicates, seed) / len(gap), level)
            numbers = (len(gap), ranked.mean(), random.mean(), found.value, found.lower, found.upper)
            rows.append((endpoint, part, share, *numbers))
    return pd.DataFrame(rows, columns=DELETION)


def _by_lot(
    explainer: Explainer, ecgs: Ecgs, attribution: Attribution, part: Part, width: int, seed: int
) -> list[NDArray[np.float64]]:
    """Per share, predictions (n, k) without stretches drawn by lot, averaged over :data:`LOTS` draws."""
    count = 12 * -(-getattr(ecgs, part).shape[-1] // width)
    rng = np.random.default_rng(seed)
    orders = [rng.permuted(np.tile(np.arange(count), (len(ecgs), 1)), axis=1) for _ in range(LOTS)]
    return [
        np.mean(
            [
                _predicted(explainer, _deleted(explainer, ecgs, part, o, s, width), attribution.endpoints)
                for o in orders
            ],
            axis=0,
        )
        for s in SHARES
    ]


def _deleted(explainer: Explainer, ecgs: Ecgs, part: Part, order: NDArray[np.int64], share: float, width: int) -> Ecgs:
    """The ECGs with the first ``share`` of their stretches, in each person's own ``order``, at the baseline."""
    x, start = getattr(ecgs, part), getattr(explainer.base(ecgs), part)
    gone = np.zeros(order.shape, bool)
    np.put_along_axis(gone, order[:, : max(1, round(share * order.shape[1]))], True, axis=1)
    mask = np.repeat(gone.reshape(len(gone), 12, -1), width, axis=2)[..., : x.shape[-1]]
    changed = torch.where(torch.from_numpy(mask).to(x.device), start, x)
    return Ecgs(changed, ecgs.beat) if part == "record" else Ecgs(ecgs.record, changed)


@torch.inference_mode()
def _predicted(explainer: Explainer, ecgs: Ecgs, endpoints: Sequence[str]) -> NDArray[np.float64]:
    columns = [explainer.endpoints.index(name) for name in endpoints]
    parts = [ecgs.rows(slice(start, start + 256)) for start in range(0, len(ecgs), 256)]
    found = [explainer.predict(part.record, part.beat)[:, columns].cpu().numpy() for part in parts]
    return np.concatenate(found).astype(np.float64)
