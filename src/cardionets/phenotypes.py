"""The 82 CMR phenotypes of UK Biobank, fields 24100-24181, in field order.

Source: UK Biobank data showcase, category 157 (derived from the cine segmentation of Bai et al.,
Nature Medicine 2020;26:1654).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_FIELD: Final = 24100
SEGMENTS: Final = 16
LONG_AXIS_SEGMENTS: Final = 6


@dataclass(frozen=True, slots=True)
class Phenotype:
    """One imaging phenotype: its UK Biobank field, short name, label for people, unit and group."""

    field: int
    name: str
    label: str
    unit: str
    group: str

    @property
    def title(self) -> str:
        """Label with its unit, as an axis shows it."""
        return f"{self.label} ({self.unit})"


def _segmental(prefix: str, label: str, unit: str, group: str, segments: int) -> list[tuple[str, str, str, str]]:
    rows = [(f"{prefix}_{i}", f"{label} segment {i}", unit, group) for i in range(1, segments + 1)]
    return [*rows, (f"{prefix}_global", f"{label} global", unit, group)]


def _all() -> tuple[Phenotype, ...]:
    lv, rv, la, ra, aorta = "Left ventricle", "Right ventricle", "Left atrium", "Right atrium", "Aorta"
    rows: list[tuple[str, str, str, str]] = [
        ("lv_edv", "LV end-diastolic volume", "mL", lv),
        ("lv_esv", "LV end-systolic volume", "mL", lv),
        ("lv_sv", "LV stroke volume", "mL", lv),
        ("lv_ef", "LV ejection fraction", "%", lv),
        ("lv_co", "LV cardiac output", "L/min", lv),
        ("lv_mass", "LV myocardial mass", "g", lv),
        ("rv_edv", "RV end-diastolic volume", "mL", rv),
        ("rv_esv", "RV end-systolic volume", "mL", rv),
        ("rv_sv", "RV stroke volume", "mL", rv),
        ("rv_ef", "RV ejection fraction", "%", rv),
        ("la_max", "LA maximum volume", "mL", la),
        ("la_min", "LA minimum volume", "mL", la),
        ("la_sv", "LA stroke volume", "mL", la),
        ("la_ef", "LA ejection fraction", "%", la),
        ("ra_max", "RA maximum volume", "mL", ra),
        ("ra_min", "RA minimum volume", "mL", ra),
        ("ra_sv", "RA stroke volume", "mL", ra),
        ("ra_ef", "RA ejection fraction", "%", ra),
        ("aao_max", "Ascending aorta maximum area", "mm²", aorta),
        ("aao_min", "Ascending aorta minimum area", "mm²", aorta),
        ("aao_dist", "Ascending aorta distensibility", "10⁻³ mmHg⁻¹", aorta),
        ("dao_max", "Descending aorta maximum area", "mm²", aorta),
        ("dao_min", "Descending aorta minimum area", "mm²", aorta),
        ("dao_dist", "Descending aorta distensibility", "10⁻³ mmHg⁻¹", aorta),
        *_segmental("wt", "LV wall thickness", "mm", "Wall thickness", SEGMENTS),
        *_segmental("ecc", "LV circumferential strain", "%", "Circumferential strain", SEGMENTS),
        *_segmental("err", "LV radial strain", "%", "Radial strain", SEGMENTS),
        *_segmental("ell", "LV longitudinal strain", "%", "Longitudinal strain", LONG_AXIS_SEGMENTS),
    ]
    return tuple(Phenotype(FIRST_FIELD + i, *row) for i, row in enumerate(rows))


PHENOTYPES: Final[tuple[Phenotype, ...]] = _all()
NAMES: Final[tuple[str, ...]] = tuple(p.name for p in PHENOTYPES)
BY_NAME: Final[dict[str, Phenotype]] = {p.name: p for p in PHENOTYPES}
BY_FIELD: Final[dict[int, Phenotype]] = {p.field: p for p in PHENOTYPES}
HEADLINE: Final[tuple[str, ...]] = ("lv_mass", "lv_edv", "lv_ef", "rv_edv", "la_max", "wt_global")
