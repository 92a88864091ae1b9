"""Person-level splits and pseudonyms by salted hash: adding or reordering people never moves or renames anyone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from cardionets.config import SplitProtocol, StudyError

SPLITS = ("train", "val", "test")
PSEUDONYM_DIGITS = 16


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("|".join(parts).encode()).digest()


def uniform(person: str, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the person and the salt."""
    return int.from_bytes(_digest(salt, person)[:8], "big") / 2.0**64


def assign(person: Iterable[str], protocol: SplitProtocol) -> np.ndarray:
    """Split of every entry of ``person``: an object array of "train", "val" or "test", the same for the same person."""
    codes, unique = pd.factorize(np.asarray(list(person), dtype=object))
    draws = np.array([uniform(str(name), protocol.salt) for name in unique], dtype=float)
    names = np.array(SPLITS, dtype=object)
    # (unique person,) -> (entry,)
    return np.asarray(
        names[np.searchsorted([protocol.train, protocol.train + protocol.val], draws, side="right")][codes]
    )


def pseudonyms(raw: Iterable[str], kind: str, centre: str, salt: str) -> np.ndarray:
    """Salted hashes, cut to 64 bits, that stand for a centre's own identifiers.

    ``kind`` ("person" or "record") and ``centre`` enter the hash, so equal numbers at two centres stay apart. A salt
    that others know lets them test a guessed identifier: patient-level tables stay inside the building all the same.
    """
    codes, unique = pd.factorize(np.asarray(list(raw), dtype=object))
    names = [_digest(salt, centre, kind, str(name)).hex()[:PSEUDONYM_DIGITS] for name in unique]
    return np.array(names, dtype=object)[codes] if len(codes) else np.array([], dtype=object)


def person_overlap(records: pd.DataFrame) -> int:
    """Number of persons with records in more than one split."""
    return int((records.groupby("person", observed=True)["split"].nunique() > 1).sum())


def require_disjoint(records: pd.DataFrame, source: str) -> None:
    """Gate: raise ``StudyError`` when any person is in two splits."""
    overlap = person_overlap(records)
    if overlap:
        raise StudyError(f"{source}: split: {overlap} persons are in more than one split; run the prepare stage again.")
