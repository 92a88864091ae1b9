"""82 phenotypes x 1,000 person-cluster bootstraps of r and R2: `python benchmarks/bootstrap.py [people]`."""

import sys
import time

import numpy as np

from cardionets.evaluate.regression import Moments

people = int(sys.argv[1]) if len(sys.argv) > 1 else 4248
rng = np.random.default_rng(0)
truth = rng.normal(size=(people, 82))
predicted = 0.5 * truth + rng.normal(size=truth.shape)

start = time.perf_counter()
moments = Moments.of(truth, predicted, np.arange(people))
replicates = moments.bootstrap(1000, seed=0)
matrix = time.perf_counter() - start

start = time.perf_counter()
for _ in range(10):  # the plain loop, a hundredth of it
    rows = rng.integers(people, size=people)
    for j in range(82):
        np.corrcoef(truth[rows, j], predicted[rows, j])
loop = 100 * (time.perf_counter() - start)

print(f"people: {people}; replicates of r: {replicates['r'].shape}")
print(f"matrix: {matrix:.2f} s; a plain loop would take {loop:.0f} s: {loop / matrix:.0f} times as long")
