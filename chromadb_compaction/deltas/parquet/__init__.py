"""Deltas as Parquet: what its files may hold, and how large they are when they are unpacked."""
