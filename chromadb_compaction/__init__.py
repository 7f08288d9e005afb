"""Compaction of ChromaDB collections kept on S3: deltas in, verified snapshots out."""
