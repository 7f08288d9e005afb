"""MergeBatch: merge the deltas of one batch into one run, and report an outcome for each delta."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.deltas.attempts import mark
from chromadb_compaction.deltas.deaths import Process, running
from chromadb_compaction.deltas.fitting import check_fit, decided_shape
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.deltas.outcomes import (
    LONGEST_REASON,
    DeltaOutcome,
    DeltaStatus,
    encode_outcomes,
)
from chromadb_compaction.deltas.quarantine import copy_into_quarantine
from chromadb_compaction.disk import MORE_MERGE_DISK
from chromadb_compaction.errors import (
    CompactionError,
    CorruptDeltaError,
    DeltaFailedError,
    ObjectMissingError,
    PreconditionFailedError,
    SnapshotTooLargeError,
    UnreadableObjectError,
)
from chromadb_compaction.fold.capacity import check_merge
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.layout import batch_number, collection_of_key, parts_key, report_key, run_key, shapes_key
from chromadb_compaction.messages import BATCH_MANIFEST, MergeBatchRequest, MergedBatch
from chromadb_compaction.pending.listed import attributed, find_archived, find_twins, judge, try_fetch
from chromadb_compaction.pending.shapes import PendingDrops
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore, Services, StoredObject
from chromadb_compaction.rows.batch_run import RUN_PARTS, BatchRun, RunPart
from chromadb_compaction.rows.native_memory import use_system_memory_pool
from chromadb_compaction.rows.runs import run_schema
from chromadb_compaction.rows.shapes import SHAPES, CollectionChange, StoredShape
from chromadb_compaction.snapshots.base import cache_of

READERS = 16
"""Deltas fetched at once. Only one is parsed at a time: parsing needs CPU and memory, fetching only waits."""
FETCHED_BYTES = 32 * 1024 * 1024
"""The most that is fetched and not yet parsed."""

log = logging.getLogger(__name__)


class _ReadDelta(NamedTuple):
    """A delta with its rows, or with the `error` that keeps it out of the run. Without either it is missing."""

    delta: ObjectInfo
    sha256: str | None = None
    table: pa.Table | None = None
    error: CompactionError | None = None
    change: CollectionChange = CollectionChange()
    rows: int = 0


class _Others(NamedTuple):
    """The other objects that decide about the deltas of a batch: what find_archived and find_twins found, and drops."""

    archived: Mapping[str, ObjectInfo]
    twins: Mapping[str, str]
    drops: PendingDrops


class _MergeResult(NamedTuple):
    outcomes: list[DeltaOutcome]
    parts: list[RunPart]

    @property
    def has_rows(self) -> bool:
        return any(part.rows for part in self.parts)


def merge_batch(request: MergeBatchRequest, services: Services) -> MergedBatch:
    """Quarantine the batch's corrupt deltas. Write the newest version of each row as a run, and a report.

    A second run over the same deltas writes the same objects. Only CorruptDeltaError quarantines a delta. One that
    cannot be read stays pending, and the others are merged. So do those for which the disk has no space. Any other
    error fails the task and leaves every delta pending. If one delta caused it, the error names it and a mark is
    written: DeltaFailedError, or SnapshotTooLargeError if it alone does not fit the function's memory or disk. If the
    process is killed, the mark of its work stays for ListDeltas.
    """
    use_system_memory_pool()
    with heartbeat_for(services, request.execution) as heartbeat, cache_of(services).scratch() as scratch:
        listed = BATCH_MANIFEST.validate_json(services.objects.get(request.batch.key).body)
        process = Process(request.execution, request.pass_number, f"merge-{batch_number(request.batch.key)}")
        with running(process, services.objects, deltas=listed):
            merged = _merge(listed, request, services, scratch, heartbeat)
        report = report_key(request.batch.key)
        count = Counter(outcome.status for outcome in merged.outcomes)
        services.objects.put(report, encode_outcomes(merged.outcomes))
        return MergedBatch(
            collection=request.batch.collection,
            collections=request.batch.collections,
            run=run_key(request.batch.key) if merged.has_rows else None,
            parts=_store_parts(merged.parts, request.batch.key, services.objects),
            report=report,
            merged=count["merged"],
            quarantined=count["quarantined"],
            missing=count["missing"],
            rows=sum(part.rows for part in merged.parts),
            bytes=sum(part.bytes for part in merged.parts),
            unreadable=count["unreadable"],
            left=count["left"],
        )


def _merge(
    listed: list[ObjectInfo], request: MergeBatchRequest, services: Services, scratch: Path, heartbeat: Heartbeat
) -> _MergeResult:
    """Upload the run, unless it has no rows, and return the outcome of each delta."""
    run = BatchRun(scratch)
    outcomes: dict[str, DeltaOutcome] = {}
    rejected: list[_ReadDelta] = []
    full: set[str] = set()
    for read in _read_all(listed, _shapes(request, services.objects), services):
        heartbeat.check()
        collection = _collection(read.delta, services)
        run.begin(collection)
        if read.table is not None and (collection in full or not run.has_space_for(read.table)):
            if any(outcome.status == "merged" for outcome in outcomes.values()):
                full.add(collection)  # the next execution merges the rest of it
            else:
                rejected.append(_ReadDelta(read.delta, read.sha256, error=_no_space(read.delta, read.table)))
        elif read.table is not None:
            run.add(read.table, read.change)
            outcomes[read.delta.key] = _outcome(read, "merged", rows=read.rows)
        elif read.error is not None:
            rejected.append(read)
        else:
            outcomes[read.delta.key] = _outcome(read, "missing")
        del read  # frees its rows before the next delta is parsed
    heartbeat.check()
    for outcome in _reject_all(rejected, services, request.execution):
        outcomes[outcome.key] = outcome
    parts = run.finish()
    result = _MergeResult([outcomes.get(d.key) or _outcome(_ReadDelta(d), "left") for d in listed], parts)
    if result.has_rows:
        services.objects.upload(run.file, run_key(request.batch.key))
    return result


def _collection(delta: ObjectInfo, services: Services) -> str:
    return collection_of_key(delta.key, prefix=services.settings.delta_prefix)


def _no_space(delta: ObjectInfo, table: pa.Table) -> SnapshotTooLargeError:
    return SnapshotTooLargeError(
        f"{delta.key}: merging it may need {2 * table.nbytes:,} bytes of disk, which are not free",
        next_step=MORE_MERGE_DISK,
    )


def _store_parts(parts: list[RunPart], batch: str, objects: ObjectStore) -> str | None:
    """Write the list of the run's parts, unless it is empty, and return its key."""
    if not parts:
        return None
    objects.put(parts_key(batch), RUN_PARTS.dump_json(parts))
    return parts_key(batch)


def _read_all(listed: list[ObjectInfo], shapes: Mapping[str, StoredShape], services: Services) -> Iterator[_ReadDelta]:
    """Yield the deltas in order. Parse each one when the caller asks for it, while later ones are fetched."""
    fetched = ahead(
        lambda delta: try_fetch(delta, services),
        listed,
        weigh=lambda delta: delta.bytes,
        most=FETCHED_BYTES,
        threads=READERS,
    )
    archived = find_archived(listed, services)
    others = _Others(archived, find_twins(listed, archived), PendingDrops(services))
    for delta in listed:
        # There is no shape for a name that no collection can have: all its deltas are corrupt.
        yield _check(delta, next(fetched), shapes.get(_collection(delta, services)), others, services)


def _fits(key: str, parsed: Delta, shape: StoredShape, drops: PendingDrops) -> bool:
    """Return whether the delta fits the shape. Raises CorruptDeltaError if it does not, and no drop may free it."""
    try:
        with attributed(key):
            check_fit(parsed.statement, decided_shape(parsed.statement, shape))
    except CorruptDeltaError:
        if drops.may_free(shape, parsed.id):
            return False
        raise
    return True


def _check(
    delta: ObjectInfo,
    stored: StoredObject | UnreadableObjectError | None,
    shape: StoredShape | None,
    others: _Others,
    services: Services,
) -> _ReadDelta:
    """Parse one delta, and check it against its collection's shape and against what was merged under its key.

    A delta that was deleted or written again since the listing is missing, and what is there now stays pending. So is
    what the pass was planned without: a drop that was not found, upserts if the collection has no dimension yet, and
    what contradicts a shape that a drop in a later pass may free. A delta from before the collection was dropped is
    merged without its rows.
    """
    sha256 = hashlib.sha256(stored.body).hexdigest() if isinstance(stored, StoredObject) else None
    try:
        check_merge(delta, services.settings)
        parsed = judge(
            delta,
            stored,
            others.archived.get(delta.key),
            services,
            twin=others.twins.get(delta.key),
        )
        if parsed is None or shape is None:
            return _ReadDelta(delta, sha256)
        if parsed.id < (shape.dropped_before or ""):
            change = CollectionChange(dropped_before=shape.dropped_before)
            table = run_schema(None).empty_table()
            return _ReadDelta(delta, sha256, table, change=change, rows=parsed.table.num_rows)
        if not _fits(delta.key, parsed, shape, others.drops):
            return _ReadDelta(delta, sha256)
        unknown_drop = parsed.header.drop and parsed.id > (shape.dropped_before or "")
        if unknown_drop or (parsed.dimension is not None and shape.dimension is None):
            return _ReadDelta(delta, sha256)
    except (CorruptDeltaError, DeltaFailedError, SnapshotTooLargeError, UnreadableObjectError) as error:
        return _ReadDelta(delta, sha256, error=error)
    change = CollectionChange(settings=parsed.settings, dropped_before=parsed.id if parsed.header.drop else None)
    return _ReadDelta(delta, sha256, parsed.table, change=change, rows=parsed.table.num_rows)


def _shapes(request: MergeBatchRequest, objects: ObjectStore) -> dict[str, StoredShape]:
    stored = SHAPES.validate_json(objects.get(shapes_key(request.execution, request.pass_number)).body)
    return {shape.collection: shape for shape in stored}


def _reject_all(rejected: list[_ReadDelta], services: Services, execution: str) -> list[DeltaOutcome]:
    """Quarantine the corrupt deltas, and mark the others. Raises the first error that must fail the execution.

    All are marked before, so that one execution finds every delta of the batch that fails.
    """
    outcomes = in_threads(lambda each: _reject(each, services, execution), rejected)
    for each in rejected:
        if isinstance(each.error, DeltaFailedError | SnapshotTooLargeError):
            raise each.error
    return outcomes


def _reject(rejected: _ReadDelta, services: Services, execution: str) -> DeltaOutcome:
    delta, error = rejected.delta, rejected.error
    try:
        if isinstance(error, CorruptDeltaError):
            return _quarantine(rejected, str(error)[:LONGEST_REASON], services, execution)
    except UnreadableObjectError as unreadable:  # too large to fetch, and it cannot be copied either
        error = unreadable
    if error is None:
        return _outcome(rejected, "missing")
    log.error("%s stays pending: %s", delta.key, error)
    mark(delta, error, execution, services.objects)
    return _outcome(rejected, "unreadable", reason=str(error)[:LONGEST_REASON])


def _quarantine(bad: _ReadDelta, reason: str, services: Services, execution: str) -> DeltaOutcome:
    """Copy a bad delta byte for byte and put the reason beside it. CleanUp deletes the original.

    The original stays, so that a second run of this task sees the same input.
    """
    delta = bad.delta
    try:
        copy_into_quarantine(delta.key, delta, services, reason=reason, execution=execution)
    except (ObjectMissingError, PreconditionFailedError):
        return _outcome(bad, "missing")
    log.warning("%s goes to quarantine: %s", delta.key, reason)
    return _outcome(bad, "quarantined", reason=reason)


def _outcome(read: _ReadDelta, status: DeltaStatus, *, rows: int = 0, reason: str | None = None) -> DeltaOutcome:
    key, etag, size = read.delta.key, read.delta.etag, read.delta.bytes
    return DeltaOutcome(key=key, etag=etag, bytes=size, status=status, rows=rows, reason=reason, sha256=read.sha256)
