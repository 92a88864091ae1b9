"""The files of a folder or of a zip, read into memory one by one and never extracted.

A zip is data from elsewhere: names that leave its folder, too many members, and members larger than they declare or
than any medical image is, are refused.
"""

from __future__ import annotations

import mmap
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from struct import Struct
from typing import Final

from cardionets.config import StudyError

MAX_FILES: Final = 20_000
MAX_FILE_BYTES: Final = 64 * 2**20
MAX_BYTES: Final = 4 * 2**30
_LOCAL: Final = Struct("<4sHHHHHLLLHH")
"""Before a member: mark, version, flags, method, time, date, checksum, two sizes, lengths of name and extra field."""
_SUSPECT: Final = re.compile(r"^/|\.\.|[:\\]")
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PLAIN_FLAGS: Final = 0x0806  # anything but the deflate level and the name's encoding is left to the library


DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    NotImplementedError,
    RuntimeError,
)
"""What the library raises for a zip that is none, or no longer."""


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
        with (
            zipfile.ZipFile(path) as archive,
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
        ):
            members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
            _refuse_unsafe(path, members)
            for member in members:
                raw = _plain_member(whole, member)
                yield f"{path.name}/{member.filename}", _read_member(path, archive, member) if raw is None else raw
    except StudyError:
        raise
    except DAMAGE as error:
        raise StudyError(f"{path.name}: damaged zip ({error}); copy it again from the source.") from None


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_BYTES:
        raise StudyError(f"{path.name}: more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB; it is no single scan.")
    for member in (m for m in members if _SUSPECT.search(m.filename)):
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise StudyError(f"{path.name}: member {member.filename!r} leaves its folder; do not use this archive.")


def _plain_member(whole: mmap.mmap, member: zipfile.ZipInfo) -> bytes | None:
    """A member whose own header, sizes and checksum are all in order, at a tenth of the library's cost; else None."""
    if member.compress_type not in _METHODS or member.flag_bits & ~_PLAIN_FLAGS or member.file_size > MAX_FILE_BYTES:
        return None
    start = member.header_offset + _LOCAL.size
    head = whole[member.header_offset : start]
    if len(head) < _LOCAL.size:
        return None
    mark, _, flags, method, *_, name, extra = _LOCAL.unpack(head)
    same = (mark, flags, method) == (b"PK\3\4", member.flag_bits, member.compress_type)
    if not same or whole[start : start + name] != member.orig_filename.encode("utf-8" if flags & 0x800 else "cp437"):
        return None
    start += name + extra
    raw = _inflated(whole[start : start + member.compress_size], member)
    return raw if len(raw) == member.file_size and zlib.crc32(raw) == member.CRC else None


def _inflated(data: bytes, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type == zipfile.ZIP_STORED:
        return data
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.file_size + 1)
    except zlib.error:
        return b""


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    limit = min(member.file_size, MAX_FILE_BYTES)
    with archive.open(member) as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise StudyError(f"{path.name}: member {member.filename!r} is larger than it may be; do not use this archive.")
    return raw
