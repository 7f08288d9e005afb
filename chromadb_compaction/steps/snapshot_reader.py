"""Published collections held open for queries: fetched when first asked for, replaced when a new one is published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.adapters.chroma import Collection, open_collection
from chromadb_compaction.adapters.snapshot_cache import Files, SnapshotCache
from chromadb_compaction.adapters.snapshots import (
    PublishedPointer,
    read_manifest,
    read_pointer,
    read_pointer_if_changed,
)
from chromadb_compaction.errors import (
    NoSnapshotError,
    NoSuchCollectionError,
    ObjectMissingError,
    SnapshotCorruptError,
    SnapshotTooLargeError,
)
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.snapshot_files import Wanted, download

DIRECTORY = "directory"

log = logging.getLogger(__name__)


class ReadableCollection(NamedTuple):
    """A collection as published. `collection` is None while only deletes have been seen: it holds no record."""

    snapshot_id: str
    described: CollectionSnapshot
    collection: Collection | None


@dataclass
class _Held:
    """A private copy, open. It is closed and removed when it is neither current nor in use."""

    files: Files
    collection: Collection
    resources: ExitStack
    users: int = 0
    current: bool = True


@dataclass
class _Snapshot:
    published: PublishedPointer
    manifest: Manifest
    held: dict[str, _Held] = field(default_factory=dict)


class SnapshotReader:
    """One per process, shared by its threads. A query holds what it began with, whatever is published meanwhile.

    Copies are private to the process, since even a query writes to ChromaDB's files.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._snapshot: _Snapshot | None = None

    @contextmanager
    def reading(self, services: Services, name: str) -> Iterator[ReadableCollection]:
        """Give the published collection `name`.

        Costs one conditional GET when nothing has changed. Raises NoSnapshotError, NoSuchCollectionError and
        SnapshotCorruptError.
        """
        with self._lock:
            readable, held = self._begin(services, name)
        try:
            yield readable
        finally:
            if held is not None:
                with self._lock:
                    held.users -= 1
                    _close_if_unused(held)

    def close(self) -> None:
        """Let go of everything that no query is using; the rest goes when its query ends."""
        with self._lock:
            self._forget()

    def _begin(self, services: Services, name: str) -> tuple[ReadableCollection, _Held | None]:
        try:
            return self._borrow(services, name)
        except SnapshotCorruptError as error:
            # It may have been pruned while it was read. What is published now is read once more, then believed.
            log.warning("reading the published snapshot again: %s", error)
            return self._borrow(services, name)

    def _borrow(self, services: Services, name: str) -> tuple[ReadableCollection, _Held | None]:
        snapshot = self._published(services)
        described = _described(snapshot.manifest, name)
        held = self._held(services, snapshot, name, described) if described.dimension is not None else None
        if held is not None:
            held.users += 1
        collection = held.collection if held else None
        return ReadableCollection(snapshot.manifest.snapshot_id, described, collection), held

    def _published(self, services: Services) -> _Snapshot:
        """Return what the pointer names now, with the open collections that are the same in it."""
        known = self._snapshot
        published = _pointer(services, known.published if known else None)
        if published is None:
            self._forget()
            raise NoSnapshotError("nothing has been published yet; run: chromadb-compaction compact --wait")
        if known is not None and published == known.published:
            return known
        fresh = _Snapshot(published, read_manifest(services, published.pointer))
        for name, held in (known.held if known else {}).items():
            following = fresh.manifest.collections.get(name)
            if following is not None and _readers_files(following) == held.files:
                fresh.held[name] = held
            else:
                _retire(held)
        self._snapshot = fresh
        log.info("reading from snapshot %s", fresh.manifest.snapshot_id)
        return fresh

    def _held(self, services: Services, snapshot: _Snapshot, name: str, described: CollectionSnapshot) -> _Held:
        if name in snapshot.held:
            return snapshot.held[name]
        files = _readers_files(described)
        try:
            opened = _open(services, snapshot.manifest, name, files)
        except SnapshotTooLargeError as error:
            log.warning("making room on the disk: %s", error)
            for other in snapshot.held.values():
                _retire(other)
            snapshot.held.clear()
            opened = _open(services, snapshot.manifest, name, files)
        snapshot.held[name] = opened
        return opened

    def _forget(self) -> None:
        for held in (self._snapshot.held if self._snapshot else {}).values():
            _retire(held)
        self._snapshot = None


def _pointer(services: Services, known: PublishedPointer | None) -> PublishedPointer | None:
    if known is None:
        return read_pointer(services)
    try:
        return read_pointer_if_changed(services, known)
    except ObjectMissingError:
        return None


def _described(manifest: Manifest, name: str) -> CollectionSnapshot:
    if name not in manifest.collections:
        names = ", ".join(manifest.collections) or "none"
        raise NoSuchCollectionError(f"snapshot {manifest.snapshot_id} has no collection {name!r}; it has: {names}")
    return manifest.collections[name]


def _readers_files(described: CollectionSnapshot) -> Files:
    """Return the files that a reader needs: all but the ledger."""
    return {path: file for path, file in described.files.items() if path != layout.LEDGER_FILE}


def _open(services: Services, manifest: Manifest, name: str, files: Files) -> _Held:
    cache = SnapshotCache(Path(services.settings.chromadb_cache_dir))
    with ExitStack() as stack:
        directory = stack.enter_context(cache.scratch()) / DIRECTORY
        download(services, manifest, [Wanted(name, files, directory)])
        collection = stack.enter_context(open_collection(directory, name))
        return _Held(files, collection, resources=stack.pop_all())


def _retire(held: _Held) -> None:
    held.current = False
    _close_if_unused(held)


def _close_if_unused(held: _Held) -> None:
    if not held.current and held.users == 0:
        held.resources.close()
