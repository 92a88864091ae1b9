"""The coordinator's end: bundles of sites verified again and laid down where pooling and report find them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cardionets import __version__, aggregates, bundle, page, tables
from cardionets.bundle import MANIFEST, Manifest
from cardionets.config import Study, StudyError, check
from cardionets.figures.base import Provenance, protocol_hash
from cardionets.files import atomic_path, sha256

FOLDER = "received"


def receive(study: Study, paths: Iterable[Path], replace: bool = False) -> list[str]:
    """Verify bundles and write each to ``received/<cohort>/``; returns one sentence per bundle.

    Every bundle is verified before any is written. Raises StudyError with all reasons of all bundles refused.
    """
    verified: list[tuple[Path, Manifest, dict[str, bytes]]] = []
    faults: list[str] = []
    for path in paths:
        try:
            manifest, files = bundle.read(path)
            found = [*_version_faults(study, manifest), *bundle.violations(study, manifest, files)]
            found += _clashes(study, manifest, replace, [m.cohort for _, m, _ in verified])
            faults += [f"{path.name}: {fault}" for fault in found]
            verified.append((path, manifest, files))
        except StudyError as error:
            faults.append(str(error))
    if faults:
        raise StudyError("\n".join(["receive: nothing was taken in, because:", *faults]))
    for _, manifest, files in verified:
        _write(study, manifest, files)
    return [_sentence(path, manifest) for path, manifest, _ in verified]


def _sentence(path: Path, manifest: Manifest) -> str:
    kind = "SIMULATED" if manifest.simulated else manifest.role
    return f"{path.name}: {manifest.label} ({kind}) is in received/{manifest.cohort}; SHA-256 {sha256(path)}"


def _version_faults(study: Study, manifest: Manifest) -> list[str]:
    """Results that answer another question, or were found by other weights or software, are not pooled."""
    found, ours = [], protocol_hash(study)
    if manifest.protocol != ours or manifest.preset != study.protocol.preset:
        theirs = f"{manifest.preset} {manifest.protocol}"
        found.append(f"protocol {theirs}: the coordinator's is {study.protocol.preset} {ours}; use the same release.")
    if manifest.version.split(".")[:2] != __version__.split(".")[:2]:
        found.append(f"software {manifest.version}: the coordinator's is {__version__}; use the same release.")
    known = bundle.weights_of(study)
    other = sorted(name for name in known if manifest.weights.get(name) != known[name])
    if other:
        found.append(f"weights: {', '.join(other)} are not the coordinator's; the site must use the released weights.")
    return found


def _clashes(study: Study, manifest: Manifest, replace: bool, before: list[str]) -> list[str]:
    """A site must not count twice."""
    name, found = manifest.cohort, []
    if study.path("results", name).is_dir():
        found.append(f"{name}: results/{name} exists here already; pooled twice it would count double: remove one.")
    if name in before:
        found.append(f"{name}: another bundle in this call is of the same cohort; name one of them.")
    if study.path(FOLDER, name).is_dir() and not replace:
        found.append(f"{name}: received/{name} exists; add --replace to put this bundle in its place.")
    return found


def _write(study: Study, manifest: Manifest, files: dict[str, bytes]) -> None:
    """The bundle's files, and from its people the case mix that centres are compared by."""
    with atomic_path(study.path(FOLDER, manifest.cohort), lasting=True) as aside:
        aside.mkdir()
        for name, data in files.items():
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_bytes(data)
        mix = aggregates.case_mix(bundle.table(files["people.csv"]), manifest.cohort)
        mix.to_csv(aside / "case_mix.csv", index=False, float_format="%.8g", lineterminator="\n")
        text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False, sort_keys=True)
        (aside / MANIFEST).write_text(text + "\n", encoding="utf-8")


def sites(study: Study) -> dict[str, Manifest]:
    """Cohort -> manifest of every site received, in order of name."""
    found = {}
    for path in sorted(study.path(FOLDER).glob(f"[!.]*/{MANIFEST}")):
        source = f"received/{path.parent.name}/{MANIFEST}"
        try:
            found[path.parent.name] = check(Manifest, json.loads(path.read_text(encoding="utf-8")), source)
        except ValueError:
            raise StudyError(f"{source}: not valid JSON; receive the bundle again with --replace.") from None
    return found


def external(study: Study) -> list[str]:
    """Names of all external centres: of cohorts.yaml, and received."""
    own = [name for name, cohort in study.cohorts.items() if cohort.role == "external"]
    return list(dict.fromkeys([*own, *(name for name, m in sites(study).items() if m.role == "external")]))


def label(study: Study, cohort: str) -> str:
    """A centre's name for people; that of a received site comes with its bundle."""
    if cohort in study.cohorts:
        return study.cohorts[cohort].label
    found = sites(study).get(cohort)
    if found is None:
        return "The study as a whole"
    return f"{found.label} (SIMULATED)" if found.simulated else found.label


def section(study: Study) -> page.Section:
    """What each received site has sent: its software, its people, its figures; no more of it is here."""
    found = page.Section("Received sites")
    for name, manifest in sites(study).items():
        folder, who = study.path(FOLDER, name), label(study, name)
        hidden = int(pd.read_csv(folder / "metrics.csv")["n"].isna().sum())
        text = f"{who}: software {manifest.version}, protocol {manifest.protocol}, groups of {manifest.minimum_cell}"
        found.paragraphs.append(f"{text} or more; {hidden:,} results were kept at the site.")
        people = pd.read_csv(folder / "people.csv").dropna(axis=1, how="all")
        note = Provenance(who, preset=manifest.preset, protocol=manifest.protocol, simulated=manifest.simulated)
        found.tables.append(tables.on_page(people, f"{who}: people", note))
        for path in sorted(folder.glob("figures/*.png")):
            found.pictures.append(page.Picture.read(path, f"{who}: {path.stem.replace('_', ' ')}"))
    return found
