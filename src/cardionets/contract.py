"""The input contract, ``docs/input-contract.md``, written from the code that enforces it.

Refresh it with ``python -m cardionets.contract > docs/input-contract.md``. The prose is ``assets/input-contract.md``;
what the code does not hold as data stands here and in :mod:`cardionets.glossary`, and tests hold it against the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any, Final

from pandera.pandas import Column, DataFrameSchema

from cardionets import cmr, config, diseases, phenotypes, schema
from cardionets.cohorts import archive, cines, nifti_cine, recording
from cardionets.cohorts.ecg_files import READERS
from cardionets.config import Cohort, CohortEcg, Study
from cardionets.ecg import LEADS, NOTCH_ABOVE_UV, STORED8
from cardionets.glossary import DIALECTS, FLAGS, FORMATS, READING, needed_seconds, signal_reasons

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
LABELS: Final[dict[int, str]] = {
    cmr.LV: "LV cavity",
    cmr.MYO: "LV myocardium",
    cmr.RV: "RV cavity",
    cmr.LA: "left atrium",
    cmr.RA: "right atrium",
}


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
    decided = {d.name: "it alone" if d.this_ecg else "yes" if d.on_ecg else "no" for d in diseases.DISEASES}
    rows = [
        (f"`{d.name}`", d.label, *map(", ".join, (d.icd10, d.icd9, d.snomed)), decided[d.name])
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
        "seconds": f"{needed_seconds(study):g}",
        "kept": study.grid.seconds,
        "rate": study.grid.rate,
        "low": f"{low:g}",
        "high": f"{high:g}",
        "mains": f"{study.protocol.ecg.mains_hz:g}",
        "notch": f"{NOTCH_ABOVE_UV:g}",
        "before": f"{config.BEFORE_S:g}",
        "after": f"{config.AFTER_S:g}",
        "beat": study.grid.beat_samples,
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
