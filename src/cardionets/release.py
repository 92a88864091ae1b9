"""A release: everything a site needs and nothing else, with the hash of every file; and taking one in.

``release.json`` names version, commit, protocol and the SHA-256 of every other file. ``code.bundle`` is the repository
at that commit, for sites that cannot reach a server: ``git clone code.bundle cardionets``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Final

from cardionets import __version__, bundle
from cardionets.config import Settings, Study, StudyError, check
from cardionets.figures.base import protocol_hash
from cardionets.files import atomic_path, sha256
from cardionets.screen import Private, search_files
from cardionets.weights import CARD, TENSORS, read_card

ABOUT: Final = "release.json"
CODE: Final = "code.bundle"
WHEELS: Final = "wheelhouse"
MODELS: Final = (
    "ecg_mae",
    "cmr_mae",
    "align",
    "phenotypes",
    "screening",
    "novelty",
    "subtypes",
    "tokenizer",
    "segmenter",
    "generator",
)
TABLES: Final = ("thresholds.csv", "conformal.csv", "reference.csv", "prevalence.csv")
LOCKS: Final = ("requirements.lock", "requirements-cpu.lock")


class About(Settings):
    """``release.json``."""

    version: str
    commit: str
    preset: str
    protocol: str
    simulated: bool
    files: dict[str, str]


def release(study: Study, out: Path | None = None, wheelhouse: bool = False) -> Path:
    """Write a release to ``out`` (``release/cardionets-<version>``), all or nothing.

    Raises StudyError, all faults at once, when weights are missing or not those of their cards, when the code has
    changes that no commit holds, or when a table holds something private.
    """
    target = out or study.path("release", f"cardionets-{__version__}")
    faults = [*_weight_faults(study), *_code_faults(study)]
    if target.exists():
        faults.append(f"{target.name}: exists already; a release is never changed: raise the version or delete it.")
    public = Private(public=frozenset(digest[:16] for digest in bundle.weights_of(study).values()))
    faults += [str(finding) for finding in search_files(sorted(study.path("weights").glob("**/*.csv")), public)]
    if faults:
        raise StudyError("\n".join(faults))
    with atomic_path(target) as aside:
        aside.mkdir(parents=True)
        for name in (*MODELS, *TABLES):
            _copy(study.path("weights", name), aside / "weights" / name)
        for name in ("params.yaml", f"presets/{study.protocol.preset}.yaml", *LOCKS):
            _copy(study.path(name), aside / name)
        _git(study, "bundle", "create", str(aside / CODE), "HEAD")
        if wheelhouse:
            download(study, aside / WHEELS)
        _describe(study, aside)
    return target


def _weight_faults(study: Study) -> list[str]:
    found = []
    for name in MODELS:
        folder = study.path("weights", name)
        try:
            if sha256(folder / TENSORS) != read_card(folder).sha256:
                found.append(f"weights/{name}/{TENSORS}: not the file its {CARD} describes; run the study again.")
        except (StudyError, FileNotFoundError):
            found.append(f"weights/{name}: missing or without its card; run the study first.")
    missing = [name for name in TABLES if not study.path("weights", name).is_file()]
    return found + [f"weights/{name}: missing; run the screening stage." for name in missing]


def _code_faults(study: Study) -> list[str]:
    changed = _git(study, "status", "--porcelain", "--untracked-files=no").splitlines()
    return [f"git: {len(changed)} changed files are in no commit; commit them, or undo them."] if changed else []


def _git(study: Study, *command: str) -> str:
    try:
        done = subprocess.run(["git", *command], cwd=study.root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        raise StudyError(f"git {command[0]}: {' '.join(reason)}; a release is made in a git clone.") from None
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def download(study: Study, target: Path) -> None:
    """Every locked package as a wheel, with its hash checked by pip; they fit this machine's system and Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--dest", str(target), "-r", str(study.path(LOCKS[0]))]
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError:
        raise StudyError("pip download: not every package could be fetched; see pip's own message above.") from None


def _describe(study: Study, folder: Path) -> None:
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    about = About(
        version=__version__,
        commit=_git(study, "rev-parse", "HEAD").strip(),
        preset=study.protocol.preset,
        protocol=protocol_hash(study),
        simulated=any(cohort.simulated for cohort in study.cohorts.values()),
        files=files,
    )
    (folder / ABOUT).write_text(json.dumps(about.model_dump(), indent=1) + "\n", encoding="utf-8")


def install(study: Study, folder: Path, replace: bool = False) -> str:
    """Verify a release and copy its weights into ``weights/``; returns one sentence of what it is.

    Raises StudyError, all faults at once: a hash that differs, files that are missing or not listed, another protocol
    than this clone's, or other weights in the way (unless ``replace``).
    """
    about = read(folder)
    names = sorted(name for name in about.files if name.startswith("weights/"))
    faults = [*_file_faults(folder, about), *_protocol_faults(study, about)]
    if not replace:
        differ = [n for n in names if study.path(n).is_file() and sha256(study.path(n)) != about.files[n]]
        faults += [
            f"{name}: other weights are here; add --replace to put the release in their place." for name in differ
        ]
    if faults:
        raise StudyError("\n".join(faults))
    for top in dict.fromkeys(PurePosixPath(name).parts[1] for name in names):
        with atomic_path(study.path("weights", top), lasting=True) as aside:
            _copy(folder / "weights" / top, aside)
    return f"release {about.version}, preset {about.preset}, commit {about.commit[:10]}"


def read(folder: Path) -> About:
    """``release.json`` of a folder. Raises StudyError when it is none."""
    source = f"{folder.name}/{ABOUT}"
    try:
        return check(About, json.loads((folder / ABOUT).read_text(encoding="utf-8")), source)
    except FileNotFoundError:
        raise StudyError(f"{source}: missing; name the folder that `python -m cardionets release` wrote.") from None
    except ValueError:
        raise StudyError(f"{source}: not valid JSON; copy the release again.") from None


def _file_faults(folder: Path, about: About) -> list[str]:
    found = []
    for name, digest in about.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or (folder / name).is_symlink():
            found.append(f"{ABOUT}: {name[:80]!r} points outside the release; ask the coordinator.")
        elif not (folder / name).is_file():
            found.append(f"{name}: missing; copy the release again.")
        elif sha256(folder / name) != digest:
            found.append(f"{name}: its hash is not the one in {ABOUT}; copy the release again.")
    present = {p.relative_to(folder).as_posix() for p in (folder / "weights").rglob("*") if p.is_file()}
    return found + [
        f"{name}: not listed in {ABOUT}; it is no part of the release." for name in present - set(about.files)
    ]


def _protocol_faults(study: Study, about: About) -> list[str]:
    ours = protocol_hash(study)
    if (about.preset, about.protocol) == (study.protocol.preset, ours):
        return []
    return [
        f"params.yaml: preset {study.protocol.preset}, protocol {ours}: the release has {about.preset} "
        f"{about.protocol}; copy params.yaml and presets/ from the release over yours."
    ]
