"""The reader study kit: the case list, what a page tells, what the answers may hold, and what the analysis finds."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cardionets import reading, reading_analysis, reading_answers
from cardionets.config import StudyError
from cardionets.evaluate import readers
from cardionets.figures import readers as pictures
from cardionets.figures.base import png_bytes
from cardionets.reading_answers import SIMULATED, SKILL
from cardionets.store import Store
from tests import toy_study

FRAMES, SIZE = 4, 8


def people(n: int = 60, positives: int = 25) -> pd.DataFrame:
    status = pd.array([i < positives for i in range(n)], dtype="boolean")
    frame = pd.DataFrame({"record": [f"secret{i:03d}" for i in range(n)], "person": [f"p{i}" for i in range(n)]})
    return frame.assign(
        split="test", row=np.arange(n), sax_row=np.arange(n), lax_row=np.arange(n), cardiomyopathy=status
    )


def a_key(design: reading.Design) -> pd.DataFrame:
    return reading.allocate(reading.draw_cases(people(400, 200), design), design)


def some_pictures(key: pd.DataFrame) -> reading.Pictures:
    cine = np.arange(FRAMES * SIZE * SIZE, dtype=np.uint8).reshape(FRAMES, SIZE, SIZE)
    png = reading.sheet([cine, cine[::-1]])
    records = key["record"].unique()
    return reading.Pictures(
        dict.fromkeys(records, png), {arm: dict.fromkeys(records, png) for arm in reading.ARMS[1:]}, FRAMES, SIZE
    )


@settings(max_examples=15, deadline=None)
@given(cases=st.integers(6, 40), people_reading=st.integers(1, 7), arms=st.integers(1, 3), seed=st.integers(0, 99))
def test_crossover(cases: int, people_reading: int, arms: int, seed: int) -> None:
    design = reading.Design(cases=cases, readers=people_reading, arms=reading.ARMS[:arms], seed=seed)
    key = a_key(design)
    assert len(key) == cases * people_reading * arms
    assert not key.duplicated(["reader", "session", "case"]).any(), "a case twice in one session"
    assert not key.duplicated(["reader", "modality", "case"]).any(), "a case twice in one arm"
    assert key["number"].is_unique, "a case number is never used again"
    sizes = key.groupby(["reader", "session", "modality"]).agg(n=("case", "size"), events=("truth", "sum"))
    assert sizes["n"].max() - sizes["n"].min() <= 1, "arms are balanced within a session"
    assert sizes["events"].max() - sizes["events"].min() <= 1, "arms are balanced within true status"
    assert key.equals(a_key(design)), "the same seed draws the same key"


def test_six_readers_balance_arms_over_sessions() -> None:
    key = a_key(reading.Design(cases=24, readers=6))
    per_case = key.groupby(["case", "session", "modality"]).size()
    assert len(per_case) == 24 * 9
    assert (per_case == 2).all()
    orders = key[key["reader"] == "reader 1"].pivot(index="case", columns="session", values="position")
    assert orders.corr().abs().to_numpy()[np.triu_indices(3, 1)].max() < 0.6, "each session has an order of its own"


def test_who_can_be_a_case() -> None:
    table = people(12, 6)
    table.loc[0, "split"] = "train"
    table.loc[1, "sax_row"] = -1
    table.loc[2, "cardiomyopathy"] = pd.NA
    table.loc[4, "person"] = "p3"
    design = reading.Design(arms=(reading.ECG, reading.REAL))
    assert set(reading.eligible(table, design)["record"]) == {f"secret{i:03d}" for i in (3, 5, 6, 7, 8, 9, 10, 11)}
    drawn = SimpleNamespace(index=pd.DataFrame({"record": ["secret003"]}))
    assert list(reading.eligible(table, reading.Design(), drawn)["record"]) == ["secret003"]


def test_list_shrinks_with_the_scarcer_status_and_ends_at_the_least() -> None:
    listed = reading.draw_cases(people(30, 4), reading.Design(cases=24))
    assert len(listed) == 8
    assert listed["truth"].sum() == 4
    with pytest.raises(StudyError, match="2 people with and 28 without cardiomyopathy"):
        reading.draw_cases(people(30, 2), reading.Design())


def test_arms_that_cannot_be_shown_are_left_out_with_a_sentence() -> None:
    store = SimpleNamespace(records=people().assign(sax_row=-1))
    arms, said = reading.possible_arms(store, None)
    assert arms == (reading.ECG,)
    assert "no cines were generated" in said[0]
    assert "no CMR" in said[1]


def test_a_sheet_holds_views_down_and_phases_across(tmp_path: Path) -> None:
    cines = [
        np.full((FRAMES, SIZE, SIZE), 10 * v, np.uint8) + np.arange(FRAMES, dtype=np.uint8)[:, None, None]
        for v in (1, 2)
    ]
    (tmp_path / "sheet.png").write_bytes(reading.sheet(cines))
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == (2 * SIZE, FRAMES * SIZE)
    assert pixels[0, 2 * SIZE] == 12
    assert pixels[SIZE, 3 * SIZE] == 23


def test_pictures_show_each_case_its_own_heart(tmp_path: Path) -> None:
    store = Store.open(toy_study.build(tmp_path, 20).path("store", "qph"))
    cases = store.records.iloc[[4, 1]]
    index = pd.DataFrame({"record": store.records["record"], "row": np.arange(20)[::-1]})
    drawn = SimpleNamespace(index=index, arrays=dict.fromkeys(reading.VIEWS, store.sax[::-1]))
    found = reading.draw_pictures(store, drawn, cases, reading.ARMS)
    for record, row in zip(cases["record"], (4, 1)):
        assert found.ecg[record][1:4] == b"PNG"
        assert found.sheets[reading.REAL][record] == reading.sheet([store.sax[row], store.lax[row]])
        assert found.sheets[reading.DRAWN][record] == reading.sheet([store.sax[row], store.sax[row]])
    assert (found.frames, found.size) == (store.grid.frames, store.grid.size)


def test_the_model_alone_uses_its_threshold_from_home(tmp_path: Path) -> None:
    study = toy_study.build(tmp_path, 20)
    cases = pd.Series(["r1", "r2", "r2"])
    where = ("qph", "cardiomyopathy", "aligned")
    assert "run `dvc repro predict@qph`" in reading_analysis.model_or_reason(study, *where, cases)[1]
    rows = {
        "record": ["r1", "r2"],
        "arm": "aligned",
        "fraction": 1.0,
        "endpoint": "cardiomyopathy",
        "value": [0.2, 0.4],
    }
    limits = {"arm": ["aligned"], "fraction": 1.0, "endpoint": "cardiomyopathy", "threshold": 0.4, "note": ""}
    for folder in ("predictions", "weights"):
        study.path(folder).mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(study.path("predictions", "qph.parquet"))
    pd.DataFrame(limits).to_csv(study.path("weights", "thresholds.csv"), index=False)
    model, said = reading_analysis.model_or_reason(study, *where, cases)
    assert said == "The model alone is arm `aligned`."
    assert model.loc[["r1", "r2"], "positive"].tolist() == [False, True]
    assert (
        "no prediction for 1 of the cases"
        in reading_analysis.model_or_reason(study, *where, pd.Series(["r1", "r9"]))[1]
    )
    assert "no threshold" in reading_analysis.model_or_reason(study, "qph", "cad", "aligned", cases)[1]


def test_a_page_tells_neither_arm_nor_record_nor_truth(tmp_path: Path) -> None:
    design = reading.Design(cases=12, readers=2)
    key = a_key(design)
    reading.write_kit(tmp_path / "kit", key, some_pictures(key), design, simulated=True)
    pages = sorted((tmp_path / "kit" / "pages").glob("*.html"))
    assert len(pages) == 6
    for path in pages:
        text = path.read_text()
        bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        for word in ("secret", "generated", "real cine", "truth", "junior", "case 0"):
            assert word not in bare, word
        assert not re.search(r"https?://|src=\"(?!data)|@import|fetch\(", bare), "a page needs no network"
        about = json.loads(re.search(r'id="study">(.*?)</script>', text, re.S).group(1))
        assert about["simulated"] is True
        part = key[(key["reader"] == about["reader"]) & (key["session"] == about["session"])]
        with_cine = {item["number"] for item in about["items"] if item["cine"]}
        assert with_cine == set(part.loc[part["modality"] != reading.ECG, "number"])
        assert base64.b64decode(about["items"][0]["ecg"].split(",")[1])[1:4] == b"PNG"
    back = reading_answers.read_key(tmp_path / "kit" / "key.csv")
    assert back["record"].tolist() == key["record"].tolist()
    assert "SIMULATED DATA" in (tmp_path / "kit" / "coordinator.md").read_text()


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    key = a_key(reading.Design(cases=24, readers=4, seed=3))
    return reading_answers.simulate_answers(tmp_path / "answers", key, SKILL, seed=3)


def test_answers_come_back_as_they_were_given(answered: Path) -> None:
    table = reading_answers.read_answers(answered)
    assert len(table) == 24 * 4 * 3
    assert set(readers.ANSWERS) <= set(table)
    assert set(table["source"]) == {SIMULATED}
    path = sorted(answered.glob("SIMULATED_*.csv"))[0]
    raw = pd.read_csv(path).set_index("number")
    mine = table[(table["reader"] == raw["reader"].iloc[0]) & (table["session"] == raw["session"].iloc[0])]
    assert (raw["rating"].loc[mine["number"].astype(int)].to_numpy() == mine["rating"].to_numpy()).all()
    assert reading_answers.deviations(table, 28) == []
    late = reading_answers.deviations(table, 60)
    assert len(late) == 8
    assert "28" in late[0] or "29" in late[0]


def test_a_spreadsheet_may_have_saved_the_answers(answered: Path) -> None:
    before = reading_answers.read_answers(answered)
    path = sorted(answered.glob("SIMULATED_*.csv"))[0]
    path.write_text(path.read_text().replace(",", ";"), encoding="utf-8-sig")
    pd.testing.assert_frame_equal(before, reading_answers.read_answers(answered))


def test_every_fault_of_every_file_is_named_at_once(answered: Path) -> None:
    paths = sorted(answered.glob("SIMULATED_*.csv"))
    tables = [pd.read_csv(p, dtype=str, keep_default_na=False) for p in paths]
    tables[0].loc[0, "number"] = "7"  # unknown, and its own case is now missing
    tables[1].loc[0, "rating"] = ""
    tables[2].loc[1, "rating"] = "9"
    tables[2].loc[2, "seconds"] = "-4"
    tables[2].loc[3, "positive"] = "perhaps"
    tables[3] = pd.concat([tables[3], tables[3].iloc[[0]]])
    tables[4]["kit"] = "another"
    tables[5] = tables[5].drop(columns="rating")
    tables[6]["source"] = "page"
    for path, table in zip(paths, tables):
        table.to_csv(path, index=False)
    shutil.copy(paths[7], answered / "copy.csv")
    paths[8].unlink()
    paths[9].write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError) as error:
        reading_answers.read_answers(answered)
    text = str(error.value)
    for name, words in [
        (paths[0].name, "unknown case 7"),
        (paths[0].name, "no answer to case"),
        (paths[1].name, "no answer to case"),
        (paths[2].name, "rating: out of range"),
        (paths[2].name, "seconds: out of range"),
        (paths[2].name, "neither yes nor no"),
        (paths[3].name, "answered twice"),
        (paths[4].name, "kit: another"),
        (paths[5].name, "missing columns rating"),
        (paths[9].name, "not a readable CSV"),
        ("copy.csv", "returned twice"),
        ("reader 3 session 3", "no file"),
        ("source", "mixed"),
    ]:
        assert any(name in line and words in line for line in text.splitlines()), f"{name}: {words}\n{text}"


def test_without_key_or_answers(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"key\.csv: missing"):
        reading_answers.read_answers(tmp_path)
    a_key(reading.Design()).to_csv(tmp_path / "key.csv", index=False)
    with pytest.raises(StudyError, match="no answers"):
        reading_answers.read_answers(tmp_path)


def test_planted_skill_is_what_readers_show() -> None:
    truth = np.arange(4000) % 2 == 0
    ratings = readers.simulate(truth, {"a": reading_answers.separation_of(0.7)}, 40, np.random.default_rng(0))
    assert (ratings["positive"] == ratings["truth"]).mean() == pytest.approx(0.7, abs=0.01)
    by_reader = [
        np.mean([(p > n) + (p == n) / 2 for p, n in zip(r[truth], np.random.default_rng(1).permutation(r[~truth]))])
        for r in ratings["rating"].to_numpy().reshape(40, -1)
    ]
    expected = reading_answers.auc_of(reading_answers.separation_of(0.7))
    assert np.mean(by_reader) == pytest.approx(expected, abs=0.01)
    with pytest.raises(StudyError, match="cannot be planted"):
        reading_answers.separation_of(0.4)


def replicate(skill: dict[str, float], rng: np.random.Generator, cases: int = 60) -> readers.Mrmc:
    truth = np.arange(cases) % 2 == 0
    planted = [reading_answers.separation_of(a) for a in skill.values()]
    return readers.obuchowski_rockette(truth, readers.simulate_ratings(truth, planted, 6, rng).astype(float))


def test_intervals_cover_the_planted_skills() -> None:
    # 500 simulated studies of 6 readers, 60 cases and 3 arms: standard error 1.0 % at 95 %
    rng, arms = np.random.default_rng(0), list(SKILL.values())
    area = [reading_answers.auc_of(reading_answers.separation_of(a)) for a in arms]
    held, apart = np.zeros(3), 0
    for _ in range(500):
        found = replicate(SKILL, rng)
        held += [e.lower <= a <= e.upper for e, a in zip(found.means, area)]
        gap = found.differences[0, 2][0]
        apart += gap.lower <= area[0] - area[2] <= gap.upper
    assert ((held / 500 >= 0.92) & (held / 500 <= 0.98)).all(), held / 500
    assert 0.92 <= apart / 500 <= 0.98


def test_equal_skills_are_called_different_as_often_as_the_level_says() -> None:
    # 1,000 simulated studies of 6 readers, 60 cases and 3 arms alike: standard error 0.7 % at 5 %
    rng = np.random.default_rng(1)
    rejected = sum(replicate(dict.fromkeys("abc", 0.7), rng).p < 0.05 for _ in range(1000))
    assert 0.03 <= rejected / 1000 <= 0.07


def test_the_way_through_csv_files_recovers_what_was_planted(tmp_path: Path) -> None:
    key = a_key(reading.Design(cases=200, readers=6, seed=5))
    answers = reading_answers.read_answers(reading_answers.simulate_answers(tmp_path / "a", key, SKILL, seed=5))
    cases = key.drop_duplicates("case").set_index("record")
    right = np.arange(len(cases)) % 5 > 0  # a model that is right in four of five cases
    model = pd.DataFrame({"score": cases["truth"] == right, "positive": cases["truth"] == right}).astype(float)
    found = reading_analysis.analyse(answers, model.assign(positive=model["positive"] > 0))
    table = reading_analysis.planted(found)
    assert len(table) == 6
    assert table["within"].all(), table
    assert found.model["accuracy"].value == pytest.approx(0.8)
    everybody = found.accuracy[found.accuracy["level"] == "all"]
    assert everybody["minus_model"].to_numpy() == pytest.approx(everybody["accuracy"].to_numpy() - 0.8)
    assert found.differences["p_all_equal"].iloc[0] < 0.001
    assert found.label.startswith(SIMULATED)
    for frame in (found.modalities, found.by_reader, found.differences, found.accuracy, found.agreement, found.times):
        assert set(frame["source"]) == {SIMULATED}
    rows = reading_analysis.tidy(found, "fahzu", "cardiomyopathy")
    assert set(rows["metric"]) == {"reader_auc", "reader_accuracy"}
    assert rows.loc[rows["arm"] != "model alone", "arm"].str.startswith("SIMULATED").all()
    for figure in (
        pictures.reader_auc(found.modalities, found.by_reader, found.model["auc"], "a"),
        pictures.reader_accuracy(found.accuracy, found.model["accuracy"], "b"),
        pictures.reader_times(answers, "c"),
    ):
        assert len(png_bytes(figure)) > 2000


def test_one_arm_and_no_model_say_so(tmp_path: Path) -> None:
    key = a_key(reading.Design(cases=12, readers=3, arms=(reading.ECG,)))
    answers = reading_answers.read_answers(reading_answers.simulate_answers(tmp_path / "a", key, SKILL, seed=1))
    found = reading_analysis.analyse(answers, None)
    assert found.modalities["note"].str.startswith("not estimable: because two modalities").all()
    assert found.accuracy["minus_model"].isna().all()
    assert found.accuracy["accuracy"].notna().all()
    assert found.by_reader["auc"].notna().all()
    assert found.differences.empty


DRIVE = """
<script>
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
press("Enter");
state.since = state.touched = performance.now() - 1e7;
study.items.forEach((item, i) => {
  press(String(i % 5 + 1));
  press(i % 2 ? "n" : "y");
  if (i === 1) give("comment", 'a "b", c');
  press("ArrowRight");
});
document.body.innerHTML = "";
const pre = document.createElement("pre");
pre.id = "result";
pre.textContent = JSON.stringify({ csv: csv(), kept: localStorage.getItem(store), done: study.items.every(answered) });
document.body.append(pre);
</script>
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_a_page_in_a_browser_is_answered_with_keys_alone(tmp_path: Path) -> None:
    design = reading.Design(cases=6, readers=1, arms=(reading.ECG, reading.REAL))
    key = a_key(design)
    first = key[key["session"] == 1]
    text = reading.build_page(first, some_pictures(key), design, simulated=False)
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", DRIVE + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(["chromium", *flags, page.as_uri()], capture_output=True, text=True, timeout=100, check=True)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S).group(1)
    result = json.loads(found.replace("&amp;", "&"))
    assert result["done"]
    assert json.loads(result["kept"])["answers"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "answers.csv").write_text(result["csv"])
    answers = reading_answers.read_answers(tmp_path / "a", first)
    ordered = answers.sort_values("position")
    assert ordered["rating"].tolist() == [1, 2, 3, 4, 5, 1]
    assert ordered["positive"].tolist() == [True, False] * 3
    assert ordered["comment"].tolist()[1] == 'a "b", c'
    assert ordered["seconds"].iloc[1:].between(0, 60).all()
    assert ordered["seconds"].iloc[0] == pytest.approx(reading.IDLE_SECONDS, abs=60), "a reader away is not counted"
