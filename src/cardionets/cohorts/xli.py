"""Decoder of the XLI compression in Philips ECG XML: base64, then per lead LZW of 10-bit codes over second differences.

The format is described by the sierra-ecg-tools project; this is an independent implementation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_BITS = 10
_END = 1023
_BIAS = 64


def _codes(data: bytes) -> Iterator[int]:
    # 10-bit big-endian numbers from a stream of bytes
    held = bits = 0
    for byte in data:
        held, bits = (held << 8) | byte, bits + 8
        if bits >= _BITS:
            bits -= _BITS
            yield held >> bits
            held &= (1 << bits) - 1


def lzw(data: bytes, limit: int) -> bytes:
    """Expand LZW codes of 10 bits, at most ``limit`` bytes; raises ``ValueError`` on a code that cannot occur."""
    table = [bytes([i]) for i in range(256)]
    out = bytearray()
    last = b""
    for code in _codes(data):
        if len(out) >= limit:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and last:
            entry = last + last[:1]
        else:
            raise ValueError(f"LZW code {code} cannot follow")
        out += entry
        if last and len(table) < _END:
            table.append(last + entry[:1])
        last = entry
    return bytes(out[:limit])


def _integrate(values: Ints, first: int) -> Ints:
    """Undo the second differences: two samples as they are, then x[i] = 2 x[i-1] - x[i-2] - d[i-1], d biased by 64."""
    deltas = np.concatenate([[first], values[2:-1] - _BIAS])
    steps = values[1] - values[0] - np.cumsum(deltas)
    return np.concatenate([values[:2], values[1] + np.cumsum(steps)])


def _lead(chunk: bytes, first: int, samples: int) -> Ints:
    stored = np.frombuffer(lzw(chunk, 2 * samples), np.uint8)
    if len(stored) != 2 * samples:
        raise ValueError(f"{len(stored) // 2} samples instead of {samples}")
    high, low = stored[:samples].astype(np.uint16), stored[samples:]
    return _integrate(((high << 8) | low).astype(np.int16).astype(np.int64), first)


def _restore_limbs(leads: list[Ints]) -> None:
    # III, aVR, aVL and aVF are stored as what I and II do not explain of them
    one, two = leads[0], leads[1]
    leads[2] = two - one - leads[2]
    leads[3] = -leads[3] - (one + two) // 2
    leads[4] = (one - leads[2]) // 2 - leads[4]
    leads[5] = (two + leads[2]) // 2 - leads[5]


def decode(data: bytes, count: int, samples: int) -> Ints:
    """All leads of a decoded base64 block: (lead ``count``, T ``samples``) in counts.

    Raises ``ValueError`` where the block is damaged or too short.
    """
    leads, start = [], 0
    for _ in range(count):
        if start + 8 > len(data):
            raise ValueError("the block ends early")
        size, _code, first = struct.unpack_from("<iHh", data, start)
        if not 0 < size <= len(data) - start - 8:
            raise ValueError(f"a lead of {size} bytes does not fit")
        leads.append(_lead(data[start + 8 : start + 8 + size], first, samples))
        start += 8 + size
    if count >= 6:
        _restore_limbs(leads)
    return np.stack(leads)
