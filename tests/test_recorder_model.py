"""The electrocardiograph's model: read from the file, overruled by the centre's table, and a subgroup of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cardionets.assemble import _complete
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.cohorts.recording import model_name
from cardionets.config import CohortEcg
from cardionets.ecg import LEADS
from cardionets.evaluate.subgroups import standard_groups
from cardionets.simulate.ecg_files import write_cardiosoft, write_dicom_ecg, write_muse

COUNTS = np.random.default_rng(0).integers(-200, 200, (12, 5000), np.int32)
XML = {
    "cardiosoft": (write_cardiosoft, "<ClinicalInfo><DeviceInfo><Desc> CASE\n</Desc></DeviceInfo></ClinicalInfo>"),
    "muse": (write_muse, "<TestDemographics><AcquisitionDevice> CASE\n</AcquisitionDevice></TestDemographics>"),
}


@pytest.mark.parametrize("kind", XML)
def test_xml_names_the_recorder(tmp_path: Path, kind: str) -> None:
    write, said = XML[kind]
    path = tmp_path / "one.xml"
    _write(write, path)
    assert read_ecg(path, CohortEcg()).device is None
    text = path.read_text("latin-1").replace("<TestDemographics>", "<X>").replace("</TestDemographics>", "</X>")
    head, tail = text.rsplit("</", 1)
    path.write_text(f"{head}{said}</{tail}", "latin-1")
    assert read_ecg(path, CohortEcg()).device == "CASE"


def _write(write: Callable[..., Any], path: Path) -> None:
    write(path, COUNTS, 500, 5.0, LEADS, {})


def test_dicom_names_maker_and_model(tmp_path: Path) -> None:
    import pydicom

    path = tmp_path / "one.dcm"
    _write(write_dicom_ecg, path)
    assert read_ecg(path, CohortEcg()).device is None
    dataset = pydicom.dcmread(path)
    dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Cart 3"
    dataset.save_as(path)
    assert read_ecg(path, CohortEcg()).device == "Maker Cart 3"


def test_a_name_is_one_short_line() -> None:
    assert model_name(" MAC\x00 2000 \n v1") == "MAC 2000 v1"
    assert model_name("x" * 99) == "x" * 40
    assert model_name(" \n") is None and model_name(None) is None


def test_the_table_of_the_centre_wins_over_the_file() -> None:
    table = pd.DataFrame({"age": 50.0, "sex": "F", "ecg_date": pd.NaT, "device": ["Own", "", None, None]})
    lines = pd.DataFrame({"file_device": ["File", "File", "File", None], "reason": ""})
    assert _complete(lines, table)["device"].fillna("-").tolist() == ["Own", "File", "File", "-"]


def test_rare_recorders_are_one_subgroup() -> None:
    names = ["A"] * 30 + ["B"] * 12 + [f"rare {i}" for i in range(9)] + [None]
    found = standard_groups(pd.DataFrame({"device": names}))["device"]
    assert found.value_counts().to_dict() == {"A": 30, "B": 12, "other devices": 9}
    assert found.isna().sum() == 1
    assert "device" not in standard_groups(pd.DataFrame({"device": ["A", "A", None]}))
