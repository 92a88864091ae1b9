"""The pages say what the code does: the contract is generated, blocks of settings load, blocks of code import."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from cardionets import assemble, cohorts, contract, diseases, gates, glossary
from cardionets.__main__ import parser
from cardionets.cohorts import labels, nifti_cine, recording, xml_ecg
from cardionets.cohorts.ecg_files import READERS, read_ecg
from cardionets.config import Cohort, CohortEcg, Study, StudyError, check
from cardionets.ecg import LEADS, EcgRecord, RecordError, lead_name
from cardionets.vocabulary import COLUMNS_OF
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs" / "cohorts").glob("*.md"))
TESTED = [*PAGES, ROOT / "docs" / "analyst.md", ROOT / "docs" / "site.md", ROOT / "docs" / "coordinator.md"]
LIBRARY = ROOT / "src" / "cardionets"


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def cohort_blocks(path: Path) -> dict[str, Cohort]:
    found = {}
    for text in blocks(path, "yaml"):
        for name, values in yaml.safe_load("cohorts:\n" + text)["cohorts"].items():
            found[name] = check(Cohort, values, f"{path.name}: {name}")
    return found


def constants(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_contract_is_the_committed_page() -> None:
    page = (ROOT / "docs" / "input-contract.md").read_text()
    assert page == contract.render(Study(ROOT)), f"run: {contract.COMMAND}"


def test_the_page_of_uk_biobank_names_every_stage_that_names_a_centre() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    alone = {name: str({k: stage.get(k) for k in ("cmd", "deps", "outs")}) for name, stage in stages.items()}
    text = (ROOT / "docs" / "cohorts" / "ukb.md").read_text()
    for centre in Study(ROOT).cohorts:
        (row,) = re.findall(rf"^\| `{centre}` \|.*\| (.*) \|$", text, re.MULTILINE) or [""]
        assert re.findall(r"`(\w+)`", row) == [n for n, said in alone.items() if re.search(rf"\b{centre}\b", said)]


def test_contract_follows_the_protocol(tiny_root: Path) -> None:
    params = tiny_root / "params.yaml"
    params.write_text(params.read_text().replace("max_abs_uv: 10000.0", "max_abs_uv: 7777.0"))
    assert "more than 7777 uV" in contract.render(Study(tiny_root))


def test_contract_names_every_format_setting_and_flag() -> None:
    assert set(glossary.FORMATS) == set(READERS)
    assert set(contract.SETTINGS) == set(contract.defaults())
    known = constants(LIBRARY / "gates.py") | constants(LIBRARY / "prepare.py")
    made = {f"q_{text}" for text in constants(LIBRARY / "cohorts" / "recording.py")}
    assert set(glossary.FLAGS) <= known | made
    assert {text for text in known if re.fullmatch(r"q_[a-z]+", text)} <= set(glossary.FLAGS)


def test_contract_names_every_dialect() -> None:
    tree = ast.parse(inspect.getsource(xml_ecg.read_xml))
    compared = [node.comparators[0] for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    roots = {node.value for node in compared if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert roots == set(glossary.DIALECTS)


def test_contract_names_every_reason() -> None:
    files = [*(LIBRARY / "cohorts").glob("*.py"), LIBRARY / "ecg.py", LIBRARY / "beats.py", LIBRARY / "prepare.py"]
    raised = {
        node.args[0].value
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "RecordError"
        and isinstance(node.args[0], ast.Constant)
    }
    gated = set(glossary.signal_reasons(Study(ROOT)))
    assert raised <= set(glossary.READING) | gated
    assert set(glossary.READING) <= raised
    documented = set(re.findall(r"``([a-z_]+(?:_A_B)?(?:_xN)?)``", inspect.getdoc(gates.look) or ""))
    assert gated - documented == {assemble.ACROSS, assemble.WITHIN, "amplitude_high_xN", "amplitude_high"}
    assert documented - {"seconds"} <= gated


def test_contract_claims_about_leads_rates_and_units() -> None:
    assert {lead_name(name) for name in contract.SPELLINGS} <= set(LEADS)

    def finish(rate: float) -> EcgRecord:
        raw = recording.Raw(np.zeros((12, 5000)), LEADS, rate, 1.0)
        return recording.finish(raw, CohortEcg(), Path("x"))

    assert (finish(20).rate, finish(20_000).rate) == (20, 20_000)
    for rate in (19.0, 20_001.0):
        with pytest.raises(RecordError):
            finish(rate)


@pytest.mark.parametrize("path", TESTED, ids=lambda p: p.stem)
def test_blocks_of_settings_load(path: Path) -> None:
    found = cohort_blocks(path)
    assert path.stem in ("README", "mnms", "analyst", "coordinator") or found
    assert all(str(cohort.depends).startswith(str(cohort.path)) for cohort in found.values())


@pytest.mark.parametrize("path", TESTED, ids=lambda p: p.stem)
def test_blocks_of_code_compile_and_import(path: Path) -> None:
    for text in blocks(path, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert all(importlib.import_module(alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("path", [*TESTED, ROOT / "docs" / "input-contract.md"], ids=lambda p: p.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / link).exists(), f"{path.name} links to {link}, which does not exist"


def test_every_source_has_its_page() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "cohorts" / "README.md").read_text()))
    assert listed == {path.name for path in PAGES} - {"README.md"}


@pytest.mark.parametrize("layout", ["acdc", "mnms"])
def test_a_source_without_ecg_is_no_layout_and_the_page_says_so(layout: str) -> None:
    values = {"label": "x", "path": "x", "depends": "x", "layout": layout, "role": "external"}
    with pytest.raises(StudyError, match=r"cohorts\.yaml: layout: .*ukb.*mimic.*manifest.*wfdb"):
        check(Cohort, values, "cohorts.yaml")
    page = (ROOT / "docs" / "cohorts" / f"{layout}.md").read_text()
    assert "There is no ECG" in page and "cannot be a cohort" in page


def test_acdc_labels_of_the_page() -> None:
    (block,) = cohort_blocks(ROOT / "docs" / "cohorts" / "acdc.md").values()
    assert block.mask_labels == nifti_cine.LABELS["acdc"]


def run_block(page: str, folder: Path, wanted: str) -> None:
    """Run the script of a page with its example folder replaced by ``folder``."""
    (text,) = blocks(ROOT / "docs" / "cohorts" / page, "python")
    assert text.count(wanted) == 1
    subprocess.run([sys.executable, "-c", text.replace(wanted, str(folder))], check=True, timeout=60)


def beats_mv(seconds: float, rate: int) -> np.ndarray:
    """Twelve leads (12, T) in mV that obey the limb identities, 75 beats per minute."""
    t = np.arange(round(seconds * rate)) / rate
    shape = np.exp(-(((t % 0.8) - 0.4) ** 2) / (2 * 0.015**2)) + 0.3 * np.exp(-(((t % 0.8) - 0.65) ** 2) / 0.005)
    rng = np.random.default_rng(1)
    one, two = (size * shape + 0.01 * rng.standard_normal(len(t)) for size in (0.6, 1.0))
    chest = [(0.5 + 0.1 * i) * shape + 0.01 * rng.standard_normal(len(t)) for i in range(6)]
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *chest])


def shown(index: cohorts.Index) -> dict[str, list[bool]]:
    """Labels of the diseases that a table of ECG findings decides, having checked that it decides no other."""
    table = labels.disease_table(index, diseases.NAMES, "prevalent")
    decided = {name: table[name].tolist() for name in table if table[name].notna().any()}
    assert set(index.records["coded"]) == {"ecg"}
    return decided


def test_ptb_xl_script_makes_a_manifest(tmp_path: Path) -> None:
    source = {
        "ecg_id": [1, 2], "patient_id": [15709.0, 3.0], "age": [300.0, np.nan], "sex": [1, 0], "height": [np.nan, 3.0],
        "weight": [63.0, 70.0], "recording_date": ["1984-11-09 09:17:34", "1985-01-02 00:00:00"],
        "filename_hr": ["records500/00000/00001_hr", "records500/00000/00002_hr"],
        "scp_codes": ["{'NORM': 80.0, 'SR': 0.0}", "{'AFIB': 0.0, 'CRBBB': 100.0, 'IRBBB': 35.0}"],
    }  # fmt: skip
    pd.DataFrame(source).to_csv(tmp_path / "ptbxl_database.csv", index=False)
    run_block("ptb-xl.md", tmp_path, "/data/ptb-xl")
    block = cohort_blocks(ROOT / "docs" / "cohorts" / "ptb-xl.md")["ptbxl_persons"]
    index = cohorts.index(block.model_copy(update={"path": tmp_path}))
    table = index.records
    assert table["sex"].tolist() == ["F", "M"]
    assert table["age"].fillna(-1).tolist() == [90, -1]
    assert table["height_cm"].isna().all()
    assert table["ecg"][0] == "records500/00000/00001_hr.hea"
    assert shown(index) == {
        **{name: [False, True] for name in ("atrial_fibrillation", "af_rhythm")},
        **{"rbbb": [False, True], "lbbb": [False, False]},
    }


def test_code_15_script_and_block_read_what_the_page_says(tmp_path: Path) -> None:
    tracings = np.zeros((3, 4096, 12), np.float32)
    for row, seconds in enumerate((10, 7)):
        signal = beats_mv(seconds, 400).T
        start = (4096 - len(signal)) // 2
        tracings[row, start : start + len(signal)] = signal
    with h5py.File(tmp_path / "exams_part0.hdf5", "w") as file:
        file["exam_id"], file["tracings"] = [11, 22, 0], tracings
    exams = {"exam_id": [22, 11], "age": [50, 60], "is_male": [True, False], "patient_id": [5, 5]}
    exams |= {"AF": [True, False], "RBBB": [False, False], "LBBB": [False, True]}
    pd.DataFrame(exams).to_csv(tmp_path / "exams.csv", index=False)
    run_block("code-15.md", tmp_path, "/data/code-15")
    (block,) = cohort_blocks(ROOT / "docs" / "cohorts" / "code-15.md").values()
    index = cohorts.index(block.model_copy(update={"path": tmp_path}))
    found = {"atrial_fibrillation": [True, False], "rbbb": [False, False], "lbbb": [False, True]}
    assert shown(index) == found | {"af_rhythm": [True, False]}
    table = index.records.set_index("record")
    assert (table.loc["11", "ecg"], table.loc["11", "sex"], len(table)) == ("exams_part0.hdf5#0", "F", 2)
    study = Study(ROOT)
    reasons = {
        name: gates.inspect(read_ecg(tmp_path / row["ecg"], block.ecg), study.protocol.quality, study.grid.seconds)
        for name, row in table.iterrows()
    }
    assert reasons == {"11": [], "22": ["flat_lead"]}


def test_hospital_manifest_of_the_page_is_valid(tmp_path: Path) -> None:
    page = ROOT / "docs" / "cohorts" / "your-hospital.md"
    (text,) = (block for block in blocks(page, "text") if block.startswith("record,"))
    (tmp_path / "manifest.csv").write_text(text)
    block = Cohort(label="x", path=tmp_path, depends="x", layout="manifest", role="external")
    index = cohorts.index(block)
    assert index.records["coded"].tolist() == ["full", "none"]
    assert index.codes["code"].tolist() == ["I42.0", "I50.9"]


@pytest.mark.parametrize("name", ["site", "coordinator"])
def test_commands_of_the_guides_exist(name: str) -> None:
    """Every `make` target and every command with its options is one that the software knows."""
    text = "\n".join(blocks(ROOT / "docs" / f"{name}.md", "sh"))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", text)) <= targets
    commands = [line.split("#")[0].split()[3:] for line in text.splitlines() if "-m cardionets" in line]
    assert commands
    for words in commands:
        assert callable(parser().parse_args(words).call)


def test_pages_that_stay_are_those_of_the_coordinators_guide() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    kept = {
        name
        for name, stage in stages.items()
        for out in stage.get("do", stage)["outs"]
        if isinstance(out, dict) and next(iter(out)).startswith("reports/")
    }
    (said,) = re.findall(
        r"the pages of (.*?)\) is marked `push: false`", (ROOT / "docs" / "coordinator.md").read_text()
    )
    assert set(re.findall(r"`(\w+)`", said)) == kept


def test_columns_that_leave_are_those_of_the_site_guide() -> None:
    said = set(re.findall(r"`(\w+)\.csv`", (ROOT / "docs" / "site.md").read_text()))
    assert set(COLUMNS_OF) <= said
