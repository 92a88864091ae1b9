"""Disclosure control: what is hidden cannot be worked out from what is shown, by linear programming if need be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from cardionets import aggregates, arm_table, disclosure, judge, vocabulary
from cardionets.config import Study
from cardionets.evaluate import binned, trust
from cardionets.evaluate.cube import Cube
from cardionets.evaluate.estimate import NotEstimableError
from cardionets.evaluate.phenotype_metrics import add_phenotypes
from cardionets.evaluate.rows import COLUMNS, MEAN_OF, Rows
from tests.conftest import ROOT

MINIMUM = 5
PROTOCOL = Study(ROOT).protocol
TABLE = [(4, (0, 1)), (5, (2, 3)), (6, (0, 2)), (7, (1, 3)), (8, (4, 5)), (8, (6, 7))]
"""A two-by-two table (0-3) with its margins (4-7) and total (8)."""


def bounds(
    counts: np.ndarray, hidden: np.ndarray, relations: list[disclosure.Relation], cell: int
) -> tuple[float, float]:
    """What an attacker who knows every shown count and every total can say of a hidden one."""
    matrix = np.zeros((len(relations), len(counts)))
    for row, (total, parts) in enumerate(relations):
        matrix[row, total] = 1
        matrix[row, list(parts)] -= 1
    limits = [(0, None) if h else (c, c) for c, h in zip(counts, hidden)]
    found = []
    for sign in (1, -1):
        aim = np.zeros(len(counts))
        aim[cell] = sign
        solved = linprog(aim, A_eq=matrix, b_eq=np.zeros(len(relations)), bounds=limits)
        found.append(sign * solved.fun if solved.status == 0 else np.inf)
    return found[0], found[1]


@pytest.mark.parametrize("seed", range(40))
def test_linear_programming_cannot_recover_a_hidden_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inner = rng.choice([0, 1, 2, 3, 4, 5, 9, 30, 200], 4)
    a, b, c, d = inner
    counts = np.array([a, b, c, d, a + b, c + d, a + c, b + d, inner.sum()])
    hidden = disclosure.suppress(counts, TABLE, MINIMUM)
    assert hidden[disclosure.small(counts, MINIMUM)].all()
    for cell in np.flatnonzero(hidden):
        low, high = bounds(counts, hidden, TABLE, int(cell))
        assert high - low > 0.5, (counts, hidden, cell)


def test_one_hidden_part_takes_another_and_zeros_stay() -> None:
    counts = np.array([3, 40, 7, 0, 50])
    hidden = disclosure.suppress(counts, [(4, (0, 1, 2, 3))], MINIMUM)
    assert hidden.tolist() == [True, False, True, False, False]


def test_hidden_parts_together_are_no_small_group() -> None:
    counts = np.array([1, 1, 40, 42])
    hidden = disclosure.suppress(counts, [(3, (0, 1, 2))], MINIMUM)
    assert counts[:3][hidden[:3]].sum() >= MINIMUM or hidden[3]


def row(endpoint: str, metric: str, estimate: float, n: int, events: float, arm: str = "aligned") -> tuple[object, ...]:
    return ("qph", endpoint, arm, 1.0, "test", metric, estimate, estimate - 0.1, estimate + 0.1, n, events, "")


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def groups(**values: tuple[int, ...]) -> pd.DataFrame:
    columns = ["records", "people", "cases", "case_people", "controls", "control_people"]
    return pd.DataFrame.from_dict(values, orient="index", columns=columns)


def shown(frame: pd.DataFrame) -> list[str]:
    return frame.loc[frame["n"].notna(), "endpoint"].tolist()


def test_few_cases_controls_or_people_are_hidden_in_every_row() -> None:
    known = groups(
        cad=(100, 100, 20, 20, 80, 80),
        valve=(100, 100, 4, 4, 96, 96),
        rbbb=(100, 100, 97, 97, 3, 3),
        lbbb=(60, 51, 10, 2, 50, 49),
        lv_ef=(9, 3, 0, 0, 0, 0),
    )
    counts = {"cad": (100, 20), "valve": (100, 4), "rbbb": (100, 97), "lbbb": (60, 10), "lv_ef": (9, np.nan)}
    rows = [row(name, metric, 0.7, *count) for metric in ("auc", "oe") for name, count in counts.items()]
    out = disclosure.suppress_metrics(table(*rows), known, MINIMUM)
    assert shown(out) == ["cad", "cad"]
    blank = out[out["n"].isna()]
    assert blank[["estimate", "lower", "upper", "events"]].isna().all().all()
    assert set(blank["note"]) == {disclosure.HIDDEN}


def test_records_lost_to_an_arm_may_each_be_a_whole_person() -> None:
    known = groups(cad=(100, 90, 20, 12, 80, 80))
    out = disclosure.suppress_metrics(table(row("cad", "auc", 0.7, 92, 12)), known, MINIMUM)
    assert shown(out) == []  # 8 of 20 case records are missing: the 12 left may belong to 4 people


def test_small_cells_of_a_two_by_two_table_are_hidden_with_all_that_gives_them_back() -> None:
    known = groups(cad=(100, 100, 20, 20, 80, 80))
    found = {"sensitivity": 0.85, "specificity": 0.9, "ppv": 0.68, "npv": 0.96, "lr_positive": 8.5, "auc": 0.9}
    rows = [row("cad", metric, value, 100, 20) for metric, value in found.items()]
    out = disclosure.suppress_metrics(table(*rows), known, MINIMUM)  # 3 cases are missed
    assert out.loc[out["n"].notna(), "metric"].tolist() == ["auc"]


def test_subtypes_add_up_so_a_second_one_goes() -> None:
    known = groups(dcm=(60, 60, 40, 40, 20, 20), hcm=(60, 60, 17, 17, 43, 43), rcm=(60, 60, 3, 3, 57, 57))
    rows = [row(e, "auc", 0.7, 60, k) for e, k in (("dcm", 40), ("hcm", 17), ("rcm", 3))]
    assert shown(disclosure.suppress_metrics(table(*rows), known, MINIMUM)) == ["dcm"]


def test_numbers_are_rounded_and_notes_are_closed() -> None:
    known = groups(cad=(100, 100, 20, 20, 80, 80))
    one = table(row("cad", "auc", 0.7123456, 100, 20)).assign(note="not estimable: because Mrs Miller, 3 people, /home")
    out = disclosure.suppress_metrics(one, known, MINIMUM)
    assert out["estimate"].item() == 0.7123
    assert out["note"].item() in disclosure.NOTES
    assert "Miller" not in out["note"].item()
    assert not disclosure.is_rounded(pd.Series([0.7123456]))


def test_a_mean_over_part_of_the_phenotypes_leaves_with_its_number_and_says_so() -> None:
    rng, n = np.random.default_rng(0), 40
    truth = rng.normal(size=n)
    records = pd.DataFrame({"record": [f"r{i}" for i in range(n)], "split": "test"}).assign(lv_mass=truth)
    records["person"] = records["record"]
    parts = [
        records[["record", "person", "split"]].assign(endpoint=name, value=truth + rng.normal(0, 0.5, n))
        for name in ("lv_mass", "lv_edv")
    ]
    rows = Rows("qph", "test")
    add_phenotypes(rows, Cube.of(pd.concat(parts).assign(arm="aligned", fraction=1.0), records, "test"), PROTOCOL)
    found = rows.frame()
    whole = found[found["metric"].eq("mean_r2") & found["endpoint"].eq("all_phenotypes")]
    assert whole["note"].item().startswith(f"{MEAN_OF}1 of 2 phenotypes")
    out = disclosure.suppress_metrics(whole, disclosure.people_of(records, ["all_phenotypes"]), MINIMUM)
    assert np.isfinite(out["estimate"].item()) and out["note"].item() == disclosure.PARTIAL
    assert disclosure.PARTIAL in disclosure.NOTES and disclosure.note_of(disclosure.PARTIAL) == disclosure.PARTIAL


def test_coverage_counts_people_whatever_the_number_of_their_recordings() -> None:
    known = groups(lv_mass=(80, 40, 0, 0, 0, 0), lv_edv=(80, 40, 0, 0, 0, 0))
    rows = [row("lv_mass", "coverage", 0.9, 40, np.nan), row("lv_edv", "coverage", 0.9, 4, np.nan)]
    assert shown(disclosure.suppress_metrics(table(*rows), known, MINIMUM)) == ["lv_mass"]


@pytest.mark.parametrize("endpoint", ["all_phenotypes", "headline_phenotypes", "cardiomyopathy_subtypes"])
def test_recordings_of_two_people_are_two_people_in_a_mean_as_well(endpoint: str) -> None:
    records = pd.DataFrame({"person": ["a", "a", "a", "b", "b", "b"], "split": "test", "lv_mass": 100.0})
    records["subtype"] = pd.array(["dcm", "dcm", "dcm", "hcm", "hcm", "hcm"], dtype="string")
    known = disclosure.people_of(records, [endpoint])
    assert tuple(known.loc[endpoint, ["records", "people"]]) == (6, 2)
    out = disclosure.suppress_metrics(table(row(endpoint, "mean_r2", 0.3, 6, np.nan)), known, MINIMUM)
    assert shown(out) == []


def test_risk_bins_hold_enough_of_both_and_say_the_same_as_everybody() -> None:
    rng = np.random.default_rng(0)
    risk = rng.uniform(size=500)
    labels = rng.uniform(size=500) < risk * 0.4
    bins = binned.risk_bins(labels, risk, MINIMUM)
    assert (bins["cases"] >= MINIMUM).all() and ((bins["people"] - bins["cases"]) >= MINIMUM).all()
    assert (bins["people"].sum(), bins["cases"].sum()) == (500, labels.sum())
    assert bins["mean_risk"].is_monotonic_increasing
    false, true = binned.roc_of(bins)
    area = float(np.trapezoid(true, false))
    order = np.argsort(np.argsort(risk))
    exact = (order[labels].sum() - labels.sum() * (labels.sum() - 1) / 2) / labels.sum() / (~labels).sum()
    assert exact - 0.05 < area <= exact + 0.01
    with pytest.raises(NotEstimableError):
        binned.risk_bins(np.arange(500) < 4, risk, MINIMUM)


def test_clouds_have_no_lonely_cell_and_no_extreme() -> None:
    rng = np.random.default_rng(1)
    x = np.append(rng.normal(100, 10, 400), 999.0)
    cells = binned.cloud(x, x + rng.normal(0, 5, 401), MINIMUM)
    assert (cells["people"] >= MINIMUM).all()
    assert cells[["x_high", "y_high"]].to_numpy().max() < 140


def test_flow_merges_small_reasons_and_hides_what_would_follow() -> None:
    steps = [("source", "", 110, 108), ("excluded", "unreadable", 2, 2), ("excluded", "flat_lead", 1, 1),
             ("excluded", "clipped", 7, 6), ("kept", "", 100, 99), ("split", "test", 100, 99)]  # fmt: skip
    frame = pd.DataFrame(steps, columns=list(aggregates.FLOW_COLUMNS))
    out = aggregates.shared_flow(frame, MINIMUM)
    assert out["reason"].tolist() == ["", "clipped", aggregates.OTHER, "", "test"]
    assert out["persons"].isna().tolist() == [False, True, True, False, False]
    few = aggregates.shared_flow(frame[frame["reason"] != "clipped"], MINIMUM)
    assert few.loc[few["step"] == "source", "persons"].isna().all()  # else source - kept would tell


def test_one_person_under_several_reasons_is_one_person() -> None:
    """Who has a recording under each of five reasons, and a sound one, is kept and is nobody else."""
    reasons = ("unreadable", "flat_lead", "nan", "too_short", "clipped")
    steps = [("source", "", 105, 100), *(("excluded", reason, 1, 1) for reason in reasons)]
    steps += [("kept", "", 100, 100), ("split", "test", 100, 100)]
    out = aggregates.shared_flow(pd.DataFrame(steps, columns=list(aggregates.FLOW_COLUMNS)), MINIMUM)
    other = out[out["reason"] == aggregates.OTHER]
    assert other[["records", "persons"]].isna().all().all()


def test_people_of_merged_reasons_are_shown_only_where_they_are_certain() -> None:
    def merged(source: int) -> pd.DataFrame:
        steps = [("source", "", 112, source), ("excluded", "unreadable", 4, 4), ("excluded", "flat_lead", 4, 4),
                 ("excluded", "nan", 4, 4), ("kept", "", 100, 100), ("split", "test", 100, 100)]  # fmt: skip
        out = aggregates.shared_flow(pd.DataFrame(steps, columns=list(aggregates.FLOW_COLUMNS)), MINIMUM)
        return out.set_index("reason").loc[[aggregates.OTHER], ["records", "persons"]]

    assert merged(112).to_numpy().tolist() == [[12, 12]]  # nobody stands twice: 112 = 100 + 12
    some = merged(107)  # at least 7 people and at most 12
    assert some["records"].item() == 12 and some["persons"].isna().all()


def test_people_levels_add_up_and_stay_hidden() -> None:
    people = pd.DataFrame(
        {"sex": ["F"] * 3 + ["M"] * 20 + [None] * 17, "age": 50.0, "cad": pd.array([True] * 4 + [False] * 36)}
    )
    out = aggregates.people_table(people, MINIMUM).set_index(["variable", "level"])["people"]
    assert out["people", "all"] == 40
    assert pd.isna(out["sex", "F"]) and pd.isna(out["sex", "unknown"]) and out["sex", "M"] == 20
    assert pd.isna(out["cad", "yes"]) and pd.isna(out["cad", "no"])


def test_vocabulary_knows_every_arm_and_reason() -> None:
    assert set(arm_table.ARMS) <= set(vocabulary.ARMS)
    assert set(judge.ARMS) <= set(vocabulary.ARMS)
    study = Study(ROOT)
    for reason in ("unreadable", "amplitude_high_x5", "leads_swapped_II_V2", "sax: missing", "unreadable: ValueError"):
        assert vocabulary.reason_is_known(reason, study), reason
    for reason in ("Mr Smith", "seen 2019-03-04", "unreadable: smith", "clipped_x5_miller"):
        assert not vocabulary.reason_is_known(reason, study), reason


def test_a_share_of_the_cases_is_hidden_with_the_few_it_leaves() -> None:
    known = groups(cad=(100, 100, 20, 20, 80, 80))
    rows = [row("cad", "sensitivity_at_specificity", value, 100, 20) for value in (0.85, 0.5, 0.15)]
    out = disclosure.suppress_metrics(table(*rows), known, MINIMUM)
    assert out["n"].notna().tolist() == [False, True, False]  # 3 missed, 10 and 10, 3 found


def test_trust_metrics_of_a_site_are_known_words() -> None:
    made = set(re.findall(r'fraction, "([a-z_]+)"', Path(trust.__file__).read_text()))
    assert len(made) == 3
    assert made <= set(vocabulary.METRICS)
