"""Adapters: the one place where each foreign service or library is spoken to."""
