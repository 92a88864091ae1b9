"""Speed and memory of the study: ``make benchmarks``, or ``python -m benchmarks --help``."""
