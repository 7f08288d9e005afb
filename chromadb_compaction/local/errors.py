"""What goes wrong with a local stack itself, as against the system that runs in it."""

from __future__ import annotations

from chromadb_compaction.errors import CompactionError


class LocalStackError(CompactionError):
    """The local stack cannot start, stop or be deployed into. The message says what to type."""


class LocalStackNotRunningError(LocalStackError):
    """No server runs on this directory. Start one with `chromadb-compaction local up --detach`."""
