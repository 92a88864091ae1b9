"""The few DICOM elements that a cine needs, as stored: by a plain walk over the bytes, else by pydicom.

A scan has hundreds of files and most are Explicit VR Little Endian, whose elements stand one after the other (DICOM
PS3.5, 7.1.2). Walking over them takes a tenth of the time of a general parser. Whatever is not exactly as the standard
says (another transfer syntax, an unknown form, a tag out of order, an element beyond the end) is left to pydicom, so
that both ways give the same.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Literal

import pydicom
from pydicom.config import disable_value_validation
from pydicom.tag import Tag

MAGIC: Final = b"DICM"
DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
"""A transfer syntax that may grow without bound when it is opened; refused."""
NEEDED: Final = (
    "SeriesInstanceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "PixelData",
)
WELCOME: Final = (
    "TriggerTime",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "CardiacNumberOfImages",
    "NominalInterval",
    "HeartRate",
    "AcquisitionDate",
    "SeriesDate",
    "StudyDate",
)
PLAIN: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Transfer syntaxes whose pixels lie as they are: implicit and explicit, both little-endian."""

_KEYWORDS: Final = {int(Tag(keyword)): keyword for keyword in (*NEEDED, *WELCOME)}
_WANTED: Final = frozenset(_KEYWORDS) | {0x00080005}
_EXPLICIT: Final = b"1.2.840.10008.1.2.1\0"
_SYNTAX, _CHARACTERS, _SEQUENCE_END, _ITEM, _ITEM_END = 0x00020010, 0x00080005, 0xFFFEE0DD, 0xFFFEE000, 0xFFFEE00D
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_CHARACTER_SETS: Final = frozenset({b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192", b"GB18030"})
_UNSIGNED: Final = (b"\x08\0", b"\x10\0")
_UNDEFINED: Final = 0xFFFFFFFF
_MAX_DEPTH: Final = 8
_head: Final = Struct("<HH2sH").unpack_from
_length: Final = Struct("<I").unpack_from
_item: Final = Struct("<HHI").unpack_from


class _IrregularError(Exception):
    """The bytes are not the plain case."""


@dataclass(frozen=True)
class Header:
    """Elements of one file: ``values`` by keyword, as stored; ``dataset`` is pydicom's where that had to read it.

    ``plain``: the pixels are not compressed and little-endian.
    """

    values: dict[str, Any]
    plain: bool = True
    order: Literal["little", "big"] = "little"
    dataset: Any = None

    def text(self, keyword: str) -> str:
        """The stored text of one element, "" where absent."""
        value = self.values.get(keyword)
        return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value or "")

    def short(self, keyword: str) -> int:
        """The value of one element of unsigned 16-bit form, 0 where absent."""
        value = self.values.get(keyword, 0)
        return int.from_bytes(value[:2], self.order) if isinstance(value, bytes) else int(value)


def read_header(raw: bytes) -> Header:
    """The header of one DICOM file given whole; any error of pydicom where the bytes cannot be parsed."""
    try:
        return Header(scan(raw))
    except (_IrregularError, struct.error):
        return _by_library(raw)


def _by_library(raw: bytes) -> Header:
    with disable_value_validation():  # the fields that matter are checked by the caller, all of them
        data = pydicom.dcmread(io.BytesIO(raw))
    values = {keyword: data.get_item(tag).value for tag, keyword in _KEYWORDS.items() if tag in data}
    little = data.original_encoding[1] is not False
    plain = data.file_meta.get("TransferSyntaxUID") in PLAIN
    return Header(values, plain, "little" if little else "big", data)


def scan(raw: bytes) -> dict[str, Any]:
    """Values by keyword from a file of Explicit VR Little Endian; ``_IrregularError`` for anything else."""
    found: dict[int, bytes] = {}
    start = _walk(raw, 132, 0x0002FFFF, {_SYNTAX}, found)
    if raw[128:132] != MAGIC or found.pop(_SYNTAX, None) != _EXPLICIT:
        raise _IrregularError
    _walk(raw, start, _UNDEFINED, _WANTED, found)
    if b"" in found.values() or found.pop(_CHARACTERS, b"").strip() not in _CHARACTER_SETS:
        raise _IrregularError
    values = {_KEYWORDS[tag]: value for tag, value in found.items()}
    if values.get("BitsAllocated") not in _UNSIGNED or values.get("PixelRepresentation", b"\0\0") != b"\0\0":
        raise _IrregularError
    return values


def _walk(raw: bytes, at: int, last: int, wanted: Collection[int], found: dict[int, bytes], depth: int = 0) -> int:
    """Walk over the elements from ``at`` to tag ``last`` or the end, keep the ``wanted``, and say where it stopped."""
    size, before = len(raw), -1
    while at < size:
        group, element, form, length = _head(raw, at)
        tag = group << 16 | element
        if tag > last:
            return at
        if form in _SHORT:
            start = at + 8
        elif form in _LONG:
            start, length = at + 12, _length(raw, at + 8)[0]
        else:
            raise _IrregularError
        at = start + length if length != _UNDEFINED else _after_sequence(raw, start, form, depth)
        if tag <= before or at > size:
            raise _IrregularError
        before = tag
        if tag in wanted:
            found[tag] = raw[start:at]
    return at


def _after_sequence(raw: bytes, at: int, form: bytes, depth: int) -> int:
    """Where a sequence of undefined length ends: after its delimiter, its items may be of either kind."""
    if form != b"SQ" or depth > _MAX_DEPTH:
        raise _IrregularError
    while True:
        group, element, length = _item(raw, at)
        tag, at = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _IrregularError
        at = at + length if length != _UNDEFINED else _after_item(raw, at, depth)


def _after_item(raw: bytes, at: int, depth: int) -> int:
    end = _walk(raw, at, _ITEM_END - 1, (), {}, depth + 1)
    if _item(raw, end) != (_ITEM_END >> 16, _ITEM_END & 0xFFFF, 0):
        raise _IrregularError
    return end + 8
