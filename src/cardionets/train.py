"""One training loop for every network of the study.

One device, inside a notebook or a script::

    fit(model, data, loss, settings, name="ecg_mae", folder=Path("logs/ecg_mae"), seed=1, val=held_out)

Four GPUs of one machine, or two CPU processes (the same call, started by torchrun)::

    torchrun --standalone --nproc_per_node=4 -m cardionets.represent pretrain_ecg

AdamW, cosine schedule with warm-up, gradient clipping and accumulation, exponential moving average, early stopping on
validation data only. The random numbers of a step are a function of (seed, epoch, step), never of what ran before, so a
run killed at any moment resumes from its last checkpoint to the same bits as an unbroken one, and the number of
processes changes results by rounding only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cardionets import checkpoint
from cardionets.checkpoint import History as History
from cardionets.config import StudyError
from cardionets.device import (
    Draw,
    alone,
    autocast,
    mean_over_processes,
    pick_device,
    processes,
    rank,
    resolve,
    world,
)
from cardionets.files import atomic_path
from cardionets.progress import clock
from cardionets.schedule import SPEED, apply_speed, learning_rate, make_optimiser, share_out
from cardionets.schedule import TrainSettings as TrainSettings

Batch = dict[str, Tensor]
CHECKPOINT: Final = "checkpoint.safetensors"


class Data(Protocol):
    """Rows of training data on the host: ``take`` gathers rows (n,) into tensors whose first axis is n."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Tensors of these rows."""
        ...


Loss = Callable[[Any, Batch, Draw], dict[str, Tensor]]  # (model, batch, draw) -> {"loss": minimised, others: logged}


def fit(
    model: nn.Module,
    data: Data,
    loss: Loss,
    settings: TrainSettings,
    *,
    name: str,
    folder: Path,
    seed: int,
    val: Data | None = None,
    identity: str = "",
) -> History:
    """Train ``model`` in place and return its history; the model holds the best (by ``val``) or last weights.

    ``folder`` receives ``log.csv`` and ``checkpoint.safetensors``. A checkpoint of the same run (settings, seed,
    architecture, data ``identity``) is continued, any other is ignored. Remove it with :func:`forget` once the
    weights are safe. Raises StudyError when the loss is no longer finite or a batch cannot be shared out.
    """
    if len(data) == 0:
        raise StudyError(f"{name}: there is no training row; check the cohort's splits and quality flags.")
    with processes():
        return _Run(_Job(model, data, loss, settings, name, folder, seed, val, identity)).finish()


def forget(folder: Path) -> None:
    """Remove the checkpoint of a run whose weights have been written."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


class _Objective(nn.Module):
    """The loss as a module, so that gradients are shared between processes whichever methods it calls."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        return self.loss(self.model, batch, draw)


@dataclass(frozen=True)
class _Job:
    """What :func:`fit` was asked to do."""

    model: nn.Module
    data: Data
    loss: Loss
    settings: TrainSettings
    name: str
    folder: Path
    seed: int
    val: Data | None
    identity: str


class _Run:
    """State of one training run: weights, their average, the best so far, optimiser, history."""

    def __init__(self, job: _Job) -> None:
        self.job, self.model, self.settings = job, job.model, job.settings
        self.device = pick_device()
        self.precision = resolve(self.settings.precision, self.device)
        apply_speed(self.model, self.settings)
        self.alone = _Objective(self.model.to(self.device), job.loss)
        self.shared = DistributedDataParallel(self.alone) if world() > 1 else None
        self.weights = {k: v for k, v in self.model.state_dict().items() if v.is_floating_point()}
        self.average = {k: v.clone() for k, v in self.weights.items()}
        self.best = {k: v.clone() for k, v in self.weights.items()}
        self.optimiser = make_optimiser(self.model, self.settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.batch, self.steps = share_out(len(job.data), self.settings, job.name)
        self.history = History()
        self.first = 0
        self.started = self.told = self.saved = time.monotonic()

    def finish(self) -> History:
        """Resume, train to the last epoch or until validation stops improving, and load the kept weights."""
        self._resume()
        if not self.history.rows:
            self._record({"epoch": 0, "step": 0, "lr": 0.0}, {})  # the start may be the best there is
        for epoch in range(self.first, self.settings.epochs):
            if self._stale():
                break
            self._epoch(epoch)
        self._load(self.best if self.job.val is not None else self.average)
        self.model.eval()
        return self.history

    def _stale(self) -> bool:
        past = self.history.epoch - self.history.best_epoch
        return self.job.val is not None and 0 < self.settings.patience <= past

    def _epoch(self, epoch: int) -> None:
        begin, loading, lr = time.monotonic(), 0.0, 0.0
        totals: dict[str, Tensor] = {}
        self.model.train()
        for step, (pieces, waited) in enumerate(self._batches(epoch)):
            lr = learning_rate(self.settings, epoch * self.steps + step, self.steps)
            loading += waited
            _add(totals, self._step(pieces, lr, epoch, step), 1 / self.steps)
            self._tell(epoch, step, totals["loss"], lr)
        row = {k: float(mean_over_processes(v)) for k, v in totals.items()}
        seconds = time.monotonic() - begin
        clocks = {
            "samples_per_second": self.steps * self.batch / seconds,
            "loading": loading / seconds,
            "seconds": seconds,
        }
        self._record({"epoch": epoch + 1, "step": (epoch + 1) * self.steps, "lr": lr, **row}, clocks)

    def _batches(self, epoch: int) -> Iterator[tuple[list[Batch], float]]:
        """Pieces of each step and the seconds spent waiting for them; the next step loads in a thread meanwhile."""
        order = np.random.default_rng([self.job.seed, epoch]).permutation(len(self.job.data))[: self.steps * self.batch]
        mine = order.reshape(self.steps, self.settings.accumulate, world(), -1)[:, :, rank()]  # (step, piece, row)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(self._take, mine[0])
            for step in range(self.steps):
                begin = time.monotonic()
                pieces = waiting.result()
                waited = time.monotonic() - begin
                if step + 1 < self.steps:
                    waiting = thread.submit(self._take, mine[step + 1])
                yield [{k: v.to(self.device, non_blocking=True) for k, v in piece.items()} for piece in pieces], waited

    def _take(self, pieces: NDArray[np.int64]) -> list[Batch]:
        return [self.job.data.take(rows) for rows in pieces]

    def _step(self, pieces: list[Batch], lr: float, epoch: int, step: int) -> dict[str, Tensor]:
        """One optimisation step over all pieces; returns the mean of each logged value."""
        logged: dict[str, Tensor] = {}
        torch.manual_seed(_number(self.job.seed, epoch, step, rank()))  # for layers that draw by themselves
        for number, piece in enumerate(pieces):
            if self.shared is not None:
                self.shared.require_backward_grad_sync = number + 1 == len(pieces)
            with autocast(self.precision, self.device):
                losses = (self.shared or self.alone)(piece, Draw(self.device, self.job.seed, epoch, step, number))
            self._refuse_non_finite(losses, epoch, step, lr)
            self.scaler.scale(losses["loss"] / len(pieces)).backward()
            _add(logged, losses, 1 / len(pieces))
        self._update(lr, epoch * self.steps + step)
        return logged

    def _update(self, lr: float, step: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        if self.settings.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        decay = min(self.settings.ema, (1 + step) / (10 + step))  # a young average forgets fast
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)

    def _refuse_non_finite(self, losses: dict[str, Tensor], epoch: int, step: int, lr: float) -> None:
        if torch.isfinite(losses["loss"]):
            return
        parts = ", ".join(f"{k} {v.item():.3g}" for k, v in losses.items())
        raise StudyError(
            f"{self.job.name}: the loss is no longer finite at epoch {epoch + 1}, step {step + 1} ({parts}; learning "
            f"rate {lr:.2g}); lower train.lr, lengthen train.warmup or set train.precision to fp32 in the preset."
        )

    def _record(self, row: dict[str, float], clocks: dict[str, float]) -> None:
        self.history.epoch = int(row["epoch"])
        if self.job.val is not None:
            row |= {f"val_{k}": v for k, v in self._validate(self.job.val).items()}
            if row["val_loss"] < self.history.best_loss:
                self.history.best_loss, self.history.best_epoch = row["val_loss"], self.history.epoch
                self.best = {k: v.clone() for k, v in self.average.items()}
        self.history.rows.append(row | clocks)
        self._checkpoint()

    @torch.no_grad()
    def _validate(self, val: Data) -> dict[str, float]:
        """Mean losses of the averaged weights on validation rows, with the same random numbers every time."""
        kept = {k: v.clone() for k, v in self.weights.items()}
        self._load(self.average)
        self.model.eval()
        totals: dict[str, Tensor] = {}
        with alone():
            for number, rows in enumerate(np.split(np.arange(len(val)), range(self.batch, len(val), self.batch))):
                batch = {k: v.to(self.device) for k, v in val.take(rows).items()}
                with autocast(self.precision, self.device):
                    losses = self.alone(batch, Draw(self.device, self.job.seed, number))
                _add(totals, losses, len(rows) / len(val))
        self._load(kept)
        return {k: float(v) for k, v in totals.items()}

    def _load(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for key, value in self.weights.items():
                value.copy_(weights[key])

    def _tell(self, epoch: int, step: int, loss: Tensor, lr: float) -> None:
        now, total = time.monotonic(), self.settings.epochs * self.steps
        done = epoch * self.steps + step + 1
        if rank() or (now - self.told < 5 and done < total):
            return
        self.told = now
        speed = (done - self.first * self.steps) / (now - self.started)
        mean = float(loss) * self.steps / (step + 1)
        place = f"{self.job.name}: epoch {epoch + 1}/{self.settings.epochs}"
        pace = f"{speed * self.batch:,.0f} samples/s, {clock((total - done) / speed)} left"
        print(f"{place}, loss {mean:.4f}, lr {lr:.1e}, {pace}", flush=True)

    def _groups(self) -> checkpoint.Groups:
        return {"model": self.weights, "average": self.average, "best": self.best}

    def _key(self) -> str:
        """What must be equal for a checkpoint to be continued."""
        budget = self.settings.model_dump(mode="json", exclude=SPEED)
        shapes = {k: list(v.shape) for k, v in self.weights.items()}
        parts = [budget, self.job.seed, len(self.job.data), self.job.identity, shapes]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _checkpoint(self) -> None:
        if rank() == 0:
            with atomic_path(self.job.folder / "log.csv") as path:
                self.history.frame().to_csv(path, index=False, float_format="%.6g")
        last = self.history.epoch == self.settings.epochs or self._stale()
        if last or time.monotonic() - self.saved >= self.settings.checkpoint_seconds:
            self.saved = time.monotonic()
            history, scaler = json.dumps(asdict(self.history)), json.dumps(self.scaler.state_dict())
            notes = {"key": self._key(), "history": history, "scaler": scaler}
            if rank() == 0:
                checkpoint.write(self.job.folder / CHECKPOINT, self._groups(), self.optimiser, notes)

    def _resume(self) -> None:
        path = self.job.folder / CHECKPOINT
        tensors, notes = checkpoint.read(path)
        if notes.get("key") == self._key():
            checkpoint.restore(tensors, self._groups(), self.optimiser)
            self.history = History(**json.loads(notes["history"]))
            self.scaler.load_state_dict(json.loads(notes["scaler"]))
            self.first = self.history.epoch
            print(f"{self.job.name}: resumed after epoch {self.first}/{self.settings.epochs}", flush=True)
        elif path.is_file():
            print(f"{self.job.name}: {path.name} belongs to other settings or data; starting afresh.", flush=True)


def _number(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _add(totals: dict[str, Tensor], values: dict[str, Tensor], share: float) -> None:
    for key, value in values.items():
        part = value.detach().float() * share
        totals[key] = totals[key] + part if key in totals else part
