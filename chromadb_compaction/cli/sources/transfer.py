"""The transfer of a source's records into the deltas of one collection. It can be killed at any time and continued.

1. Open the journal of this put, or begin one (journal.py: why a crash loses nothing and writes nothing twice).
2. Check that every delta in the journal still exists: pending, merged or in quarantine. If nothing was written, not
   even a delta without a line, begin the journal again: the put then has the time of this run.
3. Read the source from its start. Skip the records of these deltas, once their digest proves that they are the same.
4. Write the other records, and record every delta in the journal.
5. When all transfers of the command are done, the caller removes their journals.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.cli.common.formatting import counted
from chromadb_compaction.cli.sources.journal import Journal, RowDigests
from chromadb_compaction.cli.sources.records import Records, RecordSource
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import (
    CompactionError,
    ConfigurationError,
    InvalidRequestError,
    NewerFormatError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

if TYPE_CHECKING:
    from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter

_RESTART = "put everything again, as written now, with --restart"


class PutOptions(NamedTuple):
    """The options of a put, for all its sources.

    Args:
        journals: The directory of the journals.
        space: The distance of a new collection. None: that of the source.
        embedding_function: The function that embeds documents, also noted for a new collection. None: the source's is.
        restart: Begin again, even if there is a journal.
        dry_run: Read and check everything, but write nothing.
    """

    journals: Path
    space: Space | None = None
    embedding_function: str | None = None
    restart: bool = False
    dry_run: bool = False


class Transfer:
    """One source on its way into its collection. A shape that `options` lacks comes from the source.

    `records` counts what this run has written, `records_before` and `deltas_before` what earlier runs wrote.
    """

    def __init__(self, source: RecordSource, services: Services, options: PutOptions) -> None:
        self.source = source
        self.records = 0
        self._services = services
        self._options = options
        self._space = options.space or source.space
        self._embedding_function = options.embedding_function or source.embedding_function
        open_journal = Journal.peek if options.dry_run else Journal.open
        self._journal = open_journal(options.journals, self._identity(), restart=options.restart)
        self.records_before = self._journal.rows
        self.deltas_before = len(self._journal.written)

    def run(self) -> Iterator[int]:
        """Write the records that earlier runs have not written. Yield the size of each piece after it is read.

        Raises InvalidRequestError, with the number of deltas that stay written.
        """
        try:
            self._check_written_deltas()
            yield from self._write()
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{error.message}; {self._progress()}", next_step=error.next_step) from error

    @property
    def deltas(self) -> list[str]:
        """The keys of all deltas that hold the records. The first `deltas_before` are of earlier runs."""
        return [line.key for line in self._journal.written]

    @property
    def started(self) -> str:
        """The time at which the put began, for people."""
        return datetime.fromtimestamp(self._journal.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def discard_journal(self) -> None:
        """Remove the journal. The next put of the same begins at its start."""
        self._journal.remove()

    def close(self) -> None:
        """Close the journal. The next put of the same continues."""
        self._journal.close()

    def _identity(self) -> tuple[str, ...]:
        """Return the words that identify this put. They name its journal."""
        settings = self._services.settings
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        bucket = f"{endpoint} {settings.chromadb_bucket} {settings.delta_prefix}"
        shape = f"{self._space} {self._embedding_function}"
        return (self.source.location, "into", bucket, self.source.collection, shape)

    def _check_written_deltas(self) -> None:
        """Do step 2. Raises InvalidRequestError if a delta no longer exists."""
        prefix = self._services.settings.delta_prefix
        first = layout.delta_key(self.source.collection, str(self._journal.name(0)), prefix=prefix)
        try:
            gone = in_threads(self._exists, self.deltas or [first]).count(False)
        except ConfigurationError:
            return  # the credentials may only write deltas
        if gone and not self.deltas:
            self._journal.begin()
        elif gone:
            raise InvalidRequestError(
                f"{counted(gone, 'delta')} that this put, begun on {self.started}, had written are not in the bucket"
                " (merged deltas are kept for some days), so it is unknown whether the collection has their records",
                next_step=_RESTART,
            )

    def _exists(self, key: str) -> bool:
        prefix = self._services.settings.delta_prefix
        moved = (layout.compacted_key(key, prefix=prefix), layout.quarantine_key(key, prefix=prefix))
        return any(self._services.objects.head(possible) is not None for possible in (key, *moved))

    def _write(self) -> Iterator[int]:
        writer = None
        for records, digests in self._unwritten():
            if records.ids:
                # Made late: it loads pyarrow, which must not share the memory with ChromaDB's index.
                writer = writer or self._writer()
                writer.expect(digests)
                self._write_records(writer, records)
            yield records.size
        if writer is not None:
            writer.flush()

    def _unwritten(self) -> Iterator[tuple[Records, list[str]]]:
        """Do step 3: yield the records that are not written yet, with their digests."""
        running = RowDigests()
        left = self.records_before
        for records in self.source.read():
            digests = running.after(records)
            skipped = min(left, len(digests))
            left -= skipped
            if skipped and left == 0 and digests[skipped - 1] != self._journal.digest:
                raise self._source_changed()
            yield records.part(skipped), digests[skipped:]
        if left:
            raise self._source_changed()

    def _source_changed(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"{self.source.name} has changed since this put was stopped: its first"
            f" {counted(self.records_before, 'record')}, put on {self.started}, are no longer the same",
            next_step=_RESTART,
        )

    def _writer(self) -> ResumableWriter:
        from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter

        return ResumableWriter(
            self._journal,
            self._services,
            space=self._space,
            embedding_function=self._embedding_function,
            dimension=_published_dimension(self._services, self.source.collection),
            dry_run=self._options.dry_run,
        )

    def _write_records(self, writer: ResumableWriter, records: Records) -> None:
        collection = self.source.collection
        for part in _parts_of_one_kind(records):
            embeddings = None if part.deleted[0] else _embeddings(part, self._options.embedding_function)
            try:
                if part.deleted[0]:
                    writer.delete(collection, part.ids)
                else:
                    writer.upsert(collection, part.ids, embeddings, part.documents, part.metadatas, uris=part.uris)
            except InvalidRequestError as error:
                raise self._about_record(error) from error
            self.records += len(part.ids)

    def _about_record(self, error: InvalidRequestError) -> InvalidRequestError:
        """Return the writer's reason about this source. The row of the writer's call becomes the record's number."""
        reason = error.__cause__ if isinstance(error.__cause__, CompactionError) else error
        before = self.records_before + self.records
        message = re.sub(r"^row (\d+)", lambda row: f"record {before + int(row[1]) + 1:,}", reason.message)
        return InvalidRequestError(f"{self.source.name}: {message}", next_step=reason.next_step)

    def _progress(self) -> str:
        if self._options.dry_run or not self._journal.written:
            return "nothing was written"
        return f"{counted(len(self._journal.written), 'delta')} of the records before stay written"


def _published_dimension(services: Services, collection: str) -> int | None:
    """Return the dimension of the published collection, to reject other vectors before they are written."""
    try:
        published = read_pointer(services)
        collections = read_manifest(services, published.pointer).collections if published else {}
    except (ConfigurationError, NewerFormatError, SnapshotCorruptError):
        return None  # the credentials may only write deltas; MergeBatch checks in any case
    return collections[collection].dimension if collection in collections else None


def _parts_of_one_kind(records: Records) -> Iterator[Records]:
    """Yield the records in order, in parts of only upserts or only deletes."""
    start = 0
    for end in range(1, len(records.ids) + 1):
        if end == len(records.ids) or records.deleted[end] != records.deleted[start]:
            yield records.part(start, end)
            start = end


def _embeddings(records: Records, function: str | None) -> object:
    """Return the records' embeddings. Missing ones are made of the documents."""
    missing = [index for index, embedding in enumerate(records.embeddings) if embedding is None]
    if not missing:
        return records.embeddings
    empty = next((records.ids[index] for index in missing if records.documents[index] is None), None)
    if empty is not None:
        raise InvalidRequestError(f"the record {empty!r} has neither an embedding nor a document")
    if function is None:
        raise InvalidRequestError(
            f"the record {records.ids[missing[0]]!r} has no embedding",
            next_step="name a function that embeds its document: --embedding-function wordllama",
        )
    from chromadb_compaction.chroma.embedding import embed

    made = embed([str(records.documents[index]) for index in missing], function)
    if len(missing) == len(records.ids):
        return made
    embeddings = list(records.embeddings)
    for index, vector in zip(missing, made, strict=True):
        embeddings[index] = vector.tolist()
    return embeddings
