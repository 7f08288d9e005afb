"""The pending deltas of a fresh read: those that a compaction would merge, oldest first, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

import pyarrow as pa

from chromadb_compaction import layout
from chromadb_compaction.configuration import DeltaVersion, KeptSettings
from chromadb_compaction.deltas.drops import may_drop
from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.pending.known import KnownDeltas
from chromadb_compaction.pending.listed import find_twins, is_named_well
from chromadb_compaction.pending.rewritten import is_rewritten
from chromadb_compaction.pending.shapes import after_drop, decided_by
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.shapes import StoredShape
from chromadb_compaction.settings import Settings


class Published(NamedTuple):
    """One collection in the published snapshot.

    Attributes:
        name: The name of the collection.
        known: The collection. None: the snapshot does not have it.
        dropped_before: The version at which it was dropped last.
        read_ledger: Returns the collection's ledger. Called only if the snapshot has it.
    """

    name: str
    known: CollectionSnapshot | None
    dropped_before: DeltaVersion | None
    read_ledger: Callable[[], pa.Table]


class SelectedDelta(NamedTuple):
    """A pending delta that is joined with the snapshot. Its key and ETag identify it.

    Attributes:
        listed: Its description in the listing.
        delta: Its rows.
    """

    listed: ObjectInfo
    delta: Delta


class Selection(NamedTuple):
    """The pending deltas of one collection, judged.

    Attributes:
        deltas: Those that are joined with the snapshot, oldest version first. None is older than the newest drop.
        applied: The number of those that the answer includes: these, and those that the drop makes void.
        left: The number of those that it does not, although a compaction may merge them.
        beyond: The number of those among them that exceed the bounds. The others cannot be read.
        shape: The collection's shape, published or decided by `deltas`, with the newest drop.
        settings: The collection's settings after these deltas.
    """

    deltas: tuple[SelectedDelta, ...]
    applied: int
    left: int
    beyond: int
    shape: StoredShape
    settings: KeptSettings


class _Space:
    """The space within the bounds that is left."""

    def __init__(self, settings: Settings) -> None:
        self._deltas, self._rows = settings.pending_deltas, settings.pending_rows
        self._bytes = self._stored_bytes = settings.pending_bytes

    def may_fit(self, listed: ObjectInfo) -> bool:
        """Return whether the delta may fit, judged before it is read."""
        return self._deltas > 0 and listed.bytes <= self._stored_bytes

    def take(self, listed: ObjectInfo, table: pa.Table) -> bool:
        """Take the space for a delta, or return False if there is too little."""
        self._deltas -= 1
        self._stored_bytes -= listed.bytes
        self._rows -= table.num_rows
        self._bytes -= table.nbytes
        return min(self._rows, self._bytes) >= 0


def select(listed: Sequence[ObjectInfo], published: Published, known: KnownDeltas, services: Services) -> Selection:
    """Judge the listed deltas of one collection as MergeBatch does, and select the oldest within the bounds.

    From the first delta that does not fit the bounds, none is selected: the selection is never out of order. A delta
    that would go to quarantine is ignored. One that cannot be read is left, and later ones are selected, as MergeBatch
    would merge them. Deltas from before a drop do not count in the bounds. Raises the errors of KnownDeltas.read.
    """
    prefix = services.settings.delta_prefix
    waiting = sorted((each for each in listed if is_named_well(each.key, prefix)), key=lambda each: each.key)
    shape = StoredShape.published(published.name, published.known, published.dropped_before)
    selection = _select(waiting, shape, published, known, services)
    drop = _newest_drop(waiting, selection.beyond, known, services) if selection.beyond else None
    if drop is None:
        return selection
    since = [each for each in waiting if layout.delta_stem(each.key) >= drop.id]
    shape = _shape_after(drop, shape, published)
    selection = _select(since, shape, published, known, services)
    return selection._replace(applied=selection.applied + len(waiting) - len(since))


def _newest_drop(waiting: Sequence[ObjectInfo], beyond: int, known: KnownDeltas, services: Services) -> Delta | None:
    """Return the newest drop among the last `beyond` deltas, of which as many are read as the bounds allow."""
    twins = find_twins(waiting, {})
    may_be = [each for each in waiting[-beyond:] if may_drop(each.key, each.bytes) and each.key not in twins]
    last = may_be[-services.settings.pending_deltas :]
    with closing(known.read(last, services)) as reading:
        drops = [read.delta for read in reading if read.delta is not None and read.delta.header.drop]
    return drops[-1] if drops else None


def _select(
    waiting: Sequence[ObjectInfo],
    shape: StoredShape,
    published: Published,
    known: KnownDeltas,
    services: Services,
) -> Selection:
    space = _Space(services.settings)
    readable: list[SelectedDelta] = []
    left = beyond = 0
    with closing(known.read(waiting, services)) as reading:
        for number, each in enumerate(waiting):
            read = next(reading) if space.may_fit(each) else None
            if read is None or (read.delta is not None and not _takes(space, read.delta, each, shape)):
                beyond = len(waiting) - number
                break
            left += read.stays_pending
            if read.delta is None or _is_rewritten(read.delta, published):
                continue
            readable.append(SelectedDelta(each, read.delta))
            shape = _shape_after(read.delta, shape, published)
    return _selection(readable, left + beyond, beyond, shape, published)


def _is_rewritten(delta: Delta, published: Published) -> bool:
    known = published.known
    return known is not None and known.may_hold(delta.id) and is_rewritten(delta, published.read_ledger())


def _takes(space: _Space, delta: Delta, listed: ObjectInfo, shape: StoredShape) -> bool:
    """Take the space for a delta if it will be selected, or return False if there is too little."""
    ignored = delta.id < (shape.dropped_before or "") or decided_by(delta, shape) is None
    return ignored or space.take(listed, delta.table)


def _shape_after(delta: Delta, shape: StoredShape, published: Published) -> StoredShape:
    """Return the shape after a delta, which is newer than those before it. A drop frees it."""
    if delta.id <= (shape.dropped_before or ""):
        return shape
    if not delta.header.drop:
        return decided_by(delta, shape) or shape
    known = published.known and after_drop(published.known, delta.id, published.read_ledger())
    return StoredShape.published(published.name, known, delta.id)


def _selection(
    readable: Sequence[SelectedDelta], left: int, beyond: int, shape: StoredShape, published: Published
) -> Selection:
    """Judge all deltas by the final shape: one may contradict what a later one has decided."""
    oldest = shape.dropped_before or ""
    deltas = [each for each in readable if each.delta.id >= oldest and decided_by(each.delta, shape) is not None]
    settings = published.known.settings_with_function if published.known else KeptSettings()
    for each in deltas:
        settings = settings.merged(each.delta.settings)
    settings = settings.since(shape.dropped_before).with_shape_of(shape.settings)
    void = sum(each.delta.id < oldest for each in readable)
    return Selection(tuple(deltas), len(deltas) + void, left, beyond, shape, settings)
