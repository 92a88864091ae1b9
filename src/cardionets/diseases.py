"""Diseases screened by the study and their versioned code lists (exact codes; a dot-less prefix covers its subcodes).

ICD-10 lists follow the study's UK Biobank columns (I21, I25, I42, I48, I50, I08, I34, I35) and, for the other
endpoints, the categories of the WHO classification; each ICD-9-CM list holds the codes of the same conditions. SNOMED
CT concepts are those of the PhysioNet / CinC 2021 headers and of problem lists; they are compared whole. What looks
near and is left out on purpose: I43 and 425.7-425.8 (heart muscle in other diseases), I44.4-I44.6 and I45.0
(fascicular blocks), 713426002 and 251120003 (incomplete bundle branch blocks), I27.1, I27.8 and 416.1-416.2 (not
pulmonary hypertension), I31.2, I31.3 and 423.0 (blood or effusion without inflammation); I31.9 and 423.9 are in
because both indexes send "pericarditis" there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

CODE_LIST_VERSION: Final = "2026.2"


@dataclass(frozen=True, slots=True)
class Disease:
    """One screening endpoint with the codes that define it, per vocabulary.

    ``on_ecg``: the report of the ECG itself decides it, so a header with statements but not this one means "absent".
    ``this_ecg``: it is about that ECG alone, so that no code of the person counts; ``rhythm``: as recorders state it.
    """

    name: str
    label: str
    icd10: tuple[str, ...]
    icd9: tuple[str, ...] = ()
    snomed: tuple[str, ...] = ()
    on_ecg: bool = False
    this_ecg: bool = False
    rhythm: tuple[str, ...] = ()


DISEASES: Final[tuple[Disease, ...]] = (
    Disease(
        "cad",
        "Coronary artery disease",
        ("I21", "I25"),
        ("410", "412", "414"),
        ("53741008", "22298006", "57054005", "164865005", "164867002"),
    ),
    Disease(
        "cardiomyopathy",
        "Cardiomyopathy",
        ("I42",),
        ("4250", "4251", "4252", "4253", "4254", "4255", "4259"),
        ("85898001", "399020009", "233873004"),
    ),
    Disease("heart_failure", "Heart failure", ("I50",), ("428",), ("84114007",)),
    Disease(
        "atrial_fibrillation",
        "Atrial fibrillation or flutter",
        ("I48",),
        ("4273",),
        ("164889003", "164890007", "195080001", "426749004", "282825002", "314208002", "49436004"),
        on_ecg=True,
    ),
    Disease("valve", "Valve disease", ("I08", "I34", "I35"), ("396", "4240", "4241"), ("368009",)),
    Disease("pulmonary_hypertension", "Pulmonary hypertension", ("I270", "I272"), ("4160", "4168"), ("70995007",)),
    Disease(
        "pericarditis",
        "Pericarditis",
        ("I30", "I310", "I311", "I319", "I32"),
        ("420", "4231", "4232", "4239"),
        ("3238004",),
    ),
    Disease("rbbb", "Right bundle branch block", ("I451",), ("4264",), ("59118001", "713427006"), on_ecg=True),
    Disease("lbbb", "Left bundle branch block", ("I447",), ("4263",), ("164909002", "733534002"), on_ecg=True),
    Disease(
        "af_rhythm",
        "Atrial fibrillation or flutter in this ECG",
        ("I48",),
        ("4273",),
        ("164889003", "164890007", "195080001", "314208002", "49436004"),
        on_ecg=True,
        this_ecg=True,
        rhythm=("FIBRILLATION",),
    ),
)
NAMES: Final[tuple[str, ...]] = tuple(d.name for d in DISEASES)
DIAGNOSES: Final[tuple[str, ...]] = tuple(d.name for d in DISEASES if not d.this_ecg)
BY_NAME: Final[dict[str, Disease]] = {d.name: d for d in DISEASES}
SUBTYPES: Final[dict[str, tuple[str, ...]]] = {
    "dcm": ("I420",),
    "hcm": ("I421", "I422"),
    "rcm": ("I425",),
}
SUBTYPE_LABELS: Final[dict[str, str]] = {
    "dcm": "Dilated, of cardiomyopathies",
    "hcm": "Hypertrophic, of cardiomyopathies",
    "rcm": "Restrictive, of cardiomyopathies",
}


def is_subtype(subtype: pd.Series, name: str) -> NDArray[np.float64]:
    """One subtype against the other two (n,): 1, 0, and NaN where the subtype is unknown or there is none."""
    known = subtype.astype("object")
    return np.where(known.isin(list(SUBTYPES)), (known == name).astype(float), np.nan)
