"""The figures that the study promises beside those of a run: what, how much, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd


@dataclass(frozen=True)
class Target:
    """A promise: words, unit, the bound and its side, and how it follows from the cases of a run."""

    what: str
    unit: str
    side: Literal["at most", "at least"]
    bound: float
    of: Callable[[pd.DataFrame], float]

    def row(self, cases: pd.DataFrame) -> dict[str, object]:
        """Its line of the table; ``reached`` is empty where the run lacks a case it needs."""
        try:
            found = self.of(cases)
        except KeyError:
            return {"what": self.what, "target": self._target(), "measured": float("nan"), "reached": ""}
        good = found <= self.bound if self.side == "at most" else found >= self.bound
        return {"what": self.what, "target": self._target(), "measured": found, "reached": "yes" if good else "no"}

    def _target(self) -> str:
        return f"{self.side} {self.bound:g} {self.unit}".strip()


def median(case: str, factor: float = 1.0) -> Callable[[pd.DataFrame], float]:
    """Milliseconds of a case, times ``factor``."""
    return lambda cases: factor * float(cases.at[case, "median_ms"])


def ratio(over: str, under: str) -> Callable[[pd.DataFrame], float]:
    """Time of one case over that of another in the same run."""
    return lambda cases: float(cases.at[over, "median_ms"]) / float(cases.at[under, "median_ms"])


def column(case: str, name: str, factor: float = 1.0) -> Callable[[pd.DataFrame], float]:
    """Another column of a case, times ``factor``."""
    return lambda cases: factor * float(cases.at[case, name])


NOTHING: Final = "with nothing to do, 5 cohorts"
TARGETS: Final = (
    Target(f"`dvc repro` {NOTHING}", "s", "at most", 3, median("nothing_to_do[5-dvc_repro]", 1e-3)),
    Target(f"`cardionets repro` {NOTHING}", "s", "at most", 3, median("nothing_to_do[5-cardionets_repro]", 1e-3)),
    Target("fixed cost of a stage", "s", "at most", 4, median("stage_overhead", 1e-3)),
    Target("a record from file to store", "ms", "at most", 6, median("whole_record[mimic]")),
    Target("one worker over two", "", "at least", 1.8, ratio("blocks_by_workers[1]", "blocks_by_workers[2]")),
    Target("a record of a store, at random", "µs", "at most", 50, median("random_read", 1e3)),
    Target(
        "step of 600 tokens over mask 0.75", "", "at least", 2.5, ratio("mae_step[all_tokens]", "mae_step[masked_075]")
    ),
    Target("loading in a step, demo", "%", "at most", 5, column("step_by_kind[demo-pretrain_ecg]", "loading", 100)),
    Target("loading in a step, paper", "%", "at most", 5, column("step_by_kind[paper-pretrain_ecg]", "loading", 100)),
    Target("published sampler over ours", "", "at least", 25, column("against_reference[1-8-6]", "times_reference")),
    Target("exported reader over eager, one", "", "at most", 1, ratio("reader[onnx-1]", "reader[eager-1]")),
    Target("exported reader over eager, 16", "", "at most", 1, ratio("reader[onnx-16]", "reader[eager-16]")),
    Target("exported reader over eager, 256", "", "at most", 1, ratio("reader[onnx-256]", "reader[eager-256]")),
)


HELD: Final = (  # of the stages of the study at hand
    Target(
        "largest process of a preparation", "MB", "at most", 500, lambda s: float(s.loc[["prepare"], "peak_mb"].max())
    ),
    Target("largest process of the study", "MB", "at most", 4000, lambda s: float(s["peak_mb"].max())),
)


def promised(cases: pd.DataFrame, stages: pd.DataFrame) -> pd.DataFrame:
    """What was promised and what this run found: what, target, measured, reached.

    Args:
        cases: of :func:`benchmarks.report.cases`.
        stages: of :func:`benchmarks.report.stages`; empty where the study has not run here.
    """
    rows = [target.row(cases.set_index("case")) for target in TARGETS]
    held = stages.set_index("stage") if len(stages) else pd.DataFrame()
    return pd.DataFrame([*rows, *(target.row(held) for target in HELD)])
