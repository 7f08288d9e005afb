"""A loader that writes ChromaDB's tables itself, in bulk, and lets ChromaDB build its index from its own queue.

ChromaDB's `upsert` spends half its time on SQLite, one statement at a time. The differential suite proves that this
loader's directories answer like those of the API, on the versions that pass the compatibility check.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.chroma.client import DEFAULT_SYNC_THRESHOLD, CollectionSpec
from chromadb_compaction.chroma.compatibility import incompatibility
from chromadb_compaction.chroma.index_build import IndexBuild, index_build
from chromadb_compaction.chroma.index_files import entries
from chromadb_compaction.chroma.loader import ApiLoader, Loaded, Loader, Progress, ids_of, vectors_of
from chromadb_compaction.chroma.page_size import PAGE_SIZES, prepare, reclaim
from chromadb_compaction.chroma.rebuild import ROWS_AT_ONCE, IndexChange, KeptVectors, carry_over_moved
from chromadb_compaction.chroma.schema import with_keys, with_threshold
from chromadb_compaction.chroma.tables import ADD, DELETE, CollectionState, Operation, scratch_tables
from chromadb_compaction.rows.ledger import FoldPlan

log = logging.getLogger(__name__)


class _IndexOperations(NamedTuple):
    """The operations for the index: `before` others, then the vectors of moved rows, replacements, and inserts."""

    before: int
    total: int
    operations: Iterator[Operation]


class BulkLoader:
    """A loader that writes SQLite's tables while ChromaDB builds the index on every core.

    Use it only for directories that pass the compatibility check.

    Args:
        rebuilds: Returns whether an index is rebuilt. The default is the rule of `IndexChange`.
        replaced_in_place: The vectors that earlier releases have replaced in place since the index was built.
        page_sizes: The page sizes of which the best one is chosen, the smallest first.
    """

    name = "bulk"

    def __init__(
        self,
        *,
        rebuilds: Callable[[IndexChange], bool] = lambda change: change.rebuilds,
        replaced_in_place: int = 0,
        page_sizes: Sequence[int] = PAGE_SIZES,
    ) -> None:
        self._rebuilds = rebuilds
        self._replaced_in_place = replaced_in_place
        self._page_sizes = page_sizes

    def apply(self, directory: Path, spec: CollectionSpec, plan: FoldPlan, *, progress: Progress) -> Loaded:
        """Apply the plan as `Loader.apply` states."""
        started = time.perf_counter()
        progress()
        with scratch_tables(directory) as tables:
            state = tables.read_state()._replace(dimension=spec.dimension)
        segment = directory / state.vector_segment
        change = _index_change(segment, plan, self._replaced_in_place)
        log.info("%s: %s", spec.name, change)
        kept = KeptVectors(segment, spec, plan) if self._rebuilds(change) else None
        replaced_in_place = self._replaced_in_place if kept is None else 0
        queued = _operations_in_place(plan) if kept is None else _operations_of_rebuild(kept, plan)
        if not queued.total:
            self._write_records(directory, state, plan, queued, rebuilt=False, progress=progress)
            return Loaded({"records": time.perf_counter() - started, "index": 0.0}, replaced_in_place, segment)
        with (
            index_build(directory, spec, state, rebuild=kept is not None) as build,
            ThreadPoolExecutor(1, thread_name_prefix="index") as pool,
        ):
            building = pool.submit(_update_index, build, spec, plan, queued, kept=kept, progress=progress)
            self._write_records(directory, state, plan, queued, rebuilt=kept is not None, progress=progress)
            index = building.result()
            build.install()
        return Loaded({"records": time.perf_counter() - started - index, "index": index}, replaced_in_place, segment)

    def _write_records(
        self,
        directory: Path,
        state: CollectionState,
        plan: FoldPlan,
        queued: _IndexOperations,
        *,
        rebuilt: bool,
        progress: Progress,
    ) -> None:
        """Apply the plan to everything but the vectors, and reclaim the space of removed records."""
        is_new = plan.inserts.num_rows + plan.moved.num_rows == plan.counts.records
        if is_new:
            prepare(directory, plan, self._page_sizes)
        with scratch_tables(directory) as tables, tables.indexes_built_last() if is_new else nullcontext():
            tables.remove(state, removed := plan.removed)
            texts = plan.written(ROWS_AT_ONCE, ("id", "document", "metadata", "uri"))
            kinds = tables.insert(state, texts, _sequences(state, plan, queued), progress=progress)
            schema = with_threshold(with_keys(state.schema, kinds), DEFAULT_SYNC_THRESHOLD)
            tables.write_state(state._replace(schema=schema))
        if removed:
            with scratch_tables(directory) as tables:
                tables.merge_texts()
        reclaim(directory, rebuilt=rebuilt, sizes=self._page_sizes)


def _update_index(
    build: IndexBuild,
    spec: CollectionSpec,
    plan: FoldPlan,
    queued: _IndexOperations,
    *,
    kept: KeptVectors | None,
    progress: Progress,
) -> float:
    """Apply the operations to the index and return the seconds that it took."""
    started = time.perf_counter()
    build.apply(queued.operations, queued.total, records=plan.counts.records, progress=progress)
    if kept is not None:
        kept.carry_over(build.segment)
    carry_over_moved(build.segment, spec, plan)
    return time.perf_counter() - started


def _index_change(segment: Path, plan: FoldPlan, replaced_in_place: int) -> IndexChange:
    deleted, added = len(plan.deletes), plan.inserts.num_rows + plan.moved.num_rows
    live = plan.counts.records + deleted - added
    return IndexChange(entries(segment), live, deleted, plan.replacements.num_rows, added, replaced_in_place)


def _operations_in_place(plan: FoldPlan) -> _IndexOperations:
    """Return the operations that change the index in place. A replacement is a delete and an insert."""
    removed = (*plan.deletes, *plan.replacements.ids())
    operations = chain((Operation(DELETE, row_id) for row_id in removed), _new_vectors(plan))
    return _IndexOperations(len(removed), len(removed) + _new_count(plan), operations)


def _operations_of_rebuild(kept: KeptVectors, plan: FoldPlan) -> _IndexOperations:
    """Return the operations that rebuild the index."""
    added = _new_count(plan)
    if not (kept.ids or added):
        # The queue must never be empty: the next sequence number is one more than its last.
        return _IndexOperations(1, 1, iter([Operation(DELETE, plan.deletes[-1])]))
    operations = chain(kept.operations(), _new_vectors(plan))
    return _IndexOperations(len(kept.ids), len(kept.ids) + added, operations)


def _new_count(plan: FoldPlan) -> int:
    return plan.moved.num_rows + plan.replacements.num_rows + plan.inserts.num_rows


def _new_vectors(plan: FoldPlan) -> Iterator[Operation]:
    """Yield an insertion for each moved row, then for each replacement, then for each insert."""
    for rows in (plan.moved, plan.replacements, plan.inserts):
        for part in rows.parts(ROWS_AT_ONCE, ("id", "embedding")):
            for row_id, vector in zip(ids_of(part), vectors_of(part), strict=True):
                yield Operation(ADD, row_id, vector.tobytes())


def _sequences(state: CollectionState, plan: FoldPlan, queued: _IndexOperations) -> Iterable[int]:
    """Return the sequence number of each row written: that of its vector's operation, if it has one."""
    first = state.last_sequence + queued.before + 1
    edits_at = first + plan.moved.num_rows + plan.replacements.num_rows
    edited = repeat(edits_at - 1, plan.edits.num_rows)
    return chain(range(first, edits_at), edited, range(edits_at, edits_at + plan.inserts.num_rows))


def choose_loader(directory: Path, spec: CollectionSpec, *, replaced_in_place: int = 0) -> Loader:
    """Return the fastest loader that is safe for a directory made by `create_directory`.

    `replaced_in_place` vectors of its index have been replaced in place by earlier releases.
    """
    reason = incompatibility(directory, spec)
    if reason is None:
        return BulkLoader(replaced_in_place=replaced_in_place)
    log.warning("%s: loading through ChromaDB's API, which takes more than twice as long: %s", spec.name, reason)
    return ApiLoader()
