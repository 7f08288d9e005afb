"""The workflow's tasks and the functions beside it (query, produce, start), one module each."""
