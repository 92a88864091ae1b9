"""A tiny whole study, run as ``make study`` runs it, then brought up to date by analysts and an external site."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from cardionets import diseases, screen
from cardionets.config import Study
from cardionets.run import to_html
from cardionets.simulate.write import write_centre
from tests.conftest import ROOT
from tests.test_browser import laboratory, opens_quietly, run_all
from tests.test_docs import blocks

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
LAST = ("pool", "report", "tour", "ablation")  # look at what others left, or train for minutes
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.py"))]
STAGES = [f"{name}@ours" for name in ("prepare", "predict", "validate", "images")]
OURS = (sys.executable, "-m", "cardionets")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _run(root: Path, *command: str, timeout: int = 2400) -> str:
    done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def _clone(target: Path) -> Path:
    """The repository as git sees it, uncommitted changes included, with a history of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and name not in ("dvc.lock", "data.dvc"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    _run(target, "git", "init", "-q")
    return target


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run from nothing to its report; a copy of the one at CARDIONETS_TINY_STUDY where that is set."""
    root = tmp_path_factory.mktemp("study")
    if made := os.environ.get("CARDIONETS_TINY_STUDY"):
        return Path(shutil.copytree(made, root, symlinks=True, dirs_exist_ok=True))
    _clone(root)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("preset: demo", "preset: tiny"))
    _run(root, sys.executable, "-m", "cardionets", "simulate")
    _run(root, sys.executable, "-m", "cardionets", "repro", "--jobs", "2")
    return root


def test_every_stage_left_its_notebook_and_page(study: Path) -> None:
    lock = yaml.safe_load((study / "dvc.lock").read_text())["stages"]
    for stage, entry in lock.items():
        name, _, cohort = entry["cmd"].split("cardionets run ")[1].partition(" --cohort ")
        folder = study / "reports" / (cohort or "study") / name
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        assert outputs and not any(o.output_type == "error" for o in outputs), stage
        assert "SIMULATED" in (folder / f"{name}.html").read_text(), stage
    assert (study / "reports" / "index.html").is_file()


def test_people_are_in_one_split_and_truth_in_one_stage(study: Path) -> None:
    stores = sorted((study / "store").glob("*/records.parquet"))
    assert len(stores) == 5
    for path in stores:
        assert pd.read_parquet(path).groupby("person")["split"].nunique().max() == 1, path.parent.name
    lock = yaml.safe_load((study / "dvc.lock").read_text())["stages"]
    readers = {name for name, s in lock.items() if any("truth" in d["path"] for d in s.get("deps", []))}
    assert readers == {"attainable"}


def test_metrics_carry_intervals_and_counts(study: Path) -> None:
    found = pd.concat([pd.read_csv(p) for p in sorted((study / "results").glob("*/metrics.csv"))])
    assert set(found["cohort"]) == {"ukb", "mimic", "fahzu", "sahzu", "qph"}
    known = found.dropna(subset=["estimate"])
    assert len(known) and (known["n"] > 0).all()
    silent = found["estimate"].isna() & ~found["note"].fillna("").str.startswith("not estimable: because")
    assert not silent.any(), found[silent].head().to_string()
    bounded = known.dropna(subset=["lower", "upper"])
    assert (bounded["lower"] <= bounded["estimate"] + 1e-9).all()
    assert (bounded["estimate"] <= bounded["upper"] + 1e-9).all()


def test_nothing_to_do_runs_nothing(study: Path) -> None:
    assert _stages_run(_run(study, "dvc", "repro")) == []


def test_opening_and_saving_a_notebook_changes_nothing(study: Path) -> None:
    path = study / "notebooks" / "align.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1]["outputs"] = [nbformat.v4.new_output("stream", text="looked at")]
    notebook.metadata["widgets"] = {"seen": True}
    nbformat.write(notebook, path)
    assert "up to date" in _run(study, "dvc", "status", "align")


@contextmanager
def _cohort(study: Path, name: str, **block: object) -> Iterator[None]:
    """``cohorts.yaml`` with one more block, as a site would add it."""
    cohorts = study / "cohorts.yaml"
    before = cohorts.read_text()
    added = yaml.safe_dump({name: block})
    cohorts.write_text(before + "".join(f"  {line}\n" for line in added.splitlines()))
    try:
        yield
    finally:
        cohorts.write_text(before)
        shutil.rmtree(study / "results" / name, ignore_errors=True)


def test_adding_a_cohort_runs_only_that_cohort(study: Path) -> None:
    block = yaml.safe_load((study / "cohorts.yaml").read_text())["cohorts"]["qph"] | {"label": "Another hospital"}
    with _cohort(study, "again", **block):
        ran = _stages_run(_run(study, "dvc", "repro", "validate@again"))
        assert ran == ["prepare@again", "predict@again", "validate@again"]
        assert (study / "results" / "again" / "metrics.csv").is_file()


def _recordings(real: Path) -> dict[str, object]:
    """A site of open recordings."""
    block = {"label": "CinC 2021 and CPSC 2018", "path": str(real), "depends": str(real / "README.md")}
    included = ["cinc2021/*.hea", "cpsc2018_labelled/*.hea"]
    return block | {"layout": "wfdb", "role": "external", "include": included}


def test_real_recordings_as_an_external_site(study: Path, real: Path) -> None:
    with _cohort(study, "cinc", **_recordings(real)):
        ran = _stages_run(_run(study, "dvc", "repro", "validate@cinc"))
        assert ran == ["prepare@cinc", "predict@cinc", "validate@cinc"]
        found = pd.read_csv(study / "results" / "cinc" / "metrics.csv")
        af = found[(found["endpoint"] == "atrial_fibrillation") & (found["metric"] == "auc")]
        assert (af["events"] >= 2).all() and (af["n"] >= 20).all() and af["estimate"].notna().any()
        page = (study / "reports" / "cinc" / "validate" / "validate.html").read_text()
        assert str(real) not in page and "E07500" not in page


def test_open_recordings_are_judged_by_one_command(study: Path, real: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in (study / "store").iterdir())
    out = tmp_path / "reality.csv"
    said = _run(study, sys.executable, "-m", "benchmarks.reality", str(real), "--out", str(out))
    assert "HR06000" not in said and sorted(path.name for path in (study / "store").iterdir()) == before
    found = pd.read_csv(out).set_index(["endpoint", "arm", "metric"])
    rate = found.loc[("heart_rate", "ecg_mae", "rate_error_median")]
    assert rate["n"] >= 15 and rate["lower"] <= rate["estimate"] <= rate["upper"]
    fibrillation = found.xs("atrial_fibrillation", level="endpoint")
    aucs, gaps = (fibrillation.xs(metric, level="metric")["estimate"] for metric in ("auc", "auc_difference"))
    assert {"rr_rule", "aligned", "aligned_rhythm", "beat_ridge"} <= set(aucs.index)
    assert gaps["aligned minus rr_rule"] == pytest.approx(aucs["aligned"] - aucs["rr_rule"], abs=2e-3)


@pytest.mark.soak
def test_no_page_log_result_or_bundle_names_anybody(study: Path, real: Path) -> None:
    """Of open recordings and of every simulated centre; the kit of a reader study has to name its cases."""
    with _cohort(study, "cinc", **_recordings(real)):
        _run(study, "dvc", "repro", "validate@cinc")
        _run(study, *OURS, "share", "cinc", "--yes")
        found = {name: _said_of(study, name) for name in Study(study).cohorts}
    shutil.rmtree(study / "site")
    assert {name: list(map(str, said)) for name, said in found.items() if said} == {}
    everybody = screen.search_files([study / "reports" / "study", study / "logs" / "study"], _private(study, "qph"))
    assert list(map(str, everybody)) == []


def _private(study: Path, cohort: str) -> screen.Private:
    """What must not be said; a hash of weights looks like a pseudonym and is none."""
    cards = (json.loads(path.read_text())["sha256"] for path in (study / "weights").glob("*/card.json"))
    known = screen.Private.of(Study(study), cohort)
    assert len(known.words) > 30
    return replace(known, public=known.public | {digest[:16] for digest in cards})


def _said_of(study: Path, cohort: str) -> list[screen.Finding]:
    folders = [study / name / cohort for name in ("reports", "logs", "results", "site")]
    bundles = list((study / "site").glob(f"{cohort}-*.zip"))
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file() and "reader_study" not in p.parts]
    return screen.search_files([*files, *bundles], _private(study, cohort))


def _release(study: Path, folder: Path) -> Path:
    """What the coordinator sends."""
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    _run(study, "git", "add", "-A")
    _run(study, "git", *author, "commit", "-qm", "The study", "--allow-empty")
    _run(study, *OURS, "release", str(folder))
    return folder


def _environment(clone: Path) -> None:
    """``.venv`` of a clone: the environment of these tests, and the mark that it is ready."""
    (clone / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (clone / ".venv" / part.name).symlink_to(part)
    (clone / ".venv" / ".ready").touch()


def _guide(release: Path) -> list[str]:
    """The commands of the site's guide as somebody types them, for a cohort of the name ``ours``."""
    lines = [line for block in blocks(ROOT / "docs" / "site.md", "sh") for line in block.splitlines()]
    return [line.split("  #")[0].strip().replace("RELEASE", str(release)).replace("yours", "ours") for line in lines]


@pytest.mark.soak
def test_an_outsider_walks_the_guide_shares_and_is_pooled(study: Path, tmp_path: Path) -> None:
    """Every command of the guide as typed, in a clone with none of the hub's data; then the hub counts it."""
    get, enter, prepare, install, check, site, share = _guide(_release(study, tmp_path / "release"))
    _run(tmp_path, "bash", "-c", get)
    clone, remote = tmp_path / enter.removeprefix("cd "), tmp_path / "remote"
    _environment(clone)
    _run(clone, "bash", "-c", f"{prepare} && {install}")
    _run(study, "dvc", "remote", "add", "--local", "-d", "shelf", str(remote))
    _run(study, "dvc", "push", "weights/align")
    shutil.rmtree(clone / "weights" / "align")
    _run(clone, "dvc", "remote", "add", "--local", "-d", "shelf", str(remote))
    _run(clone, "dvc", "pull", "weights/align")
    write_centre("qph", 160, 11, tmp_path / "elsewhere", workers=1)
    hospital = tmp_path / "elsewhere" / "qph"
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in hospital.rglob("*")}
    block = {"label": "Our hospital", "path": str(hospital), "depends": str(hospital / "manifest.csv")}
    block |= {"layout": "manifest", "role": "external", "simulated": True, "lends_training": True}
    with _cohort(clone, "ours", **block):
        _run(clone, "bash", "-c", check)
        assert _stages_run(_run(clone, "bash", "-c", site)) == STAGES
        assert _stages_run(_run(clone, "bash", "-c", site)) == []
        _run(clone, "bash", "-c", f"echo yes | {share}")
        arms = set(pd.read_csv(clone / "results" / "ours" / "metrics.csv")["arm"])
        assert {"aligned", "aligned_site", "aligned+intercept", "aligned_site+intercept_slope"} <= arms
        private = screen.Private.of(Study(clone), "ours")
        places = [clone / name / "ours" for name in ("reports", "logs", "results", "site")]
        assert screen.search_files([*places, clone / "site"], private) == []
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in hospital.rglob("*")} == before
    states = [json.loads(p.read_text())["state"] for p in (clone / "logs" / "ours").glob("*/status.json")]
    assert states == ["finished"] * 4
    (sent,) = (clone / "site").glob("*.zip")
    _run(study, *OURS, "receive", str(sent))
    assert _stages_run(_run(study, "dvc", "repro", "pool", "report"))[-2:] == ["pool", "report"]
    pooled = pd.read_csv(study / "reports" / "study" / "pool" / "tables" / "pooled.csv")
    assert pooled["cohorts"].fillna("").str.contains("ours").any()
    assert "Our hospital (SIMULATED)" in (study / "reports" / "study" / "report" / "study.html").read_text()
    shutil.rmtree(study / "received" / "ours")


def _hospital(root: Path, has: str) -> Path:
    """A simulated hospital of 60 people: with ECG alone, with a table of phenotypes, or with cines and masks."""
    folder = write_centre("qph", 60, 5, root, workers=1)
    table = pd.read_csv(folder / "manifest.csv", dtype=str)
    if has == "masks":
        table["sax_mask"] = table["sax"].dropna().str.replace("cmr/", "masks/")
        (folder / "masks").mkdir()
        for name in table["sax"].dropna().unique():
            cine = nib.load(folder / name)
            away = np.hypot(*(np.indices(cine.shape[:2]) - cine.shape[0] / 2))  # (row, column)
            ring = np.select([away < 14, away < 20], [1, 2], 0)[..., None, None] + np.zeros(cine.shape)
            nib.save(
                nib.Nifti1Image(ring.astype(np.uint8), cine.affine, cine.header), folder / "masks" / Path(name).name
            )
    else:
        table = table.drop(columns=["sax", "lax"])
    if has == "table":
        truth = pd.read_parquet(root / "truth" / "qph.parquet").set_index("person")
        for name in ("lv_mass", "lv_edv"):
            table[name] = table["person"].map(truth[name].round(1))
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.mark.soak
@pytest.mark.parametrize("has", ["nothing more", "table", "masks"])
def test_a_hospital_is_judged_by_what_it_has(study: Path, tmp_path: Path, has: str) -> None:
    folder = _hospital(tmp_path, has)
    block = {"label": "Our hospital", "path": str(folder), "depends": str(folder / "manifest.csv")}
    with _cohort(study, "ours", **block, layout="manifest", role="external", simulated=True):
        _run(study, *OURS, "check", "ours")
        assert _stages_run(_run(study, "dvc", "repro", "--single-item", *STAGES)) == STAGES
        _run(study, *OURS, "share", "ours", "--yes")
        results = pd.concat(pd.read_csv(study / "results" / "ours" / f"{name}.csv") for name in ("metrics", "images"))
        records = pd.read_parquet(study / "store" / "ours" / "records.parquet")
    known = results.dropna(subset=["estimate"])
    judged = set(known["endpoint"])
    assert len(judged & set(diseases.NAMES)) >= 3
    assert {"lv_mass", "lv_edv"} & judged == (set() if has == "nothing more" else {"lv_mass", "lv_edv"})
    assert ("cine" in judged) == (has == "masks")
    assert (records["sax_mask_row"] >= 0).any() == (has == "masks")
    shutil.rmtree(study / "site")


LEAVES = (
    "store/ours/records.parquet",
    "predictions/ours.parquet",
    "results/ours/metrics.csv",
    "results/ours/images.csv",
)


def _left(study: Path) -> dict[str, str]:
    """Hash of every file that the stages of the site hand on."""
    found = [p for pattern in ("store/ours", "predictions/ours*", "results/ours") for p in study.glob(pattern)]
    files = [p for each in found for p in ([each] if each.is_file() else sorted(each.rglob("*"))) if p.is_file()]
    return {str(p.relative_to(study)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.soak
def test_a_site_killed_twenty_times_ends_with_the_same_results(study: Path, tmp_path: Path) -> None:
    """At random moments of its four stages: what stands is whole, nobody is named, and one command more finishes."""
    folder, dice, killed = _hospital(tmp_path, "nothing more"), random.Random(3), 0
    block = {"label": "Our hospital", "path": str(folder), "depends": str(folder / "manifest.csv")}
    repro = ("dvc", "repro", "--single-item")
    with _cohort(study, "ours", **block, layout="manifest", role="external", simulated=True):
        start = time.monotonic()
        _run(study, *repro, *STAGES)
        each, expected = (time.monotonic() - start) / len(STAGES), _left(study)
        while killed < 20:
            ready = [(study / name).exists() for name in LEAVES]
            first = dice.randrange([*ready, False].index(False) + 1) % len(STAGES)
            command = [*repro, "--force", *STAGES[first:]]
            process = psutil.Popen(
                command, cwd=study, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(dice.uniform(0, 0.7 * each * (len(STAGES) - first)))
            killed += process.poll() is None
            _kill(process)
            assert _left(study).items() <= expected.items()
            assert all(json.loads(p.read_text()) for p in (study / "logs" / "ours").glob("*/status.json"))
        _run(study, *repro, *STAGES)
        assert _left(study) == expected
        assert list(map(str, _said_of(study, "ours"))) == []


@pytest.fixture(scope="module")
def lab(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One JupyterLab for all notebooks of the study."""
    with laboratory(study, tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.mark.soak
@pytest.mark.parametrize("name", [*(name for name in NOTEBOOKS if name not in LAST), *LAST])
def test_every_notebook_runs_from_top_to_bottom_in_jupyterlab(
    study: Path, lab: str, browser: Browser, tmp_path: Path, name: str
) -> None:
    """With default parameters, as somebody would who opens it after the study has run."""
    path = study / "notebooks" / f"{name}.ipynb"
    before = path.read_bytes()
    try:
        run_all(lab, browser, name, tmp_path / "seen.png", patience_s=900)
        notebook = nbformat.read(path, as_version=4)
    finally:
        path.write_bytes(before)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs and not [output["evalue"] for output in outputs if output["output_type"] == "error"]
    assert (tmp_path / "seen.png").stat().st_size > 20_000
    opens_quietly(browser, to_html(notebook, name), tmp_path / "page.html", "SIMULATED").close()


def test_every_notebook_has_its_turn() -> None:
    paired = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert len(paired) >= 20 and paired == set(NOTEBOOKS)


@pytest.mark.soak
def test_three_hospitals_in_three_clones_pool_as_one_study(study: Path, tmp_path: Path) -> None:
    """Each clone has one hospital's files and nothing of the hub; the coordinator has none of the hospitals' files."""
    release, bundles = _release(study, tmp_path / "release"), []
    blocks = yaml.safe_load((study / "cohorts.yaml").read_text())["cohorts"]
    sites = [name for name, block in blocks.items() if block["role"] == "external"]
    home = {name: block for name, block in blocks.items() if name not in sites}
    for name in sites:
        clone = tmp_path / name / "clone"
        shutil.copytree(study / "data" / name, tmp_path / name / "files")
        _run(tmp_path, "git", "clone", "-q", str(release / "code.bundle"), str(clone))
        _run(clone, *OURS, "install", str(release))
        block = blocks[name] | {"path": str(tmp_path / name / "files"), "depends": str(tmp_path / name / "files")}
        (clone / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": home | {name: block}}))
        _run(
            clone, "dvc", "repro", "--single-item", *(f"{stage}@{name}" for stage in ("prepare", "predict", "validate"))
        )
        _run(clone, *OURS, "share", name, "--yes")
        bundles += map(str, (clone / "site").glob("*.zip"))
    hub = tmp_path / "hub"
    hub.mkdir()
    for part in ("params.yaml", "presets", "notebooks", "weights", "results"):
        (shutil.copytree if (study / part).is_dir() else shutil.copy)(study / part, hub / part)
    for name in sites:
        shutil.rmtree(hub / "results" / name)
    (hub / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": home}))
    _run(hub, *OURS, "receive", *bundles)
    _run(hub, *OURS, "run", "pool")
    keys = ["endpoint", "arm", "fraction", "metric"]
    whole, parts = (
        pd.read_csv(root / "reports" / "study" / "pool" / "tables" / "pooled.csv").set_index(keys)
        for root in (study, hub)
    )
    both = whole.join(parts.add_suffix("_parts"), how="inner")
    assert (both["k_parts"] <= both["k"]).all()
    same = both[(both["k_parts"] == both["k"]) & (both["k"] > 1)]
    assert len(same) >= 20
    assert (same["n_parts"] == same["n"]).all()
    for column in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(same[f"{column}_parts"], same[column], rtol=2e-3, atol=2e-3, err_msg=column)


def _kill_when(process: psutil.Popen, ready: Callable[[], bool], limit: float = 240.0) -> None:
    """``kill -9`` for the process and everything it started, as soon as ``ready``."""
    start = time.monotonic()
    while not ready():
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.monotonic() - start < limit, "the stage never came to the point where it is killed"
        time.sleep(0.02)
    _kill(process)


def _kill(process: psutil.Popen) -> None:
    """``kill -9`` for a process and everything it started."""
    if process.poll() is None:
        for child in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def test_killed_training_leaves_nothing_finished_and_continues(study: Path) -> None:
    short, long = "{epochs: 1, batch: 32, lr: 1.0e-3}", "{epochs: 30, batch: 32, lr: 1.0e-3, checkpoint_seconds: 0}"
    preset = study / "presets" / "tiny.yaml"
    assert preset.read_text().count(short) == 1
    preset.write_text(preset.read_text().replace(short, long))
    weights, logs = study / "weights" / "ecg_mae" / "model.safetensors", study / "logs"
    _run(study, "dvc", "repro", "--single-item", "pretrain_ecg")
    unbroken = weights.read_bytes()
    command = ["dvc", "repro", "--force", "--single-item", "pretrain_ecg"]
    checkpoint = logs / "ecg_mae" / "checkpoint.safetensors"
    checkpoint.unlink(missing_ok=True)
    process = psutil.Popen(command, cwd=study, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    _kill_when(process, checkpoint.is_file)
    assert not weights.exists()
    status = logs / "study" / "pretrain_ecg" / "status.json"
    assert json.loads(status.read_text())["state"] == "running"
    _run(study, *command)
    assert weights.read_bytes() == unbroken
    assert json.loads(status.read_text())["state"] == "finished"
