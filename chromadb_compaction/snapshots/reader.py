"""Published collections kept open for queries: downloaded at the first query, replaced when a new one is published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from threading import Condition
from typing import NamedTuple

from chromadb_compaction.chroma.client import Collection, open_collection
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import (
    NoSnapshotError,
    NotReplicatedYetError,
    ObjectMissingError,
    SnapshotConflictError,
    SnapshotCorruptError,
    SnapshotTooLargeError,
    TransientStorageError,
)
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.snapshots.files import Wanted, download, read_replicated_manifest
from chromadb_compaction.snapshots.missing_pointer import missing_pointer
from chromadb_compaction.snapshots.pointer import (
    PublishedPointer,
    read_pointer,
    read_pointer_if_changed,
)

DIRECTORY = "directory"

log = logging.getLogger(__name__)


class ReadableCollection(NamedTuple):
    """A published collection.

    Attributes:
        snapshot_id: The snapshot that it belongs to.
        described: What the manifest says about it.
        collection: The open collection. None if it has only ever seen deletes: it holds no record.
        dropped_before: The version at which it was dropped last. None: never.
    """

    snapshot_id: str
    described: CollectionSnapshot
    collection: Collection | None
    dropped_before: DeltaVersion | None


@dataclass
class _Copy:
    """An open, private copy of a collection. It is removed when it is neither current nor in use."""

    readable: ReadableCollection
    resources: ExitStack
    users: int = 0
    current: bool = True

    def has_files_of(self, described: CollectionSnapshot) -> bool:
        """Return whether it holds exactly these files."""
        return self.readable.described.chroma_files == described.chroma_files


class CurrentSnapshot(NamedTuple):
    """The published snapshot as it was read: its pointer, and its manifest."""

    published: PublishedPointer
    manifest: Manifest


class SnapshotReader:
    """The open collections of one process, shared by its threads.

    A query keeps the copy that it began with, even if a new snapshot is published meanwhile. The first query that finds
    a collection changed downloads it and waits. Until then other queries of that collection use the copy that is open,
    and queries of other collections do not wait. Copies are private to the process, because even a query writes to
    ChromaDB's files.
    """

    def __init__(self) -> None:
        # Guards the fields below. It is never held during a download, or while a copy is opened or removed.
        self._state = Condition()
        self._snapshot: CurrentSnapshot | None = None
        self._copies: dict[str, _Copy] = {}
        self._downloading: set[str] = set()
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

    def close(self) -> None:
        """Remove every copy that no query uses. The others are removed when their query ends."""
        with ExitStack() as unused, self._state:
            self._set_snapshot(None, unused)

    @contextmanager
    def _released(self, copy: _Copy | None) -> Iterator[None]:
        try:
            yield
        finally:
            if copy is not None:
                with ExitStack() as unused, self._state:
                    copy.users -= 1
                    _remove_if_unused(copy, unused)

    def _acquire_published(self, services: Services, name: str) -> tuple[ReadableCollection, _Copy | None]:
        try:
            self._refresh_or_raise(services)
            return self._acquire(services, name)
        except SnapshotCorruptError as error:
            # The snapshot may have been pruned while it was read, so the pointer is read once more.
            log.warning("reading the published snapshot again: %s", error)
        except TransientStorageError as error:
            with self._state:
                copy = self._copies.get(name)
                if copy is None:
                    raise
                log.warning("answering from snapshot %s: %s", copy.readable.snapshot_id, error)
                return _use(copy)
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
        found = _read_snapshot(services, known)
        with ExitStack() as unused, self._state:
            if refresh > self._last_refresh and (found is not known or self._snapshot is known):
                self._last_refresh = refresh
                self._set_snapshot(found, unused)
        return found

    def _set_snapshot(self, found: CurrentSnapshot | None, unused: ExitStack) -> None:
        if found is self._snapshot:
            return
        self._snapshot = found
        for name in list(self._copies):
            if found is None or name not in found.manifest.collections:
                self._retire(name, unused)
        if found is not None:
            log.info("reading from snapshot %s", found.manifest.snapshot_id)

    def _acquire(self, services: Services, name: str) -> tuple[ReadableCollection, _Copy | None]:
        """Return the collection, and the copy that the caller must release, downloaded first if it has changed."""
        while True:
            manifest, described = self._read_described(name)
            with ExitStack() as unused, self._state:
                if self._snapshot is None or self._snapshot.manifest is not manifest:
                    continue
                if described.dimension is None:
                    self._retire(name, unused)
                    return _readable(manifest, name, None), None
                copy = self._copies.get(name)
                if copy is not None and copy.has_files_of(described):
                    copy.readable = _readable(manifest, name, copy.readable.collection)
                    return _use(copy)
                if name not in self._downloading:
                    self._downloading.add(name)
                    break
                if copy is not None:
                    return _use(copy)
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
    ) -> tuple[ReadableCollection, _Copy | None]:
        """Return the collection as `snapshot` has it, and the copy that the caller must release."""
        manifest, described = snapshot.manifest, snapshot.manifest.collection(name)
        if described.dimension is None:
            return _readable(manifest, name, None), None
        with self._state:
            while True:
                copy = self._copies.get(name)
                if copy is not None and copy.has_files_of(described):
                    used, copy = _use(copy)
                    return _readable(manifest, name, used.collection), copy
                if self._snapshot is None or self._snapshot.published != snapshot.published:
                    raise SnapshotConflictError("another snapshot was published since the query began")
                if name not in self._downloading:
                    self._downloading.add(name)
                    break
                self._state.wait()
        return self._replace_copy(services, manifest, name)

    def _replace_copy(self, services: Services, manifest: Manifest, name: str) -> tuple[ReadableCollection, _Copy]:
        try:
            copy = self._open_with_space(services, manifest, name)
            with ExitStack() as unused, self._state:
                self._retire(name, unused)
                self._copies[name] = copy
                return _use(copy)
        finally:
            with self._state:
                self._downloading.discard(name)
                self._state.notify_all()

    def _open_with_space(self, services: Services, manifest: Manifest, name: str) -> _Copy:
        try:
            return _download_and_open(services, manifest, name)
        except SnapshotTooLargeError as error:
            log.warning("removing other collections to free disk space: %s", error)
            with ExitStack() as unused, self._state:
                for other in list(self._copies):
                    self._retire(other, unused)
            return _download_and_open(services, manifest, name)

    def _retire(self, name: str, unused: ExitStack) -> None:
        copy = self._copies.pop(name, None)
        if copy is not None:
            copy.current = False
            _remove_if_unused(copy, unused)


def _use(copy: _Copy) -> tuple[ReadableCollection, _Copy]:
    """Count one more user of the copy, who must release it."""
    copy.users += 1
    return copy.readable, copy


def _readable(manifest: Manifest, name: str, collection: Collection | None) -> ReadableCollection:
    return ReadableCollection(manifest.snapshot_id, manifest.collection(name), collection, manifest.dropped.get(name))


def _remove_if_unused(copy: _Copy, unused: ExitStack) -> None:
    """Leave the removal to `unused`, which its owner unwinds without the lock: closing and deleting files is slow."""
    if not copy.current and copy.users == 0:
        unused.callback(copy.resources.close)


def _read_snapshot(services: Services, known: CurrentSnapshot | None) -> CurrentSnapshot | None:
    """Return the published snapshot: `known` itself if the pointer has not changed, None if there is no pointer."""
    try:
        pointer = read_pointer_if_changed(services, known.published) if known else read_pointer(services)
        if pointer is None or (known is not None and pointer == known.published):
            return known if pointer else None
        before = known.manifest if known else None
        return CurrentSnapshot(pointer, read_replicated_manifest(services, pointer.pointer, known=before))
    except ObjectMissingError:
        return None
    except NotReplicatedYetError as error:
        if known is None:
            raise
        log.warning("reading snapshot %s until the next one is there: %s", known.manifest.snapshot_id, error)
        return known


def _download_and_open(services: Services, manifest: Manifest, name: str) -> _Copy:
    described = manifest.collections[name]
    described.check_one_directory(name)
    with ExitStack() as stack:
        directory = stack.enter_context(cache_of(services).scratch()) / DIRECTORY
        download(services, manifest, [Wanted(name, described.chroma_files, directory)])
        collection = stack.enter_context(open_collection(directory, name))
        return _Copy(_readable(manifest, name, collection), resources=stack.pop_all())
