"""In-memory fakes that pass the same contracts as the real adapters."""
