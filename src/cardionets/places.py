"""Folders of this machine, and what pages and logs say in their place: a folder's name can name a person."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Final

from cardionets.config import Study

CELL_FILE: Final = re.compile(r"[\w/\\:~.-]*ipykernel_\d+[/\\]\d+\.py")


def places(study: Study, cohort: str | None) -> dict[str, str]:
    """Folders of this machine, the longest first, and the word that pages and logs say in their place."""
    found = {str(Path(__file__).parents[1]): "src", sysconfig.get_paths()["purelib"]: "site-packages"}
    found |= {sysconfig.get_paths()["stdlib"]: "python", gettempdir(): "tmp", str(Path.home()): "~"}
    if cohort is not None and study.cohort(cohort).path.is_absolute():
        found[str(study.cohort(cohort).path)] = "DATA"
    found[str(study.root)] = "."
    return {place: found[place] for place in sorted(found, key=len, reverse=True) if len(place) > 1}


def unplaced(text: str, here: Mapping[str, str]) -> str:
    """A text without the folders of :func:`places`; what only looks like one inside a packed picture stays."""
    for place, word in here.items():
        text = re.sub(rf"(?<![\w+]){re.escape(place)}(?![\w+-])", word, text)
    return CELL_FILE.sub("cell.py", text)
