"""MergeBatch: merge the deltas of one batch into one run, and report an outcome for each delta."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.deltas.formats import check_shape
from chromadb_compaction.deltas.outcomes import (
    LONGEST_REASON,
    DeltaOutcome,
    DeltaStatus,
    encode_outcomes,
)
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.errors import CorruptDeltaError, ObjectMissingError, PreconditionFailedError
from chromadb_compaction.fold.capacity import check_merge
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.layout import report_key, run_key, shapes_key
from chromadb_compaction.messages import BATCH_MANIFEST, SHAPES, CollectionShape, MergeBatchRequest, MergedBatch
from chromadb_compaction.native_memory import use_system_memory_pool
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore, Services, StoredObject
from chromadb_compaction.rows.spill import SpillingMerge
from chromadb_compaction.settings import Settings
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.steps.listed_deltas import fetch_delta, parse_delta

READERS = 16
"""Deltas fetched at once. Only one is parsed at a time: parsing needs CPU and memory, fetching only waits."""
FETCHED_BYTES = 32 * 1024 * 1024
"""The most that is fetched and not yet parsed."""

log = logging.getLogger(__name__)


class _ReadDelta(NamedTuple):
    """A delta with its rows, or without rows: to quarantine if it has a `reason`, else missing."""

    delta: ObjectInfo
    table: pa.Table | None = None
    reason: str | None = None


class _MergeResult(NamedTuple):
    outcomes: list[DeltaOutcome]
    rows: int
    bytes: int


def merge_batch(request: MergeBatchRequest, services: Services) -> MergedBatch:
    """Quarantine the batch's corrupt deltas. Write the newest version of each row as a run, and a report.

    A second run over the same deltas writes the same objects. Only CorruptDeltaError quarantines a delta; any other
    error fails the task and leaves every delta pending. Raises SnapshotTooLargeError if the batch does not fit the
    function's memory or disk.
    """
    use_system_memory_pool()
    with heartbeat_for(services, request.execution) as heartbeat, cache_of(services).scratch() as scratch:
        merged = _merge(request, services, scratch, heartbeat)
        report = report_key(request.batch.key)
        count = Counter(outcome.status for outcome in merged.outcomes)
        services.objects.put(report, encode_outcomes(merged.outcomes))
        return MergedBatch(
            collection=request.batch.collection,
            run=run_key(request.batch.key) if merged.rows else None,
            report=report,
            merged=count["merged"],
            quarantined=count["quarantined"],
            missing=count["missing"],
            rows=merged.rows,
            bytes=merged.bytes,
        )


def _merge(request: MergeBatchRequest, services: Services, scratch: Path, heartbeat: Heartbeat) -> _MergeResult:
    """Write the run, unless it has no rows, and return the outcome of each delta."""
    listed = BATCH_MANIFEST.validate_json(services.objects.get(request.batch.key).body)
    check_merge(listed, scratch, services.settings)
    shape = _shape_of(request.batch.collection, request, services.objects)
    merge = SpillingMerge(scratch)
    outcomes: list[DeltaOutcome | None] = []
    corrupt: list[_ReadDelta] = []
    for read in _read_all(listed, shape, services):
        heartbeat.check()
        if read.table is not None:
            merge.add(read.table)
            outcomes.append(_outcome(read.delta, "merged", rows=read.table.num_rows))
        elif read.reason is not None:
            corrupt.append(read)
            outcomes.append(None)
        else:
            outcomes.append(_outcome(read.delta, "missing"))
        del read  # frees its rows before the next delta is parsed
    heartbeat.check()
    quarantined = iter(in_threads(lambda each: _quarantine(each, services, request.execution), corrupt))
    complete = [outcome or next(quarantined) for outcome in outcomes]
    return _MergeResult(complete, *_store_run(merge, scratch / "run.parquet", request.batch.key, services.objects))


def _store_run(merge: SpillingMerge, file: Path, batch: str, objects: ObjectStore) -> tuple[int, int]:
    """Write the run, unless it is empty, and return its rows and bytes."""
    rows = merge.write(file)
    if not rows:
        return 0, 0
    objects.upload(file, run_key(batch))
    return rows, file.stat().st_size


def _read_all(listed: list[ObjectInfo], shape: CollectionShape | None, services: Services) -> Iterator[_ReadDelta]:
    """Yield the deltas in order. Parse each one when the caller asks for it, while later ones are fetched."""
    fetched = ahead(
        lambda delta: fetch_delta(delta, services),
        listed,
        weigh=lambda delta: delta.bytes,
        most=FETCHED_BYTES,
        threads=READERS,
    )
    for delta in listed:
        yield _check(delta, next(fetched), shape, services.settings)


def _check(
    delta: ObjectInfo, stored: StoredObject | None, shape: CollectionShape | None, settings: Settings
) -> _ReadDelta:
    """Parse one delta and check it against its collection's shape.

    A delta that was deleted or written again since the listing is missing, and what is there now stays pending. So is
    a delta with upserts if the collection has no dimension yet: the pass was planned without it.
    """
    try:
        parsed = parse_delta(delta, stored, settings)
        if parsed is None or (parsed.dimension is not None and (shape is None or shape.dimension is None)):
            return _ReadDelta(delta)
        if shape is not None:
            check_shape(parsed, shape)
    except CorruptDeltaError as error:
        return _ReadDelta(delta, reason=str(error)[:LONGEST_REASON])
    return _ReadDelta(delta, parsed.table)


def _shape_of(collection: str, request: MergeBatchRequest, objects: ObjectStore) -> CollectionShape | None:
    """Return the collection's shape. None for a name that no collection can have: all its deltas are corrupt."""
    shapes = SHAPES.validate_json(objects.get(shapes_key(request.execution, request.pass_number)).body)
    return next((shape for shape in shapes if shape.collection == collection), None)


def _quarantine(bad: _ReadDelta, services: Services, execution: str) -> DeltaOutcome:
    """Copy a bad delta byte for byte and put the reason beside it. CleanUp deletes the original.

    The original stays, so that a second run of this task sees the same input.
    """
    delta, reason = bad.delta, bad.reason or ""
    try:
        copy_into_quarantine(delta.key, delta, services, reason=reason, execution=execution)
    except (ObjectMissingError, PreconditionFailedError):
        return _outcome(delta, "missing")
    log.warning("%s goes to quarantine: %s", delta.key, reason)
    return _outcome(delta, "quarantined", reason=reason)


def _outcome(delta: ObjectInfo, status: DeltaStatus, *, rows: int = 0, reason: str | None = None) -> DeltaOutcome:
    return DeltaOutcome(key=delta.key, etag=delta.etag, bytes=delta.bytes, status=status, rows=rows, reason=reason)
