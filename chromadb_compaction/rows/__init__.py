"""Rows and their versions: runs, merging, the ledger and fingerprints."""
