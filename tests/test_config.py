"""Settings: every typo is one sentence that names file, field and remedy, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardionets.config import Study, StudyError
from cardionets.files import find_root


def _edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_all_faults_of_a_file_at_once(tiny_root: Path) -> None:
    _edit(tiny_root, "cohorts.yaml", "layout: mimic", "layuot: mimic")
    _edit(tiny_root, "cohorts.yaml", "role: external", "role: extern")
    with pytest.raises(StudyError) as caught:
        Study()
    lines = str(caught.value).splitlines()
    assert "cohorts.yaml: cohorts.mimic.layout: required setting is missing; add it." in lines
    assert "cohorts.yaml: cohorts.mimic.layuot: unknown setting; correct the spelling or delete it." in lines
    assert any(line.startswith("cohorts.yaml: cohorts.fahzu.role: ") and "'extern'" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "old", "new", "match"),
    [
        ("params.yaml", "train: 0.60", "train: 0.70", r"params\.yaml: split: .*add up to 1"),
        ("params.yaml", "preset: tiny", "preset: small", r"preset: 'small' does not exist; choose one of demo"),
        ("params.yaml", "paired: ukb", "paired: ukbb", r"study\.paired: cohort 'ukbb' is not in cohorts\.yaml"),
        ("params.yaml", "[cad,", "[cda,", "unknown endpoints .'cda'."),
        ("params.yaml", "seed:", "seed: [", r"params\.yaml: not valid YAML at line"),
        ("presets/tiny.yaml", "rate: 250", "rate: -250", r"presets/tiny\.yaml: grid: rate: .*greater than 0"),
        ("presets/tiny.yaml", "grid:", "gird:", r"grid: required block is missing"),
    ],
)
def test_one_sentence(tiny_root: Path, name: str, old: str, new: str, match: str) -> None:
    _edit(tiny_root, name, old, new)
    with pytest.raises(StudyError, match=match):
        _ = Study().grid


def test_root_is_found_from_below_and_missed_outside(tiny_root: Path) -> None:
    assert find_root(tiny_root / "notebooks") == tiny_root.resolve()
    with pytest.raises(StudyError, match="run from inside the repository"):
        find_root(tiny_root.parents[1])


def test_cohort_paths_are_absolute(tiny_root: Path) -> None:
    assert Study().cohort("ukb").path == (tiny_root / "data" / "ukb").resolve()
