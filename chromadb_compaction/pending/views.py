"""Views: the published snapshot and the pending deltas of one collection, as they were at one moment.

The order of the requests makes a view whole. A delta leaves delta/ only after a snapshot that holds it was published.
So the deltas are listed first, and the pointer is read afterwards. What is in both is decided by its version.

A rollback moves the pointer back, after it has put the deltas merged since into delta/ again. So the pointer must also
be the one that was read before the list began. Otherwise the list may be from before the deltas came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from threading import Lock
from typing import Final, NamedTuple

import pyarrow as pa

from chromadb_compaction import layout
from chromadb_compaction.configuration import DeltaVersion, newer_version
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError, TransientStorageError
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.pending.collection import describe
from chromadb_compaction.pending.filtering import PendingFilter
from chromadb_compaction.pending.known import KnownDeltas
from chromadb_compaction.pending.merged import MergedDeltas
from chromadb_compaction.pending.overlay import Overlay, may_be_merged
from chromadb_compaction.pending.selection import Published, select
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.snapshots.current import CurrentSnapshot
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.open_copies import ReadableCollection
from chromadb_compaction.snapshots.pointer import PublishedPointer
from chromadb_compaction.snapshots.reader import SnapshotReader

ATTEMPTS: Final = 4
"""The first reading, and three more when what was listed has changed meanwhile."""


class View(NamedTuple):
    """One collection at one moment.

    Attributes:
        snapshot: The published snapshot. None if nothing is published yet.
        known: The snapshot's description of the collection. None if it does not have it.
        overlay: The pending rows.
        listed: The pending deltas, also those that the snapshot holds.
    """

    snapshot: CurrentSnapshot | None
    known: CollectionSnapshot | None
    overlay: Overlay
    listed: Sequence[ObjectInfo]


class CollectionViews:
    """The newest view of one collection, kept by a process and shared by its threads.

    Args:
        name: The name of the collection.
        snapshots: The reader that reads the pointer.
    """

    def __init__(self, name: str, snapshots: SnapshotReader) -> None:
        self.filter = PendingFilter()
        self._name = name
        self._snapshots = snapshots
        self._known = KnownDeltas()
        self._ledger: tuple[tuple[str, ...], pa.Table] | None = None
        self._merged = MergedDeltas()
        self._opened = False
        self._behind: tuple[View, str, Overlay | None] | None = None
        self._turns = count(1)
        self._reading = Lock()
        # The newest view, the turn in which its reading began, and the time of that in Unix seconds.
        self._newest: tuple[View, int, float] | None = None

    def current(self, services: Services, *, refresh: bool) -> View:
        """Return a view that is at most READ_REFRESH_SECONDS old or, with `refresh`, whose reading begins now or later.

        Calls at the same time share one reading. Raises the errors of S3, SnapshotCorruptError, and
        TransientStorageError if the deltas changed during each of several attempts.
        """
        asked = next(self._turns)
        found = None if refresh else self._recent(services)
        if found is not None:
            return found
        with self._reading:
            if self._newest is not None and self._newest[1] > asked:
                return self._newest[0]
            found = None if refresh else self._recent(services)
            if found is not None:
                return found
            began, at = next(self._turns), services.clock()
            view = self._read(services)
            self._newest = (view, began, at)
            return view

    @property
    def newest_version(self) -> DeltaVersion | None:
        """The greatest version of a pending delta, or of the last drop, in the newest view. None: there is none."""
        if self._newest is None:
            return None
        selection = self._newest[0].overlay.selection
        last = selection.deltas[-1].delta.id if selection.deltas else None
        return newer_version(last, selection.shape.dropped_before)

    def of_list(self, listed: Sequence[ObjectInfo], snapshot: CurrentSnapshot | None, services: Services) -> View:
        """Return the view of deltas that were listed now, with the snapshot that was published meanwhile.

        Raises the errors of `current`.
        """
        with self._reading:
            try:
                return self._join(listed, snapshot, services)
            except ObjectMissingError:
                pass  # a clean-up has moved a delta since it was listed
        return self.current(services, refresh=True)

    def _recent(self, services: Services) -> View | None:
        newest = self._newest
        if newest is None or not 0 <= services.clock() - newest[2] < services.settings.read_refresh_seconds:
            return None
        return newest[0]

    def _read(self, services: Services) -> View:
        prefix = layout.collection_prefix(self._name, prefix=services.settings.delta_prefix)
        snapshot = self._newest[0].snapshot if self._newest else self._snapshots.read_current(services)
        for attempt in range(1, ATTEMPTS + 1):
            listed, snapshot = list_pending(prefix, self._snapshots, services, before=snapshot)
            try:
                return self._join(listed, snapshot, services)
            except ObjectMissingError as error:
                # A clean-up has moved a delta since it was listed.
                if attempt == ATTEMPTS:
                    raise _changes_too_fast(prefix) from error
        raise AssertionError("unreachable")

    def _join(self, listed: Sequence[ObjectInfo], snapshot: CurrentSnapshot | None, services: Services) -> View:
        self._known.forget_all_but(listed, services.settings, keep_former=self._opened)
        if snapshot is not None:
            self._merged.remember(snapshot.manifest)
        known = snapshot.manifest.collections.get(self._name) if snapshot else None
        dropped = snapshot.manifest.dropped_before(self._name) if snapshot else None
        snapshot_id = snapshot.manifest.snapshot_id if snapshot else None
        not_held = self._not_held(listed, snapshot_id, known, services)
        published = Published(self._name, known, dropped, lambda: self._read_ledger(snapshot, known, services))
        selection = select(not_held, published, self._known, services)
        previous = self._newest[0] if self._newest else None
        if previous is not None and (previous.overlay.selection, previous.known) == (selection, known):
            return View(snapshot, known, previous.overlay, listed)
        overlay = Overlay(selection, published, previous=previous.overlay if previous else None)
        return View(snapshot, known, overlay, listed)

    def behind(self, view: View, older: ReadableCollection, services: Services) -> Overlay | None:
        """Return the rows that make of an older snapshot what `view` is: those merged since, and those pending.

        None if not all deltas that were merged since are still known, or if they exceed the bounds: then the answer
        would lack what the view's snapshot has. Raises the errors of S3.
        """
        with self._reading:
            if self._behind is None or self._behind[0] is not view or self._behind[1] != older.snapshot_id:
                self._behind = view, older.snapshot_id, self._find_behind(view, older, services)
            return self._behind[2]

    def forget_merged(self) -> None:
        """Release the deltas that the open snapshot, which is that of the newest view, holds by now."""
        self._opened = True
        if not self._known.has_former and self._behind is None:
            return  # without waiting for another thread's reading
        with self._reading:
            self._known.forget_former()
            self._behind = None

    def _find_behind(self, view: View, older: ReadableCollection, services: Services) -> Overlay | None:
        if view.snapshot is None:
            return None
        merged = self._merged.since(older.snapshot_id, view.snapshot.manifest.snapshot_id, services)
        if merged is None:
            return None
        prefix = layout.collection_prefix(self._name, prefix=services.settings.delta_prefix)
        own = {key: etag for key, etag in merged if key.startswith(prefix)}
        pending = {each.key for each in view.listed}
        recalled = self._known.recall(own.items() - {(each.key, each.etag) for each in view.listed})
        if recalled is None or any(each.key in pending for each in recalled):
            return None  # not all are known, or one was written again, which only the newer snapshot's ledger shows
        listed = self._not_held([*view.listed, *recalled], older.snapshot_id, older.described, services)
        published = Published(
            self._name,
            older.described,
            older.dropped_before,
            lambda: self._read_ledger(view.snapshot, older.described, services),
        )
        try:
            selection = select(listed, published, self._known, services)
            if selection.beyond or self._known.recall(own.items()) is None:
                return None
            overlay = Overlay(selection, published)
        except (ObjectMissingError, SnapshotCorruptError):
            return None  # a delta was moved since it was listed, or the older snapshot was pruned
        # A late drop may free a shape that the newer snapshot has kept. Then other deltas would fit.
        described = [describe(each.shape, each.selection.settings) for each in (overlay, view.overlay)]
        return overlay if described[0] == described[1] else None

    def _not_held(
        self,
        listed: Sequence[ObjectInfo],
        snapshot_id: str | None,
        known: CollectionSnapshot | None,
        services: Services,
    ) -> Sequence[ObjectInfo]:
        """Leave out the deltas that the snapshot's own pass has merged, so that they do not count in the bounds.

        They stay in delta/ until the clean-up. Their versions would decide the same.
        """
        if snapshot_id is None or not any(may_be_merged(each, known) for each in listed):
            return listed
        held = self._merged.by(snapshot_id, services) or ()
        return [each for each in listed if (each.key, each.etag) not in held]

    def _read_ledger(
        self, snapshot: CurrentSnapshot | None, known: CollectionSnapshot | None, services: Services
    ) -> pa.Table:
        """Return the ledger of this description, downloaded unless it is that of the last call."""
        if snapshot is None or known is None:
            raise ValueError("nothing is published")
        files = {str(number): each.files[layout.LEDGER_FILE] for number, each in enumerate(known.directories)}
        identity = tuple(file.sha256 for file in files.values())
        if self._ledger is None or self._ledger[0] != identity:
            with cache_of(services).scratch() as scratch:
                download(services, snapshot.manifest, [Wanted(self._name, files, scratch)])
                ledgers = [decode_ledger((scratch / path).read_bytes()) for path in files]
            self._ledger = identity, pa.concat_tables(ledgers).combine_chunks()
        return self._ledger[1]


def list_pending(
    prefix: str, snapshots: SnapshotReader, services: Services, *, before: CurrentSnapshot | None = None
) -> tuple[list[ObjectInfo], CurrentSnapshot | None]:
    """Return the pending deltas under a prefix, and the snapshot that was published while they were listed.

    `before` is a snapshot that was read before. Raises TransientStorageError if each of several lists took longer than
    the time between two publications.
    """
    before = before or snapshots.read_current(services)
    for _ in range(ATTEMPTS):
        listed = [each for each in services.objects.list(prefix) if not layout.is_folder_marker(each.key)]
        snapshot = snapshots.read_current(services)
        if _pointer(snapshot) == _pointer(before):
            return listed, snapshot
        before = snapshot
    raise _changes_too_fast(prefix)


def _changes_too_fast(prefix: str) -> TransientStorageError:
    return TransientStorageError(
        f"what is under {prefix} changed during each of {ATTEMPTS} attempts to read it", next_step="ask again"
    )


def _pointer(snapshot: CurrentSnapshot | None) -> PublishedPointer | None:
    return snapshot.published if snapshot else None
