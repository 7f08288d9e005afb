"""MergeBatch: the deltas of one batch become one run, and every one of them is accounted for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import pyarrow as pa
from pydantic import TypeAdapter

from chromadb_compaction.delta_formats import Delta, read_delta
from chromadb_compaction.delta_shapes import check_shape
from chromadb_compaction.errors import CorruptDeltaError, ObjectMissingError, PreconditionFailedError
from chromadb_compaction.layout import quarantine_key, reason_key, report_key, run_key, shapes_key
from chromadb_compaction.merging import newest
from chromadb_compaction.messages import CollectionShape, MergeBatchRequest, MergedBatch
from chromadb_compaction.outcomes import (
    LONGEST_REASON,
    DeltaOutcome,
    DeltaStatus,
    QuarantineReason,
    encode_outcomes,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore, Services
from chromadb_compaction.runs import encode_run
from chromadb_compaction.settings import Settings
from chromadb_compaction.steps.heartbeat import heartbeat

READERS = 8
"""Deltas read at once: their undecoded bodies are what bounds the memory beyond the rows themselves."""

log = logging.getLogger(__name__)

_LISTED = TypeAdapter(list[ObjectInfo])
_SHAPES = TypeAdapter(list[CollectionShape])


class _ReadDelta(NamedTuple):
    outcome: DeltaOutcome
    table: pa.Table | None = None


def merge_batch(request: MergeBatchRequest, services: Services) -> MergedBatch:
    """Read the batch's deltas, quarantine the bad ones, write the newest version of each row and a report.

    A second run over the same deltas writes the same objects. Only proven data errors quarantine; anything
    unexpected fails the task and leaves every delta pending.
    """
    with heartbeat(services, request.execution) as heart:
        outcomes, run = _merge(request, services)
        heart.check()
        size = _store_run(run, request.batch.key, services.objects)
        report = report_key(request.batch.key)
        services.objects.put(report, encode_outcomes(outcomes))
        return MergedBatch(
            collection=request.batch.collection,
            run=run_key(request.batch.key) if size else None,
            report=report,
            merged=_count(outcomes, "merged"),
            quarantined=_count(outcomes, "quarantined"),
            missing=_count(outcomes, "missing"),
            rows=run.num_rows,
            bytes=size,
        )


def _merge(request: MergeBatchRequest, services: Services) -> tuple[list[DeltaOutcome], pa.Table]:
    """Return what became of each delta, and the run. The deltas' own tables are let go here: they are the memory."""
    listed = _LISTED.validate_json(services.objects.get(request.batch.key).body)
    shape = _shape_of(request.batch.collection, request, services.objects)
    reads = _read_all(listed, partial(read_one, shape=shape, services=services, execution=request.execution))
    return [read.outcome for read in reads], newest(read.table for read in reads if read.table is not None)


def _store_run(run: pa.Table, batch: str, objects: ObjectStore) -> int:
    """Write the run, unless it is empty, and return its size in bytes."""
    if not run.num_rows:
        return 0
    body = encode_run(run)
    objects.put(run_key(batch), body)
    return len(body)


def read_one(delta: ObjectInfo, *, shape: CollectionShape | None, services: Services, execution: str) -> _ReadDelta:
    """Read and check one delta; quarantine it if it is proven bad.

    A delta that is gone or has changed since the listing is reported as missing, and stays pending under its
    new content. So does one whose collection has no dimension yet: the pass was planned without it.
    """
    try:
        found = fetch_delta(delta, services.objects, services.settings)
        if found is None or (found.dimension is not None and (shape is None or shape.dimension is None)):
            return _ReadDelta(_outcome(delta, "missing"))
        if shape is not None:
            check_shape(found, shape)
    except CorruptDeltaError as error:
        return _ReadDelta(_quarantine(delta, str(error)[:LONGEST_REASON], services, execution))
    return _ReadDelta(_outcome(delta, "merged", rows=found.table.num_rows), found.table)


def fetch_delta(delta: ObjectInfo, objects: ObjectStore, settings: Settings) -> Delta | None:
    """Return a listed delta, or None if it is gone or has changed. Raises CorruptDeltaError if it is proven bad."""
    if delta.bytes > settings.max_delta_bytes:
        raise CorruptDeltaError(
            f"the file has {delta.bytes} bytes, more than {settings.max_delta_bytes}; write smaller deltas (1-5 MB)"
        )
    try:
        stored = objects.get(delta.key)
    except ObjectMissingError:
        return None
    if stored.etag != delta.etag:
        return None
    return read_delta(
        delta.key,
        stored.body,
        now=stored.modified,
        max_bytes=settings.max_delta_bytes,
        prefix=settings.delta_prefix,
    )


def _read_all(listed: list[ObjectInfo], read: Callable[[ObjectInfo], _ReadDelta]) -> list[_ReadDelta]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="read-delta") as pool:
        return list(pool.map(read, listed))


def _shape_of(collection: str, request: MergeBatchRequest, objects: ObjectStore) -> CollectionShape | None:
    """Return the collection's shape; None for a name that can be no collection's, so that all its deltas are bad."""
    shapes = _SHAPES.validate_json(objects.get(shapes_key(request.execution, request.pass_number)).body)
    return next((shape for shape in shapes if shape.collection == collection), None)


def _quarantine(delta: ObjectInfo, reason: str, services: Services, execution: str) -> DeltaOutcome:
    """Copy a bad delta byte for byte and put the reason beside it. CleanUp deletes the original.

    The original stays, so that a second run of this task sees the same input.
    """
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
