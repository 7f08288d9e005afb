"""Everything that knows ChromaDB's files, tables and API."""
