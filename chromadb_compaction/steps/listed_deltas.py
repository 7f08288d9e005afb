"""Listed deltas: read a pending delta only while it is what the listing found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chromadb_compaction.deltas.formats import Delta, read_delta
from chromadb_compaction.errors import (
    CompactionError,
    CorruptDeltaError,
    DeltaFailedError,
    ObjectMissingError,
    UnreadableObjectError,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services, StoredObject
from chromadb_compaction.settings import Settings


@contextmanager
def attributed(key: str) -> Iterator[None]:
    """Raise DeltaFailedError in place of an unforeseen error, so that it names the delta that caused it."""
    try:
        yield
    except CompactionError:
        raise
    except Exception as error:
        raise DeltaFailedError(
            f"reading {key} failed: {type(error).__name__}: {error}",
            next_step="report this error; set the delta aside: chromadb-compaction deltas quarantine",
            key=key,
        ) from error


def try_fetch(listed: ObjectInfo, services: Services) -> StoredObject | UnreadableObjectError | None:
    """Return what `fetch_delta` does, or the error for an object that cannot be read."""
    try:
        return fetch_delta(listed, services)
    except UnreadableObjectError as error:
        return error


def fetch_delta(listed: ObjectInfo, services: Services) -> StoredObject | None:
    """Return the stored delta. None: it is too large to fetch, or was deleted or written again since the listing.

    Raises UnreadableObjectError.
    """
    if listed.bytes > services.settings.max_delta_bytes:
        return None
    try:
        stored = services.objects.get(listed.key)
    except ObjectMissingError:
        return None
    return stored if stored.etag == listed.etag else None


def parse_delta(listed: ObjectInfo, stored: StoredObject | None, settings: Settings) -> Delta | None:
    """Parse what `fetch_delta` returned. Return None if it was deleted or written again.

    Raises CorruptDeltaError, also for a delta larger than MAX_DELTA_BYTES, and DeltaFailedError for what is unforeseen.
    """
    limit = settings.max_delta_bytes
    if listed.bytes > limit:
        raise CorruptDeltaError(
            f"the file has {listed.bytes} bytes, more than {limit}", next_step="write smaller deltas (1-5 MB)"
        )
    if stored is None:
        return None
    with attributed(listed.key):
        return read_delta(listed.key, stored.body, now=stored.modified, max_bytes=limit, prefix=settings.delta_prefix)
