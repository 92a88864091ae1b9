"""Statistics as pure functions on arrays and frames: discrimination, regression, calibration, pooling, readers."""
