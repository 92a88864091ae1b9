"""One ECG, one page: the same numbers as the pipeline's, intervals that cover, and nobody's name on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import expit, logit

from cardionets import (
    arm_table,
    arms,
    at_site,
    diseases,
    figures,
    norms,
    operating,
    patient,
    patient_drivers,
    patient_page,
    patient_pdf,
    phenotypes,
    predict,
    prepare,
    represent,
)
from cardionets.__main__ import main
from cardionets.assemble import read_lines
from cardionets.config import CohortEcg, Study, StudyError
from cardionets.ecg import LEADS
from cardionets.evaluate import recalibration
from cardionets.features import COVARIATES
from cardionets.glossary import signal_reasons
from cardionets.simulate import ecg, heart
from cardionets.simulate.centres import CENTRES
from cardionets.simulate.ecg_files import write_wfdb
from tests.toy_study import build

DECLARED = CohortEcg(unit="uV", rate=500.0, leads=LEADS)
NAME = "jane-doe-1953-04-21"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A toy study, trained and predicted, whose filter fits its slow grid."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = build(tmp_path_factory.mktemp("toy") / "study").root
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["ecg"]["band_hz"] = [0.67, 20.0]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    study = Study(root)
    for stage in (represent.pretrain_ecg, represent.pretrain_cmr, represent.align):
        stage(study)
    arms.fit_phenotypes(study)
    arms.fit_screening(study)
    operating.choose(study)
    predict.predict(study, "ukb")
    torch.set_num_threads(threads)
    return study


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """A simulated ECG, (12, 5000) uV at 500 Hz."""
    rng = np.random.default_rng(5)
    hearts = heart.sample(8, CENTRES["ukb"].mix, rng)
    healthy = hearts[(hearts["rhythm"] == "sinus") & (hearts["conduction"] == "none")].head(1)
    return np.asarray(ecg.synthesise(healthy, 500.0, 10.0, [rng])[0])


@pytest.fixture
def file(signal: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / f"{NAME}.npy"
    np.save(path, signal)
    return path


def stored(study: Study, arm: str) -> pd.DataFrame:
    table = pd.read_parquet(study.path("predictions", "ukb.parquet"))
    return table[(table["arm"] == arm) & (table["fraction"] == 1.0)].astype({"record": str, "endpoint": str})


def records(study: Study) -> pd.DataFrame:
    return pd.read_parquet(study.path("store", "ukb", "records.parquet"))


@pytest.mark.parametrize(("n", "k"), [(9, 9), (10, 10), (18, 18), (19, 18), (99, 90), (999, 900)])
def test_half_width_is_the_conformal_quantile(n: int, k: int) -> None:
    residuals = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert norms.half_width(residuals) == k


@given(st.integers(0, 8))
def test_too_few_people_give_no_interval(n: int) -> None:
    assert np.isnan(norms.half_width(np.ones(n)))


def test_intervals_cover_new_people() -> None:
    rng = np.random.default_rng(1)
    covered = [abs(rng.standard_t(3)) <= norms.half_width(np.abs(rng.standard_t(3, 30))) for _ in range(4000)]
    assert 0.89 < np.mean(covered) < 0.95  # exactly 28 / 31 for k = 28 of 30


def test_stored_intervals_are_those_of_the_validation_people(study: Study) -> None:
    norms.write_phenotypes(study)
    table = pd.read_csv(study.path("weights", "conformal.csv"))
    assert set(table["arm"]) == set(norms.ARMS)
    name = "lv_mass"
    truth = records(study).set_index("record")[name]
    own = stored(study, "aligned_teacher")
    own = own[(own["endpoint"] == name) & (own["split"] == "val")].set_index("record")["value"]
    expected = norms.half_width((own - truth.reindex(own.index)).abs().dropna().to_numpy(float))
    found = table[(table["arm"] == "aligned_teacher") & (table["endpoint"] == name)]
    assert found["half_width"].item() == pytest.approx(expected, rel=1e-3)
    study.path("weights", "conformal.csv").unlink()
    computed = norms.Norms.load(study, "aligned_teacher")
    assert computed.half_width("aligned_teacher", name)[0] == pytest.approx(expected, rel=1e-3)
    assert any("computed for this page" in note for note in computed.notes)


def test_intervals_of_other_weights_are_not_used(study: Study) -> None:
    table = norms.conformal(study)
    table.assign(weights="0" * 16, half_width=1e6).to_csv(study.path("weights", "conformal.csv"), index=False)
    loaded = norms.Norms.load(study, "aligned_teacher")
    assert loaded.half_width("aligned_teacher", "lv_mass")[0] < 1e5
    assert any("other weights" in note for note in loaded.notes)
    study.path("weights", "conformal.csv").unlink()


def test_reference_ranges_are_of_healthy_training_people(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "SMALLEST", 2)
    table = records(study)
    ill = table[list(study.protocol.endpoints.diseases)].fillna(False).any(axis=1)
    healthy = table[(table["split"] == "train") & ~ill]
    found = norms.Norms(pd.DataFrame(), norms.reference(study), pd.DataFrame())
    women = healthy[(healthy["sex"] == "F") & (healthy["age"] >= 55) & (healthy["age"] < 65)]["lv_edv"].dropna()
    assert len(women) >= 2
    middle = found.range("lv_edv", "F", 60.0)
    assert middle is not None
    assert (middle.n, middle.group) == (len(women), "women 55–64")
    assert (middle.lower, middle.upper) == pytest.approx(tuple(np.percentile(women, [2.5, 97.5])))
    everybody = found.range("lv_edv", None, None)
    assert everybody is not None
    assert (everybody.n, everybody.group) == (healthy["lv_edv"].notna().sum(), "adults of any age")
    assert found.range("lv_edv", "F", 12.0) is None


def test_a_group_too_small_falls_back_to_a_wider_one() -> None:
    rows = [("lv_ef", "any", "any", 90, 50.0, 70.0), ("lv_ef", "M", "any", 45, 48.0, 69.0)]
    found = norms.Norms(pd.DataFrame(), pd.DataFrame(rows, columns=norms.REFERENCE), pd.DataFrame())
    man, woman = found.range("lv_ef", "M", 60.0), found.range("lv_ef", "F", 60.0)
    assert man is not None and woman is not None
    assert (man.group, woman.group) == ("men of any age", "adults of any age")
    assert found.range("lv_mass", "M", 60.0) is None


def test_prevalence_hides_small_cells(study: Study) -> None:
    table = norms.prevalence(study).set_index("endpoint")
    people = [pd.read_parquet(study.path("store", c, "records.parquet")) for c in ("ukb", "mimic")]
    trained = pd.concat([p[p["split"] == "train"].drop_duplicates("person") for p in people])
    for name in table.index:
        known = trained[name].dropna().astype(bool)
        small = min(known.sum(), (~known).sum()) < study.protocol.statistics.minimum_cell
        assert np.isnan(table.loc[name, "prevalence"]) == small
        assert small or table.loc[name, "prevalence"] == pytest.approx(known.mean())


@pytest.mark.parametrize("complete", [True, False])
def test_answer_is_what_the_pipeline_predicts(study: Study, complete: bool) -> None:
    table = records(study)
    test = table[(table["split"] == "test")]
    whole = test[[*COVARIATES, "sex"]].notna().all(axis=1)
    record = str(test[whole == complete]["record"].iloc[0])
    found = patient.answer(study, patient.of_record(study, "ukb", record))
    assert found.arm == ("aligned_covariates" if complete else "aligned_teacher")
    shown = [(found.arm, {e.phenotype.name: e.value for e in found.estimates})]
    shown += [
        (arm, {r.disease: r.value for r in found.risks if found.disease_arms[r.disease] == arm})
        for arm in set(found.disease_arms.values())
    ]
    assert {a for a, _ in shown} == {found.arm, "aligned_mae", "aligned_covariates" if complete else "aligned"}
    for arm, values in shown:
        own = stored(study, arm)
        expected = (
            own[own["record"] == record].set_index("endpoint")["value"].drop(list(diseases.SUBTYPES), errors="ignore")
        )
        expected = expected[expected.index.isin(phenotypes.NAMES) == (values.keys() <= set(phenotypes.NAMES))]
        assert values.keys() == set(expected.index) - (set() if arm == "aligned_mae" else set(arm_table.ON_ECG))
        assert list(values.values()) == pytest.approx(list(expected[list(values)]), rel=1e-3, abs=1e-4)
    thresholds = operating.load(study).set_index(["arm", "endpoint"])["threshold"]
    for risk in found.risks:
        assert risk.threshold == pytest.approx(thresholds[found.disease_arms[risk.disease], risk.disease], nan_ok=True)


def test_a_file_is_read_as_the_prepare_stage_reads_it(study: Study, file: Path, tmp_path: Path) -> None:
    found = patient.of_file(study, file, DECLARED)
    row = {"ecg": file.name, "age": np.nan, "sex": None} | dict.fromkeys(("sax", "lax", "sax_mask", "lax_mask"), "")
    p = study.protocol
    block = prepare.Block(pd.DataFrame([row]), file.parent, DECLARED, {}, False, study.grid, p.ecg, p.quality)
    assert prepare.run_block(block, tmp_path / "block") == 1
    assert found.reasons == [] and found.signal is not None and found.beat is not None
    np.testing.assert_array_equal(found.signal, np.load(tmp_path / "block" / "ecg.npy")[0])
    np.testing.assert_array_equal(found.beat, np.load(tmp_path / "block" / "beat.npy")[0])
    line = read_lines([tmp_path / "block"]).iloc[0]
    assert found.measured["rate_bpm"] == pytest.approx(line["rate_bpm"])
    assert found.measured["qrs_ms"] == pytest.approx(line["qrs_ms"])


def command(file: Path, out: Path, *more: str) -> int:
    leads = ["--unit", "uV", "--rate", "500", "--leads", ",".join(LEADS)]
    return main(["patient", str(file), "--out", str(out), *leads, *more])


def test_page_says_what_it_must_and_names_nobody(
    study: Study, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.root)
    out = tmp_path / "page.html"
    assert command(file, out, "--age", "61", "--sex", "F", "--height", "165", "--weight", "70") == 0
    text = out.read_text()
    needed = ("Research use only", "SIMULATED", "25 mm/s and 10 mm/mV", "aligned_covariates", "61 years, female")
    for words in (*needed, "What in the ECG drove it"):
        assert words in text
    assert "No cine is drawn here" in text
    assert len(re.findall("<td>passed</td>", text)) == 1 + len(patient_page.GATES)
    assert text.count("data:image/svg+xml") == 1
    private = [NAME, "1953", str(file.parent), str(study.root), *records(study)["record"].astype(str)]
    assert [word for word in private if word in text] == []
    assert not re.search(r"(src|href)=.?(https?:|//)", text)
    assert "passed every gate" in capsys.readouterr().out


def test_sheet_is_one_a3_page_that_names_nobody(
    study: Study, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.root)
    assert command(file, tmp_path / "page.html", "--pdf", str(tmp_path / "page.txt")) == 2
    assert "--pdf" in capsys.readouterr().err
    assert command(file, tmp_path / "page.html", "--pdf", str(tmp_path / "page.pdf")) == 0
    sheet = (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", sheet)) == 1
    box = [float(v) for v in re.findall(rb"/MediaBox \[ ([\d. ]+) \]", sheet)[0].split()]
    assert box == pytest.approx([0, 0, 297 / 25.4 * 72, 420 / 25.4 * 72], abs=0.01)
    assert not [word for word in (NAME, "1953", str(file.parent)) if word.encode() in sheet]


def test_ecg_is_drawn_at_25_mm_per_second_and_10_mm_per_millivolt(study: Study, file: Path) -> None:
    step = np.zeros((12, 5000), np.float32)
    step[:, 500:] = 1000  # 1 mV after 1 s
    found = patient.of_file(study, file, DECLARED)
    found.shown, found.shown_rate = step, 500.0
    for figure in (figures.ecg(step, 500.0), patient_pdf.sheet(study, found, None, {}, None)):
        axes = figure.axes[0]
        inches = axes.get_position().size * figure.get_size_inches()
        assert inches * 25.4 == pytest.approx([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())])  # 1 unit = 1 mm
        rhythm = max(axes.lines, key=lambda line: len(line.get_xdata()))
        x, y = np.asarray(rhythm.get_xdata()), np.asarray(rhythm.get_ydata())
        assert np.ptp(y) == pytest.approx(10)
        assert x[np.argmax(y > y[0])] - x[0] == pytest.approx(25)
        assert np.ptp(x) == pytest.approx(10 * 25, rel=1e-3)


def test_what_drove_it_adds_up_and_shows_the_most_remarkable(study: Study) -> None:
    found = patient.of_record(study, "ukb")
    said, why = patient.answer(study, found), patient_drivers.drivers(study, found)
    np.testing.assert_allclose(why.waves.sum(1), 1, rtol=1e-5)
    alone = stored(study, "aligned_teacher").set_index(["record", "endpoint"])["value"]
    assert set(why.endpoints) <= set(alone.index.get_level_values("endpoint"))
    assert why.stretches.shape[:2] == (len(why.endpoints), 12)
    edge = norms.Range(0.0, 1.0, 60, "men")
    item = {name: phenotypes.BY_NAME[name] for name in why.endpoints}
    values = {name: 0.5 + 0.1 * i for i, name in enumerate(why.endpoints)}
    made = [patient.Estimate(item[name], value, value, value, edge) for name, value in values.items()]
    assert patient_drivers.foremost(why, made) == why.endpoints[-1]
    text = patient_page.render(study, found, said, {}, why)
    assert "What in the ECG drove it" in text and "QRS" in text


def test_networks_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom cardionets.beside import beside\n"
        "if __name__ == '__main__':\n"
        "    with beside('math') as pool: print(pool.submit(os.getpid).result(), os.getpid())\n"
        "    assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "try.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "try.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    there, here = done.stdout.split()
    assert there != here


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("patient_run", ("torch", "sklearn", "nibabel", "pydicom", "pandera", "scipy.signal")),
        ("said", ("torch", "numpy", "pandas")),
        ("patient_models", ("pandas", "scipy.fft", "scipy.signal", "matplotlib", "sklearn")),
    ],
)
def test_each_process_of_a_page_loads_what_it_needs_alone(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, cardionets.{module}; print([m for m in {without} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_store_page_names_no_record(study: Study) -> None:
    found = patient.of_record(study, "ukb")
    text = patient_page.render(study, found, patient.answer(study, found), {"sax": np.zeros((4, 16, 16), np.uint8)})
    table = records(study)
    assert [name for name in (*table["record"], *table["person"]) if re.search(rf"\b{re.escape(name)}\b", text)] == []
    assert "data:image/gif" in text
    assert "this is not a real person" in text


def test_refused_ecg_gets_a_page_without_predictions(
    study: Study, signal: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.root)
    flat = signal.copy()
    flat[8] = 0
    np.save(tmp_path / "flat.npy", flat)
    out = tmp_path / "page.html"
    assert command(tmp_path / "flat.npy", out) == 1
    text = out.read_text()
    assert "flat_lead" in text and "refused" in text and "12-lead ECG at" in text
    assert "Phenotypes" not in text and "Probability" not in text


def test_unread_file_gets_a_page_and_a_missing_one_an_error(
    study: Study, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.root)
    out = tmp_path / "page.html"
    assert main(["patient", str(file), "--out", str(out)]) == 1
    text = out.read_text()
    assert "leads_unknown" in text and "--leads" in text and NAME not in text and "Probability" not in text
    sentence = f"{NAME}.npy: the file names no lead; declare the stored order as ecg.leads in cohorts.yaml."
    assert sentence in capsys.readouterr().err and "the stored order as" not in text
    assert main(["patient", str(tmp_path / "none.hea"), "--out", str(tmp_path / "other.html")]) == 2
    assert "no such file; check the path" in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize(
    ("reasons", "results"),
    [
        (["nan"], ["failed"] + ["not checked"] * 8),
        (["too_short"], ["passed", "failed"] + ["not checked"] * 7),
        (["spectrum_implausible"], ["passed", "passed", "failed"] + ["not checked"] * 6),
        (["too_short", "spectrum_implausible"], ["passed", "failed", "failed"] + ["not checked"] * 6),
        (["rate_implausible"], ["passed"] * 5 + ["failed"] + ["not checked"] * 3),
        (["leads_swapped_V1_II"], ["passed"] * 7 + ["failed", "passed"]),
        (["too_short", "amplitude_low_x1000"], ["passed", "failed", *["passed"] * 4, "failed", "passed", "passed"]),
    ],
)
def test_gates_say_what_was_not_looked_at(study: Study, reasons: list[str], results: list[str]) -> None:
    rows = patient_page.checked(study, reasons)
    assert [result for _, result, _ in rows] == results
    assert all(bool(why) == (result == "failed") for _, result, why in rows)
    assert not any("see the input contract" in why for *_, why in rows)


def test_every_reason_of_the_gates_refutes_one_line_of_the_page(study: Study) -> None:
    for reason in signal_reasons(study):
        failed = [result for _, result, _ in patient_page.checked(study, [reason])].count("failed")
        assert failed == (0 if reason.startswith("duplicate") else 1), reason


def test_every_reason_fits_on_the_sheet(study: Study) -> None:
    for reason in signal_reasons(study):
        sheet = patient_pdf.sheet(study, patient.Recording({}, reasons=[reason]), None, {}, None)
        canvas = FigureCanvasAgg(sheet)
        words = [text for text in sheet.texts if text.get_text()]
        assert max(text.get_window_extent(canvas.get_renderer()).x1 for text in words) < sheet.bbox.width, reason
        assert any(reason in text.get_text() for text in words) or reason.startswith("duplicate")


def test_unit_is_that_of_the_recording_and_not_a_declaration_without_use(
    study: Study, file: Path, tmp_path: Path
) -> None:
    declared = DECLARED.model_copy(update={"gain_factor": 1.25})
    assert patient.of_file(study, file, declared).what["Unit"] == "declared uV, times 1.25; shown in mV"
    write_wfdb(tmp_path / "own.hea", np.rint(np.load(file) / 5).astype(np.int32), 500, 5.0, LEADS)
    found = patient.of_file(study, tmp_path / "own.hea", CohortEcg(unit="mV"))
    assert found.what["Unit"] == "5 uV per step; shown in mV"


def test_impossible_person_is_refused_with_every_fault() -> None:
    with pytest.raises(StudyError, match=r"(?s)height_cm.*weight_kg.*sex"):
        patient.Person(age=60, sex="X", height_cm=1.7, weight_kg=0.5)


def test_a_site_has_its_own_probabilities_and_the_same_decisions(
    study: Study, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.root)
    found = patient.of_file(study, file, DECLARED)
    home = {risk.disease: risk for risk in patient.answer(study, found).risks}
    name = next(d for d, r in home.items() if np.isfinite(r.threshold) and d not in arm_table.ON_ECG)
    folder = study.path("results", "qph")
    folder.mkdir(parents=True)
    rows = [
        ("aligned", name, "intercept_slope", -1.0, 0.5, 812, 81),
        ("aligned_covariates", name, "intercept", 9, 1, 9, 1),
    ]
    pd.DataFrame(rows, columns=list(recalibration.MAP_COLUMNS)).to_csv(folder / "calibration.csv", index=False)
    here = {risk.disease: risk for risk in patient.answer(study, found, "qph").risks}
    assert here[name].value == pytest.approx(expit(-1 + 0.5 * logit(home[name].value)))
    assert (here[name].released, here[name].people) == (home[name].value, 812)
    assert here[name].prevalence == pytest.approx(81 / 812)
    assert (here[name].value >= here[name].threshold) == (home[name].value >= home[name].threshold)
    others = home.keys() - {name}
    assert others and all(np.isnan(here[d].released) and here[d].value == home[d].value for d in others)
    assert command(file, tmp_path / "page.html", "--cohort", "qph", "--pdf", str(tmp_path / "page.pdf")) == 0
    text = (tmp_path / "page.html").read_text()
    assert f"1 of {len(home)} of them in this centre" in text and "812 here" in text and "at development" in text
    assert at_site.load(study, "ukb", {name: "aligned"}) == {}  # at home there is nothing to mend


def test_first_page_says_that_the_cines_follow(study: Study) -> None:
    found = patient.of_record(study, "ukb")
    said = patient.answer(study, found)
    early, late = (patient_page.render(study, found, said, drawn) for drawn in (None, {}))
    assert "still being drawn" in early and "takes a trained generator" not in early
    assert "takes a trained generator" in late and "still being drawn" not in late


def test_place_in_the_range_is_uncertain_when_the_interval_crosses_a_limit() -> None:
    def place(value: float, half: float) -> str:
        item = phenotypes.BY_NAME["lv_ef"]
        return patient.Estimate(item, value, value - half, value + half, norms.Range(50, 70, 60, "men")).position

    assert (place(60, 5), place(60, 15), place(40, 5), place(80, 20)) == (
        "within",
        "within, uncertain",
        "below",
        "above, uncertain",
    )


def test_a_child_is_told_that_the_models_learnt_from_adults(study: Study, file: Path) -> None:
    found = patient.of_file(study, file, DECLARED, patient.Person(age=11))
    text = patient_page.render(study, found, patient.answer(study, found), {})
    assert "learnt from adults" in text
