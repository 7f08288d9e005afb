"""Fresh reads: collections with every delta that was written before the read began, published or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from chromadb_compaction import layout
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import (
    NoSuchCollectionError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.pending.collection import CollectionDescription, FreshCollection, describe
from chromadb_compaction.pending.filtering import Mask
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.pending.selection import Published, Selection
from chromadb_compaction.pending.views import CollectionViews, View, list_pending
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from chromadb_compaction.rows.shapes import StoredShape
from chromadb_compaction.snapshots.open_copies import ReadableCollection
from chromadb_compaction.snapshots.reader import Prefetched, SnapshotReader

__all__ = ["CollectionDescription", "FreshCollection", "FreshReader", "ReadLevel"]

ReadLevel = Literal["fresh", "snapshot"]
"""`fresh`: the snapshot joined with the pending deltas. `snapshot`: the published snapshot alone."""

ATTEMPTS: Final = 3


class FreshReader:
    """The collections of one process, shared by its threads.

    Args:
        snapshots: The reader of published snapshots. Without one, it makes its own and closes it.
    """

    def __init__(self, snapshots: SnapshotReader | None = None) -> None:
        self._snapshots = snapshots or SnapshotReader()
        self._owns_snapshots = snapshots is None
        self._lock = Lock()
        self._collections: dict[str, CollectionViews] = {}

    @contextmanager
    def reading(
        self, services: Services, name: str, *, read_level: ReadLevel = "fresh", refresh: bool = False
    ) -> Iterator[FreshCollection]:
        """Yield the collection `name`.

        Args:
            services: The bucket.
            name: The name of the collection, which may exist in pending deltas only.
            read_level: Whether pending deltas are joined.
            refresh: List the pending deltas now, so that the caller sees what it has just written. Without it, a list
                is used for READ_REFRESH_SECONDS.

        Raises:
            NoSuchCollectionError: Neither the snapshot nor a pending delta has it.
            NoSnapshotError: Nothing is published yet, and only snapshots are to be read.
            SnapshotCorruptError: The published snapshot is damaged.
            TransientStorageError: S3 failed, or the bucket changed faster than it could be read.
        """
        with ExitStack() as stack:
            if read_level == "snapshot":
                yield _without_pending(stack.enter_context(self._snapshots.reading(services, name)), name)
            else:
                yield self._open(stack, services, name, refresh=refresh)

    def describe(self, services: Services, name: str, *, refresh: bool = False) -> CollectionDescription:
        """Return the properties of a collection without downloading it. Arguments and errors are those of `reading`."""
        view = self._views(name).current(services, refresh=refresh)
        if not view.overlay.exists:
            raise _no_such_collection(view, name)
        return describe(view.overlay.shape, view.overlay.selection.settings)

    def newest_version(self, name: str) -> DeltaVersion | None:
        """Return the greatest pending version that the last reading of a collection found, or that of its last drop."""
        return self._views(name).newest_version

    def collections(self, services: Services, *, read_level: ReadLevel = "fresh") -> dict[str, CollectionDescription]:
        """Return every collection that a read sees, by name, sorted. It lists the pending deltas of all of them now.

        Raises the errors of `reading`.
        """
        pending: dict[str, list[ObjectInfo]] = defaultdict(list)
        if read_level == "snapshot":
            snapshot = self._snapshots.read_current(services)
        else:
            listed, snapshot = list_pending(services.settings.delta_prefix, self._snapshots, services)
            for each in listed:
                pending[layout.collection_of_key(each.key, prefix=services.settings.delta_prefix)].append(each)
        published = snapshot.manifest.collections if snapshot else {}
        dropped = snapshot.manifest.all_dropped if snapshot else {}
        found = {
            name: describe(StoredShape.published(name, known, dropped.get(name)), known.settings_with_function)
            for name, known in published.items()
        }
        for name in pending.keys() - {layout.NO_COLLECTION}:
            view = self._views(name).of_list(pending[name], snapshot, services)
            found.pop(name, None)
            if view.overlay.exists:
                found[name] = describe(view.overlay.shape, view.overlay.selection.settings)
        return dict(sorted(found.items()))

    @property
    def open_names(self) -> list[str]:
        """The collections of which a snapshot is open."""
        return self._snapshots.names

    def prefetch(self, services: Services, name: str) -> Prefetched:
        """Open the published snapshot of a collection, and wait for its download.

        Raises what `reading` raises of a snapshot alone.
        """
        return self._snapshots.prefetch(services, name)

    def close(self) -> None:
        """Remove every local copy that no read uses. The others are removed when their read ends."""
        with self._lock:
            collections, self._collections = self._collections, {}
        for each in collections.values():
            each.filter.close()
        if self._owns_snapshots:
            self._snapshots.close()

    def _open(self, stack: ExitStack, services: Services, name: str, *, refresh: bool) -> FreshCollection:
        views = self._views(name)
        for attempt in range(ATTEMPTS):
            view = views.current(services, refresh=refresh or attempt > 0)
            try:
                return self._join(stack, services, view, name, views)
            except (SnapshotConflictError, SnapshotCorruptError) as error:
                # Another snapshot was published, and this one may have been pruned.
                last: Exception = error
        if isinstance(last, SnapshotCorruptError):
            raise last
        raise TransientStorageError(
            f"another snapshot was published during each of {ATTEMPTS} attempts to read {name!r}", next_step="ask again"
        ) from last

    def _join(
        self, stack: ExitStack, services: Services, view: View, name: str, views: CollectionViews
    ) -> FreshCollection:
        if not view.overlay.exists:
            raise _no_such_collection(view, name)
        collection, overlay = None, view.overlay
        snapshot_id = view.snapshot.manifest.snapshot_id if view.snapshot else None
        if view.snapshot is not None and view.known is not None:
            older = stack.enter_context(self._snapshots.reading_open(services, view.snapshot, name))
            behind = views.behind(view, older, services) if older is not None else None
            if older is not None and behind is not None:
                collection, overlay, snapshot_id = older.collection, behind, older.snapshot_id
            else:
                readable = stack.enter_context(self._snapshots.reading_of(services, view.snapshot, name))
                collection = readable.collection
                views.forget_merged()
        return FreshCollection(
            name,
            snapshot_id,
            collection,
            overlay,
            lambda rows, filters: views.filter.passing(rows, filters, services),
        )

    def _views(self, name: str) -> CollectionViews:
        with self._lock:
            return self._collections.setdefault(name, CollectionViews(name, self._snapshots))


def _without_pending(readable: ReadableCollection, name: str) -> FreshCollection:
    known = readable.described
    shape = StoredShape.published(name, known, readable.dropped_before)
    published = Published(name, known, readable.dropped_before, LEDGER_SCHEMA.empty_table)
    nothing = Overlay(Selection((), 0, 0, 0, shape, known.settings_with_function), published)
    return FreshCollection(name, readable.snapshot_id, readable.collection, nothing, _passing_none)


def _passing_none(rows: pa.Table, _filters: Filters) -> Mask:
    return np.zeros(rows.num_rows, dtype=np.bool_)


def _no_such_collection(view: View, name: str) -> NoSuchCollectionError:
    selection = view.overlay.selection
    if selection.left:
        why = "the bounds of a fresh read leave out" if selection.beyond else "S3 refuses to read"
        return NoSuchCollectionError(
            f"no snapshot has the collection {name!r}, and {why} {selection.left} of its pending deltas",
            next_step="ask again after the next compaction, or raise PENDING_ROWS, PENDING_BYTES and PENDING_DELTAS"
            if selection.beyond
            else "see: chromadb-compaction status",
        )
    if view.snapshot is None:
        return NoSuchCollectionError(
            f"there is no collection {name!r}: nothing is published yet, and no pending delta makes it",
            next_step="write records to it, or see: chromadb-compaction status",
        )
    return NoSuchCollectionError(
        f"snapshot {view.snapshot.manifest.snapshot_id} has no collection {name!r}, and no pending delta makes it;"
        f" it has: {view.snapshot.manifest.names}"
    )
