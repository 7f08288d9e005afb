"""The demo: it makes the documentation of Python's standard library searchable."""
