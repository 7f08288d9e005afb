"""What `scripts/benchmark` measures: one job on the local stack, and two references of its own beside it."""
