"""DownloadSnapshot: copy and verify the collections of the pass, and find the shape that their deltas must fit."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import pyarrow as pa

from chromadb_compaction import layout
from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.attempts import blaming_collections
from chromadb_compaction.deltas.deaths import Process, running, running_whole_pass
from chromadb_compaction.deltas.drops import may_drop
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.errors import CorruptDeltaError, DeltaFailedError, UnreadableObjectError
from chromadb_compaction.fold.cost import FoldCost, limits_of
from chromadb_compaction.fold.distribution import plan_folds
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.heartbeat import heartbeat_for
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.messages import BATCH_MANIFEST, LISTED_COLLECTIONS, DownloadedSnapshot, DownloadSnapshotRequest
from chromadb_compaction.pending.listed import fetch_delta, find_archived, find_twins, judge
from chromadb_compaction.pending.shapes import after_drop, decided_by
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.rows.shapes import SHAPES, StoredShape
from chromadb_compaction.snapshots.base import ensure_copies, read_base
from chromadb_compaction.snapshots.cache import DirectoryName
from chromadb_compaction.snapshots.packs import read_file
from chromadb_compaction.times import Phases

TASK = "download"
"""The name of the process in its marks of work in progress."""
READERS = 16
"""Collections whose deltas are read at once."""
READ_BYTES = 16 * 1024 * 1024
"""The size of the deltas that are parsed at once. A larger one is parsed alone."""

log = logging.getLogger(__name__)


def download_snapshot(request: DownloadSnapshotRequest, services: Services) -> DownloadedSnapshot:
    """Download the collections that UploadSnapshot folds, and write the shapes that MergeBatch reads.

    Raises SnapshotCorruptError if a file is missing or altered, SnapshotConflictError if the base is no longer
    published, SnapshotTooLargeError if the function's storage is too small.
    """
    phases = Phases()
    with heartbeat_for(services, request.execution) as heartbeat, phases("download"):
        base = read_base(services, request.base)
        pending = _pending(request, services)
        process = Process(request.execution, request.pass_number, TASK)
        with running_whole_pass(process, services.objects, list(pending), seconds_left=services.seconds_left):
            with blaming_collections(pending, request.execution, services.objects):
                transferred = ensure_copies(services, base, _folded_here(base, pending, services))
            heartbeat.check()
            shapes = list(
                ahead(
                    lambda name: _shape(name, base, pending[name], request, services),
                    pending,
                    weigh=lambda name: max(delta.bytes for delta in pending[name]),
                    most=READ_BYTES,
                    threads=READERS,
                )
            )
            key = layout.shapes_key(request.execution, request.pass_number)
            services.objects.put(key, SHAPES.dump_json(shapes))
    largest = sorted(shapes, key=lambda shape: -shape.records)[:LISTED_COLLECTIONS]
    return DownloadedSnapshot(
        collections=[shape.summary() for shape in largest],
        others=len(shapes) - len(largest),
        bytes=transferred,
        seconds=phases.total,
        cached=transferred == 0,
    )


def _folded_here(
    base: Manifest | None, pending: Mapping[str, list[ObjectInfo]], services: Services
) -> list[DirectoryName]:
    """Return the directories whose copies UploadSnapshot needs: of a large pass, other functions fold the others.

    Those of a partitioned collection are left to the fold: only the runs tell which of them have new rows.
    """
    if base is not None:
        base.collections.locate(pending)
    costs = [
        FoldCost(FoldUnit(name), base.bytes_of(name) if base else 0, sum(delta.bytes for delta in deltas))
        for name, deltas in pending.items()
    ]
    here = [unit.directory for unit in plan_folds(costs, limits_of(services)).here]
    if base is None:
        return here
    base.collections.fetch(name.collection for name in here)
    return [
        name
        for name in here
        if name.collection in base.collections and not base.collections[name.collection].partitions
    ]


def _shape(
    name: str,
    base: Manifest | None,
    pending: list[ObjectInfo],
    request: DownloadSnapshotRequest,
    services: Services,
) -> StoredShape:
    """Return the published shape. What it lacks, the oldest deltas of the pass decide, whatever the batching.

    A drop in this pass frees the shape first, unless it is older than a record.
    """
    known = base.collections.get(name) if base else None
    dropped_before = base.dropped_before(name) if base else None
    drop = _newest_drop(pending, services)
    if drop is not None and drop > (dropped_before or ""):
        dropped_before = drop
        known = known and after_drop(known, drop, _ledger(known, services))
    shape = StoredShape.published(name, known, dropped_before)
    if shape.dimension is not None:
        return shape
    archived = find_archived(pending, services)
    twins = find_twins(pending, archived)
    process = Process(request.execution, request.pass_number, TASK)
    for listed in pending:
        if listed.key in twins:
            continue  # MergeBatch refuses it
        mark = running(process, services.objects, deltas=[listed])
        delta = _read(listed, archived, services, within=mark)
        if delta is None or delta.id <= (dropped_before or ""):
            continue
        shape = decided_by(delta, shape) or shape
        if shape.dimension is not None:
            return shape
    return shape


def _newest_drop(pending: list[ObjectInfo], services: Services) -> DeltaVersion | None:
    """Return the version of the newest drop of the pass.

    Only files that may be a drop are read, in threads: JSON Lines of at most DROP_BYTES. Of rows, one delete or one
    short upsert is as small, and is then read twice, for one more GET.
    """
    candidates = [each for each in pending if may_drop(each.key, each.bytes)]
    archived = find_archived(candidates, services)
    found = in_threads(lambda each: _read(each, archived, services), candidates)
    return max((delta.id for delta in found if delta is not None and delta.header.drop), default=None)


def _ledger(known: CollectionSnapshot, services: Services) -> pa.Table:
    files = [each.files[layout.LEDGER_FILE] for each in known.directories]
    ledgers = in_threads(lambda file: decode_ledger(read_file(services.objects, file)), files)
    return pa.concat_tables(ledgers).combine_chunks()


def _read(
    listed: ObjectInfo,
    archived: Mapping[str, ObjectInfo],
    services: Services,
    *,
    within: AbstractContextManager[None] = nullcontext(),  # noqa: B008 - it can be entered again
) -> Delta | None:
    """Return a delta, or None if it decides nothing: it is gone, or MergeBatch will refuse it. Parse it `within`."""
    try:
        stored = fetch_delta(listed, services)
        with within:
            return judge(listed, stored, archived.get(listed.key), services)
    except (CorruptDeltaError, DeltaFailedError, UnreadableObjectError) as error:
        # MergeBatch handles it.
        log.info("%s does not decide its collection's shape: %s", listed.key, error)
        return None


def _pending(request: DownloadSnapshotRequest, services: Services) -> dict[str, list[ObjectInfo]]:
    """Return the pass's deltas by collection, oldest version first: their names order as their versions do."""
    manifests = in_threads(
        lambda batch: BATCH_MANIFEST.validate_json(services.objects.get(batch.key).body), request.batches
    )
    found: dict[str, list[ObjectInfo]] = defaultdict(list)
    for delta in sorted((delta for manifest in manifests for delta in manifest), key=lambda delta: delta.key):
        found[layout.collection_of_key(delta.key, prefix=services.settings.delta_prefix)].append(delta)
    return dict(sorted(found.items()))
