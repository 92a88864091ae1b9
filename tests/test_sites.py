"""External sites from the release to the pool: guides as typed, what a site has, kills, clones, and what leaves."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from cardionets import diseases, screen
from cardionets.config import Study
from cardionets.simulate.write import write_centre
from tests.conftest import ROOT
from tests.test_docs import blocks
from tests.tiny_study import ENVIRONMENT, OURS, added_cohort, kill, open_recordings, run, stages_run

pytestmark = pytest.mark.soak
STAGES = [f"{name}@ours" for name in ("prepare", "predict", "validate", "images")]


def test_no_page_log_result_or_bundle_names_anybody(study: Path, real: Path) -> None:
    """Of open recordings and of every simulated centre; the kit of a reader study has to name its cases."""
    with added_cohort(study, "cinc", **open_recordings(real)):
        run(study, "dvc", "repro", "validate@cinc")
        run(study, *OURS, "share", "cinc", "--yes")
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
    run(study, "git", "add", "-A")
    run(study, "git", *author, "commit", "-qm", "The study", "--allow-empty")
    run(study, *OURS, "release", str(folder))
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


def test_an_outsider_walks_the_guide_shares_and_is_pooled(study: Path, tmp_path: Path) -> None:
    """Every command of the guide as typed, in a clone with none of the hub's data; then the hub counts it."""
    get, enter, prepare, install, check, site, share = _guide(_release(study, tmp_path / "release"))
    run(tmp_path, "bash", "-c", get)
    clone, remote = tmp_path / enter.removeprefix("cd "), tmp_path / "remote"
    _environment(clone)
    run(clone, "bash", "-c", f"{prepare} && {install}")
    run(study, "dvc", "remote", "add", "--local", "-d", "shelf", str(remote))
    run(study, "dvc", "push", "weights/align")
    shutil.rmtree(clone / "weights" / "align")
    run(clone, "dvc", "remote", "add", "--local", "-d", "shelf", str(remote))
    run(clone, "dvc", "pull", "weights/align")
    write_centre("qph", 160, 11, tmp_path / "elsewhere", workers=1)
    hospital = tmp_path / "elsewhere" / "qph"
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in hospital.rglob("*")}
    block = {"label": "Our hospital", "path": str(hospital), "depends": str(hospital / "manifest.csv")}
    block |= {"layout": "manifest", "role": "external", "simulated": True, "lends_training": True}
    with added_cohort(clone, "ours", **block):
        run(clone, "bash", "-c", check)
        assert stages_run(run(clone, "bash", "-c", site)) == STAGES
        assert stages_run(run(clone, "bash", "-c", site)) == []
        run(clone, "bash", "-c", f"echo yes | {share}")
        arms = set(pd.read_csv(clone / "results" / "ours" / "metrics.csv")["arm"])
        assert {"aligned", "aligned_site", "aligned+intercept", "aligned_site+intercept_slope"} <= arms
        private = screen.Private.of(Study(clone), "ours")
        places = [clone / name / "ours" for name in ("reports", "logs", "results", "site")]
        assert screen.search_files([*places, clone / "site"], private) == []
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in hospital.rglob("*")} == before
    states = [json.loads(p.read_text())["state"] for p in (clone / "logs" / "ours").glob("*/status.json")]
    assert states == ["finished"] * 4
    (sent,) = (clone / "site").glob("*.zip")
    run(study, *OURS, "receive", str(sent))
    assert stages_run(run(study, "dvc", "repro", "pool", "report"))[-2:] == ["pool", "report"]
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


@pytest.mark.parametrize("has", ["nothing more", "table", "masks"])
def test_a_hospital_is_judged_by_what_it_has(study: Path, tmp_path: Path, has: str) -> None:
    folder = _hospital(tmp_path, has)
    block = {"label": "Our hospital", "path": str(folder), "depends": str(folder / "manifest.csv")}
    with added_cohort(study, "ours", **block, layout="manifest", role="external", simulated=True):
        run(study, *OURS, "check", "ours")
        assert stages_run(run(study, "dvc", "repro", "--single-item", "sources", *STAGES)) == STAGES
        run(study, *OURS, "share", "ours", "--yes")
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


def test_a_site_killed_twenty_times_ends_with_the_same_results(study: Path, tmp_path: Path) -> None:
    """At random moments of its four stages: what stands is whole, nobody is named, and one command more finishes."""
    folder, dice, killed = _hospital(tmp_path, "nothing more"), random.Random(3), 0
    block = {"label": "Our hospital", "path": str(folder), "depends": str(folder / "manifest.csv")}
    repro = ("dvc", "repro", "--single-item")
    with added_cohort(study, "ours", **block, layout="manifest", role="external", simulated=True):
        start = time.monotonic()
        run(study, *repro, *STAGES)
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
            kill(process)
            assert _left(study).items() <= expected.items()
            assert all(json.loads(p.read_text()) for p in (study / "logs" / "ours").glob("*/status.json"))
        run(study, *repro, *STAGES)
        assert _left(study) == expected
        assert list(map(str, _said_of(study, "ours"))) == []


def test_three_hospitals_in_three_clones_pool_as_one_study(study: Path, tmp_path: Path) -> None:
    """Each clone has one hospital's files and nothing of the hub; the coordinator has none of the hospitals' files."""
    release, bundles = _release(study, tmp_path / "release"), []
    blocks = yaml.safe_load((study / "cohorts.yaml").read_text())["cohorts"]
    sites = [name for name, block in blocks.items() if block["role"] == "external"]
    home = {name: block for name, block in blocks.items() if name not in sites}
    for name in sites:
        clone = tmp_path / name / "clone"
        shutil.copytree(study / "data" / name, tmp_path / name / "files")
        run(tmp_path, "git", "clone", "-q", str(release / "code.bundle"), str(clone))
        run(clone, *OURS, "install", str(release))
        block = blocks[name] | {"path": str(tmp_path / name / "files"), "depends": str(tmp_path / name / "files")}
        (clone / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": home | {name: block}}))
        stages = (f"{stage}@{name}" for stage in ("prepare", "predict", "validate"))
        run(clone, "dvc", "repro", "--single-item", "sources", *stages)
        run(clone, *OURS, "share", name, "--yes")
        bundles += map(str, (clone / "site").glob("*.zip"))
    hub = tmp_path / "hub"
    hub.mkdir()
    for part in ("params.yaml", "presets", "notebooks", "weights", "results"):
        (shutil.copytree if (study / part).is_dir() else shutil.copy)(study / part, hub / part)
    for name in sites:
        shutil.rmtree(hub / "results" / name)
    (hub / "cohorts.yaml").write_text(yaml.safe_dump({"cohorts": home}))
    run(hub, *OURS, "receive", *bundles)
    run(hub, *OURS, "run", "pool")
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
