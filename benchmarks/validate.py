"""Seconds of every part of the validate stage of one cohort: `python benchmarks/validate.py [cohort] [papermill]`.

Reads `predictions/` and `store/` of a study that has run. With the word papermill it runs the stage itself, kernel
start, figures and page included.
"""

import sys
import time
from collections.abc import Callable

import pandas as pd

from cardionets import operating
from cardionets.config import Study
from cardionets.evaluate import metrics, multiplicity, recalibration, subgroups, utility
from cardionets.evaluate.cube import Cube
from cardionets.store import Store

ARM = "aligned"
cohort = sys.argv[1] if len(sys.argv) > 1 else "ukb"
study = Study()
records = Store.open(study.path("store", cohort), study.grid).records
predictions = pd.read_parquet(study.path("predictions", f"{cohort}.parquet"))


def seconds(name: str, compute: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    compute()
    print(f"{name:<32}{time.perf_counter() - wall:7.2f} s wall {time.process_time() - cpu:7.2f} s CPU", flush=True)


def evaluate() -> pd.DataFrame:
    chosen = operating.load(study)
    return metrics.evaluate(predictions, records, study, cohort=cohort, transferred=chosen, reference="covariates")


if "papermill" in sys.argv:
    from cardionets.run import run

    seconds(f"the stage validate@{cohort}", lambda: run("validate", cohort))
    sys.exit()
one = Cube.of_arm(predictions, records, ARM)
samples = study.protocol.statistics.bootstrap
print(f"{cohort}: {len(records):,} recordings, {len(predictions):,} predictions, {samples:,} bootstrap samples")
seconds("size of the sample", lambda: multiplicity.adequacy(records, study.protocol))
seconds("metrics, intervals, paired tests", evaluate)
seconds("recalibration", lambda: recalibration.before_and_after(one, study.protocol, cohort))
seconds("decision curves", lambda: utility.decision_curves(one, [ARM], study.protocol))
seconds("subgroups", lambda: subgroups.evaluate(predictions, records, study.protocol, ARM, cohort))
