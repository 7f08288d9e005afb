"""The published collections as a writer sees them: it asks them first, so that nothing is written in vain."""

from __future__ import annotations

import logging

from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction import layout
from chromadb_compaction.deltas.drops import may_drop
from chromadb_compaction.deltas.fitting import Statement, check_fit
from chromadb_compaction.errors import CompactionError, ConfigurationError, CorruptDeltaError
from chromadb_compaction.ports import Bucket, ObjectStore
from chromadb_compaction.rows.shapes import StoredShape
from chromadb_compaction.settings import Settings
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

_FAULTS = (CompactionError, BotoCoreError, ClientError)

log = logging.getLogger(__name__)


class PublishedShapes(Bucket):
    """The shapes of the published collections. Each is read once, and again before anything is refused.

    Whatever cannot be read counts as unknown: MergeBatch judges every delta in any case.

    Args:
        settings: The settings.
        objects: The bucket.
        may_read: False reads nothing.
    """

    def __init__(self, settings: Settings, objects: ObjectStore, *, may_read: bool = True) -> None:
        self._settings = settings
        self._objects = objects
        self._may_read = may_read
        self._known: dict[str, StoredShape | None] = {}

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self._settings

    @property
    def objects(self) -> ObjectStore:
        """The bucket."""
        return self._objects

    def shape(self, collection: str) -> StoredShape | None:
        """Return the shape of a published collection. None if there is none, or if it is unknown."""
        if collection not in self._known:
            self._known[collection] = self._read(collection)
        return self._known[collection]

    def check(self, collection: str, statement: Statement) -> None:
        """Raise CorruptDeltaError if a delta contradicts the published collection, and no pending delta drops it."""
        owner = f"the published collection {collection}"
        shape = self.shape(collection)
        if shape is None:
            return
        try:
            check_fit(statement, shape, owner=owner)
        except CorruptDeltaError:
            self.forget(collection)
            if not self._is_dropped(collection):
                del self._known[collection]
            shape = self.shape(collection)
            if shape is not None:
                check_fit(statement, shape, owner=owner)

    def forget(self, collection: str) -> None:
        """Let the collection count as unknown from now on, because it is dropped."""
        self._known[collection] = None

    def _read(self, collection: str) -> StoredShape | None:
        if not self._may_read:
            return None
        try:
            published = read_pointer(self)
            collections = read_manifest(self, published.pointer).collections if published else {}
        except _FAULTS as error:
            self._may_read = not isinstance(error, ConfigurationError)
            log.info("the published snapshot cannot be read, so MergeBatch will check the deltas: %s", error)
            return None
        return StoredShape.published(collection, collections[collection]) if collection in collections else None

    def _is_dropped(self, collection: str) -> bool:
        """Return whether a pending delta may drop the collection. True if the pending deltas cannot be read."""
        prefix = self._settings.delta_prefix
        try:
            pending = self._objects.list(layout.collection_prefix(collection, prefix=prefix))
            return any(self._drops(each.key) for each in pending if may_drop(each.key, each.bytes))
        except _FAULTS as error:
            log.info("the pending deltas of %s cannot be read, so MergeBatch will check: %s", collection, error)
            return True

    def _drops(self, key: str) -> bool:
        # Not above: it loads pyarrow, whose memory a put needs for ChromaDB's index.
        from chromadb_compaction.deltas.formats import read_delta

        stored = self._objects.get(key)
        limit, prefix = self._settings.max_delta_bytes, self._settings.delta_prefix
        try:
            return read_delta(key, stored.body, now=stored.modified, max_bytes=limit, prefix=prefix).header.drop
        except CorruptDeltaError:
            return False
