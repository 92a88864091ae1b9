import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cardionets import figures, phenotypes
from cardionets.config import Study, StudyError
from cardionets.evaluate import pooling, utility
from cardionets.evaluate.rows import COLUMNS
from cardionets.evaluate.scales import SCALES

RNG = np.random.default_rng(0)
LABELS = RNG.random(300) < 0.2
RISKS = {"covariates": RNG.random(300), "aligned": np.clip(0.2 * LABELS + 0.6 * RNG.random(300), 0, 1)}
ORIGIN = figures.Provenance("UK Biobank", 300, "demo", "abcd1234", True)
CINE = RNG.integers(0, 256, (8, 32, 32)).astype(np.uint8)


def metrics() -> pd.DataFrame:
    rows = []
    for arm, better in (("covariates", 0.0), ("aligned", 0.2)):
        for fraction in (0.1, 1.0):
            for name in (*phenotypes.NAMES, "cad", "lbbb", "all_phenotypes"):
                metric = {"cad": "auc", "lbbb": "auc", "all_phenotypes": "mean_r2"}.get(name, "r2")
                value = 0.3 + better + 0.1 * fraction + (0.3 if metric == "auc" else 0)
                lost = name == "lbbb"
                note = "not estimable: because there are no events" if lost else ""
                bounds = (np.nan, np.nan, np.nan) if lost else (value, value - 0.05, value + 0.05)
                rows.append(("ukb", name, arm, fraction, "test", metric, *bounds, 300, 0 if lost else 60, note))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"events": "Int64"})


def flow() -> pd.DataFrame:
    rows = [("source", "", 310, 300), ("excluded", "flat_lead", 10, 10), ("kept", "", 300, 290)]
    rows += [
        ("split", "train", 180, 170),
        ("split", "val", 60, 60),
        ("split", "test", 60, 60),
        ("cmr", "sax", 280, 270),
    ]
    return pd.DataFrame(rows, columns=["step", "reason", "records", "persons"])


def centres() -> tuple[pd.DataFrame, pooling.Pooled]:
    rows = [("FAHZU", 0.85, 0.8, 0.89, 410), ("SAHZU", 0.93, 0.89, 0.95, 464), ("QPH", 0.84, 0.79, 0.88, 338)]
    table = pd.DataFrame(rows, columns=["cohort", "estimate", "lower", "upper", "n"])
    value, lower, upper = table[["estimate", "lower", "upper"]].to_numpy().T
    return table, pooling.pool_on(SCALES["auc"], value, lower, upper)


def curve() -> pd.DataFrame:
    found = utility.decision_curve(LABELS, RISKS["aligned"], np.linspace(0.02, 0.5, 20), np.arange(300), replicates=100)
    return found.assign(endpoint="cad", arm="aligned", n=300, events=LABELS.sum(), note="")


def groups() -> pd.DataFrame:
    rows = [("cad", "auc", "sex", "men", 0.8, 0.7, 0.9, 150), ("cad", "auc", "sex", "women", 0.7, 0.6, 0.8, 148)]
    rows += [("cad", "auc", "age", "under 45", np.nan, np.nan, np.nan, 2)]
    rows += [("cad", "auc", "age", "45-54", 0.7, 0.6, 0.8, 296)]
    rows += [("cad", "auc_interaction_p_holm", "sex", "all groups", 0.37, np.nan, np.nan, 298)]
    return pd.DataFrame(rows, columns=["endpoint", "metric", "variable", "group", "estimate", "lower", "upper", "n"])


def mix() -> tuple[pd.DataFrame, pd.DataFrame]:
    differ = pd.DataFrame({"cohort": ["FAHZU", "QPH"], "characteristic": "age", "smd": [0.5, np.nan]})
    drops = pd.DataFrame({"cohort": ["FAHZU"], "endpoint": ["cad"], "drop": [0.04], "lower": [-0.01], "upper": [0.09]})
    return differ, drops


TRUTH = {name: RNG.normal(100, 10, 300) for name in phenotypes.HEADLINE}
MADE = {name: value + RNG.normal(0, 10, 300) for name, value in TRUTH.items()}
DRAWINGS: dict[str, Callable[[], Figure]] = {
    "attribution": lambda: figures.attributed_beat(
        CINE[0, :12] * 5.0, CINE[1, :12, :8] - 90.0, (-0.2, 0.4), "One beat"
    ),
    "ecg": lambda: figures.ecg(RNG.normal(0, 100, (12, 2500)), 250, "One ECG"),
    "flow": lambda: figures.stard(flow()),
    "bars": lambda: figures.phenotype_bars(metrics()),
    "auc": lambda: figures.auc_forest(metrics()),
    "fractions": lambda: figures.label_fractions(metrics(), labelled=1400),
    "learning": lambda: figures.learning_curves(
        pd.DataFrame({"epoch": [1, 2, 3], "train": [3.0, 2, 1], "val": [3.0, 2, 2]})
    ),
    "roc": lambda: figures.roc({"CAD": (LABELS, RISKS)}),
    "calibration": lambda: figures.calibration_plot({"CAD": (LABELS, RISKS), "AF": (~LABELS, RISKS)}),
    "decision": lambda: figures.decision(curve(), {"cad": "CAD"}),
    "subgroups": lambda: figures.subgroup_forest(groups(), {"cad": "CAD"}),
    "case_mix": lambda: figures.case_mix(*mix(), {"age": "Age"}, "home"),
    "sheet": lambda: figures.scatter_sheet(TRUTH, MADE),
    "forest": lambda: figures.forest(*centres(), chance=0.5),
    "forests": lambda: figures.forest_sheet({"CAD": centres(), "HF": centres()}, "O/E", ideal=1),
    "scatter": lambda: figures.scatter(TRUTH, MADE),
    "agreement": lambda: figures.bland_altman({"LV mass": (MADE["lv_mass"], TRUTH["lv_mass"], "g")}),
    "retrieval": lambda: figures.retrieval({"ECG to CMR": RNG.integers(1, 100, 300)}, 300),
    "strip": lambda: figures.cine_strip({"real": CINE, "generated": CINE}),
}


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_is_saved_with_provenance_and_the_same_bytes_again(name: str, tmp_path: Path) -> None:
    saved = []
    for run in ("a", "b"):
        figure = DRAWINGS[name]()
        paths = figures.save(figure, tmp_path / run / name, ORIGIN, (".png", ".svg"))
        saved.append([path.read_bytes() for path in paths])
        assert "UK Biobank · n = 300 people · preset demo · protocol abcd1234" in words(figure)
        assert "SIMULATED" in words(figure)
    if name not in {"ecg", "scatter", "retrieval"}:  # these three draw new random numbers
        assert saved[0] == saved[1]
    with Image.open(io.BytesIO(saved[0][0])) as image:
        assert image.info["dpi"][0] == pytest.approx(300, abs=1)


def test_pdf_is_byte_stable(tmp_path: Path) -> None:
    pdfs = [
        figures.save(figures.stard(flow()), tmp_path / run, ORIGIN, (".pdf",))[0].read_bytes() for run in ("a", "b")
    ]
    assert pdfs[0] == pdfs[1]
    assert b"CreationDate" not in pdfs[0]


def test_real_data_is_not_marked_simulated(tmp_path: Path) -> None:
    figure = figures.stard(flow())
    figures.save(figure, tmp_path / "f", figures.Provenance("A hospital", 3), (".png",))
    assert "SIMULATED" not in words(figure)


def test_provenance_follows_the_protocol() -> None:
    study = Study(Path(__file__).parents[1])
    one = figures.Provenance.of(study, "ukb", 5)
    assert one.simulated
    assert one.cohort == "UK Biobank"
    changed = study.protocol.model_copy(update={"seed": study.protocol.seed + 1})
    study.protocol = changed
    assert figures.Provenance.of(study, "ukb", 5).protocol != one.protocol


def test_ecg_paper_is_life_size() -> None:
    signal = np.zeros((12, 2500))
    signal[1] = 1000.0  # lead II: 1 mV
    figure = figures.ecg(signal, 250)
    (axes,) = figure.axes
    width_mm = axes.get_xlim()[1]
    assert axes.get_position().width * figure.get_figwidth() * 25.4 == pytest.approx(width_mm)  # 1 unit = 1 mm
    rhythm = max(axes.lines, key=lambda line: len(line.get_xdata()))
    x, y = rhythm.get_data()
    assert x[-1] - x[0] == pytest.approx(25 * 2499 / 250)
    flat = min(axes.lines, key=lambda line: abs(np.mean(line.get_ydata()) - (np.mean(y) - 10)))
    assert np.mean(y) - np.min(flat.get_ydata()) == pytest.approx(10, abs=0.01)


def test_numbers_shown_are_those_given() -> None:
    text = words(figures.forest(*centres()))
    assert "0.85 (0.80–0.89)" in text
    assert "k = 3" in text
    assert "410" in text
    text = words(figures.auc_forest(metrics()))
    assert "not estimable: because there are no events" in text
    assert "60 / 300" in text
    text = words(figures.stard(flow()))
    assert "flat lead: 10 ECGs, 10 people" in text
    assert "270 people" in text
    r2 = (
        1
        - ((TRUTH["lv_mass"] - MADE["lv_mass"]) ** 2).sum() / ((TRUTH["lv_mass"] - TRUTH["lv_mass"].mean()) ** 2).sum()
    )
    assert f"R² {r2:.2f}" in words(figures.scatter(TRUTH, MADE))


def test_subgroups_and_case_mix_show_what_was_given() -> None:
    text = words(figures.subgroup_forest(groups(), {"cad": "CAD"}))
    assert "sex: interaction p 0.37" in text
    assert "age: interaction p –" in text
    assert "\n2\n" in f"\n{text}\n"  # the empty subgroup shows its people, and no mark
    figure = figures.subgroup_forest(groups(), {"cad": "CAD"})
    assert sum(np.isfinite(np.asarray(b.lines[0].get_xdata(), float)).sum() for b in figure.axes[0].containers) == 3
    figure = figures.case_mix(*mix(), {"age": "Age"}, "home")
    assert figure.axes[0].lines[0].get_xdata() == [0.5]
    assert "Age" in words(figure)


def test_every_phenotype_has_a_square_with_its_numbers() -> None:
    text = words(figures.scatter_sheet(TRUTH, MADE))
    assert text.count("R² ") == len(TRUTH)
    assert "n 300" in text
    few = {"lv_mass": np.array([1.0, np.nan])}
    assert "n = 1" in words(figures.scatter_sheet(few, few))
    with pytest.raises(StudyError, match="no phenotype"):
        figures.scatter_sheet({}, {})


def test_treat_all_falls_with_the_threshold() -> None:
    figure = figures.decision(curve(), {"cad": "CAD"})
    t, p = np.linspace(0.02, 0.5, 20), LABELS.mean()
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(p - (1 - p) * t / (1 - t))
    assert figure.axes[0].lines[1].get_ydata() == [0, 0]  # treat none


def test_one_class_is_said_on_the_figure() -> None:
    nobody = np.zeros(300, bool)
    assert "no events" in words(figures.roc({"CAD": (nobody, RISKS)}))
    assert "no events" in words(figures.calibration_plot({"CAD": (nobody, RISKS)}))
    none: dict[str, np.ndarray] = {name: risk[:0] for name, risk in RISKS.items()}
    assert "because nobody" in words(figures.calibration_plot({"CAD": (nobody[:0], none)}))
    silent = pd.DataFrame({"endpoint": ["cad"], "arm": "aligned", "n": 300, "events": 0})
    assert "no events" in words(figures.decision(silent.assign(note="not estimable: because there are no events"), {}))


def test_many_points_become_a_density() -> None:
    x = RNG.normal(size=5000)
    figure = figures.scatter({"lv_mass": x}, {"lv_mass": x})
    assert figure.axes[0].collections[0].get_array().sum() == 5000


def test_gif_moves_loops_and_says_simulated() -> None:
    plain, marked = (figures.animate({"real": CINE, "made": CINE}, simulated=s) for s in (False, True))
    with Image.open(io.BytesIO(marked)) as image:
        assert image.n_frames == 8
        assert image.info["loop"] == 0
    assert plain != marked
    assert marked == figures.animate({"real": CINE, "made": CINE}, simulated=True)


def test_clear_words_for_missing_rows() -> None:
    with pytest.raises(StudyError, match="no row has metric = psnr"):
        figures.auc_forest(metrics(), metric="psnr")
    with pytest.raises(StudyError, match="missing columns records"):
        figures.stard(flow().drop(columns="records"))
    with pytest.raises(StudyError, match="no cine"):
        figures.animate({})
    with pytest.raises(StudyError, match="neither column epoch nor step"):
        figures.learning_curves(pd.DataFrame({"loss": [1.0]}))


def test_style_does_not_leak() -> None:
    before = mpl.rcParams["font.size"], mpl.rcParams["axes.spines.top"]
    figures.stard(flow())
    assert (mpl.rcParams["font.size"], mpl.rcParams["axes.spines.top"]) == before


def test_provenance_names_the_commit_that_last_touched_the_code(tmp_path: Path) -> None:
    assert figures.base.code_of(tmp_path).startswith("version ")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "src").mkdir()
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "one"]):
        (tmp_path / "src" / "a.py").write_text("1")
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    figures.base.code_of.cache_clear()
    named = figures.base.code_of(tmp_path)
    (tmp_path / "results.csv").write_text("1")
    for command in (["add", "-A"], [*who, "commit", "-qm", "results"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    figures.base.code_of.cache_clear()
    assert figures.base.code_of(tmp_path) == named
    (tmp_path / "src" / "a.py").write_text("2")
    figures.base.code_of.cache_clear()
    assert figures.base.code_of(tmp_path) == f"{named}+"


def test_a_sheet_of_forests_says_pool_heterogeneity_and_how_few_the_centres_are() -> None:
    rows, pooled = centres()
    text = words(figures.forest_sheet({"CAD": (rows, pooled), "HF": (rows.iloc[:2], pooled)}, "O/E"))
    assert f"{pooled.estimate.value:.2f} (" in text and "I²" in text
    assert pooled.note in text and all(str(name) in text for name in rows["cohort"])


def test_reference_ranges_have_a_bar_per_group_and_say_how_many_people() -> None:
    rows = [("lv_edv", sex, band, 40 + k, 80.0, 160.0) for sex in "FM" for k, band in enumerate(("age_45_54", "any"))]
    table = pd.DataFrame(rows[:-1], columns=["endpoint", "sex", "age_band", "n", "lower", "upper"])
    figure = figures.reference_ranges(table, ["lv_edv", "lv_mass"])
    first, second = figure.axes
    assert len(first.collections) == 3 and not second.collections
    assert [text.get_text() for text in first.texts] == ["40", "41", "40"]
    assert [label.get_text() for label in second.get_xticklabels()] == ["45–54", "any"]
