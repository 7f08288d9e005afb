"""The transfer of a source's records into the deltas of one collection. It can be killed at any time and continued.

1. Open the journal of this put, or begin one (journal.py: why a crash loses nothing and writes nothing twice).
2. Check that every delta in the journal still exists: pending, merged or in quarantine. Complete or begin again a delta
   that was about to be written, as journal.py says.
3. Read the source from its start. Skip the records of these deltas, once their digest proves that they are the same.
4. Write the other records, and record every delta in the journal.
5. When all transfers of the command are done, the caller removes their journals.

The caller does steps 1 and 2 for all sources, then 3 and 4: so what can be checked is checked before the first write.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.cli.common.formatting import counted
from chromadb_compaction.cli.sources.journal import RESTART, Journal
from chromadb_compaction.cli.sources.newer_deltas import NewerDeltas, newer_deltas
from chromadb_compaction.cli.sources.records import Records, RecordSource
from chromadb_compaction.cli.sources.row_digests import RowDigests
from chromadb_compaction.cli.sources.shape import check_published, chosen_shape
from chromadb_compaction.client.published import PublishedShapes
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import Space
from chromadb_compaction.errors import CompactionError, ConfigurationError, InvalidRequestError
from chromadb_compaction.ports import Services

if TYPE_CHECKING:
    from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter


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
    `newer` are deltas of others that are newer than those of this put.
    """

    def __init__(self, source: RecordSource, services: Services, options: PutOptions) -> None:
        self.source = source
        self.records = 0
        self.newer: NewerDeltas | None = None
        self.warnings: list[str] = []
        self._services = services
        self._options = options
        self.shape = chosen_shape(source, space=options.space, embedding_function=options.embedding_function)
        open_journal = Journal.peek if options.dry_run else Journal.open
        self._journal = open_journal(options.journals, self._identity(), restart=options.restart)
        self.records_before = self._journal.rows
        self.deltas_before = len(self._journal.written)

    def check(self) -> None:
        """Do step 2, and compare the shape with the published collection. Warn of what is not stored.

        Raises InvalidRequestError if the deltas of an earlier run are gone, or if the shapes contradict each other.
        """
        published = PublishedShapes(self._services.settings, self._services.objects)
        self.warnings += check_published(self.source, self.shape, published)
        self._check_written_deltas()
        self.records_before = self._journal.rows
        self.deltas_before = len(self._journal.written)

    def run(self) -> Iterator[int]:
        """Write the records that earlier runs have not written. Yield the size of each piece after it is read.

        A collection of ChromaDB without records becomes one delta that creates it.

        Raises InvalidRequestError about a record that cannot be written.
        """
        writer = None
        for records, digests in self._unwritten():
            if records.ids:
                # Made late: it loads pyarrow, which must not share the memory with ChromaDB's index.
                writer = writer or self._writer()
                writer.expect(digests)
                self._write_records(writer, records)
            yield records.size
        if self.shape.stated is not None and writer is None and not self._journal.written:
            writer = self._writer()
            writer.create_collection(self.source.collection)
        if writer is not None:
            writer.flush()
            if not self._options.dry_run:
                self.newer = newer_deltas(self.deltas, self._services)

    @property
    def written(self) -> str | None:
        """The deltas in the bucket, as text for people. None if there are none."""
        deltas, unknown = len(self._journal.written), self._journal.intent
        if self._options.dry_run or not (deltas or unknown):
            return None
        stands = f"{counted(deltas, 'delta')} with {counted(self._journal.rows, 'record')}"
        return f"{self.source.collection} ({stands}{', and perhaps one more' if unknown else ''})"

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
        shape = f"{self.shape.space} {self.shape.embedding_function}"
        return (self.source.location, "into", bucket, self.source.collection, shape)

    def _check_written_deltas(self) -> None:
        """Do step 2. Raises InvalidRequestError if a delta no longer exists, or has other content than intended."""
        try:
            gone = in_threads(self._key_now, self.deltas).count(None)
            uncertain = self._key_now(key) if (key := self._uncertain_key()) else None
        except ConfigurationError:
            # The credentials may only write. Without an intent, the content of the next delta is unknown.
            if self._journal.has_intents:
                return
            gone, uncertain = 0, self._uncertain_key() if self.deltas else None
        if gone:
            raise InvalidRequestError(
                f"{counted(gone, 'delta')} that this put, begun on {self.started}, had written are not in the bucket"
                " (merged deltas are kept for some days), so it is unknown whether the collection has their records",
                next_step=RESTART,
            )
        if uncertain is not None:
            self._complete(uncertain)
        elif self.deltas:
            self._journal.confirm_absent()
        else:
            self._journal.begin()

    def _uncertain_key(self) -> str | None:
        """Return the key of the delta that an earlier run may have written without recording it."""
        if self._journal.has_intents:
            return self._journal.intent.key if self._journal.intent else None
        name = str(self._journal.name(len(self._journal.written)))
        return layout.delta_key(self.source.collection, name, prefix=self._services.settings.delta_prefix)

    def _complete(self, key: str) -> None:
        """Complete the intent of the delta that is in the bucket under `key`. Raises InvalidRequestError."""
        intent = self._journal.intent
        if intent is None or sha256(self._services.objects.get(key).body).hexdigest() != intent.sha256:
            raise InvalidRequestError(
                f"it is unknown which records {key} holds: this put, begun on {self.started}, was stopped while it was"
                " written, by an older version or by another program",
                next_step=RESTART,
            )
        self._journal.complete()

    def _key_now(self, key: str) -> str | None:
        """Return the key under which the delta is now, or None if it is gone."""
        prefix = self._services.settings.delta_prefix
        moved = (layout.compacted_key(key, prefix=prefix), layout.quarantine_key(key, prefix=prefix))
        return next((now for now in (key, *moved) if self._services.objects.head(now) is not None), None)

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
            next_step=RESTART,
        )

    def _writer(self) -> ResumableWriter:
        from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter

        return ResumableWriter(
            self._journal,
            self._services,
            space=self.shape.space,
            embedding_function=self.shape.embedding_function,
            stated=self.shape.stated,
            dimension=self.shape.dimension,
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
