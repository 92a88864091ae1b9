"""Every figure of the study: functions take frames or arrays and return a Figure; `save` writes it with provenance."""

from cardionets.figures.agreement import bland_altman, retrieval, scatter
from cardionets.figures.base import Provenance, png_bytes, protocol_hash, save, stamp
from cardionets.figures.cine import animate, cine_strip
from cardionets.figures.ecg import ecg
from cardionets.figures.flow import stard
from cardionets.figures.people import distributions
from cardionets.figures.performance import auc_forest, label_fractions, learning_curves, phenotype_bars
from cardionets.figures.pooled import forest
from cardionets.figures.risk import calibration_plot, decision, roc

__all__ = [
    "Provenance",
    "animate",
    "auc_forest",
    "bland_altman",
    "calibration_plot",
    "cine_strip",
    "decision",
    "distributions",
    "ecg",
    "forest",
    "label_fractions",
    "learning_curves",
    "phenotype_bars",
    "png_bytes",
    "protocol_hash",
    "retrieval",
    "roc",
    "save",
    "scatter",
    "stamp",
    "stard",
]
