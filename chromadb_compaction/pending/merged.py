"""The deltas that snapshots have merged, as far as a reader needs them: those of the last few snapshots."""

from __future__ import annotations

import logging
from typing import Final

from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.pending.known import Identity
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.delta_lists import read_list

SNAPSHOTS: Final = 4
"""The most snapshots between the one that is open and the published one. Their lists are kept."""

log = logging.getLogger(__name__)


class MergedDeltas:
    """The lists of the last few snapshots, each read once. One thread at a time may use it."""

    def __init__(self) -> None:
        self._lists: dict[str, frozenset[Identity] | None] = {}
        self._parents: dict[str, str | None] = {}

    def by(self, snapshot_id: str, services: Services) -> frozenset[Identity] | None:
        """Return the deltas that the pass of this snapshot merged. None if their list is damaged."""
        if snapshot_id not in self._lists:
            self._lists = dict(list(self._lists.items())[1 - SNAPSHOTS :])
            self._lists[snapshot_id] = _read(snapshot_id, services)
        return self._lists[snapshot_id]

    def remember(self, manifest: Manifest) -> None:
        """Remember the parent of a published snapshot."""
        if manifest.snapshot_id not in self._parents:
            self._parents = dict([*self._parents.items(), (manifest.snapshot_id, manifest.parent)][-SNAPSHOTS:])

    def since(self, older: str, newer: str, services: Services) -> frozenset[Identity] | None:
        """Return the deltas that were merged after the snapshot `older`, up to `newer`.

        None if it is not known that one was made from the other, by few snapshots, all of which were remembered.
        """
        found: frozenset[Identity] = frozenset()
        snapshot_id: str | None = newer
        for _ in range(SNAPSHOTS):
            merged = self.by(snapshot_id, services) if snapshot_id else None
            if snapshot_id is None or merged is None:
                return None
            found |= merged
            snapshot_id = self._parents.get(snapshot_id)
            if snapshot_id == older:
                return found
        return None


def _read(snapshot_id: str, services: Services) -> frozenset[Identity] | None:
    try:
        outcomes = read_list(services, snapshot_id)
    except SnapshotCorruptError as error:
        log.warning("the deltas that wait for their clean-up count in the bounds: %s", error)
        return None
    return frozenset((each.key, each.etag) for each in outcomes if each.status == "merged")
