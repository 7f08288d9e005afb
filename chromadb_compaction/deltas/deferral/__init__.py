"""Deferral: which collections a pass merges now, and which wait for more deltas."""
