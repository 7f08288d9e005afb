"""MergeBatch: the deltas of one batch become one run, and every one of them is accounted for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.deltas.formats import Delta, check_shape, read_delta
from chromadb_compaction.deltas.outcomes import (
    LONGEST_REASON,
    DeltaOutcome,
    DeltaStatus,
    QuarantineReason,
    encode_outcomes,
)
from chromadb_compaction.errors import CorruptDeltaError, ObjectMissingError, PreconditionFailedError
from chromadb_compaction.fold.capacity import check_merge
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.layout import quarantine_key, reason_key, report_key, run_key, shapes_key
from chromadb_compaction.messages import BATCH_MANIFEST, SHAPES, CollectionShape, MergeBatchRequest, MergedBatch
from chromadb_compaction.native_memory import use_system_memory_pool
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore, Services, StoredObject
from chromadb_compaction.rows.spill import SpillingMerge
from chromadb_compaction.settings import Settings
from chromadb_compaction.snapshots.base import cache_of

READERS = 16
"""Deltas fetched at once. Only one is decoded at a time: that is work, not waiting, and takes memory."""
FETCHED_BYTES = 32 * 1024 * 1024
"""Fetched and not yet decoded."""

log = logging.getLogger(__name__)


class _ReadDelta(NamedTuple):
    """A delta and its rows; without rows it is bad, for `reason`, or missing."""

    delta: ObjectInfo
    table: pa.Table | None = None
    reason: str | None = None


class _Merged(NamedTuple):
    outcomes: list[DeltaOutcome]
    rows: int
    bytes: int


def merge_batch(request: MergeBatchRequest, services: Services) -> MergedBatch:
    """Read the batch's deltas, quarantine the bad ones, write the newest version of each row and a report.

    A second run over the same deltas writes the same objects. Only proven data errors quarantine; anything
    unexpected fails the task and leaves every delta pending. Raises SnapshotTooLargeError for what the function
    cannot hold.
    """
    use_system_memory_pool()
    with heartbeat_for(services, request.execution) as heartbeat, cache_of(services).scratch() as scratch:
        merged = _merge(request, services, scratch, heartbeat)
        report = report_key(request.batch.key)
        services.objects.put(report, encode_outcomes(merged.outcomes))
        return MergedBatch(
            collection=request.batch.collection,
            run=run_key(request.batch.key) if merged.rows else None,
            report=report,
            merged=_count(merged.outcomes, "merged"),
            quarantined=_count(merged.outcomes, "quarantined"),
            missing=_count(merged.outcomes, "missing"),
            rows=merged.rows,
            bytes=merged.bytes,
        )


def _merge(request: MergeBatchRequest, services: Services, scratch: Path, heartbeat: Heartbeat) -> _Merged:
    """Write the run, unless it has no rows, and return what became of each delta."""
    listed = BATCH_MANIFEST.validate_json(services.objects.get(request.batch.key).body)
    check_merge(listed, scratch, services.settings)
    shape = _shape_of(request.batch.collection, request, services.objects)
    merge = SpillingMerge(scratch)
    outcomes: list[DeltaOutcome | None] = []
    bad: list[_ReadDelta] = []
    for read in _read_all(listed, shape, services):
        heartbeat.check()
        if read.table is not None:
            merge.add(read.table)
            outcomes.append(_outcome(read.delta, "merged", rows=read.table.num_rows))
        elif read.reason is not None:
            bad.append(read)
            outcomes.append(None)
        else:
            outcomes.append(_outcome(read.delta, "missing"))
        del read  # or its rows would stay while the next delta's are decoded
    heartbeat.check()
    refused = iter(in_threads(lambda each: _quarantine(each, services, request.execution), bad))
    settled = [outcome or next(refused) for outcome in outcomes]
    return _Merged(settled, *_store_run(merge, scratch / "run.parquet", request.batch.key, services.objects))


def _store_run(merge: SpillingMerge, file: Path, batch: str, objects: ObjectStore) -> tuple[int, int]:
    """Write the run, unless it is empty, and return its rows and bytes."""
    rows = merge.write(file)
    if not rows:
        return 0, 0
    objects.upload(file, run_key(batch))
    return rows, file.stat().st_size


def _read_all(listed: list[ObjectInfo], shape: CollectionShape | None, services: Services) -> Iterator[_ReadDelta]:
    """Yield the deltas in their order, each read once the one before it is done with."""
    settings = services.settings
    fetched = ahead(
        lambda delta: fetch(delta, services.objects, settings),
        listed,
        weigh=lambda delta: delta.bytes,
        most=FETCHED_BYTES,
        threads=READERS,
    )
    for delta in listed:
        yield _read(delta, next(fetched), shape, settings)


def _read(
    delta: ObjectInfo, stored: StoredObject | None, shape: CollectionShape | None, settings: Settings
) -> _ReadDelta:
    """Check one delta.

    One that is gone or has changed since the listing is missing, and stays pending under its new content. So does
    one whose collection has no dimension yet: the pass was planned without it.
    """
    try:
        found = decode(delta, stored, settings)
        if found is None or (found.dimension is not None and (shape is None or shape.dimension is None)):
            return _ReadDelta(delta)
        if shape is not None:
            check_shape(found, shape)
    except CorruptDeltaError as error:
        return _ReadDelta(delta, reason=str(error)[:LONGEST_REASON])
    return _ReadDelta(delta, found.table)


def fetch(delta: ObjectInfo, objects: ObjectStore, settings: Settings) -> StoredObject | None:
    """Return a listed delta as it is stored, or None if it is gone, has changed or is too large to be looked at."""
    if delta.bytes > settings.max_delta_bytes:
        return None
    try:
        stored = objects.get(delta.key)
    except ObjectMissingError:
        return None
    return stored if stored.etag == delta.etag else None


def decode(delta: ObjectInfo, stored: StoredObject | None, settings: Settings) -> Delta | None:
    """Return what `fetch` found as a delta, or None if it found none. Raises CorruptDeltaError if it is proven bad."""
    if delta.bytes > settings.max_delta_bytes:
        raise CorruptDeltaError(
            f"the file has {delta.bytes} bytes, more than {settings.max_delta_bytes}; write smaller deltas (1-5 MB)"
        )
    if stored is None:
        return None
    return read_delta(
        delta.key,
        stored.body,
        now=stored.modified,
        max_bytes=settings.max_delta_bytes,
        prefix=settings.delta_prefix,
    )


def _shape_of(collection: str, request: MergeBatchRequest, objects: ObjectStore) -> CollectionShape | None:
    """Return the collection's shape; None for a name that can be no collection's, so that all its deltas are bad."""
    shapes = SHAPES.validate_json(objects.get(shapes_key(request.execution, request.pass_number)).body)
    return next((shape for shape in shapes if shape.collection == collection), None)


def _quarantine(bad: _ReadDelta, services: Services, execution: str) -> DeltaOutcome:
    """Copy a bad delta byte for byte and put the reason beside it. CleanUp deletes the original.

    The original stays, so that a second run of this task sees the same input.
    """
    delta, reason = bad.delta, bad.reason or ""
    target = quarantine_key(delta.key, prefix=services.settings.delta_prefix)
    try:
        services.objects.copy(delta.key, target, etag=delta.etag)
    except (ObjectMissingError, PreconditionFailedError):
        return _outcome(delta, "missing")
    note = QuarantineReason(
        delta=delta.key, reason=reason, quarantined_at=services.clock(), execution=execution, etag=delta.etag
    )
    services.objects.put(reason_key(target), note.model_dump_json().encode())
    log.warning("%s goes to quarantine: %s", delta.key, reason)
    return _outcome(delta, "quarantined", reason=reason)


def _outcome(delta: ObjectInfo, status: DeltaStatus, *, rows: int = 0, reason: str | None = None) -> DeltaOutcome:
    return DeltaOutcome(key=delta.key, etag=delta.etag, bytes=delta.bytes, status=status, rows=rows, reason=reason)


def _count(outcomes: list[DeltaOutcome], status: DeltaStatus) -> int:
    return sum(outcome.status == status for outcome in outcomes)
