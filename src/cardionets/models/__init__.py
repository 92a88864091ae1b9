"""Networks, one per file, each with its settings beside it."""
