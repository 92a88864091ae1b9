"""Released weights: what is written comes back, and anything that does not fit is refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from cardionets import weights
from cardionets.config import Study, StudyError


@pytest.fixture
def study() -> Study:
    return Study(Path(__file__).parent.parent)


@pytest.fixture
def folder(tmp_path: Path, study: Study) -> Path:
    target = tmp_path / "weights" / "toy"
    card = weights.Card(
        name="toy", contract=weights.contract(study), config={"dim": 3}, data={"people": 5}, metrics={"r2": 0.5}
    )
    weights.save(target, {"a": torch.arange(3.0), "b": torch.ones(2, 2)}, card, {"log": pd.DataFrame({"epoch": [1]})})
    return target


def test_weights_come_back_with_their_card(folder: Path, study: Study) -> None:
    tensors, card = weights.load(folder, weights.contract(study), {"dim": 3})
    assert torch.equal(tensors["a"], torch.arange(3.0)) and card.metrics == {"r2": 0.5}
    assert "not a medical device" in card.intended_use and len(card.sha256) == 64
    assert (folder / "log.csv").read_text() == "epoch\n1\n"
    assert not list(folder.parent.glob(".*")), "nothing half-written may stay"


def test_equal_weights_are_equal_bytes(folder: Path, study: Study) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    tensors, card = weights.load(folder, weights.contract(study))
    weights.save(folder, dict(reversed(tensors.items())), card, {"log": pd.DataFrame({"epoch": [1]})})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_changed_tensor_file_is_refused(folder: Path, study: Study) -> None:
    raw = bytearray((folder / weights.TENSORS).read_bytes())
    raw[-1] ^= 1
    (folder / weights.TENSORS).write_bytes(raw)
    with pytest.raises(StudyError, match=r"toy/model.safetensors: sha256: the file is not the one its card describes"):
        weights.load(folder, weights.contract(study))


def test_another_input_contract_is_refused_with_every_difference(folder: Path, study: Study) -> None:
    here = weights.contract(study)
    other = here.model_copy(update={"grid": here.grid.model_copy(update={"rate": 500}), "unit": "mV"})
    with pytest.raises(StudyError) as error:
        weights.load(folder, other, {"dim": 4})
    text = str(error.value)
    assert "contract.grid" in text and "contract.unit" in text and "config: dim" in text


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / weights.CARD).unlink(), "toy/card.json: missing; train this model"),
        (lambda f: (f / weights.TENSORS).unlink(), "toy/model.safetensors: missing; train this model"),
        (lambda f: (f / weights.CARD).write_text("{"), "toy/card.json: not valid JSON"),
        (lambda f: _edit(f, "metrics", "good"), "toy/card.json: metrics"),
        (lambda f: _edit(f, "colour", "red"), "toy/card.json: colour: unknown setting"),
    ],
)
def test_damage_is_named(folder: Path, study: Study, damage: object, sentence: str) -> None:
    assert callable(damage)
    damage(folder)
    with pytest.raises(StudyError, match=sentence):
        weights.load(folder, weights.contract(study))


def _edit(folder: Path, key: str, value: object) -> None:
    card = json.loads((folder / weights.CARD).read_text())
    (folder / weights.CARD).write_text(json.dumps(card | {key: value}))


def test_tensors_of_another_architecture_are_refused() -> None:
    with pytest.raises(StudyError, match=r"weights/toy/model.safetensors: .* another architecture"):
        weights.fill(nn.Linear(3, 2), {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "toy")
