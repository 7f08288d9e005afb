"""The rows of a closed ChromaDB directory, read from its files and proven by its ledger."""
