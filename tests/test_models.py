"""Networks: shapes, visible tokens only, absolute voltage, presets of every size, and settings that contradict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from cardionets.beats import r_peaks, rr_features
from cardionets.config import StudyError, check
from cardionets.device import Draw
from cardionets.models import waves
from cardionets.models.align import Aligner, AlignSettings, align_loss
from cardionets.models.cmr_mae import CmrEncoder, CmrMae, CmrMaeSettings, augment_cine, cmr_mae_loss, info_nce
from cardionets.models.ecg_mae import EcgEncoder, EcgMae, EcgMaeSettings, augment, crops, ecg_mae_loss, masked_error
from cardionets.models.heads import Basis, Curves, HeadSettings, LinearHead, fit_ridge, left_out, mean_head
from cardionets.models.layers import hidden_tokens, keep_visible, put_tokens, sine_positions_2d, take_tokens
from cardionets.models.supervised import EcgNetwork, supervised_loss
from cardionets.models.waves import Measurements
from tests.toy_study import PRESET

PRESETS = sorted((Path(__file__).parent.parent / "presets").glob("*.yaml"))
ECG = EcgMaeSettings.model_validate(PRESET["ecg_mae"])
CMR = CmrMaeSettings.model_validate(PRESET["cmr_mae"])


def draw(seed: int = 0) -> Draw:
    return Draw(torch.device("cpu"), seed)


def ecg_batch(n: int = 6, samples: int = 500, beat: int = 40, leads: int = 12) -> dict[str, Tensor]:
    torch.manual_seed(1)
    signal = (300 * torch.randn(n, leads, samples)).to(torch.int16)
    rr = torch.rand(n, 3)
    rr[0, 2] = torch.nan
    return {"ecg": signal, "beat": (500 * torch.randn(n, leads, beat)).to(torch.int16), "rr": rr}


def test_the_encoder_sees_visible_tokens_only() -> None:
    model, batch, seen = EcgMae(ECG, 40), ecg_batch(), []
    model.encoder.trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    losses = ecg_mae_loss(model, batch, draw())
    tokens = round(0.4 * 45) + round(0.4 * 5)
    assert seen == [(6, tokens, 16)] and torch.isfinite(losses["loss"])
    cmr = CmrMae(CMR)
    cmr.encoders["sax"].trunk.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))  # type: ignore[operator, union-attr]
    cmr_mae_loss(cmr, cines(), draw())
    assert seen[-1] == (4, 8, 16)


def test_hidden_patches_do_not_reach_the_encoder() -> None:
    model, batch = EcgMae(ECG, 40), ecg_batch()
    signal = augment(batch["ecg"], 450, 0.0, draw())
    visible, hidden, _ = model.choose(len(signal), draw())
    first = take_tokens(model.encoder.tokens(model.encoder.patches(signal, batch["beat"])), visible)
    covered = signal.unflatten(2, (45, 10)) + 1000 * hidden[:, :45][:, None, :, None]
    second = take_tokens(model.encoder.tokens(model.encoder.patches(covered.flatten(2), batch["beat"])), visible)
    assert torch.equal(first, second) and hidden.sum() > 0


def test_tokens_go_back_to_their_places() -> None:
    noise = torch.tensor([[0.3, 0.1, 0.9, 0.2]])
    visible, hidden = keep_visible(noise, 2)
    assert visible.tolist() == [[1, 3]] and hidden.tolist() == [[1, 0, 1, 0]]
    full = put_tokens(torch.tensor([[[1.0], [2.0]]]), visible, torch.tensor([9.0]), 4)
    assert full.flatten().tolist() == [9, 1, 9, 2]
    assert len(torch.unique(sine_positions_2d(4, 4, 16), dim=0)) == 16


@pytest.mark.parametrize("leads", [1, 3, 12])
def test_patches_of_any_lead_group(leads: int) -> None:
    settings = ECG.encoder.model_copy(update={"patch_leads": leads, "measurements": False})
    encoder, batch = EcgEncoder(settings), ecg_batch()
    patches = encoder.patches(batch["ecg"][..., :450], batch["beat"])
    assert patches[0].shape == (6, 12 // leads * 45, leads * 10)
    torch.testing.assert_close(patches[0][0, 0], batch["ecg"][0, :leads, :10].flatten() / 500)
    assert encoder(batch["ecg"][..., :450], batch["beat"]).shape == (6, 32)


def test_absolute_voltage_reaches_the_embedding_unless_the_ablation_hides_it() -> None:
    batch = ecg_batch()
    for normalise, same in (("fixed", False), ("record", True)):
        encoder = EcgEncoder(ECG.encoder.model_copy(update={"normalise": normalise, "measurements": False})).eval()
        small, large = (encoder(k * batch["ecg"][..., :450], k * batch["beat"]) for k in (1, 2))
        assert torch.allclose(small, large, atol=1e-3) is same


def test_measurements_are_what_a_reader_would_measure() -> None:
    measure = Measurements(200)  # 250 Hz
    beat = torch.zeros(2, 12, 200)
    beat[:, :, 60:81] = 1000 * torch.hann_window(21, periodic=False)  # R at 0 s, 1 mV
    beat[1, :, 60:81] *= 2
    signal = torch.zeros(2, 12, 2250)
    signal[0, :, 100::200] = 1000.0  # every 0.8 s
    signal[1, :, torch.randint(0, 2250, (11,), generator=torch.Generator().manual_seed(1))] = 1000.0
    values = measure.measure(signal, beat)
    assert values.shape == (2, waves.COUNT)
    window = values[:, 3 * waves.PER_WINDOW : 4 * waves.PER_WINDOW]  # the whole QRS
    assert torch.allclose(window[:, 1], torch.tensor(0.06), atol=0.003), "centre, s after the start of the window"
    assert window[1, 3] - window[0, 3] == pytest.approx(np.log(2), abs=0.02), "twice the voltage, log 2 more"
    rhythm = values[:, -waves.LAG_STEPS - waves.RHYTHM_COUNT : -waves.RHYTHM_COUNT]
    lags = torch.linspace(*waves.LAGS_S, waves.LAG_STEPS)
    assert (
        min(abs(lags[rhythm[0].argmax()].item() - rr) for rr in (0.8, 1.6)) < 0.03
        and rhythm[0].max() > 0.6 > rhythm[1].max()
    )
    measure.set_statistics(signal, beat)
    assert measure(signal * 1000, beat * 1000).abs().max() == 5, "a strange device is cut at five standard deviations"


@pytest.mark.parametrize("rate, lead_uv", [(250, 800.0), (500, 800.0), (100, 150.0)])
def test_rhythm_is_measured_as_at_preparation(rate: int, lead_uv: float) -> None:
    rng = np.random.default_rng(4)
    time, signal, told = np.arange(10 * rate) / rate, [], []
    for mean, spread in ((1.4, 0.01), (0.8, 0.02), (0.42, 0.01), (0.7, 0.25)):
        places = 0.4 + np.cumsum(np.maximum(mean * (1 + spread * rng.standard_normal(40)), 0.35))
        beat = sum(np.exp(-0.5 * ((time - p) / 0.012) ** 2) - 0.3 * np.exp(-0.5 * ((time - p - 0.25) / 0.05) ** 2)
                   for p in places)  # fmt: skip
        leads = lead_uv * rng.choice([-1, 1], (12, 1)) * rng.uniform(0.3, 1.5, (12, 1)) * beat
        signal.append(leads + 10 * rng.standard_normal(leads.shape))
        told.append(list(rr_features(r_peaks(signal[-1], rate), rate).values()))
    batch = torch.tensor(np.stack(signal), dtype=torch.float32)
    found = Measurements(rate * 4 // 5).measure(batch, torch.zeros(4, 12, rate * 4 // 5))[:, -waves.RHYTHM_COUNT :]
    expected = torch.tensor(told)
    assert torch.allclose(found[:, 0], expected[:, 0].float(), atol=1.0), "per minute"
    assert torch.allclose(found[:, 1], expected[:, 1].float(), atol=0.02)
    assert torch.allclose(found[:, 2].expm1(), expected[:, 2].float(), atol=15.0), "ms"
    assert found[3, 1] > 3 * found[:3, 1].max()


def test_no_beat_is_no_rate_and_the_rhythm_head_begins_at_what_was_measured() -> None:
    silent = Measurements(200).measure(torch.zeros(1, 12, 2250), torch.zeros(1, 12, 200))
    assert silent.isfinite().all() and silent[0, -waves.RHYTHM_COUNT] == 0
    model = EcgMae(ECG, ECG.encoder.beat_samples).eval()
    batch = ecg_batch()
    signal, beat = batch["ecg"][..., : ECG.encoder.samples], batch["beat"]
    measured = model.encoder.measurements
    assert measured is not None
    measured.set_statistics(signal, beat)
    seen = model.encoder(signal, beat)
    assert torch.equal(model.rr_head(seen), measured(signal, beat)[:, -waves.RHYTHM_COUNT :])


def test_duration_of_the_p_wave_is_measured_about_its_own_peak() -> None:
    measure = Measurements(400)  # 500 Hz
    time = torch.arange(400) / 500 - 0.28

    def shape(peak: float, width: float, size: float) -> torch.Tensor:
        one = size * torch.exp(-0.5 * ((time - peak) / width).square()) + 900 * torch.exp(-0.5 * (time / 0.01).square())
        beat = one.expand(1, 12, 400)
        first = len(waves.WINDOWS_S) * waves.PER_WINDOW
        return measure.measure(torch.randn(1, 12, 4500), beat)[0, first : first + waves.P_COUNT]

    plain, later, wider, larger = (
        shape(*v) for v in ((-0.16, 0.02, 80), (-0.13, 0.02, 80), (-0.16, 0.03, 80), (-0.16, 0.02, 160))
    )
    durations = slice(2, 2 + len(waves.P_LEVELS))
    assert torch.allclose(later[durations], plain[durations], atol=0.004), "PR moves the wave and leaves it as wide"
    assert torch.allclose(larger[durations], plain[durations], atol=0.003), "a taller wave is not a longer one"
    assert later[1] - plain[1] == pytest.approx(0.03, abs=0.003) and larger[0] > plain[0] + 0.6
    half = plain[durations][waves.P_LEVELS.index(0.5)]
    assert half == pytest.approx(2.355 * 0.02, abs=0.004), "full width at half maximum of a Gaussian"
    assert torch.allclose(wider[durations][2:], 1.5 * plain[durations][2:], atol=0.004)


def test_the_mean_of_two_heads_predicts_their_mean() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal((1, 5), (1, 9), (50, 2)), rng.normal(size=(50, 3))
    heads = [fit_ridge(x[k:], y[k:], x, y, ("a", "b", "c"), HeadSettings()).head for k in (0, 20)]
    rows = torch.from_numpy(x.astype(np.float32))
    torch.testing.assert_close(mean_head(*heads)(rows), (heads[0](rows) + heads[1](rows)) / 2)


def test_curves_are_a_gaussian_kernel_and_a_stored_head_comes_back_whole() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(60, 8)) * 3 + 1).astype(np.float32)
    curves = Curves.of(x, 20_000, 0.5, 0)
    z = curves(torch.from_numpy(x)).numpy()
    squared = np.square(x[:, None] - x[None]).sum(-1) / x.var(0).sum()
    np.testing.assert_allclose(z @ z.T, np.exp(-0.5 * squared), atol=0.03)
    assert curves(torch.full((1, 8), torch.nan)).isnan().all(), "nothing seen, nothing said"
    y = np.sin(x[:, :1]) * np.cos(x[:, 1:2])
    small = Curves.of(x, 512, 0.5, 0)
    bent = small(torch.from_numpy(x)).numpy()
    straight, fit = (fit_ridge(part, y, part, y, ("a",), HeadSettings()).head for part in (x, bent))
    fit.curves = small
    rows = torch.from_numpy(x)
    left = [float((head(rows) - torch.from_numpy(y)).square().mean()) for head in (fit, straight)]
    assert left[0] < 0.2 * left[1]
    again = LinearHead.like(fit.state_dict(), logistic=False)
    again.load_state_dict(fit.state_dict())
    assert torch.equal(again(rows), fit(rows))


def test_crops_and_noise() -> None:
    signal = torch.arange(500.0).expand(5, 12, 500)
    cut = augment(signal, 450, 0.0, draw())
    assert cut.shape == (5, 12, 450) and (cut.diff() == 1).all() and len(cut[:, 0, 0].unique()) > 1
    assert [int(c[0, 0, 0]) for c in crops(signal, 450, 3)] == [0, 25, 50]
    assert int(crops(signal, 450, 1)[0][0, 0, 0]) == 25
    assert float((augment(signal, 500, 5.0, draw()) - signal).std()) == pytest.approx(5, rel=0.1)


def cines(n: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {view: torch.randint(0, 256, (n, 4, 16, 16), dtype=torch.uint8) for view in ("sax", "4ch")}


def test_cine_augmentation_moves_and_brightens() -> None:
    x = torch.arange(16, dtype=torch.uint8).expand(8, 4, 16, 16)
    moved = ((augment_cine(x, 16, 3, 0.0, draw()) + 1) * 127.5).round()
    middle = moved[:, 0, 8, 8] - 8
    assert middle.abs().max() <= 3 and len(middle.unique()) > 1
    corner = augment_cine(x, 8, 0, 0.0, draw())[0, 0, 0, 0]
    assert corner == pytest.approx(4 / 127.5 - 1), "a larger cine is cropped about its centre"
    bright = (augment_cine(torch.full((8, 4, 16, 16), 255, dtype=torch.uint8), 16, 0, 0.2, draw()) + 1) / 2
    assert 0.01 < (bright - 1).abs().max() <= 0.2 and bright.flatten(1).std(1).max() < 1e-6


def test_contrast_rewards_partners() -> None:
    z = torch.eye(5)
    loss, hits = info_nce(z, z, 0.1)
    worse, missed = info_nce(z, z.roll(1, 0), 0.1)
    assert hits == 1 and missed == 0 and loss < 0.01 < worse


def test_unknown_targets_do_not_count() -> None:
    target = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    predicted = torch.tensor([[3.0, 5.0], [7.0, 9.0]], requires_grad=True)
    error = masked_error(predicted, target)
    error.backward()
    assert error == 4 and predicted.grad is not None and predicted.grad.flatten()[1:].abs().sum() == 0
    assert masked_error(predicted, torch.full((2, 2), torch.nan)) == 0


def test_networks_answer_in_the_units_of_their_labels() -> None:
    batch, y = ecg_batch(), torch.tensor([[100.0, 5.0, torch.nan]]).repeat(6, 1)
    y[:, 0] += torch.arange(6)
    model = EcgNetwork(ECG.encoder, 3, "phenotypes")
    model.set_statistics({**batch, "y": y})
    out = model(batch["ecg"][..., :450], batch["beat"])
    assert torch.allclose(out[:, 0], torch.tensor(102.5)) and torch.allclose(out[:, 1], torch.tensor(5.0))
    assert out[:, 2].isnan().all(), "a phenotype nobody has is not guessed"
    assert torch.isfinite(supervised_loss(model, {**batch, "y": y}, draw())["loss"])
    sick = EcgNetwork(ECG.encoder, 1, "diseases")
    ill = torch.tensor([[1.0], [0.0], [0.0], [0.0], [torch.nan], [torch.nan]])
    sick.set_statistics({**batch, "y": ill})
    assert torch.allclose(sick(batch["ecg"][..., :450], batch["beat"]), torch.tensor(0.25))


def _blocks(path: Path) -> tuple[EcgMaeSettings, CmrMaeSettings, AlignSettings, int]:
    blocks = yaml.safe_load(path.read_text())
    ecg = check(EcgMaeSettings, blocks["ecg_mae"], path.name)
    cmr = check(CmrMaeSettings, blocks["cmr_mae"], path.name)
    return ecg, cmr, check(AlignSettings, blocks["align"], path.name), round(0.8 * blocks["grid"]["rate"])


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_can_be_built(path: Path) -> None:
    ecg, cmr, align, beat = _blocks(path)
    with torch.device("meta"):
        models: list[nn.Module] = [EcgMae(ecg, beat), CmrMae(cmr), Aligner(align, ecg.encoder, cmr.encoder.features)]
    sizes = [sum(p.numel() for p in m.parameters()) for m in models]
    encoder = sum(p.numel() for p in models[0].encoder.trunk.parameters())  # type: ignore[union-attr]
    assert min(sizes) > 0
    if path.stem == "paper":
        assert 300e6 < encoder < 305e6, "ViT-L"
    if path.stem == "paper_v3":
        assert 84e6 < encoder < 87e6, "ViT-B"


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_takes_a_step_at_a_fraction_of_its_width(path: Path) -> None:
    ecg, cmr, align, beat = _blocks(path)
    narrow = {"dim": 32, "depth": 1, "heads": 2}
    small = {"decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2}
    ecg = ecg.model_copy(update={"encoder": ecg.encoder.model_copy(update=narrow), **small})
    cmr = cmr.model_copy(update={"encoder": cmr.encoder.model_copy(update=narrow), **small})
    signals = ecg_batch(3, ecg.encoder.samples, beat)
    size, frames = cmr.encoder.size, cmr.encoder.frames
    movies = {v: torch.randint(0, 256, (3, frames, size, size), dtype=torch.uint8) for v in ("sax", "4ch")}
    seen = {v: torch.randn(3, cmr.encoder.features) for v in movies} | {"components": torch.randn(3, align.components)}
    _step(EcgMae(ecg, beat), ecg_mae_loss, signals)
    _step(CmrMae(cmr), cmr_mae_loss, movies)
    _step(Aligner(align, ecg.encoder, cmr.encoder.features), align_loss, {**signals, **seen})


def _step(model: nn.Module, loss: object, batch: dict[str, Tensor]) -> None:
    assert callable(loss)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = loss(model, batch, draw())["loss"]
    before.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad), "an unused weight stalls DDP"
    optimiser.step()
    assert loss(model, batch, draw())["loss"] < before


@pytest.mark.parametrize(
    ("block", "path", "value", "sentence"),
    [
        ("ecg_mae", ("encoder", "patch_leads"), 5, "patch_leads must divide 12"),
        ("ecg_mae", ("encoder", "heads"), 3, "dim must be even and a multiple of heads"),
        ("ecg_mae", ("encoder", "beat_patch"), 7, "beat_patch must divide beat_samples"),
        ("ecg_mae", ("mask",), 1.5, "mask"),
        ("cmr_mae", ("encoder", "patch"), 5, "patch must divide size"),
        ("cmr_mae", ("encoder", "kind"), "swin", "kind: unknown setting"),
    ],
)
def test_contradictions_are_refused(block: str, path: tuple[str, ...], value: object, sentence: str) -> None:
    values = yaml.safe_load(yaml.safe_dump(PRESET[block]))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(StudyError, match=sentence):
        check(EcgMaeSettings if block == "ecg_mae" else CmrMaeSettings, values, "presets/toy.yaml")


def test_the_closed_form_start_predicts_what_the_head_predicts() -> None:
    aligner = Aligner(AlignSettings.model_validate(PRESET["align"]), ECG.encoder, 22).eval()
    batch = ecg_batch(40)
    with torch.no_grad():
        x = aligner.encoder(batch["ecg"][..., :450], batch["beat"]).numpy()
    y = x[:, :12] * 2 + 1
    head = fit_ridge(x, y, x, y, tuple("abcdefghijkl"), HeadSettings(), Basis.of(x, (1,) * x.shape[1])).head
    aligner.start_from(head, torch.ones(12))
    out = aligner(batch["ecg"][..., :450], batch["beat"])
    torch.testing.assert_close(out, head(torch.from_numpy(x)), rtol=1e-3, atol=1e-3)
    network = EcgNetwork(ECG.encoder, 3, "phenotypes", AlignSettings.model_validate(PRESET["align"])).eval()
    network.set_statistics({**batch, "y": torch.randn(40, 3) * 7 + 50})
    top = fit_ridge(
        out.detach().numpy(), y[:, :3], out.detach().numpy(), y[:, :3], ("a", "b", "c"), HeadSettings()
    ).head
    network.start_from(aligner, top)
    torch.testing.assert_close(network(batch["ecg"][..., :450], batch["beat"]), top(out), rtol=1e-2, atol=1e-2)


def test_cmr_components_have_unit_spread() -> None:
    encoder = CmrEncoder(CMR.encoder)
    cine = torch.randint(0, 256, (50, 4, 16, 16), dtype=torch.uint8)
    encoder.learn_wide(cine)
    wide = encoder(cine)[:, CMR.encoder.dim :]
    torch.testing.assert_close(wide.std(0), torch.ones(6), rtol=0.05, atol=0.05)


def test_left_out_predictions_are_those_of_refitting_without_the_row() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    basis, penalty = Basis.of(x), np.array([0.1, 1.0])
    z = basis.transform(x)

    def ridge(rows: np.ndarray, alpha: float, target: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        part, centre = z[rows], z[rows].mean(0)
        gram = (part - centre).T @ (part - centre) + alpha * len(z) * np.eye(4)
        return (
            np.linalg.solve(gram, (part - centre).T @ (target[rows] - target[rows].mean())),
            target[rows].mean(),
            centre,
        )

    everyone = np.arange(30)
    whole, expected = np.empty_like(y), np.empty_like(y)
    for k, alpha in enumerate(penalty):
        w, mean, centre = ridge(everyone, alpha, y[:, k])
        whole[:, k] = (z - centre) @ w + mean
        for i in everyone:
            w, mean, centre = ridge(np.delete(everyone, i), alpha, y[:, k])
            expected[i, k] = (z[i] - centre) @ w + mean
    assert left_out(whole, y, basis, x, penalty) == pytest.approx(expected, abs=1e-9)


def test_hidden_tokens_are_all_that_are_not_visible() -> None:
    visible, mask = keep_visible(torch.rand(5, 24, generator=torch.Generator().manual_seed(1)), 9)
    hidden = hidden_tokens(mask, 9)
    assert hidden.shape == (5, 15) and (hidden.diff(dim=1) > 0).all()
    assert torch.equal(torch.cat([visible, hidden], 1).sort(1).values, torch.arange(24).expand(5, -1))
