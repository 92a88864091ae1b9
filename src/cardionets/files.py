"""Where the study lies, and writing so that nothing half-written is ever taken for finished."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

from cardionets.errors import StudyError

HERE: Final = f"{zlib.crc32(platform.node().encode()):08x}"
"""This computer in the name of what is half-written: folders may be shared, process numbers are its own."""


def find_root(start: Path | None = None) -> Path:
    """The repository root: the nearest folder at or above ``start`` that holds ``params.yaml`` and ``cohorts.yaml``."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "cohorts.yaml").is_file():
            return folder
    raise StudyError("params.yaml: not found in this folder or above it; run from inside the repository.")


@contextmanager
def atomic_path(target: Path, lasting: bool = False) -> Iterator[Path]:
    """Yield a sibling path to write a file or a folder to; it takes the target's name only when the block succeeds.

    The sibling belongs to this process: several may write the same target, the last one stays. A folder replaces the
    old folder as a whole. ``lasting``: the disk holds every byte before the name does, as a name that says "finished"
    must after a power cut.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _clean(target.parent)
    aside = target.with_name(f".{target.name}.{HERE}-{os.getpid()}.part")
    _remove(aside)
    try:
        yield aside
        if lasting:
            _sync(aside, *aside.rglob("*"))
        _swap(aside, target)
        if lasting:
            _sync(target.parent)
    finally:
        _remove(aside)


@cache
def _clean(folder: Path) -> None:
    """Remove what killed processes of this computer left in ``folder``; each process looks once, others may as well."""
    for path in folder.glob(f".*.{HERE}-*.part"):
        if not _alive(int(path.name.rpartition("-")[2].partition(".")[0])):
            with suppress(OSError):
                _remove(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(*paths: Path) -> None:
    """Have the disk hold files and folders; some network file systems know that of files only."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL or not path.is_dir():
                raise
        finally:
            os.close(handle)


def _swap(aside: Path, target: Path) -> None:
    """Give ``aside`` its name. An old folder is moved away whole, comes back should that fail, and then goes."""
    if not (aside.is_dir() and os.path.lexists(target)):
        aside.replace(target)
        return
    old = aside.with_suffix(".old.part")
    try:
        target.replace(old)
        aside.replace(target)
    finally:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.replace(target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
