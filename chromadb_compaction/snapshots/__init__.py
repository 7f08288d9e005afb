"""Published snapshots: pointer, catalogue, lineage, files, local cache, pruning, reader."""
