"""The five SIMULATED centres: who comes, what records them, in which files, and how well they are coded.

They differ as the real ones do: UK Biobank invites volunteers, all with CMR, on one protocol (Petersen et al., JCMR
2016;18:8); MIMIC-IV-ECG is an American hospital, old and sick, without CMR (Gow et al., PhysioNet 2023); the three
Chinese hospitals see smaller people and many cardiomyopathies, on other devices and scanners, half of them with CMR.
Prevalences outside UK Biobank are our choice of a plausible case mix, not published numbers.

Sizes: UK Biobank has 20 frames of 80 x 80 pixels at 8 bits in three short-axis slices and the four-chamber view, not
the real 50 frames of about 200 x 200 in ten slices, so that the demo study (5,212 people) stays under 3 GB (2.9).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from pydantic import Field

from cardionets.cmr import AS_IS, Turn
from cardionets.config import Settings
from cardionets.simulate.cine import Scanner
from cardionets.simulate.ecg import Device
from cardionets.simulate.heart import CaseMix
from cardionets.simulate.labels import Coding

EcgFormat = Literal["cardiosoft", "mimic", "wfdb", "muse", "dicom"]
CmrFormat = Literal["ukb", "study", "nifti", "none"]


class SimulateSettings(Settings):
    """Preset block ``simulate``: people per centre."""

    ukb: int = Field(ge=1)
    mimic: int = Field(ge=1)
    fahzu: int = Field(ge=1)
    sahzu: int = Field(ge=1)
    qph: int = Field(ge=1)


@dataclass(frozen=True)
class Centre:
    """One simulated centre; shares are fractions of its people.

    ``index`` keys the random streams and never changes. ``repeats``: mean number of further ECGs per person.
    ``tachycardia``: share of recordings in sinus rhythm above 100 per minute, as fever, pain or anaemia make it.
    ``cmr_days``: largest distance of CMR from the first ECG. ``id_range``: the centre's own identity numbers.
    ``devices``: its electrocardiographs, each for an equal share of the recordings; they sample alike.
    ``median_beats``: its ECG files carry one beside the strips. ``slices``: short-axis slices, the middle one
    mid-ventricular. ``turn``: how its scanner stores the canonical image.
    ``years``: first ECGs lie from 1 January of the first to 1 January of the second.
    """

    name: str
    label: str
    index: int
    mix: CaseMix
    devices: tuple[Device, ...]
    ecg_format: EcgFormat
    years: tuple[int, int]
    id_range: tuple[int, int]
    person_format: str = "{}"
    scanner: Scanner | None = None
    cmr_format: CmrFormat = "none"
    slices: int = 1
    turn: Turn = AS_IS
    cmr_share: float = 0.0
    cmr_days: int = 0
    mask_share: float = 0.0
    coded_share: float = 1.0
    withdrawn_share: float = 0.0
    repeats: float = 0.0
    tachycardia: float = 0.0
    median_beats: bool = False
    subtypes: bool = False
    coding: Coding = field(default_factory=Coding)

    def record_names(self, person: np.ndarray, nth: np.ndarray, rng: np.random.Generator) -> list[str]:
        """The centre's own names of recordings: file stem for UK Biobank, study number for MIMIC, else person-count."""
        if self.ecg_format == "cardiosoft":
            return [f"{who}_20205_2_0" for who in person]
        if self.ecg_format == "mimic":
            return [
                str(40_000_000 + k) for k in rng.choice(max(9_999_999, 4 * len(person)), len(person), replace=False)
            ]
        return [f"{who}-{k + 1}" for who, k in zip(person, nth)]

    def ecg_path(self, person: str, record: str) -> str:
        """Path of a recording below the centre's folder (of the header, for two-file formats)."""
        if self.ecg_format == "mimic":
            return f"files/p{person[:4]}/p{person}/s{record}/{record}.hea"
        suffix = {"cardiosoft": "xml", "wfdb": "hea", "muse": "xml", "dicom": "dcm"}[self.ecg_format]
        return f"ecg/{record}.{suffix}"

    def cmr_path(self, person: str, view: Literal["sax", "4ch"]) -> str:
        """Path of a cine below the centre's folder: a zip of its DICOM, the zip of the whole study, or a NIfTI file."""
        if self.cmr_format == "ukb":
            return f"cmr/{person}_{'20209' if view == 'sax' else '20208'}_2_0.zip"
        return f"cmr/{person}.zip" if self.cmr_format == "study" else f"cmr/{person}_{view}.nii.gz"


_HOSPITAL: Final = CaseMix(
    age_mean=54.0,
    age_sd=14.0,
    age_low=18.0,
    age_high=88.0,
    women=0.38,
    height_shift_cm=-7.0,
    bmi_shift=-2.6,
    load_shift=0.3,
    dcm=0.20,
    hcm=0.16,
    rcm=0.05,
    other_cardiomyopathy=0.03,
    infarct=0.05,
    cad=0.15,
    heart_failure=0.30,
    af=0.14,
    af_now=0.6,
    valve=0.08,
    pulmonary_hypertension=0.05,
    pericarditis=0.02,
    rbbb=0.04,
    lbbb=0.05,
)
"""A Chinese cardiomyopathy clinic: smaller, leaner, younger people, nearly half of them with heart muscle disease."""

_VOLUNTEERS: Final = CaseMix(
    dcm=0.007,
    hcm=0.006,
    rcm=0.002,
    other_cardiomyopathy=0.003,
    heart_failure=0.03,
    af=0.05,
    valve=0.03,
    pulmonary_hypertension=0.015,
    pericarditis=0.012,
    lbbb=0.014,
)
"""The UK Biobank imaging visit; the rare diseases are two to three times as frequent as in the volunteers, so that a
demo-sized test set has any events at all."""

_PATIENTS: Final = CaseMix(
    age_mean=64.0,
    age_sd=16.0,
    age_low=18.0,
    age_high=92.0,
    women=0.49,
    bmi_shift=2.2,
    load_shift=0.7,
    dcm=0.035,
    hcm=0.010,
    rcm=0.004,
    other_cardiomyopathy=0.015,
    infarct=0.09,
    cad=0.28,
    heart_failure=0.24,
    af=0.22,
    af_now=0.55,
    valve=0.12,
    pulmonary_hypertension=0.08,
    pericarditis=0.02,
    rbbb=0.08,
    lbbb=0.035,
)
"""An American tertiary hospital: older, heavier, sicker."""

_FAST: Final = 0.15
"""Sinus tachycardia in the ECGs of a hospital: 1,568 of 10,646 patients (Zheng et al., Sci Data 2020;7:48)."""


def _two(device: Device, name: str) -> tuple[Device, Device]:
    """A centre's electrocardiograph and an older one of its: a narrower band and twice the noise."""
    older = replace(device, lowpass_hz=40.0, noise_uv=2 * device.noise_uv, model=f"Simulated cart {name}1")
    return replace(device, model=f"Simulated cart {name}2"), older


_ALL: Final = (
    Centre(
        name="ukb",
        label="UK Biobank",
        index=1,
        mix=_VOLUNTEERS,
        devices=(Device(rate_hz=500, lsb_uv=5.0, highpass_hz=0.05, lowpass_hz=150.0, model="Simulated cart U"),),
        ecg_format="cardiosoft",
        years=(2014, 2023),
        id_range=(1_000_010, 6_000_000),
        scanner=Scanner(spacing_mm=2.2, frames=20, size=80, noise=0.035, field_tesla=1.5, bits=8, resolution_mm=2.2),
        cmr_format="ukb",
        slices=3,
        cmr_share=1.0,
        mask_share=0.15,
        withdrawn_share=0.003,
        median_beats=True,
    ),
    Centre(
        name="mimic",
        label="MIMIC-IV-ECG",
        index=2,
        mix=_PATIENTS,
        devices=(Device(rate_hz=500, lsb_uv=5.0, highpass_hz=0.05, lowpass_hz=100.0, noise_uv=3.5, mains_hz=60.0),),
        ecg_format="mimic",
        years=(2110, 2190),
        id_range=(10_000_000, 10_010_000),
        coded_share=0.97,
        repeats=0.45,
        tachycardia=_FAST,
        coding=Coding(uncoded=0.15, false=0.006, others=4.0, incident=0.25, years_before=5.0, years_after=3.0),
    ),
    Centre(
        name="fahzu",
        label="FAHZU",
        index=3,
        mix=_HOSPITAL,
        devices=(Device(rate_hz=1000, lsb_uv=1.0, highpass_hz=0.05, lowpass_hz=250.0, noise_uv=1.5),),
        ecg_format="wfdb",
        years=(2015, 2023),
        id_range=(100_000, 999_999),
        person_format="F{:06d}",
        scanner=Scanner(spacing_mm=1.9, frames=25, size=88, noise=0.030, field_tesla=3.0, bits=12, resolution_mm=1.9),
        cmr_format="study",
        cmr_share=0.5,
        cmr_days=21,
        coded_share=0.96,
        repeats=0.10,
        tachycardia=_FAST,
        subtypes=True,
        turn=Turn(flip_cols=True),
    ),
    Centre(
        name="sahzu",
        label="SAHZU",
        index=4,
        mix=replace(_HOSPITAL, dcm=0.16, hcm=0.13, rcm=0.03, age_mean=57.0, women=0.42, heart_failure=0.26),
        devices=_two(Device(rate_hz=500, lsb_uv=4.88, highpass_hz=0.16, lowpass_hz=100.0, noise_uv=2.5), "S"),
        ecg_format="muse",
        years=(2016, 2023),
        id_range=(10_000_000, 99_999_999),
        person_format="{}",
        scanner=Scanner(spacing_mm=2.4, frames=20, size=72, noise=0.050, field_tesla=1.5, bits=12, resolution_mm=2.6),
        cmr_format="study",
        cmr_share=0.5,
        cmr_days=30,
        coded_share=0.95,
        repeats=0.12,
        tachycardia=_FAST,
        turn=Turn(transpose=True),
    ),
    Centre(
        name="qph",
        label="QPH",
        index=5,
        mix=replace(_HOSPITAL, dcm=0.13, hcm=0.10, rcm=0.02, age_mean=60.0, women=0.45, load_shift=0.5),
        devices=_two(Device(rate_hz=400, lsb_uv=2.5, highpass_hz=0.3, lowpass_hz=75.0, noise_uv=4.0), "Q"),
        ecg_format="dicom",
        years=(2017, 2023),
        id_range=(1_000, 9_999),
        person_format="QPH-{:05d}",
        scanner=Scanner(spacing_mm=1.6, frames=30, size=104, noise=0.045, field_tesla=1.5, bits=8, resolution_mm=2.2),
        cmr_format="nifti",
        cmr_share=0.5,
        cmr_days=14,
        coded_share=0.94,
        repeats=0.05,
        tachycardia=_FAST,
        coding=Coding(uncoded=0.14, false=0.005),
        turn=Turn(flip_rows=True),
    ),
)
CENTRES: Final[dict[str, Centre]] = {centre.name: centre for centre in _ALL}
