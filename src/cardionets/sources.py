"""Which code the numbers of a stage rest on: ``sources/<stage>.txt``, a hash and a path per line.

DVC runs a stage again when a file that it declares has changed. A stage declares its list, which one quick stage writes
from the imports of its notebook; a list that comes out as before runs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from cardionets.files import atomic_path, sha256

FOLDER: Final = "sources"
WORDS: Final = frozenset({"figures", "page.py", "pdf.py", "tables.py", "workbook.py", "views.py", "glossary.py"}) | {
    "progress.py",
    "errors.py",
    "files.py",
    "launch.py",
    "sources.py",
}
"""Rooms that draw, word, lay out, write or start: no number comes from them; a new colour trains no network again."""


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, and every name it takes from one."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _has_code(path: Path) -> bool:
    """Whether a file holds more than its docstring."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in _tree(path).body)


@cache
def _imported(path: Path, library: Path) -> frozenset[Path]:
    """Files of the library that run when a file is imported or its functions are called; the packages' own too."""
    found = set[Path]()
    for name in imports(path):
        package, *parts = name.split(".")
        if package == library.name:
            places = [library.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
            found |= {p for place in places for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()}
    return frozenset(path for path in found if path.relative_to(library).parts[0] not in WORDS and _has_code(path))


def rests_on(notebook: Path, library: Path) -> set[Path]:
    """Files of the library from which numbers of a notebook can come, directly or through others."""
    found, waiting = set[Path](), [notebook]
    while waiting:
        new = _imported(waiting.pop(), library) - found
        found |= new
        waiting += new
    return found


def write(root: Path) -> int:
    """Write ``sources/`` for every notebook of a study; the number of lists."""
    library, notebooks = root / "src" / "cardionets", sorted((root / "notebooks").glob("*.py"))
    lists = {notebook.stem: rests_on(notebook, library) for notebook in notebooks}
    known = {path: sha256(path) for path in set[Path]().union(*lists.values())}
    with atomic_path(root / FOLDER) as aside:
        aside.mkdir()
        for stage, files in lists.items():
            (aside / f"{stage}.txt").write_text(_lines(files, known, root), encoding="utf-8")
    return len(lists)


def _lines(files: Iterable[Path], hashes: Mapping[Path, str], root: Path) -> str:
    """As ``sha256sum`` writes them, in the order of the paths."""
    return "".join(f"{hashes[path]}  {path.relative_to(root).as_posix()}\n" for path in sorted(files))
