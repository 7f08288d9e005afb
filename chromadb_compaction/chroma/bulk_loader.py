"""A loader that writes ChromaDB's tables itself, in bulk, and lets ChromaDB build its index from its own queue.

ChromaDB's `upsert` spends half its time on SQLite, one statement at a time. What this writes instead cannot be told
from it (tests/differential), on the versions that chroma_gate knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.chroma.client import DEFAULT_SYNC_THRESHOLD, CollectionSpec, create_directory
from chromadb_compaction.chroma.compatibility import incompatibility
from chromadb_compaction.chroma.index_build import IndexBuild, index_build
from chromadb_compaction.chroma.index_cost import IndexChange
from chromadb_compaction.chroma.index_files import entries
from chromadb_compaction.chroma.loader import ApiLoader, Loader, PartSeconds, Progress, ids_of, vectors_of
from chromadb_compaction.chroma.rebuild import KeptVectors
from chromadb_compaction.chroma.schema import with_keys, with_threshold
from chromadb_compaction.chroma.tables import (
    ADD,
    DELETE,
    UPDATE,
    Collection,
    Operation,
    reclaim,
    scratch_tables,
)
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.rows.run_rows import SelectedRows

ROWS_AT_ONCE = 5000

log = logging.getLogger(__name__)


class _Feed(NamedTuple):
    """What the index is given: `before` operations of its own, then the replacements, then the inserts."""

    before: int
    total: int
    operations: Iterator[Operation]


class BulkLoader:
    """See the module. Only for directories that chroma_gate does not refuse.

    The records are written while ChromaDB builds the index, which leaves one of two cores idle now and then.
    """

    name = "bulk"

    def __init__(self, *, rebuilds: Callable[[IndexChange], bool] = lambda change: change.rebuilds) -> None:
        self._rebuilds = rebuilds

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> PartSeconds:
        """See Loader."""
        started = time.perf_counter()
        create_directory(directory, spec)
        progress()
        with scratch_tables(directory) as tables:
            collection = tables.collection()
        segment = directory / collection.vector_segment
        change = _index_change(segment, plan)
        log.info("%s: %s", spec.name, change)
        kept = KeptVectors(segment, spec, plan) if self._rebuilds(change) else None
        feed = _changes(plan) if kept is None else _everything(kept, plan)
        if not feed.total:
            _write_records(directory, spec, collection, plan, feed, progress=progress)
            return {"records": time.perf_counter() - started, "index": 0.0}
        with (
            index_build(directory, spec, collection, anew=kept is not None) as build,
            ThreadPoolExecutor(1, thread_name_prefix="index") as pool,
        ):
            building = pool.submit(_bring_up_to_date, build, feed, kept, plan.counts.records, progress)
            _write_records(directory, spec, collection, plan, feed, progress=progress)
            index = building.result()
            build.install()
        return {"records": time.perf_counter() - started - index, "index": index}


def _bring_up_to_date(
    build: IndexBuild, feed: _Feed, kept: KeptVectors | None, records: int, progress: Progress
) -> float:
    """Give the index what it is fed, and return the seconds that took."""
    started = time.perf_counter()
    build.take(feed.operations, feed.total, records=records, progress=progress)
    if kept is not None:
        kept.carry_over(build.segment)
    return time.perf_counter() - started


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


def _vectors(kind: int, rows: SelectedRows) -> Iterator[Operation]:
    for part in rows.parts(ROWS_AT_ONCE, ("id", "embedding")):
        for row_id, vector in zip(ids_of(part), vectors_of(part), strict=True):
            yield Operation(kind, row_id, vector.tobytes())


def _write_records(
    directory: Path, spec: CollectionSpec, collection: Collection, plan: FoldPlan, feed: _Feed, *, progress: Progress
) -> None:
    """Bring the records, all but their vectors, to what the plan says, and leave no room of what is gone."""
    with scratch_tables(directory) as tables:
        tables.remove(collection, plan.removed)
        texts = plan.written(ROWS_AT_ONCE, ("id", "document", "metadata"))
        kinds = tables.insert(collection, texts, _sequences(collection, plan, feed), progress=progress)
        schema = with_threshold(with_keys(collection.schema, kinds), DEFAULT_SYNC_THRESHOLD)
        tables.describe(collection._replace(dimension=spec.dimension, schema=schema))
    if plan.deletes or plan.counts.replaced:
        with scratch_tables(directory) as tables:
            tables.merge_texts()
    reclaim(directory)


def _sequences(collection: Collection, plan: FoldPlan, feed: _Feed) -> Iterable[int]:
    """Return the sequence number of each row written: of its vector's operation, where it has one."""
    first = collection.last_sequence + feed.before + 1
    replaced, inserted = plan.replacements.num_rows, plan.inserts.num_rows
    edited = repeat(first + replaced - 1, plan.edits.num_rows)
    return chain(range(first, first + replaced), edited, range(first + replaced, first + replaced + inserted))


def choose_loader(directory: Path, spec: CollectionSpec) -> Loader:
    """Return the fastest loader that is safe for a directory, which is made, with an empty collection, if missing."""
    create_directory(directory, spec)
    reason = incompatibility(directory, spec)
    if reason is None:
        return BulkLoader()
    log.warning("%s: loading through ChromaDB's API, which takes more than twice as long: %s", spec.name, reason)
    return ApiLoader()
