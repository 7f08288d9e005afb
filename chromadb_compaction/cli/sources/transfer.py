"""Records on their way from a source into the deltas of one collection: resumable, and a piece at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.cli.common.formatting import counted
from chromadb_compaction.cli.sources.files import Rows, Source
from chromadb_compaction.cli.sources.journal import Journal, RowDigests
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ConfigurationError, InvalidRequestError, SnapshotCorruptError
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer

if TYPE_CHECKING:
    from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter


class How(NamedTuple):
    """What was asked for of all sources alike. `journals` is where to keep journals."""

    journals: Path
    space: Space | None = None
    embedding_function: str | None = None
    restart: bool = False
    dry_run: bool = False


class Transfer:
    """A source whose records go to its collection, through one writer."""

    def __init__(self, source: Source, services: Services, how: How) -> None:
        """Take up the journal. What the collection is to be comes from `how`, else from the source."""
        self.source = source
        self.records = 0
        self._services = services
        self._how = how
        self._space = how.space or source.space
        self._embedding_function = how.embedding_function or source.embedding_function
        opened = Journal.peek if how.dry_run else Journal.open
        self._journal = opened(how.journals, self._words(), restart=how.restart)
        self.records_before = self._journal.rows
        self.deltas_before = len(self._journal.written)

    def run(self) -> Iterator[int]:
        """Write what an earlier run has not, yielding the size of each piece once the writer has it.

        `records` and `records_before` count what this run wrote and what they had. Raises InvalidRequestError that
        says what stays.
        """
        try:
            self._check_written_stands()
            yield from self._write()
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{error}; {self._what_stays()}") from error

    @property
    def deltas(self) -> list[str]:
        """The keys of all deltas that hold the records, the first `deltas_before` of them from earlier runs."""
        return [line.key for line in self._journal.written]

    @property
    def began(self) -> str:
        """When the put began, for a person."""
        return datetime.fromtimestamp(self._journal.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def forget(self) -> None:
        """Let the next put of the same begin at the beginning."""
        self._journal.remove()

    def close(self) -> None:
        """Leave the rest to the next run."""
        self._journal.close()

    def _words(self) -> tuple[str, ...]:
        """Return what makes it this put, and no other: the journal's name."""
        settings = self._services.settings
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        bucket = f"{endpoint} {settings.chromadb_bucket} {settings.delta_prefix}"
        shape = f"{self._space} {self._embedding_function}"
        return (self.source.location, "into", bucket, self.source.collection, shape)

    def _write(self) -> Iterator[int]:
        writer = None
        for rows, digests in self._unwritten():
            if rows.ids:
                # Made late: pyarrow, which it loads, need not share the memory with ChromaDB's index.
                writer = writer or self._writer()
                writer.expect(digests)
                self._give(writer, rows)
            yield rows.size
        if writer is not None:
            writer.flush()

    def _unwritten(self) -> Iterator[tuple[Rows, list[str]]]:
        """Yield the source's records with their digests, those that are safe taken out once they prove the same."""
        running = RowDigests()
        left = self.records_before
        for rows in self.source.rows():
            digests = running.after(rows)
            passed = min(left, len(digests))
            left -= passed
            if passed and left == 0 and digests[passed - 1] != self._journal.digest:
                raise self._changed()
            yield rows.part(passed), digests[passed:]
        if left:
            raise self._changed()

    def _writer(self) -> ResumableWriter:
        from chromadb_compaction.cli.sources.resumable_writer import ResumableWriter

        return ResumableWriter(
            self._journal,
            self._services,
            space=self._space,
            embedding_function=self._embedding_function,
            dimension=_published_dimension(self._services, self.source.collection),
            dry_run=self._how.dry_run,
        )

    def _give(self, writer: ResumableWriter, rows: Rows) -> None:
        collection = self.source.collection
        for part in _parts_of_one_kind(rows):
            embeddings = None if part.deleted[0] else _embedded(part, self._how.embedding_function)
            try:
                if part.deleted[0]:
                    writer.delete(collection, part.ids)
                else:
                    writer.upsert(collection, part.ids, embeddings, documents=part.documents, metadatas=part.metadatas)
            except InvalidRequestError as error:
                before = self.records_before + self.records
                raise InvalidRequestError(f"{self.source.name}: {_numbered(error, before)}") from error
            self.records += len(part.ids)

    def _check_written_stands(self) -> None:
        """Raise InvalidRequestError unless every delta of an earlier run is pending, merged or in quarantine.

        If there is none, not even one that was stored in the moment of a crash, this run is the put's beginning.
        """
        prefix = self._services.settings.delta_prefix
        keys = [line.key for line in self._journal.written]
        first = layout.delta_key(self.source.collection, str(self._journal.name(0)), prefix=prefix)
        try:
            gone = in_threads(self._stands, keys or [first]).count(False)
        except ConfigurationError:
            return  # whoever may only write deltas may not look for them
        if gone and not keys:
            self._journal.begin()
        elif gone:
            raise InvalidRequestError(
                f"{counted(gone, 'delta')} that this put, begun on {self.began}, had written are not in the bucket"
                " any more (what is merged is kept for some days), so nobody can say whether the collection holds them;"
                " --restart puts everything again, as written now"
            )

    def _stands(self, key: str) -> bool:
        prefix = self._services.settings.delta_prefix
        moved = (layout.compacted_key(key, prefix=prefix), layout.quarantine_key(key, prefix=prefix))
        return any(self._services.objects.head(place) is not None for place in (key, *moved))

    def _changed(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"{self.source.name} has changed since this put was stopped: its first"
            f" {counted(self.records_before, 'record')}, put on {self.began}, are no longer the same;"
            " --restart puts everything again, as written now"
        )

    def _what_stays(self) -> str:
        if self._how.dry_run or not self._journal.written:
            return "nothing was written"
        return f"{counted(len(self._journal.written), 'delta')} of the records before stay written"


def _numbered(error: InvalidRequestError, before: int) -> str:
    """Return the writer's reason, the row that it counts in its call as a record that comes after `before` others."""
    return re.sub(r"^row (\d+)", lambda row: f"record {before + int(row[1]) + 1:,}", str(error.__cause__ or error))


def _published_dimension(services: Services, collection: str) -> int | None:
    """Return what is published of the collection's dimension, so that a misfit is found before it is written."""
    try:
        published = read_pointer(services)
        collections = read_manifest(services, published.pointer).collections if published else {}
    except (ConfigurationError, SnapshotCorruptError):
        return None  # who may only write deltas cannot read it; MergeBatch checks in any case
    return collections[collection].dimension if collection in collections else None


def _parts_of_one_kind(rows: Rows) -> Iterator[Rows]:
    start = 0
    for end in range(1, len(rows.ids) + 1):
        if end == len(rows.ids) or rows.deleted[end] != rows.deleted[start]:
            yield rows.part(start, end)
            start = end


def _embedded(rows: Rows, function: str | None) -> object:
    """Return the rows' embeddings, those that are missing made from their documents."""
    missing = [index for index, embedding in enumerate(rows.embeddings) if embedding is None]
    if not missing:
        return rows.embeddings
    bare = next((rows.ids[index] for index in missing if rows.documents[index] is None), None)
    if bare is not None:
        raise InvalidRequestError(f"the record {bare!r} has neither an embedding nor a document")
    if function is None:
        raise InvalidRequestError(
            f"the record {rows.ids[missing[0]]!r} has no embedding; say what makes one of its document:"
            " --embedding-function wordllama"
        )
    from chromadb_compaction.chroma.embedding import embed

    made = embed([str(rows.documents[index]) for index in missing], function)
    if len(missing) == len(rows.ids):
        return made
    embeddings = list(rows.embeddings)
    for index, vector in zip(missing, made, strict=True):
        embeddings[index] = vector.tolist()
    return embeddings
