"""The sub-command ``patient``: reading and drawing in this process, the networks in one beside it."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

from cardionets import page
from cardionets.beside import call
from cardionets.config import CohortEcg, Study, StudyError, check
from cardionets.patient import Person, Recording, cines, complete, of_file
from cardionets.patient_drivers import drivers
from cardionets.patient_page import measured, measured_values, render

MODELS: Final = "cardionets.patient_models"
"""Named and not imported: it loads torch."""


def run(args: Namespace, models: Executor, start: float) -> int:
    """Write the page that ``args`` asks for; 1 for an ECG that was refused. ``start``: when the command began.

    Raises StudyError for what the user can mend.
    """
    study, target, sheet = Study(), Path(args.out), Path(args.pdf) if args.pdf else None
    if sheet and sheet.suffix != ".pdf":
        raise StudyError(f"patient: --pdf: {sheet.name} does not end in .pdf; give a name that does.")
    leads = tuple(name.strip() for name in args.leads.split(",")) if args.leads else None
    values = {"unit": args.unit, "rate": args.rate, "leads": leads}
    site = study.cohort(args.cohort).ecg.model_dump(exclude_unset=True) if args.cohort else {}
    declared = check(CohortEcg, site | {k: v for k, v in values.items() if v is not None}, "patient: --")
    person = Person(args.age, args.sex, args.height, args.weight)
    recording = of_file(study, Path(args.file), declared, person)
    passed = ", ".join(f"{name} {value}" for name, value in measured_values(recording).items())
    print(f"refused: {', '.join(recording.reasons)}" if recording.reasons else f"passed every gate; {passed}")
    if recording.fault:
        print(recording.fault, file=sys.stderr)
    for path in make(study, recording, target, models, sheet, args.cohort or ""):
        print(f"{path} written after {time.monotonic() - start:.1f} s; research use only", flush=True)
    return int(bool(recording.reasons))


def make(
    study: Study,
    recording: Recording,
    target: Path,
    models: Executor,
    sheet: Path | None = None,
    cohort: str = "",
) -> Iterator[Path]:
    """Write the page at once with the numbers, again with cines and what drove the numbers, then the PDF ``sheet``.

    ``models`` runs the networks, so that the page is drawn while they load. ``cohort``: whose calibration counts.
    Yields each file as it is written.
    """
    if recording.reasons:
        yield page.write(target, render(study, recording, None, {}))
        yield from _print(sheet, study, recording, None, {}, None)
        return
    said = models.submit(call, MODELS, "say", study, *recording.seen())
    moving, driving = models.submit(cines, study, recording), models.submit(drivers, study, recording)
    top, found = measured(study, recording), complete(study, recording, said.result(), cohort)
    yield page.write(target, render(study, recording, found, None, None, top))
    drawn, why = moving.result(), driving.result()
    yield page.write(target, render(study, recording, found, drawn, why, top))
    yield from _print(sheet, study, recording, found, drawn, why)


def _print(sheet: Path | None, *content: Any) -> Iterator[Path]:
    from cardionets import patient_pdf

    if sheet:
        yield patient_pdf.write(sheet, *content)
