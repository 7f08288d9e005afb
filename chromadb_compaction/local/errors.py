"""Errors of the local stack itself, not of the system that runs in it."""

from __future__ import annotations

from chromadb_compaction.errors import CompactionError


class LocalStackError(CompactionError):
    """The local stack cannot start, stop or take a deployment."""


class LocalStackNotRunningError(LocalStackError):
    """No server runs in this directory. Start one with `chromadb-compaction local up --detach`."""
