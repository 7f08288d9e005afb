"""Published collections kept open for queries: downloaded at the first query, replaced when a new one is published."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Thread
from typing import Final, NamedTuple

from chromadb_compaction.errors import (
    CompactionError,
    NoSnapshotError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import MEBIBYTE
from chromadb_compaction.snapshots.current import CurrentSnapshot, read_current
from chromadb_compaction.snapshots.missing_pointer import missing_pointer
from chromadb_compaction.snapshots.open_copies import OpenCopies, OpenCopy, ReadableCollection
from chromadb_compaction.snapshots.pointer import PublishedPointer

BACKGROUND_BYTES: Final = 16 * MEBIBYTE
"""The least download that is done beside answers. A smaller one takes less than a second, so a query waits for it."""

log = logging.getLogger(__name__)


class Prefetched(NamedTuple):
    """The snapshot of a collection that is open now, and the bytes that had to be downloaded."""

    snapshot_id: str
    bytes: int


class SnapshotReader:
    """The open collections of one process, shared by its threads.

    A query keeps the copy that it began with, even if a new snapshot is published meanwhile. The first query that finds
    a collection changed downloads it and waits, or has it downloaded in the background (`reading_open`). Until then
    other queries of that collection use the copy that is open, and queries of other collections do not wait. Of a
    partitioned collection only the partitions that have changed are downloaded. Copies are private to the process,
    because even a query writes to ChromaDB's files.
    """

    def __init__(self) -> None:
        self._copies = OpenCopies()
        # The lock of the copies guards the fields below too.
        self._state = self._copies.lock
        self._snapshot: CurrentSnapshot | None = None
        self._downloading: set[str] = set()
        # The collections that are downloaded in the background, and the snapshots for which that failed.
        self._fetching: set[str] = set()
        self._failed: set[tuple[str, PublishedPointer]] = set()
        self._refreshes = count(1)
        self._last_refresh = 0

    @contextmanager
    def reading(self, services: Services, name: str) -> Iterator[ReadableCollection]:
        """Yield the published collection `name`.

        Costs one conditional GET if nothing has changed. If S3 fails temporarily, the copy that is open is used.
        Raises NoSnapshotError, NoSuchCollectionError, and SnapshotCorruptError.
        """
        readable, copy = self._acquire_published(services, name)
        with self._released(copy):
            yield readable

    def read_current(self, services: Services) -> CurrentSnapshot | None:
        """Return the published snapshot, None if nothing is published yet. Costs one conditional GET.

        Of two results, equal pointers mean that nothing was published between the two calls. Raises
        SnapshotCorruptError if the pointer was lost, and the errors of S3.
        """
        found = self._refresh(services)
        if found is None and isinstance(error := missing_pointer(services), SnapshotCorruptError):
            raise error
        return found

    @contextmanager
    def reading_of(self, services: Services, snapshot: CurrentSnapshot, name: str) -> Iterator[ReadableCollection]:
        """Yield the collection `name` exactly as `snapshot`, a result of `read_current`, has it. Wait for its download.

        Raises SnapshotConflictError if another snapshot is current by now and the files of this one are not open,
        NoSuchCollectionError, SnapshotCorruptError, and the errors of S3.
        """
        readable, copy = self._acquire_of(services, snapshot, name)
        with self._released(copy):
            yield readable

    @contextmanager
    def reading_open(
        self, services: Services, snapshot: CurrentSnapshot, name: str
    ) -> Iterator[ReadableCollection | None]:
        """Yield the open copy of an older snapshot while that of `snapshot` is downloaded in the background.

        None if there is none, if `snapshot` is open already, if its download is too small to matter, or if its last
        download in the background failed: `reading_of` then downloads it, or raises the error.
        """
        needed = self._copies.bytes_to_open(name, snapshot.manifest.collection(name))
        if needed is None or needed < BACKGROUND_BYTES or not self._fetch_in_background(services, snapshot, name):
            yield None
            return
        with self._state:
            copy = self._copies.find(name)
            if copy is not None:
                self._copies.use(copy)
        with self._released(copy):
            yield copy.readable if copy else None

    def _fetch_in_background(self, services: Services, snapshot: CurrentSnapshot, name: str) -> bool:
        """Begin to download the collection, unless somebody downloads it. Return False if that has failed before."""
        this = name, snapshot.published
        with self._state:
            if this in self._failed:
                self._failed.discard(this)
                return False
            if name in self._downloading or name in self._fetching:
                return True
            self._fetching.add(name)

        def fetch() -> None:
            failed = True
            try:
                with self.reading_of(services, snapshot, name):
                    failed = False
            except SnapshotConflictError:
                failed = False  # another snapshot was published meanwhile: the next query begins again
            except CompactionError as error:
                log.warning("the next query of %s waits for its download: %s", name, error)
            finally:
                with ExitStack() as unused, self._state:
                    self._failed = {this} if failed else set()
                    self._fetching.discard(name)
                    if self._snapshot is None:  # it was closed meanwhile
                        self._copies.retire(name, unused)

        Thread(target=fetch, name=f"fetch {name}", daemon=True).start()
        return True

    @property
    def names(self) -> list[str]:
        """The collections that are open."""
        with self._state:
            return self._copies.names

    def prefetch(self, services: Services, name: str) -> Prefetched:
        """Open the published collection, as `reading` does, and wait for its download. Raises the same errors."""
        self._refresh_or_raise(services)
        manifest, described = self._read_described(name)
        needed = self._copies.bytes_to_open(name, described)
        with self.reading(services, name) as readable:
            return Prefetched(readable.snapshot_id, manifest.bytes_of(name) if needed is None else needed)

    def close(self) -> None:
        """Remove every copy that no query uses. The others are removed when their query ends."""
        with ExitStack() as unused, self._state:
            self._set_snapshot(None, self._copies.names, unused)

    @contextmanager
    def _released(self, copy: OpenCopy | None) -> Iterator[None]:
        try:
            yield
        finally:
            if copy is not None:
                with ExitStack() as unused, self._state:
                    self._copies.release(copy, unused)

    def _acquire_published(self, services: Services, name: str) -> tuple[ReadableCollection, OpenCopy | None]:
        try:
            self._refresh_or_raise(services)
            return self._acquire(services, name)
        except SnapshotCorruptError as error:
            # The snapshot may have been pruned while it was read, so the pointer is read once more.
            log.warning("reading the published snapshot again: %s", error)
        except TransientStorageError as error:
            with self._state:
                copy = self._copies.find(name)
                if copy is None:
                    raise
                log.warning("answering from snapshot %s: %s", copy.readable.snapshot_id, error)
                return self._copies.use(copy)
        self._refresh_or_raise(services)
        return self._acquire(services, name)

    def _refresh_or_raise(self, services: Services) -> None:
        if self._refresh(services) is None:
            raise missing_pointer(services)

    def _refresh(self, services: Services) -> CurrentSnapshot | None:
        """Read the pointer and, if it has changed, the manifest. Return what was read.

        Of several refreshes at the same time, the one that began last wins: its result was published when the others
        began, or later. Sequence numbers cannot decide this, because a restored pointer has an older one.
        """
        with self._state:
            refresh, known = next(self._refreshes), self._snapshot
        found = read_current(services, known)
        gone = self._gone(found) if found is not known else []
        with ExitStack() as unused, self._state:
            if refresh > self._last_refresh and (found is not known or self._snapshot is known):
                self._last_refresh = refresh
                self._set_snapshot(found, gone, unused)
        return found

    def _gone(self, found: CurrentSnapshot | None) -> list[str]:
        """Return the open collections that the snapshot does not have. Their shards are read, without the lock."""
        with self._state:
            names = self._copies.names
        if found is None:
            return names
        try:
            return sorted({*names} - {*found.manifest.collections.present(names)})
        except SnapshotCorruptError:
            return []  # the query of the collection raises it

    def _set_snapshot(self, found: CurrentSnapshot | None, gone: Iterable[str], unused: ExitStack) -> None:
        if found is self._snapshot:
            return
        self._snapshot = found
        for name in gone:
            self._copies.retire(name, unused)
        if found is not None:
            log.info("reading from snapshot %s", found.manifest.snapshot_id)

    def _acquire(self, services: Services, name: str) -> tuple[ReadableCollection, OpenCopy | None]:
        """Return the collection, and the copy that the caller must release, downloaded first if it has changed."""
        while True:
            manifest, described = self._read_described(name)
            with ExitStack() as unused, self._state:
                if self._snapshot is None or self._snapshot.manifest is not manifest:
                    continue
                if described.dimension is None:
                    self._copies.retire(name, unused)
                    return ReadableCollection.of(manifest, name, None), None
                copy = self._copies.find(name)
                if copy is not None and copy.has_files_of(described):
                    copy.readable = ReadableCollection.of(manifest, name, copy.readable.collection)
                    return self._copies.use(copy)
                if name not in self._downloading:
                    self._downloading.add(name)
                    break
                if copy is not None:
                    return self._copies.use(copy)
                self._state.wait()
        return self._replace_copy(services, manifest, name)

    def _read_described(self, name: str) -> tuple[Manifest, CollectionSnapshot]:
        """Return the current manifest, and its description of the collection, which is read without the lock."""
        with self._state:
            snapshot = self._snapshot
        if snapshot is None:
            raise NoSnapshotError("the pointer was deleted since the query began", next_step="ask again")
        return snapshot.manifest, snapshot.manifest.collection(name)

    def _acquire_of(
        self, services: Services, snapshot: CurrentSnapshot, name: str
    ) -> tuple[ReadableCollection, OpenCopy | None]:
        """Return the collection as `snapshot` has it, and the copy that the caller must release."""
        manifest, described = snapshot.manifest, snapshot.manifest.collection(name)
        if described.dimension is None:
            return ReadableCollection.of(manifest, name, None), None
        with self._state:
            while True:
                copy = self._copies.find(name)
                if copy is not None and copy.has_files_of(described):
                    copy.readable = ReadableCollection.of(manifest, name, copy.readable.collection)
                    return self._copies.use(copy)
                if self._snapshot is None or self._snapshot.published != snapshot.published:
                    raise SnapshotConflictError("another snapshot was published since the query began")
                if name not in self._downloading:
                    self._downloading.add(name)
                    break
                self._state.wait()
        return self._replace_copy(services, manifest, name)

    def _replace_copy(self, services: Services, manifest: Manifest, name: str) -> tuple[ReadableCollection, OpenCopy]:
        try:
            return self._copies.replace(services, manifest, name)
        finally:
            with self._state:
                self._downloading.discard(name)
                self._state.notify_all()
