"""A loader that writes ChromaDB's tables itself, in bulk, and lets ChromaDB build its index from its own queue.

ChromaDB's `upsert` spends half its time on SQLite, one statement at a time. What this writes instead cannot be told
from it (tests/differential), on the versions that chroma_gate knows.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.adapters.chroma import (
    DEFAULT_SYNC_THRESHOLD,
    SQLITE_FILE,
    CollectionSpec,
    open_collection,
    open_directory,
    prepare_collection,
)
from chromadb_compaction.adapters.chroma_costs import IndexChange
from chromadb_compaction.adapters.chroma_index import entries
from chromadb_compaction.adapters.chroma_loader import PartSeconds, Progress, ids_of, vectors_of
from chromadb_compaction.adapters.chroma_rebuild import KeptVectors
from chromadb_compaction.adapters.chroma_schema import with_keys, with_threshold
from chromadb_compaction.adapters.chroma_tables import (
    ADD,
    DELETE,
    UPDATE,
    Collection,
    Operation,
    scratch_tables,
)
from chromadb_compaction.adapters.native_memory import give_back
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.ledger import FoldPlan
from chromadb_compaction.run_rows import Rows

QUEUED_VALUES = 4_000_000
QUEUED_SHARE = 0.1
"""How much is queued at once: vector components, or a share of the whole index, whichever is more.

ChromaDB holds what is queued in memory twice, and no thread of ours runs while it builds; but before and after
each portion it reads and writes the whole index.
"""
ROWS_AT_ONCE = 5000

log = logging.getLogger(__name__)


class _Feed(NamedTuple):
    """What the index is given: `before` operations of its own, then the replacements, then the inserts."""

    before: int
    total: int
    operations: Iterator[Operation]


class BulkLoader:
    """See the module. Only for directories that chroma_gate does not refuse."""

    name = "bulk"

    def __init__(self, *, rebuilds: Callable[[IndexChange], bool] = lambda change: change.rebuilds) -> None:
        self._rebuilds = rebuilds

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> PartSeconds:
        """See Loader."""
        started = time.perf_counter()
        create(directory, spec)
        progress()
        with scratch_tables(directory) as tables:
            collection = tables.collection()
        segment = directory / collection.vector_segment
        change = _index_change(segment, plan)
        log.info("%s: %s", spec.name, change)
        kept = KeptVectors(segment, spec, plan) if self._rebuilds(change) else None
        feed = _changes(plan) if kept is None else _everything(kept, plan)
        collection = _write_records(directory, spec, collection, plan, feed, progress=progress)
        written = time.perf_counter()
        if kept is not None:
            _forget_index(directory, collection)
        _feed_index(directory, spec, collection, feed, records=plan.counts.records, progress=progress)
        if kept is not None:
            kept.carry_over(segment)
        return {"records": written - started, "index": time.perf_counter() - written}


def create(directory: Path, spec: CollectionSpec) -> None:
    """Make the directory with its collection, empty, unless it is there."""
    if not (directory / SQLITE_FILE).exists():
        directory.mkdir(parents=True, exist_ok=True)
        with open_directory(directory) as client:
            prepare_collection(client, spec, operations=DEFAULT_SYNC_THRESHOLD)


def _index_change(segment: Path, plan: FoldPlan) -> IndexChange:
    deleted, added = len(plan.deletes), plan.inserts.num_rows
    live = plan.counts.records + deleted - added
    return IndexChange(entries(segment), live, deleted, plan.replacements.num_rows, added)


def _changes(plan: FoldPlan) -> _Feed:
    """Return the operations that change the index in place."""
    deletes = (Operation(DELETE, row_id) for row_id in plan.deletes)
    operations = chain(deletes, _vectors(UPDATE, plan.replacements), _vectors(ADD, plan.inserts))
    total = len(plan.deletes) + plan.replacements.num_rows + plan.inserts.num_rows
    return _Feed(len(plan.deletes), total, operations)


def _everything(kept: KeptVectors, plan: FoldPlan) -> _Feed:
    """Return the operations that build the index anew."""
    added = plan.replacements.num_rows + plan.inserts.num_rows
    if not (kept.ids or added):
        # The queue must never be empty: the next sequence number is one more than its last.
        return _Feed(1, 1, iter([Operation(DELETE, plan.deletes[-1])]))
    operations = chain(kept.operations(), _vectors(ADD, plan.replacements), _vectors(ADD, plan.inserts))
    return _Feed(len(kept.ids), len(kept.ids) + added, operations)


def _vectors(kind: int, rows: Rows) -> Iterator[Operation]:
    for part in rows.parts(ROWS_AT_ONCE, ("id", "embedding")):
        for row_id, vector in zip(ids_of(part), vectors_of(part), strict=True):
            yield Operation(kind, row_id, vector.tobytes())


def _write_records(
    directory: Path, spec: CollectionSpec, collection: Collection, plan: FoldPlan, feed: _Feed, *, progress: Progress
) -> Collection:
    """Bring the records, all but their vectors, to what the plan says, in one transaction; return what holds then."""
    last = collection.last_sequence + feed.total
    with scratch_tables(directory) as tables:
        tables.remove(collection, plan.removed)
        texts = plan.written(ROWS_AT_ONCE, ("id", "document", "metadata"))
        kinds = tables.insert(collection, texts, _sequences(collection, plan, feed), progress=progress)
        collection = collection._replace(dimension=spec.dimension, schema=with_keys(collection.schema, kinds))
        tables.describe(collection)
        if feed.total:
            tables.mark_seen(collection.metadata_segment, last)
    if plan.deletes or plan.counts.replaced:
        with scratch_tables(directory) as tables:
            tables.merge_texts()
    return collection


def _sequences(collection: Collection, plan: FoldPlan, feed: _Feed) -> Iterable[int]:
    """Return the sequence number of each row written: of its vector's operation, where it has one."""
    first = collection.last_sequence + feed.before + 1
    replaced, inserted = plan.replacements.num_rows, plan.inserts.num_rows
    edited = repeat(first + replaced - 1, plan.edits.num_rows)
    return chain(range(first, first + replaced), edited, range(first + replaced, first + replaced + inserted))


def _forget_index(directory: Path, collection: Collection) -> None:
    """Take the index away: ChromaDB then builds one from all that is queued."""
    shutil.rmtree(directory / collection.vector_segment, ignore_errors=True)
    with scratch_tables(directory) as tables:
        tables.mark_seen(collection.vector_segment, None)


def _feed_index(
    directory: Path, spec: CollectionSpec, collection: Collection, feed: _Feed, *, records: int, progress: Progress
) -> None:
    """Queue the operations, as many at once as memory allows, and have ChromaDB take in and flush each portion."""
    portion = max(1, QUEUED_VALUES // spec.dimension, int(QUEUED_SHARE * records))
    for start in range(0, feed.total, portion):
        progress()
        first, count = collection.last_sequence + 1 + start, min(portion, feed.total - start)
        with scratch_tables(directory) as tables:
            tables.describe(collection._replace(schema=with_threshold(collection.schema, count)))
            tables.enqueue(collection, islice(feed.operations, count), first=first)
        give_back()
        with open_collection(directory, spec.name) as opened:
            # Any question makes ChromaDB take in its queue first; this one costs nothing else.
            opened.count()
        give_back()
        with scratch_tables(directory) as tables:
            seen = tables.seen(collection.vector_segment)
            tables.describe(collection._replace(schema=with_threshold(collection.schema, DEFAULT_SYNC_THRESHOLD)))
        if seen != first + count - 1:
            raise VerificationError(f"{spec.name}: ChromaDB flushed its index up to operation {seen}, not all of them")
