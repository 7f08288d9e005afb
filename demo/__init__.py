"""The demonstration: the documentation of Python's standard library, made searchable."""
