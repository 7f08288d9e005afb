"""The shape of a collection: what a drop leaves of it, and what the oldest valid deltas decide of the rest."""

from __future__ import annotations

import logging
from uuid import UUID

import pyarrow as pa

from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.fitting import check_fit, decided_shape
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.errors import CorruptDeltaError, DeltaFailedError
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.pending.listed import attributed
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
