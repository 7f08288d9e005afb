"""The errors that a command reports in one line, instead of ending with a traceback."""

from __future__ import annotations

import sys

from chromadb_compaction.errors import CompactionError


def reported_errors() -> tuple[type[Exception], ...]:
    """Return the classes for an `except`. They include AWS's once its library is imported."""
    # Nothing raises them before, and importing them takes a quarter of a second, for which --help should not wait.
    if "botocore.exceptions" not in sys.modules:
        return (CompactionError,)
    from botocore.exceptions import BotoCoreError, ClientError

    return (CompactionError, ClientError, BotoCoreError)
