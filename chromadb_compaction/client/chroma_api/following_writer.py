"""A writer that is told which versions its caller has read."""

from __future__ import annotations

import time
from uuid import UUID

from chromadb_compaction.client.clock import id_to_follow
from chromadb_compaction.client.writer import DeltaWriter


class FollowingWriter(DeltaWriter):
    """A DeltaWriter whose deltas can be made newer than those that its caller has read, whatever the clocks say."""

    def follow(self, version: str | None) -> None:
        """Make later deltas newer than this version, even if the clock of its writer is up to five seconds ahead."""
        if version is not None:
            self._last_id = id_to_follow(self._last_id, UUID(version), time.time())
