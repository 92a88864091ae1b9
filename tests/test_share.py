"""A site shares, a coordinator receives: planted violations, hostile bundles, small sites, crashes, and the pool."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardionets import aggregates, bundle, received, report, screen, share
from cardionets.__main__ import main
from cardionets.config import Study, StudyError
from cardionets.evaluate import people
from cardionets.evaluate.pooling import pool_metrics
from cardionets.evaluate.rows import COLUMNS
from cardionets.store import Store
from tests import toy_site
from tests.test_screen import png

SITES = ("fahzu", "sahzu", "qph")
FORKS = multiprocessing.get_context("forkserver")  # its children hold no lock of the threads of this process


@pytest.fixture(scope="module", autouse=True)
def few_figures() -> Iterator[None]:
    """The first figures of a bundle only: each takes half a second."""
    draw = share._figures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "_figures", lambda made: islice(draw(made), 2))
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One hospital that has been validated."""
    study = toy_site.clone(tmp_path_factory.mktemp("site"))
    toy_site.add(study, "qph", people=200, repeats=3)
    return study


@pytest.fixture(scope="module")
def sent(site: Study) -> Path:
    """The bundle of that hospital."""
    path = share.share(site, "qph", yes=True)
    assert path is not None
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Study:
    """A coordinator without any data."""
    return toy_site.clone(tmp_path / "hub")


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuilt(path: Path, target: Path, change: Callable[[dict[str, bytes]], None], sign: bool = True) -> Path:
    """The bundle with its members changed; ``sign``: the manifest's hashes follow, as a forger would do."""
    files = members(path)
    change(files)
    manifest = json.loads(files.pop("manifest.json"))
    if sign:
        manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            archive.writestr(name, data)
    return target


def test_bundle_holds_aggregates_only_and_nothing_private(site: Study, sent: Path) -> None:
    files = members(sent)
    assert {"metrics.csv", "flow.csv", "people.csv", "risk_bins.csv", "figures/auc.png"} <= set(files)
    private = screen.Private.of(site, "qph")
    assert len(private.words) > 390
    for name, data in files.items():
        if name != "manifest.json":
            assert screen.search(name, data, private) == []
    assert "2026" not in files["manifest.json"].decode()
    manifest, again = bundle.read(sent)
    assert again == {n: d for n, d in files.items() if n != "manifest.json"}
    assert manifest.simulated and manifest.minimum_cell == 5
    review = (site.path("site", "qph", "review.html")).read_text()
    assert "SIMULATED" in review
    assert all(name in review for name in files if name.endswith(".png"))


def test_the_same_site_shares_the_same_bytes(site: Study, sent: Path) -> None:
    before = sent.read_bytes()
    share.share(site, "qph", yes=True)
    assert sent.read_bytes() == before


def test_a_reviewer_who_says_no_writes_nothing(site: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = toy_site.clone(tmp_path / "site")
    toy_site.add(study, "sahzu", people=60)
    assert share.share(study, "sahzu", ask=lambda _: "no") is None
    assert not list(study.path("site").glob("*.zip"))
    out = capsys.readouterr().out
    assert "metrics.csv" in out and "site/sahzu/review.html" in out


def test_what_changes_after_the_review_does_not_leave(site: Study, sent: Path) -> None:
    def ask(_: str) -> str:
        path = site.path("site", "qph", "people.csv")
        path.write_text(path.read_text() + "sex,F,12,,\n")
        return "yes"

    with pytest.raises(StudyError, match="changed after the review"):
        share.share(site, "qph", ask=ask)


PLANTS: dict[str, Callable[[dict[str, pd.DataFrame]], None]] = {
    "identifier in a column's name": lambda t: t.update(people=t["people"].rename(columns={"sd": "p-8842"})),
    "a further column": lambda t: t.update(people=t["people"].assign(person="x")),
    "free text": lambda t: t.update(metrics=t["metrics"].assign(note="Mrs Miller was ill")),
    "date in a reason": lambda t: t.update(flow=t["flow"].assign(reason="left on 2019-03-04")),
    "small count": lambda t: t.update(people=t["people"].assign(people=3)),
    "small group of cases": lambda t: t.update(risk_bins=t["risk_bins"].assign(cases=2)),
    "all but a few are cases": lambda t: t.update(risk_bins=t["risk_bins"].assign(cases=t["risk_bins"]["people"] - 1)),
    "exact numbers": lambda t: t.update(metrics=t["metrics"].assign(estimate=0.123456789)),
    "text among numbers": lambda t: t.update(metrics=t["metrics"].assign(upper="unknown")),
    "unknown arm": lambda t: t.update(metrics=t["metrics"].assign(arm="john_smith")),
    "another split": lambda t: t.update(metrics=t["metrics"].assign(split="train")),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_tables_never_leave(plant: str, site: Study, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = aggregates.tables(site, "qph")
    PLANTS[plant](tables)
    monkeypatch.setattr(share.aggregates, "tables", lambda *_: tables)
    monkeypatch.setattr(share, "_figures", lambda _: iter(()))
    before = sent.read_bytes()
    with pytest.raises(StudyError, match="nothing was written"):
        share.share(site, "qph", yes=True)
    assert sent.read_bytes() == before


def test_planted_pictures_and_labels_never_leave(site: Study, sent: Path) -> None:
    manifest, files = bundle.read(sent)
    planted = files | {"figures/auc.png": png(Comment="fine words")}
    assert any("beside the picture" in v for v in bundle.violations(site, manifest, planted))
    assert any("not a PNG" in v for v in bundle.violations(site, manifest, files | {"figures/x.png": b"MZ"}))
    assert any("list only" in v for v in bundle.violations(site, manifest, files | {"notes.txt": b"x"}))
    named = manifest.model_copy(update={"label": "Ward of 2019-03-04"})
    assert any("date" in v for v in bundle.violations(site, named, files))


def test_received_sites_pool_as_if_all_data_were_in_one_place(tmp_path: Path) -> None:
    whole = toy_site.clone(tmp_path / "whole")
    hub = toy_site.clone(tmp_path / "hub")
    bundles = []
    for number, name in enumerate(SITES):
        clone = toy_site.clone(tmp_path / f"clone-{name}")
        toy_site.add(clone, name, people=220 + 30 * number, seed=number)
        for part in ("store", "results"):
            shutil.copytree(clone.path(part, name), whole.path(part, name))
        path = share.share(clone, name, yes=True)
        assert path is not None
        bundles.append(path)
    said = received.receive(hub, bundles)
    assert len(said) == 3 and all("SIMULATED" in line for line in said)
    shutil.copytree(hub.path("received", SITES[0]), hub.path("received", f".{SITES[0]}.00000000-1.part"))  # killed
    results = [report.read_results(s.path("results"), s.path("received")) for s in (whole, hub)]
    one, other = (pool_metrics(r).set_index(["endpoint", "arm", "fraction", "metric"]) for r in results)
    both = one.join(other.add_suffix("_hub"), how="inner")
    same = both[(both["k"] == both["k_hub"]) & both["estimate"].notna()]
    assert len(same) > 100
    for column in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(same[f"{column}_hub"], same[column], rtol=1e-3, atol=1e-3, err_msg=column)
    assert (both["k"] >= both["k_hub"]).all()
    assert (same["n"] == same["n_hub"]).all()
    assert received.external(hub) == list(SITES)
    mix = report.read_people(hub.path("received")).set_index(["cohort", "characteristic"])
    for name in SITES:
        own = people.characteristics(Store.open(whole.path("store", name), whole.grid).records, name, 5)
        own = own.dropna(subset=["mean"]).set_index(["cohort", "characteristic"])
        known = mix.loc[[name]].index.intersection(own.index)
        assert len(known) >= 10
        np.testing.assert_allclose(mix.loc[known, "mean"].astype(float), own.loc[known, "mean"], rtol=6e-3)
        assert (mix.loc[known, "n"] == own.loc[known, "n"]).all()
    page = report.build_study(hub, results[1], hub.path("reports"), hub.path("reports", "study.html")).read_text()
    assert "Received sites" in page and "SIMULATED" in page and "people" in page


def test_recalibrated_arms_travel_beside_the_arm_itself(sent: Path) -> None:
    arms = set(bundle.table(members(sent)["metrics.csv"])["arm"])
    assert {"aligned", "aligned+intercept", "aligned+intercept_slope"} <= arms


def test_bundle_of_a_changed_file_is_refused(sent: Path, hub: Study, tmp_path: Path) -> None:
    path = rebuilt(sent, tmp_path / "x.zip", lambda f: f.update({"people.csv": f["people.csv"] + b"\n"}), sign=False)
    with pytest.raises(StudyError, match="changed after sharing"):
        received.receive(hub, [path])
    assert not hub.path("received").exists()


def forged(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | values).encode()

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (forged(schema_version="2.0"), "schema 2.0"),
        (forged(schema_version="1.9"), "newer than this software"),
        (forged(version="9.1.0"), "software 9.1.0"),
        (forged(protocol="00000000"), "protocol"),
        (forged(label="<script>"), "label"),
        (forged(label="seen 2019-03-04"), "date"),
        (forged(cohort="../../etc"), "cohort"),
        (forged(extra=1), "unknown setting"),
        (lambda f: f.update({"manifest.json": b"[1]"}), "manifest.json"),
        (lambda f: f.update({"metrics.csv": b"a,b\n1,2\n"}), "columns"),
        (lambda f: f.update({"metrics.csv": b"\xff\xfe\x00"}), "metrics.csv"),
        (lambda f: f.update({"figures/auc.png": f["figures/auc.png"] + b"hidden words"}), "beside the picture"),
        (lambda f: f.update({"figures/auc.png": f["figures/auc.png"][:500]}), "auc.png"),
        (lambda f: f.update({"evil.pkl": b"cos\nsystem"}), "list only"),
        (lambda f: f.update({"../evil.csv": b"a"}), "list only"),
        (lambda f: f.update({"/etc/passwd.csv": b"a"}), "list only"),
        (lambda f: f.update({"people.csv": b"0" * 20_000_000}), "too much"),
        (lambda f: f.pop("people.csv"), ""),
    ],
)
def test_hostile_bundles_are_refused_with_reasons(
    change: Callable[[dict[str, bytes]], None], reason: str, sent: Path, hub: Study, tmp_path: Path
) -> None:
    path = tmp_path / "x.zip"
    if not reason:  # a table that is left out, the manifest still naming it
        files = members(sent)
        files.pop("people.csv")
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        reason = "absent"
    elif reason == "manifest.json":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", b"[1]")
    else:
        rebuilt(sent, path, change)
    with pytest.raises(StudyError, match=reason):
        received.receive(hub, [path])
    assert not hub.path("received").exists()
    assert not list(tmp_path.rglob("evil*"))


def test_links_duplicates_encryption_and_rubbish_are_refused(sent: Path, hub: Study, tmp_path: Path) -> None:
    link, twice, rubbish = (tmp_path / f"{name}.zip" for name in ("link", "twice", "rubbish"))
    with zipfile.ZipFile(link, "w") as archive:
        info = zipfile.ZipInfo("people.csv")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with zipfile.ZipFile(twice, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("people.csv", "a")
        archive.writestr("people.csv", "b")
    rubbish.write_bytes(random.Random(0).randbytes(5000))
    for path, reason in (
        (link, "link"),
        (twice, "stands twice"),
        (rubbish, "no zip"),
        (tmp_path / "none.zip", "no such"),
    ):
        with pytest.raises(StudyError, match=reason):
            received.receive(hub, [path])
    cut = tmp_path / "cut.zip"
    cut.write_bytes(sent.read_bytes()[:-200])
    with pytest.raises(StudyError, match="no zip"):
        received.receive(hub, [cut])
    broken = bytearray(sent.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    cut.write_bytes(bytes(broken))
    with pytest.raises(StudyError, match=r"damaged|hash"):
        received.receive(hub, [cut])


def test_older_minor_is_read(sent: Path, hub: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SCHEMA", (1, 3))
    assert received.receive(hub, [sent])


def test_a_site_counts_once(sent: Path, hub: Study) -> None:
    received.receive(hub, [sent])
    with pytest.raises(StudyError, match="--replace"):
        received.receive(hub, [sent])
    received.receive(hub, [sent], replace=True)
    with pytest.raises(StudyError, match="another bundle"):
        received.receive(hub, [sent, sent], replace=True)
    hub.path("results", "qph").mkdir(parents=True)
    with pytest.raises(StudyError, match="count double"):
        received.receive(hub, [sent], replace=True)


def test_other_weights_are_refused(sent: Path, hub: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "weights_of", lambda _: {"align": "0" * 64})
    with pytest.raises(StudyError, match="released weights"):
        received.receive(hub, [sent])


@pytest.mark.parametrize(("people", "only"), [(7, None), (30, True), (30, False)])
def test_small_or_one_sided_sites_share_little_and_nothing_wrong(
    people: int, only: bool | None, tmp_path: Path
) -> None:
    study = toy_site.clone(tmp_path / "site")
    toy_site.add(study, "qph", people=people, only=only)
    path = share.share(study, "qph", yes=True)
    assert path is not None
    found = bundle.table(members(path)["metrics.csv"])
    known = found[found["n"].fillna(0) > 0]  # of nobody nothing can be given away
    cases = known["events"].astype(float)
    assert (known["n"] >= 5).all()
    assert ((cases == 0) | (cases >= 5)).all() and ((known["n"] == cases) | (known["n"] - cases >= 5)).all()
    assert found["metric"].ne("auc").any() and found.loc[found["metric"] == "auc", "estimate"].isna().all()
    hub = toy_site.clone(tmp_path / "hub")
    assert received.receive(hub, [path])


def _without(study: Study, lost: list[str], arm: str = "covariates", fraction: float = 1.0) -> dict[str, pd.DataFrame]:
    """The tables of the site when an arm has no prediction of ``cad`` for these people."""
    path = study.path("predictions", "qph.parquet")
    made = pd.read_parquet(path)
    gone = made["person"].isin(lost) & made["arm"].eq(arm) & made["endpoint"].eq("cad") & made["fraction"].eq(fraction)
    made[~gone].to_parquet(path, index=False)
    toy_site.judge(study, "qph")
    return aggregates.tables(study, "qph")


def _cases(study: Study, disease: str = "cad") -> list[str]:
    records = Store.open(study.path("store", "qph"), study.grid).records
    return records.loc[records[disease].eq(True).fillna(False), "person"].tolist()


@pytest.mark.parametrize(("lost", "hidden"), [(1, True), (6, False)])
def test_who_is_lost_to_an_arm_is_not_told_by_difference(lost: int, hidden: bool, tmp_path: Path) -> None:
    study = toy_site.clone(tmp_path)
    toy_site.add(study, "qph", people=100)
    made = _without(study, _cases(study)[:lost])
    judged = made["metrics"][made["metrics"]["endpoint"].eq("cad") & made["metrics"]["n"].notna()]
    bins = made["risk_bins"][made["risk_bins"]["endpoint"] == "cad"].groupby("arm")[["people", "cases"]].sum()
    assert set(bins.index) == set(toy_site.ARMS)
    assert set(bins["people"]) == set(judged["n"]) == {100 - lost}
    assert set(bins["cases"]) == set(judged["events"])
    people = made["people"].set_index(["variable", "level"])["people"]
    assert people["cad"].isna().all() == hidden and people["valve"].notna().all()


@pytest.mark.parametrize(("without", "hidden"), [(0, False), (1, True), (20, False)])
def test_who_has_no_cine_is_not_told_by_difference(without: int, hidden: bool, tmp_path: Path) -> None:
    study = toy_site.clone(tmp_path)
    toy_site.add(study, "qph", people=100)
    cases = len(_cases(study))
    line = {"cohort": "qph", "endpoint": "cad", "arm": "real", "fraction": 1.0, "split": "test", "metric": "auc"}
    line |= {
        "estimate": 0.8,
        "lower": 0.7,
        "upper": 0.9,
        "n": 100 - without,
        "events": cases - without // 2,
        "note": "",
    }
    pd.DataFrame([line])[list(COLUMNS)].to_csv(study.path("results", "qph", "images.csv"), index=False)
    made = aggregates.tables(study, "qph")
    assert made["images"]["n"].isna().item() == hidden
    assert made["metrics"].loc[made["metrics"]["endpoint"] == "cad", "n"].notna().any()


def test_fractions_of_labels_do_not_tell_who_is_lost_to_one(tmp_path: Path) -> None:
    study = toy_site.clone(tmp_path)
    toy_site.add(study, "qph", people=100)
    path = study.path("predictions", "qph.parquet")
    whole = pd.read_parquet(path)
    pd.concat([whole, whole.assign(fraction=0.5)]).to_parquet(path, index=False)
    made = _without(study, _cases(study)[:1], fraction=0.5)
    known = made["metrics"][made["metrics"]["n"].notna()]
    assert set(known.loc[known["endpoint"] == "cad", "fraction"]) == {1.0}
    assert set(known.loc[known["endpoint"] == "valve", "fraction"]) == {0.5, 1.0}
    assert set(made["risk_bins"].loc[made["risk_bins"]["endpoint"] == "cad", "fraction"]) == {1.0}


def test_full_disk_and_missing_permission_end_in_one_sentence(
    site: Study, sent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sent.read_bytes()
    monkeypatch.chdir(site.root)
    for code, words in ((errno.ENOSPC, "free some space"), (errno.EACCES, "who may read or write")):

        def fail(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(bundle.zipfile.ZipFile, "writestr", fail)
        assert main(["share", "qph", "--yes"]) == 2
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error
        assert sent.read_bytes() == before
        assert not list(site.path("site").glob(".*.part"))
    monkeypatch.undo()
    assert share.share(site, "qph", yes=True) is not None


def test_an_unvalidated_site_is_told_what_to_do(tmp_path: Path) -> None:
    study = toy_site.clone(tmp_path / "site")
    with pytest.raises(StudyError, match=r"qph"):
        share.share(study, "qph", yes=True)


def test_killed_at_random_moments_it_finishes_in_the_end(
    site: Study, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times a process that shares is killed: a whole bundle lies there or none, and the next one ends."""
    FORKS.set_forkserver_preload(["tests.test_share"])
    made = aggregates.tables(site, "qph")
    _without_reckoning(made, monkeypatch)
    start = time.monotonic()
    whole = share.share(site, "qph", yes=True)
    assert whole is not None
    longest, expected, dice, reached = time.monotonic() - start, whole.read_bytes(), random.Random(1), set()
    for k in range(20):
        whole.unlink(missing_ok=True)
        child = FORKS.Process(target=_share_quietly, args=(site, made))
        child.start()
        time.sleep(dice.uniform(0, longest) if k else 0)
        child.kill()
        child.join()
        reached.add(whole.exists())
        if whole.exists():
            bundle.read(whole)
        else:
            longest *= 1.3  # a busy machine is given more time, so that one of the twenty is sure to end
    assert share.share(site, "qph", yes=True) == whole
    assert whole.read_bytes() == expected
    assert not list(site.path("site").glob(".*.part"))
    assert reached == {True, False}


def _without_reckoning(made: dict[str, pd.DataFrame], patch: pytest.MonkeyPatch) -> None:
    """Sharing without its longest part, the tables, and without figures."""
    patch.setattr(share.aggregates, "tables", lambda *_: made)
    patch.setattr(share, "_figures", lambda _: iter(()))


def _share_quietly(site: Study, made: dict[str, pd.DataFrame]) -> None:
    """In a process of its own: share once, then wait to be killed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _without_reckoning(made, pytest.MonkeyPatch())
    share.share(site, "qph", yes=True)
    time.sleep(60)
