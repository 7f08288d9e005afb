"""Listed deltas: read a pending delta only while it is what the listing found."""

from __future__ import annotations

from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.errors import CorruptDeltaError, ObjectMissingError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services, StoredObject
from chromadb_compaction.settings import Settings


def fetch_delta(listed: ObjectInfo, services: Services) -> StoredObject | None:
    """Return the stored delta. None: it is too large to fetch, or was deleted or written again since the listing."""
    if listed.bytes > services.settings.max_delta_bytes:
        return None
    try:
        stored = services.objects.get(listed.key)
    except ObjectMissingError:
        return None
    return stored if stored.etag == listed.etag else None


def parse_delta(listed: ObjectInfo, stored: StoredObject | None, settings: Settings) -> Delta | None:
    """Parse what `fetch_delta` returned. Return None if it was deleted or written again.

    Raises CorruptDeltaError, also for a delta larger than MAX_DELTA_BYTES.
    """
    limit = settings.max_delta_bytes
    if listed.bytes > limit:
        raise CorruptDeltaError(
            f"the file has {listed.bytes} bytes, more than {limit}", next_step="write smaller deltas (1-5 MB)"
        )
    if stored is None:
        return None
    return read_delta(listed.key, stored.body, now=stored.modified, max_bytes=limit, prefix=settings.delta_prefix)
