"""Completion of names in the shell. It takes a second at most, and is silent when it fails."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chromadb_compaction.settings import Settings

DEADLINE_SECONDS = 1.0


def complete_collection(incomplete: str) -> list[str]:
    """Return the published collections that begin with what was typed."""
    from chromadb_compaction.aws.names import collection_names

    return _beginning_with(incomplete, collection_names)


def complete_snapshot(incomplete: str) -> list[str]:
    """Return the ids of snapshots that begin with what was typed, and `latest`."""
    from chromadb_compaction.aws.names import snapshot_ids

    return _beginning_with(incomplete, lambda settings: [*snapshot_ids(settings), "latest"])


def _beginning_with(incomplete: str, read: Callable[[Settings], list[str]]) -> list[str]:
    """Return the names that `read` returns before the deadline, as far as they begin with `incomplete`."""
    names: list[str] = []

    def read_names() -> None:
        from chromadb_compaction.settings import load_settings

        try:
            names.extend(read(load_settings()))
        except Exception:  # noqa: BLE001 - the shell would print the error amid what is being typed
            return

    # The thread is left behind when it is late: looking for credentials has no timeout of its own.
    reader = Thread(target=read_names, daemon=True)
    reader.start()
    reader.join(DEADLINE_SECONDS)
    return [name for name in [*names] if name.startswith(incomplete)]
