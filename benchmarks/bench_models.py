"""Training step and inference of every network at demonstration size, and what masking and attention save."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.conftest import Measure, sized
from cardionets import export, plan
from cardionets.config import Study
from cardionets.device import Draw
from cardionets.encoders import cmr_settings, ecg_settings
from cardionets.models.align import Aligner, AlignSettings
from cardionets.models.ecg_mae import EcgEncoder, EcgMae, EcgMaeSettings, ecg_mae_loss
from cardionets.models.layers import Transformer
from cardionets.models.tokenizer import Tokenizer, TokenizerSettings
from cardionets.schedule import TrainSettings, apply_speed, make_optimiser
from cardionets.store import layout

STAGES = ("pretrain_ecg", "pretrain_cmr", "align", "screening, scratch", "tokenizer", "segmenter", "generator")
CPU = torch.device("cpu")


def values(batch: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A column of a batch, of any value."""
    whole = (batch, *shape)
    return torch.rand(whole) if dtype.is_floating_point else torch.randint(0, 5, whole, dtype=dtype)


@pytest.mark.parametrize("stage", STAGES)
def test_training_step(stage: str, study: Study, measure: Measure) -> None:
    (work,) = (w for w in plan.works(study) if w.stage == stage)
    model, batch = work.build().train(), sized(2, work.budget.batch)
    rows = {name: values(batch, *column) for name, column in work.row.items()}
    optimiser = make_optimiser(model, work.budget)

    def run() -> None:
        work.loss(model, rows, Draw(CPU, 1))["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()

    measure(run, per=batch, unit="row")


@pytest.mark.parametrize("stage", STAGES)
def test_forward_pass(stage: str, study: Study, measure: Measure) -> None:
    """Every network with its loss on a batch of its stage, without a gradient: what a validation step costs."""
    (work,) = (w for w in plan.works(study) if w.stage == stage)
    model, batch = work.build().eval(), sized(2, work.budget.batch)
    rows = {name: values(batch, *column) for name, column in work.row.items()}
    with torch.inference_mode():
        measure(lambda: work.loss(model, rows, Draw(CPU, 1)), per=batch, unit="row")


SPEED = {"plain": {}, "recompute": {"recompute": True}, "compile": {"compile": True}}


@pytest.mark.parametrize("setting", SPEED)
def test_speed_setting(setting: str, measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training step of a large masked auto-encoder as `train:` of a preset may set it; see memory beside time."""
    if setting == "compile" and (sized(1, 0) or shutil.which("c++") is None):
        pytest.skip("compiling takes a minute and a C++ compiler: left to the full size, where there is one")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model, batch = mae(0.75), sized(1, 8)
    apply_speed(model, TrainSettings.model_validate({"epochs": 1, "batch": batch, "lr": 1e-4} | SPEED[setting]))
    rows = {"ecg": torch.rand(batch, 12, 5000), "beat": torch.rand(batch, 12, 200), "rr": torch.rand(batch, 3)}

    def run() -> None:
        ecg_mae_loss(model, rows, Draw(CPU, 1))["loss"].backward()
        model.zero_grad()

    measure(run, per=batch, unit="record", rounds=3)


@pytest.mark.parametrize("batch", [1, 256])
@pytest.mark.parametrize("way", ["eager", "exported"])
def test_ecg_inference(way: str, batch: int, study: Study, measure: Measure) -> None:
    """The encoder as the study runs it, and its graph by torch.export, which must say the same."""
    settings = study.block("ecg_mae", EcgMaeSettings).encoder
    settings = settings.model_copy(update={"depth": sized(1, settings.depth)})
    encoder, batch = EcgEncoder(settings).eval(), sized(2, batch)
    inputs = (torch.rand(batch, 12, settings.samples), torch.rand(batch, 12, settings.beat_samples))
    with torch.no_grad():
        run = encoder if way == "eager" else torch.export.export(encoder, inputs).module()
        found = measure(lambda: run(*inputs), per=batch, unit="record")
        torch.testing.assert_close(found, encoder(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 16, 256])
@pytest.mark.parametrize("way", ["eager", "onnx"])
def test_reader(way: str, batch: int, study: Study, measure: Measure, tmp_path: Path) -> None:
    """Crop and aligned encoder as `python -m cardionets export` writes them, without heads: they are two products."""
    onnxruntime = pytest.importorskip("onnxruntime")
    aligner = Aligner(
        study.block("align", AlignSettings), ecg_settings(study).encoder, cmr_settings(study).encoder.features
    )
    network, batch = export.Reader(aligner.eval(), torch.nn.Identity(), torch.nn.Identity()), sized(2, batch)
    shapes = {name: layout(study.grid)[name][0] for name in export.INPUTS}
    inputs = {name: 300 * torch.randn(batch, *shape) for name, shape in shapes.items()}
    export._write(network, shapes, {}, tmp_path / "reader.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "reader.onnx", options, providers=["CPUExecutionProvider"])
    given = {name: x.numpy() for name, x in inputs.items()}
    with torch.inference_mode():
        run = (lambda: network(*inputs.values())) if way == "eager" else (lambda: session.run(None, given))
        found, wanted = measure(run, per=batch, unit="record"), network(*inputs.values())
    torch.testing.assert_close(torch.as_tensor(found[0]), wanted[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_tokenizer(way: str, study: Study, measure: Measure) -> None:
    settings = study.block("tokenizer", TokenizerSettings)
    model, batch = Tokenizer(settings).eval(), sized(1, 16)
    cines = {view: values(batch, layout(study.grid)[view][0], torch.uint8) for view in ("sax", "4ch")}
    tokens = model.posterior(cines)[0]
    run = (lambda: model.posterior(cines)) if way == "encode" else (lambda: model.decode(tokens))
    measure(run, per=batch, unit="person")


def mae(mask: float) -> EcgMae:
    """A masked auto-encoder large enough for attention to matter: 600 tokens, as the paper preset's, at a third of
    its width and a quarter of its depth."""
    size = {"samples": 5000, "patch_leads": 1, "patch_samples": 100, "dim": 384, "depth": sized(1, 6), "heads": 6}
    budget = {"epochs": 1, "batch": 4, "lr": 1e-4}
    settings = {"encoder": size, "decoder_dim": 128, "decoder_depth": 1, "decoder_heads": 4, "mask": mask}
    torch.manual_seed(0)
    return EcgMae(EcgMaeSettings.model_validate(settings | {"train": budget}), 200).train()


@pytest.mark.parametrize("mask", [0.0, 0.75], ids=["all_tokens", "masked_075"])
def test_mae_step(mask: float, measure: Measure) -> None:
    """The published saving of encoding visible tokens only; ``all_tokens`` hides one of 600."""
    model, batch = mae(mask or 1 / 600), sized(1, 4)
    rows = {"ecg": torch.rand(batch, 12, 5000), "beat": torch.rand(batch, 12, 200), "rr": torch.rand(batch, 3)}

    def run() -> None:
        ecg_mae_loss(model, rows, Draw(CPU, 1))["loss"].backward()
        model.zero_grad()

    measure(run, per=batch, unit="record", rounds=3)


@pytest.mark.parametrize("kind", ["fused", "plain"])
def test_attention(kind: str, measure: Measure) -> None:
    """Training step of a transformer over 600 tokens, with the fused kernel and with the textbook product."""
    model, x = Transformer(384, sized(1, 4), 6), torch.rand(sized(1, 4), 600, 384)

    def run() -> None:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION if kind == "fused" else SDPBackend.MATH):
            model(x).sum().backward()

    measure(run, per=len(x), unit="row", rounds=3)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "loop"])
def test_optimiser(fused: bool, measure: Measure) -> None:
    model = Transformer(384, sized(1, 6), 6)
    optimiser = make_optimiser(model, TrainSettings(epochs=1, batch=1, lr=1e-4, fused=fused))
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    measure(optimiser.step, unit="step")
