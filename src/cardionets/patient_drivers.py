"""What in one person's ECG drove the estimates: contributions of waves and leads, and their section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets import figures, page, phenotypes
from cardionets.config import AFTER_S, BEFORE_S, Study
from cardionets.figures.base import Provenance, png_bytes
from cardionets.patient import Estimate, Recording

Floats = NDArray[np.float32]
WAVES = ("P", "QRS", "ST", "T")


@dataclass(frozen=True)
class Drivers:
    """Contributions to k phenotypes of the arm that reads the ECG alone, each in its unit.

    ``beat`` (12, B) uV; ``stretches`` (k, 12, S) of the beat; ``total`` (k): estimate minus that of an average ECG;
    ``waves`` (k, 4): shares of P, QRS, ST and T; ``rest`` (k): share of the ten seconds beside the beat.
    """

    arm: str
    endpoints: tuple[str, ...]
    beat: Floats
    stretches: Floats
    total: Floats
    waves: Floats
    rest: Floats


def drivers(study: Study, recording: Recording) -> Drivers:
    """Integrated gradients (:mod:`cardionets.attribution`) of the headline phenotypes for one accepted recording."""
    from cardionets import attribution

    assert recording.signal is not None and recording.beat is not None
    arm, rate = "aligned_teacher", study.grid.rate
    explainer = attribution.explainer(study, "phenotypes", arm)
    wanted = [name for name in study.protocol.endpoints.headline_phenotypes if name in explainer.endpoints]
    ecgs = attribution.as_ecgs(study, recording.signal[None], recording.beat[None])
    found = explainer.explain(ecgs, wanted)
    shares = attribution.wave_shares(found, rate)
    return Drivers(
        arm,
        found.endpoints,
        recording.beat.astype(np.float32),
        attribution.tiles(found.beat[0], attribution.tile_width(rate)),
        found.beat[0].sum((1, 2)) + found.record[0].sum((1, 2)),
        shares[list(WAVES)].to_numpy(np.float32),
        shares["record"].to_numpy(np.float32),
    )


def foremost(found: Drivers, estimates: Sequence[Estimate]) -> str:
    """The phenotype to show: the one whose estimate lies farthest from the middle of its reference range."""

    def distance(name: str) -> float:
        e = next((e for e in estimates if e.phenotype.name == name), None)
        if e is None or e.reference is None:
            return 0.0
        return abs(2 * e.value - e.reference.lower - e.reference.upper) / (e.reference.upper - e.reference.lower)

    return max(found.endpoints, key=distance)


def section(found: Drivers, estimates: Sequence[Estimate], provenance: Provenance) -> str:
    """The section of the page: the beat of the foremost phenotype, and a table of all."""
    name = foremost(found, estimates)
    item = phenotypes.BY_NAME[name]
    lead = (
        "By how much the ECG as a whole moves each estimate away from that of an average ECG, and which waves do so "
        f"(integrated gradients of arm {found.arm}, which reads the ECG alone). It tells what the network looks at, "
        "not what made the heart so."
    )
    words = (
        f"Median beat, coloured where {item.label} is read: orange raises the estimate, purple lowers it. Shown is the "
        "phenotype that lies farthest from the middle of its reference range."
    )
    rows = [
        (
            phenotypes.BY_NAME[n].title,
            f"{total:+.2g} {phenotypes.BY_NAME[n].unit}".replace("-", "−"),
            *(f"{share:.0%}" for share in (*waves, rest)),
        )
        for n, total, waves, rest in zip(found.endpoints, found.total, found.waves, found.rest)
    ]
    head = ("Phenotype", "From an average ECG", *WAVES, "Rhythm strip beside the beat")
    shown = page.picture(png_bytes(picture(found, estimates), provenance, dpi=110), ".png", words)
    return page.section("What in the ECG drove it", page.words(lead), shown, page.table(head, rows, len(head) - 1))


def picture(found: Drivers, estimates: Sequence[Estimate]) -> Figure:
    """The median beat, coloured where the foremost phenotype is read."""
    name = foremost(found, estimates)
    item, span = phenotypes.BY_NAME[name], (-BEFORE_S, AFTER_S)
    pull = found.stretches[found.endpoints.index(name)]
    return figures.attributed_beat(found.beat, pull, span, f"What moves {item.label}", item.unit)
