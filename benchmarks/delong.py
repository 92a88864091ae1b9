"""Fast DeLong: AUC, interval and paired test: `python benchmarks/delong.py [records]`."""

import sys
import time

import numpy as np

from cardionets.evaluate.discrimination import auc, auc_difference, delong

records = int(sys.argv[1]) if len(sys.argv) > 1 else 165_000
rng = np.random.default_rng(0)
labels = rng.random(records) < 0.05
scores = rng.normal(size=(2, records)) + labels
persons = rng.integers(0, records // 2, records)


def seconds(compute: object) -> float:
    start = time.perf_counter()
    compute()  # type: ignore[operator]
    return time.perf_counter() - start


print(f"records: {records}")
print(f"one AUC with interval: {seconds(lambda: auc(labels, scores[0])):.3f} s")
print(f"paired test of two:    {seconds(lambda: auc_difference(*delong(labels, scores), 0, 1)):.3f} s")
print(f"clustered by person:   {seconds(lambda: auc(labels, scores[0], persons=persons)):.3f} s")
