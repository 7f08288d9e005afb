"""The benchmark: `scripts/benchmark` measures folds, and one job on the local stack, beside two reference loaders."""
