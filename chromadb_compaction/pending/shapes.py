"""The shape of a collection: what drops leave of it, and what the oldest valid deltas decide of the rest."""

from __future__ import annotations

import logging
from uuid import UUID

import pyarrow as pa

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.drops import may_drop
from chromadb_compaction.deltas.fitting import check_fit, decided_shape
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.errors import CorruptDeltaError, DeltaFailedError, UnreadableObjectError
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.pending.listed import attributed, judge, try_fetch
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import keeps_records
from chromadb_compaction.rows.shapes import StoredShape

log = logging.getLogger(__name__)


def after_drop(known: CollectionSnapshot, drop: DeltaVersion, ledger: pa.Table) -> CollectionSnapshot:
    """Return a published collection with what a drop leaves of its shape. `ledger` is the collection's."""
    kept = keeps_records(ledger, UUID(drop).bytes)
    settings = known.settings.since(drop)
    return known.model_copy(update={"settings": settings, "dimension": known.dimension if kept else None})


def decided_by(delta: Delta, shape: StoredShape) -> StoredShape | None:
    """Return the shape after this delta, which decides what `shape` lacks. None: the delta does not fit."""
    try:
        with attributed(delta.id):
            decided = decided_shape(delta.statement, shape)
            check_fit(delta.statement, decided)
    except (CorruptDeltaError, DeltaFailedError) as error:
        log.info("%s does not fit its collection: %s", delta.id, error)
        return None
    return decided if decided.is_stated else shape


class PendingDrops:
    """The pending drops of collections, whatever pass they are in. Each collection is listed once, when it is needed.

    A pass may lack the oldest deltas of a collection, because a process was killed while it worked on them, or because
    they failed. If a drop is among them, it may free the shape that a newer delta contradicts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: dict[str, list[DeltaVersion]] = {}

    def may_free(self, shape: StoredShape, version: DeltaVersion) -> bool:
        """Return whether a drop that `shape` does not know is pending, and is older than the delta of `version`.

        What may be a drop and cannot be read counts as one. Raises the errors of S3.
        """
        collection = shape.collection
        if collection not in self._known:
            prefix = layout.collection_prefix(collection, prefix=self._services.settings.delta_prefix)
            candidates = [each for each in self._services.objects.list(prefix) if may_drop(each.key, each.bytes)]
            drops = in_threads(self._may_be_drop, candidates)
            self._known[collection] = [
                layout.delta_stem(each.key) for each, is_drop in zip(candidates, drops, strict=True) if is_drop
            ]
        return any((shape.dropped_before or "") < drop < version for drop in self._known[collection])

    def _may_be_drop(self, listed: ObjectInfo) -> bool:
        try:
            delta = judge(listed, try_fetch(listed, self._services), None, self._services)
        except CorruptDeltaError:
            return False
        except (DeltaFailedError, UnreadableObjectError):
            return True
        return delta is not None and delta.header.drop
