"""What formats, reasons and flags mean, in words for people; tests hold them against the code that uses them."""

from __future__ import annotations

from typing import Final

from cardionets import gates
from cardionets.config import Study

FORMATS: Final[dict[str, tuple[str, str]]] = {
    "wfdb": (
        "WFDB: a `.hea` with its `.dat` or `.mat`, any signal format, several files or segments",
        "age, sex, date",
    ),
    "xml": ("CardioSoft, GE MUSE, Philips (XLI or plain), HL7 aECG", "person, date, age, sex"),
    "xml_median": ("the median beat stored in CardioSoft or MUSE XML; only when asked for by name", "as `xml`"),
    "dicom": ("DICOM waveform of a resting ECG, little-endian", "person, date, age, sex"),
    "scp": ("SCP-ECG, plain or with the default Huffman table", "person, date, age, sex"),
    "edf": ("EDF and EDF+C, one rate for all leads", "person, date, age, sex"),
    "npy": ("NumPy array of one recording, or of many: `file.npy#row`", "nothing; declare leads, unit, rate"),
    "hdf5": ("HDF5 array of one recording, or of many: `file.hdf5#row`", "at most its rate; declare the rest"),
    "mat": ("MATLAB 5 array without a WFDB header", "at most its rate; declare the rest"),
    "csv": ("text (`.csv`, `.tsv`, `.txt`), one column per lead", "at most lead names; declare the rest"),
}
DIALECTS: Final[dict[str, str]] = {
    "CardiologyXML": "CardioSoft, as UK Biobank field 20205",
    "RestingECG": "GE MUSE",
    "restingecgdata": "Philips",
    "AnnotatedECG": "HL7 aECG",
}
READING: Final[dict[str, str]] = {
    "missing": "the named file does not exist",
    "format_unknown": "neither the first bytes nor the suffix belong to a format above",
    "unreadable": "damaged, cut off, of a wrong checksum, or without a part that must be there",
    "unsupported": "a variant that would be half understood, like WFDB segments of varying layout or interrupted EDF",
    "header_invalid": "a WFDB header against its specification",
    "too_large": "more bytes or samples than one recording has",
    "leads_unknown": "the file names no lead and `ecg.leads` is not declared, or their numbers differ",
    "lead_missing": "a lead is neither stored nor derivable from I and II",
    "lead_repeated": "a lead is stored twice",
    "unit_unknown": "no usable unit or gain in the file, and `ecg.unit` is not declared",
    "rate_unknown": "no possible sampling rate in the file, and `ecg.rate` is not declared",
    "declaration_conflict": "the file states another rate than `ecg.rate` declares",
}
FLAGS: Final[dict[str, str]] = {
    "q_baseline": f"baseline wander beyond {gates.NOISE_FLAGS['q_baseline'][1]:g} uV",
    "q_mains": f"mains above {gates.NOISE_FLAGS['q_mains'][1]:g} uV",
    "q_noise": f"muscle noise above {gates.NOISE_FLAGS['q_noise'][1]:g} uV",
    "q_identity": "the file contradicts the table in age or sex",
    "q_derived_limb_leads": "limb leads were derived",
    "q_calibration_cut": "a calibration pulse was cut",
}


def signal_reasons(study: Study) -> dict[str, str]:
    """Reasons for which a readable signal is left out, with the limits in force; N, A, B stand for what is found."""
    limits, (low, high) = study.protocol.quality, gates.QRS_RANGE_UV
    factors = ", ".join(str(factor) for factor in gates.FACTORS)
    still = f"SD below {limits.min_lead_std_uv:g} uV, or standing still for {limits.max_flat_fraction:.0%} of the time"
    slow, fast = limits.rate_bpm
    return {
        "nan": "a sample is not a number",
        "spectrum_implausible": f"more than {gates.HIGH_SHARE:.0%} of the power above {gates.HIGH_HZ:g} Hz: samples "
        "in a wrong order or of a wrong form, a wrong rate, or no ECG",
        "too_short": f"shorter than {needed_seconds(study):g} s",
        "flat_lead": f"a lead with an {still} (in runs of 0.2 s or more)",
        "clipped": "a lead sits on its own extreme, more than 1 mV from its middle, for 0.5 % of the time or more",
        "amplitude_low_xN": f"QRS below {low:g} uV; N is the likely factor, one of {factors}",
        "amplitude_high_xN": f"QRS above {high:g} uV; N as above",
        "amplitude_high": f"a sample more than {limits.max_abs_uv:g} uV from the middle of its lead",
        "identity_einthoven": f"III is not II - I: apart by more than {limits.max_identity_error:g} of the limb leads",
        "identity_goldberger": "aVR, aVL or aVF is not what I and II imply, by the same measure",
        "leads_swapped_A_B": "exchanging the channels A and B, and no other two, would explain the fault",
        "limb_reversal_la_ra": "arm electrodes exchanged: P, QRS and T of lead I upside down against V6",
        "limb_reversal_ra_ll": "right arm and left leg exchanged: P, QRS and T of II and aVF upside down against V6",
        "limb_reversal_ra_rl": "right arm and right leg exchanged: lead II is silent",
        "limb_reversal_la_rl": "left arm and right leg exchanged: lead III is silent",
        "limb_reversal_arms_legs": "both arms exchanged with both legs: lead I is silent",
        "rate_implausible": f"heart rate outside {slow:g} to {fast:g} per minute, or no complete beat",
        "duplicate_across_people": "exactly the same signal under two people: all copies are left out",
        "duplicate_of_same_person": "exactly the same signal again under one person: the first copy stays",
    }


def needed_seconds(study: Study) -> float:
    """The shortest recording that is taken."""
    return max(study.protocol.quality.min_seconds, study.grid.seconds)
