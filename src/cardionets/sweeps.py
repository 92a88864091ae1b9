"""What changes in the heart when the ECG moves from this patient to that.

The ECG tokens of two records are mixed linearly, and a cine is drawn at every step from the same random numbers, so
that the ECG alone makes the difference; the segmentation network then says what it changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cardionets.config import Study, StudyError
from cardionets.draw import Artist, Cine, Drawn
from cardionets.embed import open_store
from cardionets.generate import measure
from cardionets.generator import load_segmenter
from cardionets.models.cmr_mae import VIEWS

MOST = 100  # drawn hearts that are measured to choose two
LOW, HIGH = 0.05, 0.95  # quantiles of the drawn hearts between which a sweep goes


@dataclass(frozen=True)
class Sweep:
    """Cines (step, frame, H, W) of both views from ``first`` to ``second``, and what is measured on them, by step."""

    first: str
    second: str
    shares: tuple[float, ...]
    cines: dict[str, Cine]
    measured: pd.DataFrame

    def shown(self) -> dict[str, Cine]:
        """Step and view -> cine, for a figure."""
        steps = enumerate(self.shares)
        return {f"{share:.0%} {view}": self.cines[view][i] for i, share in steps for view in VIEWS}


def extremes(study: Study, cohort: str, phenotype: str = "lv_mass") -> tuple[str, str]:
    """Two drawn records, at the 5th and 95th percentile of what is measured on the first hearts drawn of a cohort.

    Raises StudyError when the cohort was not drawn, fewer than two hearts could be measured, or nothing can measure.
    """
    drawn = Drawn.open(study, cohort)
    cines = {view: np.asarray(drawn.arrays[view][:MOST]) for view in VIEWS} if len(drawn.index) else {}
    if not cines:
        raise StudyError(f"predictions/{cohort}_cines: nobody was drawn; a sweep needs two hearts.")
    values = measure(load_segmenter(study), cines)[phenotype].to_numpy(np.float64)
    order = np.argsort(np.where(np.isfinite(values), values, np.inf))[: int(np.isfinite(values).sum())]
    if len(order) < 2:
        raise StudyError(f"predictions/{cohort}_cines: {phenotype} was measured on {len(order)} hearts; 2 are needed.")
    names = drawn.index.set_index("row")["record"]
    first, second = (names[order[round(q * (len(order) - 1))]] for q in (LOW, HIGH))
    return str(first), str(second)


def sweep(study: Study, cohort: str, first: str, second: str, steps: int = 5) -> Sweep:
    """Draw and measure ``steps`` hearts on the way from one record's ECG to another's.

    Without a segmentation network nothing is measured. Raises StudyError when a record is not in the store or
    ``steps`` is below 2.
    """
    store, artist = open_store(study, cohort), Artist(study)
    place = store.records.reset_index(drop=True).reset_index().set_index("record")["index"]
    unknown = [name for name in (first, second) if name not in place.index]
    if unknown or steps < 2:
        raise StudyError(
            f"sweep: records {unknown} are not in store/{cohort}, or steps {steps} is below 2; correct it."
        )
    rows = store.records["row"].to_numpy(np.int64)[place.loc[[first, second]].to_numpy()]
    start, end = torch.from_numpy(artist.reader.read(store, rows)[0])
    shares = torch.linspace(0, 1, steps)
    tokens = torch.stack([torch.lerp(start, end, share) for share in shares])
    made = {view: cine.cpu().numpy() for view, cine in artist.draw_from(tokens, [first] * steps).items()}
    return Sweep(first, second, tuple(shares.tolist()), made, _measured(study, made, shares.numpy()))


def _measured(study: Study, cines: dict[str, Cine], shares: NDArray[np.float32]) -> pd.DataFrame:
    frame = pd.DataFrame({"towards_second": shares.astype(np.float64)})
    try:
        found = measure(load_segmenter(study), cines)
    except StudyError:
        return frame
    return pd.concat([frame, found.reset_index(drop=True)], axis=1)
