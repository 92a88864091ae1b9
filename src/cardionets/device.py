"""Where tensors are computed: one device per process, one process or as many as ``torchrun`` starts.

This is the only module that names a device; everything else asks :func:`pick_device`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor

from cardionets.config import StudyError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device() -> torch.device:
    """The device of this process: ``CARDIONETS_DEVICE`` if set, else this rank's GPU, else the CPU."""
    wanted = os.environ.get("CARDIONETS_DEVICE")
    if wanted:
        try:
            return torch.device(wanted)
        except RuntimeError:
            raise StudyError(
                f"environment: CARDIONETS_DEVICE: {wanted!r} is no device; use cpu, or unset it."
            ) from None
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def processes() -> Iterator[None]:
    """Join the other processes when ``torchrun`` started several; do nothing otherwise. May be nested."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group()  # gloo for host tensors, the accelerator's own library for device tensors
    try:
        yield
    finally:
        dist.destroy_process_group()


_alone: list[bool] = []


@contextmanager
def alone() -> Iterator[None]:
    """Within this block the process acts as if it were the only one: validation is the same in all of them."""
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Number of this process, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of ``values`` over all processes, in every process."""
    if world() > 1:
        dist.all_reduce(values)
        values /= world()
    return values


def gather_rows(x: Tensor) -> Tensor:
    """Rows of all processes, (n, ...) -> (world * n, ...), with gradients: contrast sees the whole batch."""
    return torch.cat(list(dist_nn.all_gather(x)), dim=0) if world() > 1 else x  # type: ignore[no-untyped-call]


def resolve(precision: Precision, device: torch.device) -> Precision:
    """``auto`` becomes bf16 on accelerators that have it and fp32 elsewhere (autocast is slower on CPUs)."""
    if precision != "auto":
        return precision
    on_gpu = device.type != "cpu" and torch.cuda.is_available()
    return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for one forward pass; a null context for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


class Draw:
    """Random numbers of one step, for this process's rows of the batch.

    The whole batch is drawn in every process and each keeps its part, so that a row meets the same numbers
    for any number of processes.
    """

    def __init__(self, device: torch.device, *key: int) -> None:
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        self.device = device
        self._generator = torch.Generator(device).manual_seed(int(state >> np.uint64(1)))

    def number(self) -> float:
        """One number uniform on [0, 1), the same in every process."""
        return float(torch.rand(1, device=self.device, generator=self._generator))

    def uniform(self, n: int, *shape: int) -> Tensor:
        """(n, *shape) uniform on [0, 1)."""
        return self._mine(torch.rand(n * world(), *shape, device=self.device, generator=self._generator))

    def normal(self, n: int, *shape: int) -> Tensor:
        """(n, *shape) standard normal."""
        return self._mine(torch.randn(n * world(), *shape, device=self.device, generator=self._generator))

    def integers(self, low: int, high: int, n: int, *shape: int) -> Tensor:
        """(n, *shape) integers of [low, high)."""
        size = (n * world(), *shape)
        return self._mine(torch.randint(low, high, size, device=self.device, generator=self._generator))

    @staticmethod
    def _mine(x: Tensor) -> Tensor:
        return x.chunk(world())[rank()]
