"""Published collections held open for queries: fetched when first asked for, replaced when a new one is published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Condition
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.chroma.client import Collection, open_collection
from chromadb_compaction.errors import (
    NoSnapshotError,
    NoSuchCollectionError,
    ObjectMissingError,
    SnapshotCorruptError,
    SnapshotTooLargeError,
    TransientStorageError,
)
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files, SnapshotCache
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.pointer import (
    PublishedPointer,
    read_manifest,
    read_pointer,
    read_pointer_if_changed,
)

DIRECTORY = "directory"

log = logging.getLogger(__name__)


class ReadableCollection(NamedTuple):
    """A collection as published. `collection` is None while only deletes have been seen: it holds no record."""

    snapshot_id: str
    described: CollectionSnapshot
    collection: Collection | None


@dataclass
class _Copy:
    """A private copy, open, of what `snapshot_id` publishes. It is removed when neither current nor in use."""

    snapshot_id: str
    described: CollectionSnapshot
    collection: Collection
    resources: ExitStack
    users: int = 0
    current: bool = True

    def is_of(self, described: CollectionSnapshot) -> bool:
        """Say whether it holds exactly these files."""
        return _readers_files(self.described) == _readers_files(described)


class _Snapshot(NamedTuple):
    published: PublishedPointer
    manifest: Manifest


class SnapshotReader:
    """One per process, shared by its threads. A query holds what it began with, whatever is published meanwhile.

    The query that finds a collection changed fetches it and waits for that. Others do not: as long as it is being
    fetched, those on the same collection are answered from the copy that is open, and those on other collections
    have nothing to wait for. Copies are private to the process, since even a query writes to ChromaDB's files.
    """

    def __init__(self) -> None:
        # Guards the fields below, and is never held while anything is fetched, opened or removed.
        self._state = Condition()
        self._snapshot: _Snapshot | None = None
        self._copies: dict[str, _Copy] = {}
        self._fetching: set[str] = set()
        self._looks = count(1)
        self._last_look = 0

    @contextmanager
    def reading(self, services: Services, name: str) -> Iterator[ReadableCollection]:
        """Give the published collection `name`.

        Costs one conditional GET when nothing has changed. Raises NoSnapshotError, NoSuchCollectionError and
        SnapshotCorruptError. While S3 fails in a way that passes, the copy that is open answers.
        """
        readable, copy = self._begin(services, name)
        try:
            yield readable
        finally:
            if copy is not None:
                with ExitStack() as unused, self._state:
                    copy.users -= 1
                    _remove_if_unused(copy, unused)

    def close(self) -> None:
        """Let go of everything that no query is using; the rest goes when its query ends."""
        with ExitStack() as unused, self._state:
            self._adopt(None, unused)

    def _begin(self, services: Services, name: str) -> tuple[ReadableCollection, _Copy | None]:
        try:
            self._look(services)
            return self._borrow(services, name)
        except SnapshotCorruptError as error:
            # It may have been pruned while it was read. What is published now is read once more, then believed.
            log.warning("reading the published snapshot again: %s", error)
        except TransientStorageError as error:
            if (lent := self._lend(name)) is None:
                raise
            log.warning("answering from snapshot %s: %s", lent[0].snapshot_id, error)
            return lent
        self._look(services)
        return self._borrow(services, name)

    def _look(self, services: Services) -> None:
        """Take note of what the pointer names now.

        Of several looks at the same time the one that began last decides: what it found was published when the
        others began, or later. Sequence numbers could not tell, as a restored pointer has an older one.
        """
        with self._state:
            look, known = next(self._looks), self._snapshot
        found = _published(services, known)
        with ExitStack() as unused, self._state:
            if look > self._last_look and (found is not known or self._snapshot is known):
                self._last_look = look
                self._adopt(found, unused)
        if found is None:
            raise NoSnapshotError("nothing has been published yet; run: chromadb-compaction compact --wait")

    def _adopt(self, found: _Snapshot | None, unused: ExitStack) -> None:
        if found is self._snapshot:
            return
        self._snapshot = found
        described = found.manifest.collections if found else {}
        for name in list(self._copies):
            if name not in described or described[name].dimension is None:
                self._retire(name, unused)
        if found is not None:
            log.info("reading from snapshot %s", found.manifest.snapshot_id)

    def _borrow(self, services: Services, name: str) -> tuple[ReadableCollection, _Copy | None]:
        with self._state:
            while True:
                if self._snapshot is None:
                    raise NoSnapshotError("the published snapshot has gone since the query began; ask again")
                manifest = self._snapshot.manifest
                described = _described(manifest, name)
                if described.dimension is None:
                    return ReadableCollection(manifest.snapshot_id, described, None), None
                copy = self._copies.get(name)
                if copy is not None and copy.is_of(described):
                    copy.snapshot_id, copy.described = manifest.snapshot_id, described
                    return _lent(copy)
                if name not in self._fetching:
                    self._fetching.add(name)
                    break
                if copy is not None:
                    return _lent(copy)
                self._state.wait()
        return self._fetch(services, manifest, name)

    def _fetch(self, services: Services, manifest: Manifest, name: str) -> tuple[ReadableCollection, _Copy]:
        try:
            fresh = self._opened(services, manifest, name)
        except BaseException:
            self._fetched(name)
            raise
        with ExitStack() as unused, self._state:
            self._retire(name, unused)
            self._copies[name] = fresh
            lent = _lent(fresh)
        self._fetched(name)
        return lent

    def _fetched(self, name: str) -> None:
        with self._state:
            self._fetching.discard(name)
            self._state.notify_all()

    def _opened(self, services: Services, manifest: Manifest, name: str) -> _Copy:
        try:
            return _open(services, manifest, name)
        except SnapshotTooLargeError as error:
            log.warning("making room on the disk: %s", error)
            with ExitStack() as unused, self._state:
                for other in list(self._copies):
                    self._retire(other, unused)
            return _open(services, manifest, name)

    def _lend(self, name: str) -> tuple[ReadableCollection, _Copy] | None:
        with self._state:
            copy = self._copies.get(name)
            return None if copy is None else _lent(copy)

    def _retire(self, name: str, unused: ExitStack) -> None:
        copy = self._copies.pop(name, None)
        if copy is not None:
            copy.current = False
            _remove_if_unused(copy, unused)


def _lent(copy: _Copy) -> tuple[ReadableCollection, _Copy]:
    copy.users += 1
    return ReadableCollection(copy.snapshot_id, copy.described, copy.collection), copy


def _remove_if_unused(copy: _Copy, unused: ExitStack) -> None:
    """Leave it to `unused`, which its owner unwinds without the lock: closing and removing files takes a while."""
    if not copy.current and copy.users == 0:
        unused.callback(copy.resources.close)


def _published(services: Services, known: _Snapshot | None) -> _Snapshot | None:
    """Return what the pointer names now: `known` itself if that has not changed, None if there is no pointer."""
    try:
        pointer = read_pointer_if_changed(services, known.published) if known else read_pointer(services)
    except ObjectMissingError:
        return None
    if pointer is None:
        return None
    if known is not None and pointer == known.published:
        return known
    return _Snapshot(pointer, read_manifest(services, pointer.pointer))


def _described(manifest: Manifest, name: str) -> CollectionSnapshot:
    if name not in manifest.collections:
        names = ", ".join(manifest.collections) or "none"
        raise NoSuchCollectionError(f"snapshot {manifest.snapshot_id} has no collection {name!r}; it has: {names}")
    return manifest.collections[name]


def _readers_files(described: CollectionSnapshot) -> Files:
    """Return the files that a reader needs: all but the ledger."""
    return {path: file for path, file in described.files.items() if path != layout.LEDGER_FILE}


def _open(services: Services, manifest: Manifest, name: str) -> _Copy:
    described = manifest.collections[name]
    cache = SnapshotCache(Path(services.settings.chromadb_cache_dir))
    with ExitStack() as stack:
        directory = stack.enter_context(cache.scratch()) / DIRECTORY
        download(services, manifest, [Wanted(name, _readers_files(described), directory)])
        collection = stack.enter_context(open_collection(directory, name))
        return _Copy(manifest.snapshot_id, described, collection, resources=stack.pop_all())
