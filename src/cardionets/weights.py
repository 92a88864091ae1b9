"""Released weights: one folder per model with ``model.safetensors`` and ``card.json``, checked against each other.

The card says what the model expects (input contract), how it is built (config), what it was trained on, what it is for
and what it is not for. Weights whose hash or contract differ are refused, never adapted silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError

from cardionets import __version__
from cardionets.config import AFTER_S, BEFORE_S, EcgProtocol, Grid, Settings, Study, StudyError, check
from cardionets.ecg import LEADS
from cardionets.files import atomic_path, sha256

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

TENSORS: Final = "model.safetensors"
CARD: Final = "card.json"
INTENDED: Final = "Research on the recordings of the study; not a medical device, not for decisions about a patient."
LIMITS: Final = (
    "Adults, resting 12-lead ECG of ten seconds, preprocessed by this software; other devices and populations must be "
    "validated first."
)


class Contract(Settings):
    """What every input of a model must look like."""

    leads: tuple[str, ...]
    unit: str
    grid: Grid
    ecg: EcgProtocol
    beat_s: tuple[float, float]


class Card(Settings):
    """The model card that travels with the weights."""

    name: str
    version: str = __version__
    intended_use: str = INTENDED
    limits: str = LIMITS
    contract: Contract
    config: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, float]
    sha256: str = ""


def contract(study: Study) -> Contract:
    """The input contract of this study's stores."""
    beat = (-BEFORE_S, AFTER_S)
    return Contract(leads=tuple(LEADS), unit="uV", grid=study.grid, ecg=study.protocol.ecg, beat_s=beat)


def save(folder: Path, tensors: Mapping[str, Tensor], card: Card, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write weights, card and CSV ``tables`` (name -> frame) as one folder, all or nothing."""
    from safetensors.torch import save_file

    with atomic_path(folder, lasting=True) as aside:
        aside.mkdir()
        whole = {k: v.detach().cpu().contiguous() for k, v in sorted(tensors.items())}
        save_file(whole, aside / TENSORS)
        signed = card.model_copy(update={"sha256": sha256(aside / TENSORS)})
        text = json.dumps(signed.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=True)
        (aside / CARD).write_text(text + "\n", encoding="utf-8")
        for name, frame in tables.items():
            frame.to_csv(aside / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def read_card(folder: Path) -> Card:
    """The card alone. Raises StudyError when it is missing or not a card."""
    source = f"weights/{folder.name}/{CARD}"
    try:
        values = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{source}: missing; train this model or fetch the released weights.") from None
    except ValueError:
        raise StudyError(f"{source}: not valid JSON; fetch the released weights again.") from None
    return check(Card, values, source)


def load(folder: Path, expected: Contract, config: Mapping[str, Any] | None = None) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of ``folder``.

    Raises StudyError, every fault at once, when the file does not have the card's hash, the input contract is not
    ``expected``, or the architecture is not ``config`` (where given).
    """
    from safetensors.torch import load_file

    card = read_card(folder)
    faults = [*_hash_faults(folder, card), *_contract_faults(folder, card.contract, expected)]
    if config is not None and card.config != config:
        names = ", ".join(sorted(k for k in {*card.config, *config} if card.config.get(k) != config.get(k)))
        faults.append(f"weights/{folder.name}/{CARD}: config: {names} differ from the preset; train it again.")
    if faults:
        raise StudyError("\n".join(faults))
    return load_file(folder / TENSORS), card


def _hash_faults(folder: Path, card: Card) -> list[str]:
    source = f"weights/{folder.name}/{TENSORS}"
    try:
        found = sha256(folder / TENSORS)
    except FileNotFoundError:
        return [f"{source}: missing; train this model or fetch the released weights."]
    if found != card.sha256:
        return [f"{source}: sha256: the file is not the one its card describes; fetch or train it again."]
    return []


def _contract_faults(folder: Path, found: Contract, expected: Contract) -> list[str]:
    there, here = found.model_dump(mode="json"), expected.model_dump(mode="json")
    return [
        f"weights/{folder.name}/{CARD}: contract.{key}: the model expects {there[key]} but the store has {here[key]}; "
        "prepare the data as the model expects, or train it again."
        for key in there
        if there[key] != here[key]
    ]


def fill(model: Any, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load ``tensors`` into ``model``. Raises StudyError when they belong to another architecture."""
    try:
        model.load_state_dict(dict(tensors))
    except (RuntimeError, SafetensorError):
        text = f"weights/{name}/{TENSORS}: the tensors belong to another architecture than the preset's {name} block"
        raise StudyError(f"{text}; restore the preset or train it again.") from None
