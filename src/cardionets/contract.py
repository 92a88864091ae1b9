"""The input contract, ``docs/input-contract.md``, written from the code that enforces it.

Refresh it with ``python -m cardionets.contract > docs/input-contract.md``. The prose is ``assets/input-contract.md``;
what the code does not hold as data (what a reason means, what a format says of itself) stands here, and tests hold it
against the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

from pandera.pandas import Column, DataFrameSchema

from cardionets import cmr, config, diseases, gates, phenotypes, schema, store
from cardionets.cohorts import archive, cines, nifti_cine, recording
from cardionets.cohorts.ecg_files import READERS
from cardionets.config import Cohort, CohortEcg, Study
from cardionets.ecg import LEADS, NOTCH_ABOVE_UV, STORED8

COMMAND: Final = "python -m cardionets.contract > docs/input-contract.md"
SPELLINGS: Final = ("AVR", "MLII", "Lead I", "MDC_ECG_LEAD_AVR", "DII", "C1")

SETTINGS: Final[dict[str, str]] = {
    "label": "name shown in figures and tables",
    "path": "folder of the centre's files, absolute or relative to the repository; only read",
    "depends": "what DVC watches for changes: one file that changes with the data, such as a table or checksums",
    "layout": "`ukb`, `mimic`, `manifest` (a table with one row per ECG) or `wfdb` (headers with age, sex and codes)",
    "role": "`development` (people are split) or `external` (everybody is tested)",
    "lends_training": "an external cohort whose people are divided as well: its training people fit the arm "
    "`aligned_site`, and only its test people are judged",
    "simulated": "`true` prints SIMULATED wherever the data are shown",
    "manifest": "layout `manifest`: the table, relative to `path`",
    "columns": "layout `manifest`: our column name to yours",
    "codes": "layout `manifest`: a table of dated diagnoses (`person,vocabulary,code,date`), relative to `path`",
    "exclude": "a list of people or records to leave out, first column, relative to `path`",
    "include": "layout `wfdb`: patterns of headers below `path`; all of them if not set",
    "mask_labels": "numbers in your masks to ours",
    "ecg.unit": "`uV`, `mV` or `V`, where the files do not say",
    "ecg.rate": "Hz, where the files do not say",
    "ecg.leads": "stored order of the leads, where the files do not say",
    "ecg.gain_factor": "what every amplitude is multiplied by: the declared remedy of a wrong gain",
}
FORMATS: Final[dict[str, tuple[str, str]]] = {
    "wfdb": ("WFDB: a `.hea` with its `.dat` or `.mat`, any signal format, several signal files", "age, sex, date"),
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
    "unsupported": "a variant that would be half understood, such as multi-segment WFDB or interrupted EDF",
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
LABELS: Final[dict[int, str]] = {
    cmr.LV: "LV cavity",
    cmr.MYO: "LV myocardium",
    cmr.RV: "RV cavity",
    cmr.LA: "left atrium",
    cmr.RA: "right atrium",
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
        "too_short": f"shorter than {_seconds(study):g} s",
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


def _seconds(study: Study) -> float:
    return max(study.protocol.quality.min_seconds, study.grid.seconds)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _glossary(head: tuple[str, str], meanings: Mapping[str, str]) -> str:
    return table(head, ((f"`{name}`", text) for name, text in meanings.items()))


def _code(values: Iterable[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def defaults() -> dict[str, object]:
    """Every setting of a cohort with its default; ``...`` where it must be given."""
    both = (("", Cohort), ("ecg.", CohortEcg))
    pairs = {prefix + name: field for prefix, model in both for name, field in model.model_fields.items()}
    return {
        name: ... if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in pairs.items()
        if name != "ecg"
    }


def _default(value: object) -> str:
    if value is ...:
        return "must be given"
    return "not set" if value is None or value in ({}, ()) else f"`{str(value).lower()}`"


def _rules(column: Column) -> str:
    rules = [str(check.error) for check in column.checks if check.error]
    return "; ".join(
        [*rules, *(["never twice"] if column.unique else []), *([] if column.nullable else ["never empty"])]
    )


def _columns(schema_: DataFrameSchema, untyped: str) -> str:
    """A table of columns in the order of the schema; phenotypes and diseases as one row each."""
    groups = dict.fromkeys(phenotypes.NAMES, f"each of the {len(phenotypes.NAMES)} phenotypes below")
    groups |= dict.fromkeys(diseases.NAMES, f"each of the {len(diseases.NAMES)} diseases below")
    rows: dict[str, tuple[str, ...]] = {}
    columns: dict[Any, Column] = schema_.columns
    for name, column in columns.items():
        shown = groups.get(name, f"`{'q_*' if column.regex else name}`")
        kind = untyped if column.dtype is None else str(column.dtype)
        rows[shown] = (shown, kind, "yes" if column.required else "no", _rules(column))
    return table(("column", "type", "required", "rule"), rows.values())


def _diseases() -> str:
    head = ("name", "disease", "ICD-10", "ICD-9-CM", "SNOMED CT", "the ECG's own report decides it")
    rows = [
        (f"`{d.name}`", d.label, *map(", ".join, (d.icd10, d.icd9, d.snomed)), "yes" if d.on_ecg else "no")
        for d in diseases.DISEASES
    ]
    return table(head, rows)


def _label_maps() -> Iterator[tuple[str, str]]:
    for name, pairs in nifti_cine.LABELS.items():
        yield f"`{name}`", ", ".join(f"{theirs}: {ours}" for theirs, ours in pairs.items())


def _ecg(study: Study) -> dict[str, object]:
    low, high = study.protocol.ecg.band_hz
    return {
        "leads": _code(LEADS),
        "spellings": _code(SPELLINGS),
        "stored8": _code(STORED8),
        "units": _code(sorted(recording.UNIT_UV)),
        "seconds": f"{_seconds(study):g}",
        "kept": study.grid.seconds,
        "rate": study.grid.rate,
        "low": f"{low:g}",
        "high": f"{high:g}",
        "mains": f"{study.protocol.ecg.mains_hz:g}",
        "notch": f"{NOTCH_ABOVE_UV:g}",
        "before": f"{config.BEFORE_S:g}",
        "after": f"{config.AFTER_S:g}",
        "beat": store.beat_samples(study.grid),
        "formats": table(("key", "files", "says"), ((f"`{key}`", *FORMATS[key]) for key in READERS)),
        "dialects": "; ".join(f"`{root}` is {what}" for root, what in DIALECTS.items()),
        "max_mib": recording.MAX_BYTES >> 20,
        "max_samples": recording.MAX_SAMPLES,
        "reading": _glossary(("reason", "means"), READING),
        "signals": _glossary(("reason", "means"), signal_reasons(study)),
        "flags": ", ".join(f"`{flag}` ({text})" for flag, text in FLAGS.items()),
    }


def _cmr(study: Study) -> dict[str, object]:
    grid = study.grid
    return {
        "frames": grid.frames,
        "size": grid.size,
        "spacing": f"{grid.spacing_mm:g}",
        "view": f"{grid.size * grid.spacing_mm:.0f}",
        "zip_files": archive.MAX_FILES,
        "zip_mib": archive.MAX_FILE_BYTES >> 20,
        "zip_gib": archive.MAX_BYTES >> 30,
        "min_frames": cmr.MIN_FRAMES,
        "min_slices": cines.MIN_SLICES,
        "labels": ", ".join(f"{number} {name}" for number, name in LABELS.items()),
        "label_maps": table(("known source", "`mask_labels`"), _label_maps()),
    }


def _tables(study: Study) -> dict[str, object]:
    settings = ((f"`{name}`", SETTINGS[name], _default(value)) for name, value in defaults().items())
    return {
        "settings": table(("setting", "meaning", "default"), settings),
        "manifest": _columns(schema.MANIFEST, "text"),
        "records": _columns(schema.RECORDS, "string"),
        "code_version": diseases.CODE_LIST_VERSION,
        "window": study.protocol.endpoints.window,
        "diseases": _diseases(),
        "subtypes": _glossary(("name", "ICD-10"), {k: ", ".join(v) for k, v in diseases.SUBTYPES.items()}),
        "phenotypes": table(
            ("name", "UK Biobank field", "meaning"),
            ((f"`{item.name}`", item.field, item.title) for item in phenotypes.PHENOTYPES),
        ),
    }


def render(study: Study | None = None) -> str:
    """The whole page as Markdown; ``study``: whose limits and grid are printed (default: of the current folder)."""
    study = study or Study()
    page = (files("cardionets") / "assets" / "input-contract.md").read_text(encoding="utf-8")
    values = {"command": f"`{COMMAND}`", "preset": study.protocol.preset}
    return Template(page).substitute(values | _ecg(study) | _cmr(study) | _tables(study))


if __name__ == "__main__":
    sys.stdout.write(render())
