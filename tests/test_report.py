import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cardionets import page, pdf, report, tables, topics, views
from cardionets.config import Study, StudyError
from cardionets.evaluate.pooling import DIFFERENT, pool_rows
from cardionets.evaluate.rows import COLUMNS
from cardionets.figures.base import Provenance
from cardionets.findings import Findings

STUDY = Study(Path(__file__).parents[1])
ORIGIN = Provenance("UK Biobank", 10, "demo", "abcd1234", True)


def metrics() -> pd.DataFrame:
    rows = []
    for k, cohort in enumerate(("ukb", "fahzu", "sahzu", "qph")):
        for arm, value in (("aligned", 0.71 + 0.03 * k), ("beat_ridge", 0.6)):
            rows.append((cohort, "cad", arm, 1.0, "test", "auc", value, value - 0.05, value + 0.05, 200, 30, ""))
            rows.append(
                (cohort, "lbbb", arm, 1.0, "test", "auc", np.nan, np.nan, np.nan, 200, 0, "not estimable: because")
            )
            rows.append(
                (
                    cohort,
                    "all_phenotypes",
                    arm,
                    0.1,
                    "test",
                    "mean_r2",
                    value / 2,
                    value / 2 - 0.1,
                    value / 2 + 0.1,
                    190,
                    None,
                    "",
                )
            )
        gap = ("test", "mean_r2_difference", -0.055, -0.081, -0.029, 190, None, "")
        rows.append((cohort, "all_phenotypes", "beat_ridge minus aligned", 0.1, *gap))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"events": "Int64"})


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Two stages of one cohort with a figure, a table and a page, as the runner leaves them."""
    for stage in ("prepare", "validate"):
        folder = tmp_path / "reports" / "ukb" / stage
        (folder / "figures").mkdir(parents=True)
        (folder / "tables").mkdir()
        Image.new("RGB", (2000, 100), "red").save(folder / "figures" / "flow.png")
        pd.DataFrame({"step": ["<kept>"], "n": [12345]}).to_csv(folder / "tables" / "flow.csv", index=False)
        (folder / f"{stage}.html").write_text("x")
    return tmp_path / "reports"


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found[k] or "" for k in ("href", "src") if k in found]
        self.ids.add(found.get("id") or "")
        if tag not in {"meta", "img", "br", "col", "link", "hr", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []  # every element is closed
    return parser


def test_index_leads_to_everything_by_relative_links(reports: Path) -> None:
    path = report.build_index(STUDY, reports)
    links = [link for link in parse(path).links if not link.startswith("#")]
    assert links
    for link in links:
        assert (path.parent / link).is_file()
    for stage in ("prepare", "validate"):
        assert f"ukb/{stage}/{stage}.html" in links
        assert f"ukb/{stage}/tables/flow.csv" in links
    assert "SIMULATED" in path.read_text()
    assert topics.question(STUDY, "validate") in path.read_text() and topics.question(STUDY, "validate").endswith("?")
    assert topics.question(STUDY, "no_such_stage") == ""


def test_study_page_is_self_contained_and_repeats_byte_for_byte(reports: Path) -> None:
    path = report.build_study(STUDY, metrics(), reports)
    parsed = parse(path)
    assert all(link.startswith(("data:", "#")) for link in parsed.links)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= parsed.ids
    text = path.read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "SIMULATED" in text
    again = report.build_study(STUDY, metrics(), reports, reports / "again.html")
    assert again.read_text() == text


def test_every_number_of_the_findings_comes_from_the_table(reports: Path) -> None:
    table = metrics()
    text = report.build_study(STUDY, table, reports).read_text()
    assert "0.71 (0.66 to 0.76), 30/200" in text
    assert "better than beat ridge 0.055 (0.029 to 0.081)" in text  # turned round, so that it reads aligned minus ridge
    assert "12345" in text
    assert "&lt;kept&gt;" in text
    table.loc[table["estimate"] == 0.71, ["estimate", "lower", "upper"]] = [0.61, 0.55, 0.67]
    changed = report.build_study(STUDY, table, reports).read_text()
    assert "0.71 (0.66 to 0.76)" not in changed
    assert "0.61 (0.55 to 0.67)" in changed


def test_findings_answer_with_the_external_centres_pooled() -> None:
    table = metrics()
    found = Findings(STUDY, table, "aligned", ["fahzu", "sahzu", "qph"])
    words = " ".join(found.in_words())
    known = table[(table["metric"] == "auc") & (table["arm"] == "aligned") & table["cohort"].ne("ukb")].dropna(
        subset=["estimate"]
    )
    pooled = pool_rows("auc", known).estimate
    assert f"{pooled.value:.2f} ({pooled.lower:.2f} to {pooled.upper:.2f}) for Coronary artery disease" in words
    frame = found.section().tables[0].frame.set_index("disease")
    assert list(frame) == ["UK Biobank", "FAHZU", "SAHZU", "QPH", "external, pooled"]
    assert (frame.loc["Left bundle branch block"].drop("external, pooled").str.startswith("–")).all()
    nobody = Findings(STUDY, table[table["metric"] == "none"], "aligned").section()
    assert not nobody.answers and not nobody.tables


@pytest.mark.parametrize(("lower", "upper", "words"), [(0.1, 0.3, "better"), (-0.1, 0.3, "not"), (-3, -1, "worse")])
def test_a_difference_is_judged_by_its_interval(lower: float, upper: float, words: str) -> None:
    table = metrics()
    own = table["metric"] == "mean_r2_difference"
    table.loc[own, ["estimate", "lower", "upper"]] = [-(lower + upper) / 2, -upper, -lower]
    said = [line for line in Findings(STUDY, table, "aligned").in_words() if "mean R²" in line]
    assert said and all(line.split("; ")[1].startswith(words) for line in said)


def test_drawn_hearts_are_told_beside_what_needs_no_patient() -> None:
    rows = [
        ("cine_sax", "generated", "ssim", 0.5, 0.4, 0.6),
        ("cine_sax", "generated - ridge", "ssim", -0.2, -0.3, -0.1),
        ("lv_edv", "generated", "r", 0.6, 0.5, 0.7),
        ("lv_edv", "direct", "r", 0.7, 0.6, 0.8),
    ]
    table = pd.DataFrame(rows, columns=["endpoint", "arm", "metric", "estimate", "lower", "upper"])
    table = table.assign(cohort="ukb", fraction=1.0, split="test", n=90, events=None, note="")
    *_, first, second = Findings(STUDY, table, "aligned").in_words()
    assert "n = 90: SSIM 0.50 (0.40 to 0.60); worse than ridge −0.200 (−0.300 to −0.100)." in first
    assert "0.60 (0.50 to 0.70) and 0.70 (0.60 to 0.80)" in second


def test_a_mean_over_part_of_the_phenotypes_says_so_in_words_and_in_the_pool(reports: Path) -> None:
    table, note = metrics().assign(fraction=1.0), "mean of 26 of 82 phenotypes; the others are not estimable"
    assert not any("mean of" in text for text in Findings(STUDY, table, "aligned").in_words())
    table.loc[table["cohort"].eq("qph") & table["metric"].eq("mean_r2"), "note"] = note
    said = Findings(STUDY, table, "aligned").in_words()
    assert [("QPH" in text, "mean of 26 of 82 phenotypes" in text) for text in said if "mean R²" in text] == [
        *[(False, False)] * 3,
        (True, True),
    ]
    assert DIFFERENT in report.build_study(STUDY, table, reports).read_text()


def test_methods_follow_the_settings() -> None:
    text = " ".join(report.methods_paragraphs(STUDY))
    protocol = STUDY.protocol
    for fact in (f"{protocol.statistics.bootstrap:,}", f"{protocol.split.test:.0%}", str(protocol.seed), "FAHZU"):
        assert fact in text


def test_only_external_cohorts_are_pooled(reports: Path) -> None:
    section = report.pooled_section(STUDY, metrics(), "aligned", ["fahzu", "sahzu", "qph"])
    assert len(section.pictures) == 1
    assert any("fewer than 2 centres" in text for text in section.paragraphs)
    assert "UK Biobank" not in section.paragraphs[0]


def test_the_arm_is_not_chosen_by_its_result() -> None:
    table = metrics()
    table.loc[table["arm"] == "beat_ridge", "estimate"] = 0.99
    assert report.best_arm(table) == "aligned"
    assert report.best_arm(table[table["arm"] == "beat_ridge"]) == "beat_ridge"


def test_summary_and_results(tmp_path: Path) -> None:
    (tmp_path / "results" / "ukb").mkdir(parents=True)
    table = metrics()
    table[table["cohort"] == "ukb"].to_csv(tmp_path / "results" / "ukb" / "metrics.csv", index=False)
    read = report.read_results(tmp_path / "results")
    assert len(read) == (table["cohort"] == "ukb").sum()
    written = json.loads(views.write_summary(read, tmp_path / "metrics.json").read_text())
    assert written == {"ukb": {"cad_auc": 0.71}}
    with pytest.raises(StudyError, match="no metrics table"):
        report.read_results(tmp_path / "nothing")
    with pytest.raises(StudyError, match="no stage has run"):
        report.build_index(STUDY, tmp_path / "nothing")


def test_table_one_counts_means_missing_and_differences() -> None:
    one = pd.DataFrame(
        {
            "sex": ["F", "M", None, "F"],
            "age": [50.0, 60, 70, np.nan],
            "cad": pd.array([True, False, None, False], "boolean"),
        }
    )
    two = one.assign(age=[60.0, 70, 80, 90])
    table = tables.table_one({"A": one, "B": two}, reference="A").set_index("characteristic")
    assert table.loc["People", "A"] == "4"
    assert table.loc["Female, n (%)", "A"] == "2 (66.7 %)"
    assert table.loc["Age (years), mean (SD)", "A"] == "60.0 (10.0)"
    assert table.loc["Age (years), mean (SD)", "missing"] == "1 / 0"
    assert table.loc["Coronary artery disease, n (%)", "A"] == "1 (33.3 %)"  # unknown is missing, not absent
    expected = (75 - 60) / np.sqrt((100 + np.var([60, 70, 80, 90], ddof=1)) / 2)
    assert table.loc["Age (years), mean (SD)", "SMD B"] == pytest.approx(expected, abs=0.005)
    with pytest.raises(StudyError, match="reference group"):
        tables.table_one({"A": one}, reference="C")


def test_tables_in_three_formats(tmp_path: Path) -> None:
    wide = tables.metrics_wide(metrics(), "auc")
    assert "0.710 (0.660 to 0.760)" in wide["aligned"].to_list()
    paths = tables.save_table(wide, tmp_path / "auc", "AUC", ORIGIN)
    assert [p.suffix for p in paths] == [".csv", ".html", ".tex"]
    assert "SIMULATED" in paths[1].read_text()
    tex = paths[2].read_text()
    assert "SIMULATED" in tex
    assert "0.710 (0.660 to 0.760)" in tex
    assert tex.count(r"\\") == len(wide) + 1
    assert tables._tex("a_b & 5 % <0.001 \\ ~ R²") == r"a\_b \& 5 \% $<$0.001 \textbackslash{} \textasciitilde{} R$^2$"
    assert pd.read_csv(paths[0]).shape == wide.shape
    with pytest.raises(StudyError, match="no row has metric"):
        tables.metrics_wide(metrics(), "auc", fraction=0.3)


def test_wide_pictures_are_shrunk(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 100), "blue").save(tmp_path / "wide.png")
    picture = page.Picture.read(tmp_path / "wide.png", 'a "caption"')
    (tmp_path / "small.png").write_bytes(picture.data)
    with Image.open(tmp_path / "small.png") as image:
        assert image.width == page.MAX_WIDTH
    assert "&quot;caption&quot;" in picture.render()


def test_long_tables_are_plain_and_break_over_pages(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a_name": ["<b>", *"x" * 99], "value": np.arange(100) / 7})
    _, page_path, tex = tables.save_table(frame, tmp_path / "long", "Long & many", ORIGIN)
    text = page_path.read_text()
    assert "&lt;b&gt;" in text and "Long &amp; many" in text and "SIMULATED" in text and "14.14" in text
    assert r"\begin{longtable}{ll}" in tex.read_text()


def test_remarks_are_said_once_below_the_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [5.0, np.nan], "r": [0.5, np.nan], "note": [None, "few_people"]})
    shown, said = tables.footnoted(frame)
    wide = tables.footnoted(frame.assign(estimate=1.0, upper=2.0, n=5))[0]
    assert wide.columns.tolist() == ["n", "r", "estimate", "upper", "note"]
    assert tables.footnoted(frame[["note", "r"]].rename(columns={"r": "upper"}).assign(k=1))[0].columns[1] == "note"
    assert (shown["note"].tolist(), said) == (["", "1"], ["1: few_people."])
    assert "note" not in tables.footnoted(frame.head(1))[0]
    saved = tables.save_table(frame, tmp_path / "t", "T", ORIGIN)
    assert pd.read_csv(saved[0])["note"][1] == "few_people"
    assert saved[1].read_text().count("few_people") == 1 and ">5<" in saved[1].read_text()
    assert "&  & 1" not in saved[2].read_text() and r"1: few\_people." in saved[2].read_text()
    assert tables.on_page(frame, "T", ORIGIN).note.startswith("1: few_people. ")
    long = tables.to_html(pd.concat([frame] * 40), "Long", ORIGIN)
    assert long.count("few_people") == 1


def test_plots_for_dvc(tmp_path: Path) -> None:
    views.write_plots(metrics(), tmp_path)
    assert pd.read_csv(tmp_path / "auc.csv")["estimate"].tolist() == [0.71, 0.74, 0.77, 0.8]
    assert pd.read_csv(tmp_path / "label_fractions.csv").columns.tolist() == ["cohort", "fraction", "estimate"]
    assert pd.read_csv(tmp_path / "phenotypes.csv").empty


def test_the_pdf_says_what_the_page_says_and_repeats_byte_for_byte(reports: Path) -> None:
    first = report.build_study(STUDY, metrics(), reports).with_suffix(".pdf").read_bytes()
    again = report.build_study(STUDY, metrics(), reports, reports / "again.html").with_suffix(".pdf").read_bytes()
    assert first.startswith(b"%PDF-")
    assert first == again
    assert first.count(b"/Type /Page\n") >= 3
    assert b"DejaVuSans" in first
    assert b"/Subtype /Image" in first


def test_cells_and_widths_in_print() -> None:
    assert pdf._cell(float("nan")) == "–"
    assert pdf._cell(-0.5) == "−0.5"
    assert pdf._cell("a-b") == "a-b"
    assert sum(pdf._widths(["a", "b"], [["x", "y" * 100]])) == pytest.approx(pdf.WIDTH)
    empty = page.Table(pd.DataFrame({"a": []}), "Empty", "note", "")
    assert len(pdf._table(empty)) == 3


def test_sections_come_in_the_order_of_a_paper(reports: Path) -> None:
    text = report.build_study(STUDY, metrics(), reports).read_text()
    order = [text.index(f"<h2>{name}</h2>") for name in ("Findings", "Participants", "Methods")]
    assert order == sorted(order)
    assert topics.shorten("0.000012") == "<0.001"
    assert topics.shorten("0.71234567") == "0.712"
    assert topics.shorten("lv_mass.x") == "lv_mass.x"


def test_a_small_figure_is_shown_small(tmp_path: Path) -> None:
    for name, info in (("small", {"dpi": (300, 300)}), ("plain", {})):
        Image.new("RGB", (1260, 600), "white").save(tmp_path / f"{name}.png", **info)
    small, plain = (page.Picture.read(tmp_path / f"{name}.png", name) for name in ("small", "plain"))
    assert small.inches == pytest.approx(4.2, rel=1e-3) and "max-width: 617px" in small.render()
    assert plain.inches is None and "max-width" not in plain.render()


def test_a_pivoted_table_has_no_column_for_the_name_of_its_columns() -> None:
    wide = pd.DataFrame({"arm": ["a", "b"], "fraction": [0.1, 1.0], "value": [1.5, 2.5]}).pivot(
        index="arm", columns="fraction", values="value"
    )
    shown = tables.to_html(wide.reset_index())
    assert "fraction" not in shown and shown.count("<th>") == 3
