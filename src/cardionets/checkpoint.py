"""What a training run leaves behind: its history, and checkpoints as one safetensors file with JSON in its header."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cardionets.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

Groups = dict[str, dict[str, Tensor]]


@dataclass
class History:
    """What a run leaves behind: its learning curve, and which epoch was kept."""

    rows: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf

    def frame(self) -> pd.DataFrame:
        """One row per epoch, the start as epoch 0: epoch, step, lr, losses, val_ losses and the clock columns."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def kept(self) -> dict[str, float]:
        """The row of the epoch whose weights were kept."""
        return next((row for row in self.rows if row["epoch"] == self.best_epoch), {})

    def curve(self) -> pd.DataFrame:
        """The learning curve without its clock columns, so that equal runs write equal bytes."""
        return self.frame().drop(columns=["samples_per_second", "loading", "seconds"], errors="ignore")


def write(path: Path, groups: Groups, optimiser: torch.optim.Optimizer, notes: dict[str, str]) -> None:
    """Write named groups of tensors, the optimiser's moments and string ``notes`` to ``path``."""
    tensors = {f"{group}/{key}": value for group, items in groups.items() for key, value in items.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{key}": value for key, value in state.items()}
    with atomic_path(path, lasting=True) as aside:
        save_file({k: v.detach().cpu().clone() for k, v in tensors.items()}, aside, metadata=notes)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of a checkpoint; both empty when there is none or the file is not one."""
    try:
        with safe_open(path, framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata() or {}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return {}, {}


def restore(tensors: dict[str, Tensor], groups: Groups, optimiser: torch.optim.Optimizer) -> None:
    """Copy a checkpoint's tensors into ``groups`` and the optimiser, in place."""
    with torch.no_grad():
        for group, items in groups.items():
            for key, value in items.items():
                value.copy_(tensors[f"{group}/{key}"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
