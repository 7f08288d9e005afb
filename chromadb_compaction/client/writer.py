"""Writing deltas from any Python program."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

import uuid_utils
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from chromadb_compaction.aws import clients
from chromadb_compaction.deltas.columns import DeltaColumns
from chromadb_compaction.deltas.formats import DeltaHeader, write_delta
from chromadb_compaction.deltas.records import check_cosine_lengths
from chromadb_compaction.deltas.row_buffer import RowBuffer, deletes_of, upserts_of
from chromadb_compaction.errors import CompactionError, CorruptDeltaError, InvalidRequestError
from chromadb_compaction.layout import check_collection_name, delta_key
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import DeltaNotification, DeltaQueue, ObjectStore
from chromadb_compaction.settings import Settings, load_settings

MEBIBYTE = 1024 * 1024
TARGET_BYTES = 7 * MEBIBYTE // 2
"""Where a file is cut: within the 1-5 MB that suit S3, a batch of 100 and a Lambda's memory."""

MOST_BYTES = 19 * MEBIBYTE // 4
"""Rows up to this stay together, so that of more than one file none is below 1 MB, even the last."""

log = logging.getLogger(__name__)


class _Outgoing(NamedTuple):
    key: str
    body: bytes
    rows: int


class DeltaWriter:
    """Buffers rows per collection and writes them as delta files.

    >>> with DeltaWriter() as writer:
    ...     writer.upsert("docs", ["a", "b"], embeddings, documents=["first", "second"])
    ...     writer.delete("docs", ["c"])

    Every row is checked when it is given, so an InvalidRequestError names the row of that very call and
    nothing of the call is buffered. A file is written as soon as a collection has nearly 5 MB of rows, and what
    is left at the end of the `with` block, or by `flush`. Files of one writer are ordered as its calls were: of
    two rows with one id, the later call wins. Across writers the later *written* file wins.

    If the block ends by an exception, what is still buffered is dropped: files already written stay. Use one
    writer per thread.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of its own, given by name
        self,
        settings: Settings | None = None,
        *,
        bucket: str | None = None,
        queue_url: str | None = None,
        space: Space | None = None,
        embedding_function: str | None = None,
        producer: str | None = None,
        dimension: int | None = None,
        early: bool = True,
        objects: ObjectStore | None = None,
        queue: DeltaQueue | None = None,
    ) -> None:
        """Take the bucket and queue from the arguments, else from `settings`, else from the environment.

        `space` and `embedding_function` shape a collection when its first delta is merged, and `producer` is a
        name for people. Every embedding must have `dimension`, if given; without it the first embedding decides
        here, and what does not fit the published collection is quarantined when it is merged. `early` False
        writes nothing before `flush`, for whoever wants all of several calls or nothing. Without a queue no bell
        is rung: the next scheduled compaction finds the deltas.
        """
        self._settings = _settings(settings, bucket, queue_url)
        self._header = _header(space, embedding_function, producer)
        if objects is None:
            services = clients.connect(self._settings)
            objects = services.objects
            queue = queue or (services.queue if self._settings.delta_queue_url else None)
        self._objects = objects
        self._queue = queue
        self._dimension = dimension
        self._early = early
        self._buffers: dict[str, RowBuffer] = {}
        self._outbox: list[_Outgoing] = []
        self._unannounced: list[DeltaNotification] = []
        self._last_id = UUID(int=0)
        self.written: list[str] = []
        """The keys of all deltas written so far, oldest first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()

    def upsert(
        self,
        collection: str,
        ids: Sequence[str],
        embeddings: Any,  # noqa: ANN401 - whatever numpy makes a matrix of
        documents: Sequence[str | None] | None = None,
        metadatas: Sequence[dict[str, Any] | None] | None = None,
    ) -> None:
        """Insert or replace whole records: a document or metadata key that is not given is gone afterwards.

        `embeddings` is a numpy array of shape (rows, dimension), or a list of lists of numbers.
        """
        self._add(collection, lambda: upserts_of(ids, embeddings, documents, metadatas))

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete records. Ids that do not exist are remembered as deleted, so that older upserts stay out."""
        self._add(collection, lambda: deletes_of(ids))

    def flush(self) -> list[str]:
        """Write everything buffered and return the keys of this flush's files.

        If it raises TransientStorageError, call it again: the same files are then written under the same names.
        """
        before = len(self.written)
        for collection, buffer in self._buffers.items():
            self._enclose(collection, buffer.cut(TARGET_BYTES, MOST_BYTES, everything=True))
        self._send()
        return self.written[before:]

    def _add(self, collection: str, check: Callable[[], DeltaColumns]) -> None:
        try:
            check_collection_name(collection)
            rows = check()
            if self._header.space == "cosine":
                check_cosine_lengths(rows.vectors, rows.ids)
            buffer = self._buffers.setdefault(collection, RowBuffer(self._dimension))
            buffer.extend(rows)
        except CorruptDeltaError as error:
            raise InvalidRequestError(f"{error}; nothing of this call was taken") from error
        if self._early:
            self._enclose(collection, buffer.cut(TARGET_BYTES, MOST_BYTES, everything=False))
            self._send()

    def _enclose(self, collection: str, pieces: list[DeltaColumns]) -> None:
        """Put one file for each piece into the outbox."""
        for rows in pieces:
            key = delta_key(collection, str(self._next_id()), prefix=self._settings.delta_prefix)
            self._outbox.append(_Outgoing(key, write_delta(rows, self._header), len(rows.ids)))

    def _next_id(self) -> UUID:
        """Return a fresh UUIDv7, later than the last even if the clock has been set back."""
        self._last_id = max(UUID(int=uuid_utils.uuid7().int), UUID(int=self._last_id.int + 1))
        return self._last_id

    def _send(self) -> None:
        """Store what waits in the outbox, oldest first, then ring the bell for what is safe."""
        try:
            while self._outbox:
                key, body, rows = self._outbox[0]
                self._objects.put(key, body)
                self._outbox.pop(0)
                self.written.append(key)
                self._stored(DeltaNotification(key, rows, len(body)))
        finally:
            self._announce()

    def _stored(self, notice: DeltaNotification) -> None:
        """Take note of a file that is safe in the bucket from now on."""
        self._unannounced.append(notice)

    def _announce(self) -> None:
        notices, self._unannounced = self._unannounced, []
        if self._queue is None or not notices:
            return
        try:
            self._queue.notify(notices)
        except (CompactionError, BotoCoreError, ClientError) as error:
            message = f"{len(notices)} deltas are safe in S3, but the queue was not told: {error}"
            log.warning(message)
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def _settings(settings: Settings | None, bucket: str | None, queue_url: str | None) -> Settings:
    given = {"chromadb_bucket": bucket, "delta_queue_url": queue_url}
    chosen = {name: value for name, value in given.items() if value is not None}
    if settings is not None:
        return settings.model_copy(update=chosen)
    return load_settings({**os.environ, **{name.upper(): value for name, value in chosen.items()}})


def _header(space: Space | None, embedding_function: str | None, producer: str | None) -> DeltaHeader:
    try:
        return DeltaHeader(space=space, embedding_function=embedding_function, producer=producer)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequestError(f"{first['loc'][0]}: {first['msg']}") from error
