"""The whole folder of real files, none left out: each is read, or refused for the reason its README gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cardionets.cohorts.cines import read_cine
from cardionets.cohorts.nifti_cine import LABELS, read_pair
from cardionets.config import StudyError
from tests.test_ecg_real import FAULTS, outcome

pytestmark = pytest.mark.real

SERIES = {"Se4": "sax", "Se6": "4ch"}
NO_CINE, NO_PAIR = "12 slices at one time are no cine", "18 slices against 12 in sa_ED.nii.gz"
STACKS = {f"cmr_autofd_ukdhp/{person}/{file}": why for person in "ABCD" for file, why in (
    ("sa_ED.nii.gz", NO_CINE), ("seg_sa_ED.nii.gz", NO_PAIR))}  # fmt: skip


def whole(path: Path) -> Path:
    """What a file is a part of: the series of an image, the header that names a file of samples, else itself."""
    if path.suffix == ".dcm":
        return path.parent
    headers = (header for header in sorted(path.parent.glob("*.hea")) if path.name in header.read_text().split())
    return path if path.suffix in (".hea", ".nii.gz") else next(headers, path)


def refusal(path: Path) -> str:
    """Why a recording, a series or a stack is left out; "" where it is read."""
    try:
        if path.is_dir():
            assert len(read_cine(path, SERIES[path.name]).frames) == len(list(path.iterdir()))
        elif path.name.startswith("seg_"):
            read_pair(path.with_name("sa_ED.nii.gz"), path, LABELS["ukdhp"])
        elif path.suffix == ".gz":
            read_cine(path, "sax")
        else:
            return ", ".join(outcome(path))
    except StudyError as fault:
        return str(fault)
    return ""


def test_no_file_is_left_out(real: Path) -> None:
    files = [path for path in sorted(real.rglob("*")) if path.is_file() and path.name != "README.md"]
    units = dict.fromkeys(whole(path) for path in files)
    found = {unit.relative_to(real).as_posix(): refusal(unit) for unit in units}
    wanted = FAULTS | STACKS
    assert {name: why for name, why in found.items() if why and name not in wanted} == {}
    assert {name: found.get(name) for name, why in wanted.items() if why not in found.get(name, "")} == {}
    assert len(files) > 150 and len(found) > 65 and sum(not why for why in found.values()) > 40


def test_every_folder_of_the_readme_is_there_and_no_other(real: Path) -> None:
    rows = re.findall(r"^\| ([a-z][\w, ]+?) \|", (real / "README.md").read_text(), re.MULTILINE)
    listed = {name.strip() for row in rows if row != "folder" for name in row.split(",")}
    assert listed == {path.name for path in real.iterdir() if path.is_dir()}
