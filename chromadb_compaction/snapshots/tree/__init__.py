"""The objects below a manifest: the descriptions of its collections, and the shards that name these."""
