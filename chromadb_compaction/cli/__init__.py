"""The command line `chromadb-compaction`: one module per command."""
