"""The overlay: the newest version of each id in the selected deltas, as far as it is newer than the snapshot's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction import layout
from chromadb_compaction.chroma.loader import ids_of, vectors_of
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.pending.distances import stored
from chromadb_compaction.pending.known import Identity
from chromadb_compaction.pending.selection import Published, SelectedDelta, Selection
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.rows.ledger import Drop, is_dropped, keeps_records, newer_rows, since
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from chromadb_compaction.rows.shapes import StoredShape

UNKNOWN: Final = -1


class Overlay:
    """The pending rows of one collection as a fresh read sees them. Threads share it, because its rows never change.

    Args:
        selection: The deltas.
        published: What the snapshot has of the collection.
        previous: An overlay of some of these deltas. The new one begins with its rows instead of all deltas' rows.

    Attributes:
        selection: The deltas.
        merged: The newest version of each id in the deltas, whatever the snapshot has.
        ids: The ids of the snapshot that are not as they were: those with pending rows, and those dropped.
        restarts: Whether a pending drop leaves no record of the snapshot.
        exists: Whether the collection exists.
        shape: Its shape after a compaction of the deltas: without a dimension as long as no record ever had one.
        live: Those of their rows that are not deletes, in the order of the bytes of the ids.
        kinds: For each live row, how a fold would treat it, as far as that was asked (order.kinds_of), or UNKNOWN.
    """

    def __init__(
        self,
        selection: Selection,
        published: Published,
        *,
        previous: Overlay | None = None,
    ) -> None:
        self.selection = selection
        self._replaced: frozenset[str] | None = None
        self.merged = _merge(selection.deltas, previous)
        base = _base_of(selection, published)
        rows = self.merged.filter(pa.array(newer_rows(self.merged, base.ledger)))
        self.ids = frozenset([*ids_of(rows), *base.dropped])
        self.restarts = base.restarts
        self.exists = base.stands or base.ledger.num_rows + rows.num_rows > 0 or selection.settings.stated is not None
        self.live = rows.filter(pc.invert(rows["deleted"])).combine_chunks()
        self.shape = _folded_shape(selection, published, base, self.live)
        self.kinds = np.full(self.live.num_rows, UNKNOWN, dtype=np.int64)

    @cached_property
    def live_ids(self) -> list[str]:
        """The ids of the live rows, in the order of their bytes. All data about live rows has this order."""
        return ids_of(self.live)

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each live id in that order."""
        return {row_id: at for at, row_id in enumerate(self.live_ids)}

    @cached_property
    def vectors(self) -> Vector:
        """The vector of each live row, as it was written."""
        dimension = self.shape.dimension or 0
        return vectors_of(self.live) if self.live.num_rows else np.empty((0, dimension), dtype=np.float32)

    @cached_property
    def stored_vectors(self) -> Vector:
        """The vector of each live row, as ChromaDB returns it."""
        return stored(self.vectors, self.selection.shape.space)

    def replaced(self, find: Callable[[], frozenset[str]]) -> frozenset[str]:
        """Return the result of `find`, the ids that the snapshot has too, which is called once."""
        if self._replaced is None:
            self._replaced = find()
        return self._replaced

    @cached_property
    def identities(self) -> frozenset[Identity]:
        """The deltas that it holds."""
        return _identities(self.selection.deltas)


class _Base(NamedTuple):
    """The snapshot's part of a collection, as far as pending deltas are concerned.

    Attributes:
        ledger: Its ledger, without the rows that a pending drop removes. Empty if nothing is compared with it.
        dropped: The ids of the live rows that a pending drop removes.
        restarts: Whether a pending drop leaves no live row.
        stands: Whether the collection is published, and no pending delta drops it.
    """

    ledger: pa.Table
    dropped: list[str]
    restarts: bool
    stands: bool


def _base_of(selection: Selection, published: Published) -> _Base:
    dropped_before, nothing = selection.shape.dropped_before, LEDGER_SCHEMA.empty_table()
    if published.known is None:
        return _Base(nothing, [], restarts=False, stands=False)
    if dropped_before is None or dropped_before == published.dropped_before:
        ledger = (
            published.read_ledger()
            if any(may_be_merged(each.listed, published.known) for each in selection.deltas)
            else nothing
        )
        return _Base(ledger, [], restarts=False, stands=True)
    ledger, drop = published.read_ledger(), Drop(UUID(dropped_before).bytes, is_new=True)
    dropped = ledger.filter(pa.array(is_dropped(ledger, drop)))
    live = dropped.filter(pc.invert(dropped["deleted"]))
    restarts = not keeps_records(ledger, drop.version)
    return _Base(since(ledger, drop), ids_of(live), restarts=restarts, stands=False)


def _folded_shape(selection: Selection, published: Published, base: _Base, live: pa.Table) -> StoredShape:
    """Return the shape that a fold leaves. Upserts that a newer delete hides give a collection none."""
    has_records = published.known is not None and published.known.dimension is not None and not base.restarts
    shape = selection.shape
    if not has_records and not live.num_rows:
        shape = shape.model_copy(update={"dimension": None})
    return shape if shape.is_stated else StoredShape.published(published.name, None, shape.dropped_before)


def may_be_merged(listed: ObjectInfo, known: CollectionSnapshot | None) -> bool:
    """Return whether the snapshot may have a row of this delta, or a newer row of one of its ids."""
    return known is not None and known.may_hold(layout.delta_stem(listed.key))


def _merge(deltas: tuple[SelectedDelta, ...], previous: Overlay | None) -> pa.Table:
    known = previous.identities if previous else frozenset()
    if previous is None or not known <= _identities(deltas):
        return newest(each.delta.table for each in deltas)
    added = [each.delta.table for each in deltas if (each.listed.key, each.listed.etag) not in known]
    return newest([previous.merged, *added]) if added else previous.merged


def _identities(deltas: tuple[SelectedDelta, ...]) -> frozenset[Identity]:
    return frozenset((each.listed.key, each.listed.etag) for each in deltas)
