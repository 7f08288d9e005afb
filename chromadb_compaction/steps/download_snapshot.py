"""DownloadSnapshot: copy and verify the collections of the pass, and find the shape that their deltas must fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.formats import Delta, check_shape
from chromadb_compaction.errors import CorruptDeltaError, DeltaFailedError, UnreadableObjectError
from chromadb_compaction.heartbeat import heartbeat_for
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.messages import (
    BATCH_MANIFEST,
    SHAPES,
    CollectionShape,
    DownloadedSnapshot,
    DownloadSnapshotRequest,
)
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import ensure_copies, read_base
from chromadb_compaction.steps.listed_deltas import (
    attributed,
    check_not_rewritten,
    fetch_delta,
    find_archived,
    parse_delta,
)
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)


def download_snapshot(request: DownloadSnapshotRequest, services: Services) -> DownloadedSnapshot:
    """Download the collections of the batches, and write the shapes that MergeBatch reads.

    Raises SnapshotCorruptError if a file is missing or altered, SnapshotConflictError if the base is no longer
    published, SnapshotTooLargeError if the function's storage is too small.
    """
    phases = Phases()
    with heartbeat_for(services, request.execution) as heartbeat, phases("download"):
        base = read_base(services, request.base)
        touched = sorted({batch.collection for batch in request.batches})
        transferred = ensure_copies(services, base, touched)
        heartbeat.check()
        known = base.collections if base else {}
        shapes = [_shape(name, known.get(name), request, services) for name in touched]
        key = layout.shapes_key(request.execution, request.pass_number)
        services.objects.put(key, SHAPES.dump_json(shapes))
    return DownloadedSnapshot(collections=shapes, bytes=transferred, seconds=phases.total, cached=transferred == 0)


def _shape(
    name: str, known: CollectionSnapshot | None, request: DownloadSnapshotRequest, services: Services
) -> CollectionShape:
    if known is not None and known.dimension is not None:
        return CollectionShape(
            collection=name,
            dimension=known.dimension,
            space=known.space,
            embedding_function=known.embedding_function,
            records=known.records,
        )
    return next(
        _shapes_of_deltas(name, request, services),
        CollectionShape(collection=name, dimension=None, space="l2", embedding_function=None, records=0),
    )


def _shapes_of_deltas(name: str, request: DownloadSnapshotRequest, services: Services) -> Iterator[CollectionShape]:
    """Yield the shape of each valid delta of the pass that has an upsert, oldest version first.

    The oldest decides the collection's shape, so that it does not depend on batching.
    """
    pending = _pending(name, request, services)
    archived = find_archived(pending, services)
    for listed in pending:
        shape = None
        try:
            stored = fetch_delta(listed, services)
            delta = parse_delta(listed, stored, services.settings)
            if stored is not None and delta is not None and delta.dimension is not None:
                check_not_rewritten(listed, stored, archived.get(listed.key), services)
                shape = _shape_of_delta(name, delta)
                with attributed(listed.key):
                    check_shape(delta, shape)
        except (CorruptDeltaError, DeltaFailedError, UnreadableObjectError) as error:
            # MergeBatch handles it.
            log.info("%s does not decide its collection's shape: %s", listed.key, error)
            continue
        if shape is not None:
            yield shape


def _shape_of_delta(name: str, delta: Delta) -> CollectionShape:
    return CollectionShape(
        collection=name,
        dimension=delta.dimension,
        space=delta.header.space or "l2",
        embedding_function=delta.header.embedding_function,
        records=0,
    )


def _pending(name: str, request: DownloadSnapshotRequest, services: Services) -> list[ObjectInfo]:
    """Return the pass's deltas of one collection, oldest version first: their names order as their versions do."""
    keys = [batch.key for batch in request.batches if batch.collection == name]
    manifests = in_threads(lambda key: BATCH_MANIFEST.validate_json(services.objects.get(key).body), keys)
    return sorted((delta for manifest in manifests for delta in manifest), key=lambda delta: delta.key)
