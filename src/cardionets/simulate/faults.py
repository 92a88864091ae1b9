"""Planned faults of recordings, as they happen on a ward: the gates and the flow diagram need something to find.

- ``flat_lead``: a chest electrode has come off.
- ``limb_reversal``: right and left arm electrodes exchanged: I inverted, II and III exchanged, aVR and aVL exchanged;
  the lead identities still hold.
- ``leads_swapped``: two leads mislabelled in the file, which breaks the identities (unless only eight are stored).
- ``wrong_gain``: amplitudes five times too large or too small.
- ``truncated``: the file ends early.
- ``duplicate``: the file carries somebody else's signal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cardionets.ecg import LEADS

Counts = npt.NDArray[np.int32]
KINDS: Final = ("flat_lead", "limb_reversal", "leads_swapped", "wrong_gain", "truncated", "duplicate")
TRUNCATED_SHARE: Final = 0.6
GAIN_FACTOR: Final = 5


def spoil(counts: Counts, kind: str, rng: np.random.Generator) -> Counts:
    """``counts`` (lead 12, sample T) with the fault ``kind``; kinds that concern the file leave them unchanged."""
    spoiled = counts.copy()
    if kind == "flat_lead":
        spoiled[LEADS.index("V1") + rng.integers(6)] = 0
    elif kind == "limb_reversal":
        spoiled[:5] = np.stack([-counts[0], counts[2], counts[1], counts[4], counts[3]])
    elif kind == "leads_swapped":
        spoiled[[LEADS.index("II"), LEADS.index("V2")]] = counts[[LEADS.index("V2"), LEADS.index("II")]]
    elif kind == "wrong_gain":
        spoiled = spoiled * GAIN_FACTOR if rng.random() < 0.5 else spoiled // GAIN_FACTOR
    return spoiled


def truncate(path: Path) -> None:
    """Cut a file to 60 % of its bytes, as an interrupted transfer does."""
    with path.open("r+b") as handle:
        handle.truncate(int(TRUNCATED_SHARE * path.stat().st_size))
