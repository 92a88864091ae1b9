"""The files of a folder or of a zip, read into memory one by one and never extracted.

A zip is data from elsewhere: names that leave its folder, too many members, and members larger than they declare or
than any medical image is, are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from cardionets.config import StudyError

MAX_FILES: Final = 20_000
MAX_FILE_BYTES: Final = 64 * 2**20
MAX_BYTES: Final = 4 * 2**30


def files_in(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of a folder (its own level and below), of a zip, or of one plain file, by name.

    Raises StudyError, naming the file and the remedy, where the source is missing, damaged, unsafe or too large.
    """
    if source.is_dir():
        yield from _of_folder(source)
    elif not source.is_file():
        raise StudyError(f"{source.name}: the file is missing; copy it again from the source or clear its name.")
    elif source.suffix.lower() == ".zip":
        yield from _of_zip(source)
    else:
        yield source.name, _bounded(source)


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if len(paths) > MAX_FILES:
        raise StudyError(f"{folder.name}: {len(paths)} files, more than {MAX_FILES}; point to the folder of one scan.")
    for path in paths:
        yield f"{folder.name}/{path.relative_to(folder).as_posix()}", _bounded(path)


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise StudyError(f"{path.name}: larger than {MAX_FILE_BYTES >> 20} MiB; it is no single image, remove it.")
    return path.read_bytes()


def _of_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
            _refuse_unsafe(path, members)
            for member in members:
                yield f"{path.name}/{member.filename}", _read_member(path, archive, member)
    except StudyError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise StudyError(f"{path.name}: damaged zip ({error}); copy it again from the source.") from None


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
        raise StudyError(f"{path.name}: more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB; it is no single scan.")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise StudyError(f"{path.name}: member {member.filename!r} leaves its folder; do not use this archive.")


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    limit = min(member.file_size, MAX_FILE_BYTES)
    with archive.open(member) as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise StudyError(f"{path.name}: member {member.filename!r} is larger than it may be; do not use this archive.")
    return raw
