"""`DeltaWriter`: write deltas from any Python program."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from chromadb_compaction.aws import clients
from chromadb_compaction.client.clock import clock_warning, following_id
from chromadb_compaction.client.embedding import Embed, embedded, embedder_of, with_function
from chromadb_compaction.client.notifying import notify_or_warn, warn
from chromadb_compaction.client.published import PublishedShapes
from chromadb_compaction.client.row_buffer import RowBuffer, deletes_of, upserts_of
from chromadb_compaction.client.statements import as_invalid_request, header_of, stated_collection
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.columns import DeltaColumns, check_row_bytes
from chromadb_compaction.deltas.fitting import Statement
from chromadb_compaction.deltas.formats import write_delta, write_drop
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.layout import check_collection_name, delta_key
from chromadb_compaction.ports import DeltaNotification, DeltaQueue, ObjectStore
from chromadb_compaction.settings import MEBIBYTE, Settings, settings_with

TARGET_BYTES = 7 * MEBIBYTE // 2
"""The size of a file: within the 1-5 MB that suit S3, a batch of 100 and a Lambda's memory."""

MOST_BYTES = 19 * MEBIBYTE // 4
"""Up to this size rows are not split, so that of several files none is below 1 MB, not even the last."""


class DeltaWriter:
    """Buffers rows per collection, writes them as delta files, and notifies the queue.

    >>> with DeltaWriter(bucket="chromadb-vectors-prod-123456789012", space="cosine") as writer:
    ...     writer.upsert("docs", ["a", "b"], embeddings, documents=["first", "second"])
    ...     writer.delete("docs", ["c"])

    A file is written as soon as a collection has nearly 5 MB of rows. The rest is written by `flush`, or by `close` at
    the end of the `with` block. If the block ends with an exception, the rest is dropped; written files stay.

    Files of one writer are ordered like its calls: of two rows with one id, the later call wins. Across writers, the
    file that is written later wins, by the clocks of the machines. A clock that differs from S3's by more than a minute
    is warned of, once. Use one writer per thread.

    Args:
        settings: The settings. None: those of the environment (CHROMADB_BUCKET, DELTA_QUEUE_URL, ...).
        bucket: The bucket. None: that of the settings.
        queue_url: The queue to notify. None: that of the settings. Without any, nothing is notified, and the next
            scheduled compaction finds the deltas.
        space: The distance of a new collection: l2 (the default), cosine or ip.
        embedding_function: The embedding function of a new collection: a name that ChromaDB knows, `wordllama`, or an
            EmbeddingFunction of ChromaDB. It embeds documents that are upserted without embeddings. The distance does
            not follow from it.
        configuration: The configuration of every collection that this writer writes, as ChromaDB's
            `Collection.configuration_json` gives it, or a part of it. It names the distance and the embedding function
            too, so give those here or above.
        metadata: The metadata of every collection that this writer writes, which replaces an older one. {}: none.
        producer: The name of this program. Each delta carries it, for people.
        dimension: The length that every embedding must have. None: that of the collection's first embedding here.
        check_published: Refuse rows and settings that do not fit the published collection. It is read once per
            collection, if the credentials allow it. Otherwise such deltas go to quarantine when they are merged.
        early: False writes nothing before `flush`, for callers that need all of several calls or nothing.
        objects: The store to use. None: a new S3 client.
        queue: The queue to use. None: a new SQS client, or no queue if `objects` is given.

    Raises:
        ConfigurationError: A setting is missing or invalid.
        InvalidRequestError: `space`, `embedding_function`, `configuration` or `metadata` is invalid.
    """

    def __init__(  # noqa: PLR0913 - each is a separate fact, passed by name
        self,
        settings: Settings | None = None,
        *,
        bucket: str | None = None,
        queue_url: str | None = None,
        space: Space | None = None,
        embedding_function: str | Embed | None = None,
        configuration: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        producer: str | None = None,
        dimension: int | None = None,
        check_published: bool = True,
        early: bool = True,
        objects: ObjectStore | None = None,
        queue: DeltaQueue | None = None,
    ) -> None:
        chosen = {"chromadb_bucket": bucket, "delta_queue_url": queue_url}
        self._settings = settings_with(settings, {name: value for name, value in chosen.items() if value is not None})
        self._header = header_of(
            space=space,
            embedding_function=embedding_function if isinstance(embedding_function, str) else None,
            producer=producer,
            collection=stated_collection(with_function(configuration, embedding_function), metadata),
        )
        self._embedder = embedder_of(configuration, embedding_function)
        if objects is None:
            services = clients.connect(self._settings)
            objects = services.objects
            queue = queue or (services.queue if self._settings.delta_queue_url else None)
        self._objects = objects
        self._published = PublishedShapes(self._settings, objects, may_read=check_published)
        self._queue = queue
        self._dimension = dimension
        self._early = early
        self._buffers: dict[str, RowBuffer] = {}
        self._outbox: list[tuple[DeltaNotification, bytes]] = []
        self._not_notified: list[DeltaNotification] = []
        self._last_id = UUID(int=0)
        self._clock_is_wrong = False
        self._closed = False
        self.written: list[str] = []
        """The keys of all deltas written so far, oldest first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._closed = True

    def upsert(
        self,
        collection: str,
        ids: Sequence[str],
        embeddings: Any = None,  # noqa: ANN401 - anything that numpy can make a matrix of
        documents: Sequence[str | None] | None = None,
        metadatas: Sequence[dict[str, Any] | None] | None = None,
        *,
        uris: Sequence[str | None] | None = None,
    ) -> None:
        """Insert or replace whole records. A document, metadata key or URI that is not given is removed.

        Args:
            collection: The name of the collection.
            ids: The ids of the records.
            embeddings: A numpy array of shape (rows, dimension), or a list of lists of numbers. None: the writer's
                embedding function embeds the documents, one for each id.
            documents: One text or None for each id. None: no documents.
            metadatas: One dictionary or None for each id. None: no metadata.
            uris: One URI or None for each id, such as that of an image. None: no URIs.

        Raises:
            InvalidRequestError: A row is invalid, or does not fit the published collection. Nothing is buffered. Or the
                writer is closed.
            EmbeddingFunctionError: The embedding function cannot run here. Nothing is buffered.
            TransientStorageError: A file could not be written. It stays buffered: call `flush`.
        """
        self._check_open()
        vectors = embedded(documents, self._embedder) if embeddings is None else embeddings
        self._add(collection, lambda: upserts_of(ids, vectors, documents, metadatas, uris))

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete records. An id that does not exist is remembered as deleted, so that an older upsert stays out.

        Raises the same errors as `upsert`.
        """
        self._add(collection, lambda: deletes_of(ids))

    def create_collection(
        self, name: str, *, configuration: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Create a collection without records, or change the settings of one that exists.

        It takes a file of its own, after the rows of earlier calls.

        Args:
            name: The name of the collection.
            configuration: As ChromaDB's `Collection.configuration_json` gives it, or a part of it. None: the writer's.
            metadata: The metadata, which replaces an older one. {}: none. None: the writer's.

        Raises:
            InvalidRequestError: An argument is invalid, or contradicts the published collection. Nothing is written.
            TransientStorageError: A file could not be written. It stays buffered: call `flush`.
        """
        own = self._header.collection
        stated = {
            "configuration": own.configuration if own and configuration is None else configuration,
            "metadata": own.metadata if own and metadata is None else metadata,
        }
        self._add_statement(name, header_of(**{**dict(self._header), "collection": stated}))

    def drop_collection(self, name: str) -> None:
        """Delete a collection with everything written to it before, here or elsewhere. Older rows stay out for good.

        Raises the same errors as `create_collection`. Later calls may make the collection again, with another shape.
        """
        try:
            self._add_statement(name, header_of(producer=self._header.producer, drop=True))
        finally:
            self._buffers.pop(name, None)
            self._published.forget(name)

    def flush(self) -> list[str]:
        """Write everything that is buffered, and return the keys of the files.

        If it raises TransientStorageError, call it again: it then writes the same files under the same keys.
        """
        self._check_open()
        before = len(self.written)
        for collection, buffer in self._buffers.items():
            self._encode(collection, buffer.cut(TARGET_BYTES, MOST_BYTES, everything=True))
        self._send()
        return self.written[before:]

    def close(self) -> None:
        """Write everything that is buffered, and refuse any further call. A writer may be closed twice.

        If it raises TransientStorageError, the writer stays open: call it again.
        """
        if not self._closed:
            self.flush()
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidRequestError("this DeltaWriter is closed", next_step="make another one")

    def _add(self, collection: str, check: Callable[[], DeltaColumns]) -> None:
        self._check_open()
        with as_invalid_request():
            check_collection_name(collection)
            rows = check()
            check_row_bytes(rows)
            self._published.check(collection, Statement(self._header, rows.dimension))
            buffer = self._buffers.setdefault(collection, RowBuffer(self._dimension))
            buffer.extend(rows)
        if self._early:
            self._encode(collection, buffer.cut(TARGET_BYTES, MOST_BYTES, everything=False))
            self._send()

    def _add_statement(self, collection: str, header: DeltaHeader) -> None:
        """Add a file without rows to the outbox, after the rows that are buffered."""
        self._check_open()
        with as_invalid_request():
            check_collection_name(collection)
            self._published.check(collection, Statement(header, None))
        if collection in self._buffers:
            self._encode(collection, self._buffers[collection].cut(TARGET_BYTES, MOST_BYTES, everything=True))
        if header.drop:
            self._enqueue(collection, *write_drop(header), rows=0)
        else:
            self._enqueue(collection, write_delta(deletes_of([]), header), rows=0)
        if self._early:
            self._send()

    def _encode(self, collection: str, pieces: list[DeltaColumns]) -> None:
        """Add one file for each piece to the outbox."""
        for rows in pieces:
            self._enqueue(collection, write_delta(rows, self._header), rows=len(rows.ids))

    def _enqueue(self, collection: str, body: bytes, suffix: str = ".parquet", *, rows: int) -> None:
        key = delta_key(collection, str(self._next_id()), suffix, prefix=self._settings.delta_prefix)
        self._outbox.append((DeltaNotification(key, rows, len(body)), body))

    def _next_id(self) -> UUID:
        """Return the name of the next delta, and warn if the clock was set back."""
        following, message = following_id(self._last_id, time.time())
        if message is not None:
            warn(message, stacklevel=6)
        self._last_id = following
        return following

    def _send(self) -> None:
        """Write the files of the outbox, oldest first, then notify the queue of those in the bucket."""
        try:
            while self._outbox:
                notification, body = self._outbox[0]
                self._put(notification.key, body)
                self._outbox.pop(0)
                self.written.append(notification.key)
                self._after_write(notification)
                self._check_clock()
        finally:
            self._notify()

    def _put(self, key: str, body: bytes) -> None:
        self._objects.put(key, body)

    def _after_write(self, notification: DeltaNotification) -> None:
        """Record a file that is now in the bucket."""
        self._not_notified.append(notification)

    def _check_clock(self) -> None:
        """Warn once if this machine's clock is wrong."""
        message = None if self._clock_is_wrong else clock_warning(self._objects.seconds_ahead())
        if message is not None:
            self._clock_is_wrong = True
            warn(message, stacklevel=5)

    def _notify(self) -> None:
        notifications, self._not_notified = self._not_notified, []
        notify_or_warn(self._queue, notifications, stacklevel=4)
