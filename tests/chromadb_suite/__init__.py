"""ChromaDB's own tests, run against `chromadb-compaction serve`."""
