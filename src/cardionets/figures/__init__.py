"""Every figure of the study: functions take frames or arrays and return a Figure; `save` writes it with provenance.

What needs seaborn or the statistics is imported when first asked for: a stage that draws a curve starts 2 s sooner.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cardionets.figures.attribution import attributed_beat
from cardionets.figures.base import Provenance, png_bytes, protocol_hash, save, stamp
from cardionets.figures.cine import animate, beating, cine_strip
from cardionets.figures.ecg import ecg
from cardionets.figures.flow import stard
from cardionets.figures.performance import auc_forest, label_fractions, learning_curves, phenotype_bars

if TYPE_CHECKING:
    from cardionets.figures.agreement import bland_altman, retrieval, scatter, scatter_sheet
    from cardionets.figures.groups import case_mix, subgroup_forest
    from cardionets.figures.people import distributions, reference_ranges
    from cardionets.figures.pooled import forest, forest_sheet
    from cardionets.figures.risk import calibration_plot, decision, roc

_LATER: Final = {
    "agreement": ("bland_altman", "retrieval", "scatter", "scatter_sheet"),
    "groups": ("case_mix", "subgroup_forest"),
    "people": ("distributions", "reference_ranges"),
    "pooled": ("forest", "forest_sheet"),
    "risk": ("calibration_plot", "decision", "roc"),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Provenance",
    "animate",
    "attributed_beat",
    "auc_forest",
    "beating",
    "bland_altman",
    "calibration_plot",
    "case_mix",
    "cine_strip",
    "decision",
    "distributions",
    "ecg",
    "forest",
    "forest_sheet",
    "label_fractions",
    "learning_curves",
    "phenotype_bars",
    "png_bytes",
    "protocol_hash",
    "reference_ranges",
    "retrieval",
    "roc",
    "save",
    "scatter",
    "scatter_sheet",
    "stamp",
    "stard",
    "subgroup_forest",
]
