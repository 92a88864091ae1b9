"""Diseases screened by the study and their versioned code lists (exact codes; a dot-less prefix covers its subcodes).

ICD-10 lists follow the study's UK Biobank columns (I21, I25, I42, I48, I50, I08, I34, I35); ICD-9-CM and SNOMED CT
lists serve hospital discharge tables and the PhysioNet / CinC headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CODE_LIST_VERSION: Final = "2026.1"


@dataclass(frozen=True, slots=True)
class Disease:
    """One screening endpoint with the codes that define it, per vocabulary."""

    name: str
    label: str
    icd10: tuple[str, ...]
    icd9: tuple[str, ...] = ()
    snomed: tuple[str, ...] = ()


DISEASES: Final[tuple[Disease, ...]] = (
    Disease("cad", "Coronary artery disease", ("I21", "I25"), ("410", "414"), ("53741008", "22298006")),
    Disease("cardiomyopathy", "Cardiomyopathy", ("I42",), ("425",), ("85898001",)),
    Disease("heart_failure", "Heart failure", ("I50",), ("428",), ("84114007",)),
    Disease("atrial_fibrillation", "Atrial fibrillation", ("I48",), ("42731",), ("164889003",)),
    Disease("valve", "Valve disease", ("I08", "I34", "I35"), ("396", "4240", "4241"), ("368009",)),
    Disease("pulmonary_hypertension", "Pulmonary hypertension", ("I27",), ("416",), ("70995007",)),
    Disease("pericarditis", "Pericarditis", ("I30", "I31"), ("420", "423"), ("3238004",)),
    Disease("rbbb", "Right bundle branch block", ("I450", "I451"), ("4264",), ("59118001", "713427006")),
    Disease("lbbb", "Left bundle branch block", ("I446", "I447"), ("4263",), ("164909002", "733534002")),
)
NAMES: Final[tuple[str, ...]] = tuple(d.name for d in DISEASES)
BY_NAME: Final[dict[str, Disease]] = {d.name: d for d in DISEASES}
SUBTYPES: Final[dict[str, tuple[str, ...]]] = {
    "dcm": ("I420",),
    "hcm": ("I421", "I422"),
    "rcm": ("I425",),
}
