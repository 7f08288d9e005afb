"""In-memory stand-ins that pass the same contracts as the real adapters."""
