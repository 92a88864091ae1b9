"""The aligned encoder and its heads as one ONNX program, for readers of ECGs that run without Python or torch.

What goes in is what the stores hold: a recording harmonised by this software and its median beat, in uV. What comes out
is phenotypes in their units and disease probabilities. The program is run once against the study's own network before
it gets its name.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from cardionets import weights
from cardionets.arm_table import ARMS
from cardionets.config import Study, StudyError
from cardionets.encoders import load_align
from cardionets.files import atomic_path
from cardionets.frozen import load_head
from cardionets.models.align import Aligner
from cardionets.models.ecg_mae import crops
from cardionets.stage import origin
from cardionets.store import layout

INPUTS: Final = ("ecg", "beat")
OUTPUTS: Final = ("phenotypes", "diseases")
CHECKED: Final = 8  # recordings on which both programs must agree
TOLERANCE: Final = 1e-3  # of the SD of an output over them


class Reader(nn.Module):
    """Encoder and both heads: record (b, 12, T) and beat (b, 12, B) in uV -> phenotypes (b, k), diseases (b, d)."""

    def __init__(self, aligner: Aligner, phenotypes: nn.Module, diseases: nn.Module) -> None:
        super().__init__()
        self.aligner, self.phenotypes, self.diseases = aligner, phenotypes, diseases

    def forward(self, ecg: Tensor, beat: Tensor) -> tuple[Tensor, Tensor]:
        """Phenotypes in their units and probabilities; NaN for endpoints that nobody could teach."""
        (crop,) = crops(ecg, self.aligner.encoder.settings.samples, 1)
        features = self.aligner(crop, beat)
        return self.phenotypes(features), self.diseases(features)


def reader(study: Study, arm: str, disease_arm: str) -> tuple[Reader, dict[str, Any]]:
    """The network of two frozen arms at full labels, and what a user of it must know.

    Raises StudyError for arms that read more than the aligned ECG, or that the weights do not hold.
    """
    heads: list[nn.Module] = []
    about: dict[str, Any] = {}
    cards = [weights.read_card(study.path("weights", "align"))]
    for name, wanted, output in zip(("phenotypes", "screening"), (arm, disease_arm), OUTPUTS):
        if wanted not in ARMS or ARMS[wanted].features != ("aligned",):
            fitting = ", ".join(a for a, known in ARMS.items() if known.features == ("aligned",))
            raise StudyError(f"export: {output}: {wanted}: not an arm that reads the ECG alone; choose from {fitting}.")
        head, card = load_head(study, name, wanted)
        heads.append(head)
        cards.append(card)
        about[output] = {"arm": wanted, "endpoints": card.config["endpoints"]}
    about |= {
        "contract": weights.contract(study).model_dump(mode="json"),
        "weights": {card.name: card.sha256 for card in cards},
        "simulated": origin(study)["simulated"],
        "intended_use": weights.INTENDED,
        "limits": weights.LIMITS,
    }
    return Reader(load_align(study), *heads).cpu().eval(), about


def export(study: Study, target: Path, arm: str = "aligned_teacher", disease_arm: str = "aligned") -> Path:
    """Write ``target``, an ONNX program for any number of recordings, with its contract in the metadata.

    Raises StudyError when a package is missing, an arm does not fit, or the program disagrees with the network.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise StudyError(f'export: {error.name} is missing; run `pip install "cardionets[export]"`.') from None
    if target.suffix != ".onnx":
        raise StudyError(f"export: {target.name} does not end in .onnx; give a name that does.")
    network, about = reader(study, arm, disease_arm)
    columns = layout(study.grid)
    shapes = {name: columns[name][0] for name in INPUTS}
    with atomic_path(target) as aside:
        _write(network, shapes, about, aside)
        session = onnxruntime.InferenceSession(aside.read_bytes(), providers=["CPUExecutionProvider"])
        _compare(network, session, shapes)
    return target


def _write(network: Reader, shapes: dict[str, tuple[int, ...]], about: dict[str, Any], path: Path) -> None:
    example = tuple(torch.zeros(2, *shapes[name]) for name in INPUTS)
    records = {0: torch.export.Dim("records")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would tell of other packages' absence
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = cast(
            torch.onnx.ONNXProgram,
            torch.onnx.export(
                network,
                example,
                dynamo=True,
                dynamic_shapes=(records, records),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                verbose=False,
            ),
        )
    program.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    program.save(str(path))


def _compare(network: Reader, session: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a program that says anything else than the network about noise of the size of an ECG."""
    drawn = torch.Generator().manual_seed(0)
    example = [300 * torch.randn(CHECKED, *shapes[name], generator=drawn) for name in INPUTS]
    with torch.inference_mode():
        wanted = network(*example)
    found = session.run(list(OUTPUTS), {n: x.numpy() for n, x in zip(INPUTS, example)})
    for name, mine, theirs in zip(OUTPUTS, wanted, found):
        mine = mine.numpy()
        off = np.abs(mine - theirs) / np.maximum(mine.std(0), 1e-4)  # a rare disease hardly varies in single precision
        if not np.array_equal(np.isnan(mine), np.isnan(theirs)) or np.nanmax(off, initial=0.0) > TOLERANCE:
            raise StudyError(f"export: {name}: the program differs from the network; update onnxruntime, or report it.")
