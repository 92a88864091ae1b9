"""Where the study lies, and writing so that nothing half-written is ever taken for finished."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cardionets.errors import StudyError


def find_root(start: Path | None = None) -> Path:
    """The repository root: the nearest folder at or above ``start`` that holds ``params.yaml`` and ``cohorts.yaml``."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "cohorts.yaml").is_file():
            return folder
    raise StudyError("params.yaml: not found in this folder or above it; run from inside the repository.")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a sibling path to write a file or a folder to; it takes the target's name only when the block succeeds.

    A sibling left by a killed run is removed first. A folder replaces the old folder as a whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    _remove(aside)
    try:
        yield aside
        if aside.is_dir():
            _remove(target)
        aside.replace(target)
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
