"""The reporting pack: checklists, cards, the gate against leakage."""

import re

import numpy as np
import pandas as pd
import pytest

from cardionets import bundle, cards, checklists, leakage, pack, weights
from cardionets.config import Study, StudyError
from cardionets.store import Store
from tests import toy_study
from tests.test_report import parse

ITEMS = {"tripod_ai": 52, "claim_2024": 44}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The toy study with a flow figure, a leakage table and the aggregates of one centre."""
    study = toy_study.build(tmp_path_factory.mktemp("pack"))
    figure = study.path("reports", "ukb", "prepare", "figures", "flow.png")
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"")
    proof = study.path("reports", "ukb", "validate", "tables", "leakage.csv")
    proof.parent.mkdir(parents=True)
    pd.DataFrame({"check": ["overlap"], "found": [0]}).to_csv(proof, index=False)
    study.path("LICENSE").write_text("MIT")
    results = study.path("results", "ukb")
    results.mkdir(parents=True)
    people = [("ukb", "female", "share", 60, 0.5, 0.5), ("ukb", "age", "number", 60, 61.2, 8.0)]
    people += [("ukb", "lbbb", "share", 60, np.nan, np.nan), ("ukb", "lv_mass", "number", 0, np.nan, np.nan)]
    pd.DataFrame(people, columns=["cohort", "characteristic", "kind", "n", "mean", "sd"]).to_csv(
        results / "case_mix.csv", index=False
    )
    flow = pd.DataFrame({"step": ["source", "excluded"], "reason": ["", "clipped"], "records": [61, 1]})
    flow.to_csv(results / "flow.csv", index=False)
    return study


@pytest.mark.parametrize("name", checklists.LISTS)
def test_every_item_is_answered_or_says_what_a_person_must_write(name: str) -> None:
    table = checklists.load(name)
    assert table["item"].is_unique or name == "stard_ai"
    assert len(table) == ITEMS.get(name, len(table))
    assert ((table["where"] != "") | (table["person"] != "")).all()
    keys = {key for where in table["where"] for key in where.split(";") if key}
    assert keys <= checklists.ARTEFACTS.keys() | checklists.SECTIONS.keys()


def test_items_that_software_can_know_are_those_of_the_guideline() -> None:
    table = checklists.load("tripod_ai").set_index("item")
    fully = [
        "7",
        "10",
        "11",
        "12a",
        "12b",
        "12c",
        "12d",
        "12e",
        "12f",
        "12g",
        "13",
        "15",
        "16",
        "20a",
        "20b",
        "20c",
        "21",
        "22",
        "23a",
        "23b",
        "24",
        "27a",
    ]
    assert [item for item in fully if table.loc[item, "person"]] == []
    partly = ["3c", "5a", "6b", "8a", "9b", "14", "18c", "18e", "18f"]
    assert table.loc[partly, "where"].ne("").all()
    assert table.loc[partly, "person"].ne("").all()


def test_a_list_says_what_is_there_and_what_is_missing(study: Study) -> None:
    filled = checklists.fill("tripod_ai", checklists.artefacts(study.root), study.root).set_index("item")
    assert filled.loc["20a", "status"] == "answered"
    assert filled.loc["20a", "answered by"] == "flow of participants (reports/ukb/prepare/figures/flow.png)"
    assert filled.loc["23b", "status"] == "missing"
    assert filled.loc["17", "status"] == "to be written"
    assert filled.loc["6b", "status"] == "partly"
    assert "52 items" in pack.counted(filled)


def test_every_link_of_the_pack_leads_somewhere(study: Study) -> None:
    out = study.path("reports", "study", "report")
    path = pack.build(study, ["ukb"], ["Methods in words."], out)
    links = parse(path).links
    files = [link for link in links if not link.startswith(("#", "study.html"))]
    assert "../../ukb/prepare/figures/flow.png" in files
    assert all((out / link).is_file() for link in files)
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors <= parse(path).ids
    text = path.read_text()
    assert "SIMULATED" in text
    assert "Methods in words." in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert sorted(p.name for p in out.glob("*.csv")) == ["claim_2024.csv", "stard_ai.csv", "tripod_ai.csv"]


def test_data_card_reads_aggregates(study: Study) -> None:
    card = cards.data_card(study, "ukb").set_index("field")["value"]
    assert card["Kind of data"] == "SIMULATED"
    assert card["Women"] == "50.0% of 60"
    assert card["Age (years)"] == "61.2 (SD 8.0), 60 people"
    assert card["Left bundle branch block"] == "withheld: few people"
    assert card["LV myocardial mass (g)"] == "not measured"
    assert card["Excluded"] == "clipped 1 ECGs"
    assert cards.data_card(study, "stranger")["value"].tolist() == ["stranger", "received from a site"]


def test_model_card_is_the_one_that_travels(study: Study) -> None:
    about = {"people": 36}
    card = weights.Card(
        name="align", contract=weights.contract(study), config={}, data=about, metrics={"top_10": 0.123456}
    )
    for name in ("align", ".align.00000000-1.part"):  # as a killed process leaves it
        weights.save(study.path("weights", name), {}, card, {})
    assert list(cards.model_cards(study)) == list(bundle.weights_of(study)) == ["align"]
    found = cards.model_cards(study)["align"].set_index("field")["value"]
    assert "not a medical device" in found["Intended use"]
    assert found["Validation"] == "top_10 0.123"
    assert "people: 36" in found["Trained on"]
    assert len(found["SHA-256 of the weights"]) == 64


def predictions(store: Store) -> pd.DataFrame:
    return store.records[["record", "person", "split"]].assign(arm="a", fraction=1.0, endpoint="cad", value=0.1)


def test_the_gate_passes_a_sound_store(study: Study) -> None:
    for cohort, external in (("ukb", False), ("qph", True)):
        store = Store.open(study.path("store", cohort))
        proof = leakage.proof(store, predictions(store), external)
        assert proof["passed"].all()
        assert (proof["found"] == 0).all()
        assert len(proof) == 3 + external


def test_the_gate_names_every_leak(study: Study) -> None:
    store = Store.open(study.path("store", "ukb"))
    table = predictions(store)
    table.loc[0, "person"] = "somebody else"
    store.records.loc[store.records["split"] == "train", "person"] = store.records["person"].iloc[-1]
    with pytest.raises(StudyError, match=r"in training or validation: .*differs from the store: "):
        leakage.proof(store, table, external=True)
