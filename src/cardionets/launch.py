"""Train a stage in processes that a launcher starts; the launcher is the machine's business, so the environment has it.

``CARDIONETS_LAUNCHER="torchrun --standalone --nproc_per_node=8" dvc repro pretrain_ecg`` trains on eight accelerators;
the text of the stage's ``cmd``, and so its hash, stays the same. Without the variable the stage trains in this process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from functools import wraps
from typing import Final

import pandas as pd

from cardionets import train
from cardionets.config import Study, StudyError

LAUNCHER: Final = "CARDIONETS_LAUNCHER"


def launchable(weights: str) -> Callable[[Callable[..., pd.DataFrame]], Callable[..., pd.DataFrame]]:
    """A training stage that writes ``weights/<weights>`` with its curve, run by the launcher where one is named.

    The launcher is followed by ``-m module stage``, as ``torchrun`` and ``srun python`` take it.
    """

    def wrap(stage: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
        @wraps(stage)
        def run(study: Study, force: bool = False) -> pd.DataFrame:
            launcher = shlex.split(os.environ.get(LAUNCHER, ""))
            if not launcher:
                return stage(study, force)
            if force:
                train.forget(study.path("logs", weights))
            _call([*launcher, "-m", stage.__module__, stage.__name__], study)
            return pd.read_csv(study.path("weights", weights, "log.csv"))

        return run

    return wrap


def _call(words: list[str], study: Study) -> None:
    """Run a command in the study's folder and show what it prints. Raises StudyError when it is absent or fails."""
    environment = {key: value for key, value in os.environ.items() if key != LAUNCHER}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            words, cwd=study.root, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise StudyError(f"environment: {LAUNCHER}: {words[0]!r} is no program here; correct or unset it.") from None
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
    if process.wait():
        raise StudyError(f"environment: {LAUNCHER}: {shlex.join(words)} ended with {process.returncode}; see above.")
