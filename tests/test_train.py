"""The training loop: resume after a kill, equal reruns, one process or two, early stopping, clear failures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from cardionets.config import StudyError
from cardionets.models.layers import Transformer
from cardionets.schedule import apply_speed
from cardionets.train import CHECKPOINT, Draw, TrainSettings, fit, forget

SETTINGS = TrainSettings(epochs=4, batch=16, lr=1e-2, ema=0.9, checkpoint_seconds=0)


class Rows:
    """A noisy linear problem."""

    def __init__(self, n: int = 50, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(n, 3)).astype(np.float32)
        self.y = self.x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
        self.tripwire = -1

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        if self.tripwire == 0:
            raise KeyboardInterrupt
        self.tripwire -= 1
        return {"x": torch.from_numpy(self.x[rows]), "y": torch.from_numpy(self.y[rows])}


def loss(model: nn.Module, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    noise = draw.normal(len(batch["x"]), 3) * 0.1
    error = (model(batch["x"] + noise) - batch["y"]).square().mean()
    return {"loss": error, "rmse": error.sqrt()}


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.GELU(), nn.Linear(8, 1))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(folder: Path, data: Rows | None = None, settings: TrainSettings = SETTINGS) -> nn.Module:
    model = network()
    fit(model, Rows() if data is None else data, loss, settings, name="toy", folder=folder, seed=3, val=Rows(20, 1))
    return model


def test_it_learns_and_reruns_are_bit_equal(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 30})
    first, second = run(tmp_path / "a", settings=settings), run(tmp_path / "b", settings=settings)
    curve = pd.read_csv(tmp_path / "a" / "log.csv")
    assert curve["val_loss"].iloc[-1] < 0.2 * curve["val_loss"].iloc[0]
    assert torch.equal(weights(first), weights(second))


def test_it_says_where_it_is_and_writes_it_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"toy: epoch 4/4, loss [\d.]+, lr \d\.\de-\d\d, [\d,]+ samples/s, 0:00 left", said), said
    log = pd.read_csv(tmp_path / "log.csv")
    assert {"epoch", "lr", "loss", "val_loss", "samples_per_second", "loading", "seconds"} <= set(log)
    assert log["loading"].dropna().between(0, 1).all()


def test_half_precision_learns_the_same_function(tmp_path: Path) -> None:
    halves = [SETTINGS.model_copy(update={"epochs": 30, "precision": name}) for name in ("fp32", "bf16")]
    curves = []
    for number, settings in enumerate(halves):
        run(tmp_path / str(number), settings=settings)
        curves.append(pd.read_csv(tmp_path / str(number) / "log.csv")["val_loss"])
    assert curves[1].iloc[-1] == pytest.approx(curves[0].iloc[-1], rel=0.3) and not curves[0].equals(curves[1])


def test_interrupted_at_any_step_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for step in (0, 4, 9):
        data = Rows()
        data.tripwire = step
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"cut{step}", data)
        again = run(tmp_path / f"cut{step}")
        assert torch.equal(weights(whole), weights(again))
    assert load_file(tmp_path / "whole" / CHECKPOINT)["model/0.weight"].shape == (8, 3)


def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_train as t
        data = t.Rows()
        take = data.take
        def deadly(rows):
            if len(calls) == 8: os.kill(os.getpid(), signal.SIGKILL)
            calls.append(1)
            return take(rows)
        calls = []
        data.take = deadly
        t.run(t.Path({str(tmp_path / "cut")!r}), data)
    """)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    assert torch.equal(weights(run(tmp_path / "whole")), weights(run(tmp_path / "cut")))


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "a")
    other = SETTINGS.model_copy(update={"lr": 5e-3})
    again = run(tmp_path / "a", settings=other)
    assert "starting afresh" in capsys.readouterr().out
    assert torch.equal(weights(again), weights(run(tmp_path / "b", settings=other)))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / CHECKPOINT).write_bytes(b"torn")
    assert torch.equal(weights(again), weights(run(tmp_path / "c", settings=other)))
    forget(tmp_path / "c")
    assert not (tmp_path / "c" / CHECKPOINT).exists()


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import torch
        torch.set_num_threads(1)
        import test_train as t
        def loss(model, batch, draw):
            from cardionets.device import gather_rows
            out = t.loss(model, batch, draw)
            z = gather_rows(model(batch["x"]))
            return {{"loss": out["loss"] + 0.1 * z.std()}}
        model = t.network()
        model[1].p = 0.0
        settings = t.SETTINGS.model_copy(update={{"accumulate": 2}})
        t.fit(model, t.Rows(), loss, settings, name="toy", folder=t.Path(sys.argv[1]), seed=3, val=t.Rows(20, 1))
    """)
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(script), str(tmp_path / "two")], check=True, env=environment, capture_output=True)
    subprocess.run([sys.executable, str(script), str(tmp_path / "one")], check=True, env=environment)
    one, two = load_file(tmp_path / "one" / CHECKPOINT), load_file(tmp_path / "two" / CHECKPOINT)
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5, msg=key)
    one_log, two_log = (pd.read_csv(tmp_path / k / "log.csv")["val_loss"] for k in ("one", "two"))
    np.testing.assert_allclose(one_log, two_log, rtol=1e-3)


def test_it_stops_early_and_keeps_the_best_validated_weights(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 40, "patience": 2, "ema": 0.0})
    opposite = Rows(20, 1)
    opposite.y *= -1
    model = network()
    history = fit(model, Rows(), loss, settings, name="toy", folder=tmp_path, seed=3, val=opposite)
    assert history.epoch == history.best_epoch + 2 < 40 and history.kept()["val_loss"] == history.best_loss
    assert torch.equal(weights(model), torch.cat([v.flatten() for k, v in _best(tmp_path)]))
    assert history.frame()["val_loss"].min() == history.best_loss


def _best(folder: Path) -> list[tuple[str, Tensor]]:
    tensors = load_file(folder / CHECKPOINT)
    return [(k, tensors[f"best/{k}"]) for k in ("0.weight", "0.bias", "3.weight", "3.bias")]


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    bad = Rows()
    bad.y[:] = np.inf
    with pytest.raises(StudyError, match=r"toy: the loss is no longer finite at epoch 1, step 1 .*train\.lr"):
        run(tmp_path, bad)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="choose a multiple of 3"):
        run(tmp_path, settings=SETTINGS.model_copy(update={"accumulate": 3}))
    with pytest.raises(StudyError, match="no training row"):
        run(tmp_path, Rows(0))


def test_accumulated_pieces_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    def plain(model: nn.Module, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"loss": (model(batch["x"]) - batch["y"]).square().mean()}

    models = []
    for pieces in (1, 4):
        model = network().eval()
        model[1].p = 0.0  # type: ignore[index]
        settings = SETTINGS.model_copy(update={"accumulate": pieces})
        fit(model, Rows(), plain, settings, name="toy", folder=tmp_path / str(pieces), seed=3)
        models.append(weights(model))
    torch.testing.assert_close(models[0], models[1], rtol=1e-4, atol=1e-6)


class _Attending(nn.Module):
    """A transformer on three tokens of one number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.trunk, self.out = nn.Linear(1, 16), Transformer(16, 3, 2), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.trunk(self.embed(x[..., None])).mean(1))


def attending(folder: Path, **speed: object) -> _Attending:
    model, settings = _Attending(), SETTINGS.model_copy(update={"epochs": 2, **speed})
    fit(model, Rows(), loss, settings, name="toy", folder=folder, seed=3)
    return model


def test_recomputing_leaves_the_numbers_alone(tmp_path: Path) -> None:
    plain, changed = attending(tmp_path / "plain"), attending(tmp_path / "changed", recompute=True)
    torch.testing.assert_close(weights(plain), weights(changed), rtol=1e-4, atol=1e-6)
    assert changed.trunk.recompute


def test_the_fused_optimiser_learns_the_same_function(tmp_path: Path) -> None:
    plain, changed = attending(tmp_path / "plain"), attending(tmp_path / "changed", fused=False)
    x = torch.linspace(-2, 2, 12).reshape(4, 3)  # keys' biases have no gradient, so Adam moves them by rounding alone
    with torch.no_grad():
        torch.testing.assert_close(plain(x), changed(x), rtol=1e-3, atol=1e-3)


def test_recomputing_keeps_fewer_activations() -> None:
    def kept(recompute: bool) -> int:
        model, sizes = _Attending().train(), []
        model.trunk.recompute = recompute
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model(torch.randn(64, 3))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


def test_compile_is_asked_of_every_block_and_renames_no_weight() -> None:
    model, names = _Attending(), set(_Attending().state_dict())
    apply_speed(model, SETTINGS.model_copy(update={"compile": True}))
    assert all(block._compiled_call_impl is not None for block in model.trunk.blocks)
    assert set(model.state_dict()) == names


def test_saved_curves_carry_no_clock(tmp_path: Path) -> None:
    history = fit(network(), Rows(), loss, SETTINGS, name="toy", folder=tmp_path, seed=3)
    curve = history.curve()
    assert list(curve.columns) == ["epoch", "step", "lr", "loss", "rmse"]
    assert curve["lr"].iloc[2:].is_monotonic_decreasing and len(curve) == SETTINGS.epochs + 1
