"""Open, private copies of collections. Copies of one collection share the directories that are the same in both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Condition
from typing import NamedTuple

from chromadb_compaction.chroma.client import OpenCollection, open_collection
from chromadb_compaction.chroma.records.partitions import PartitionedCollection
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, PartitionSnapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.native_memory import trim_heap
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.space import RemovableCopy, Space, available_space, choose_removals, space_of

DIRECTORY = "directory"

log = logging.getLogger(__name__)


class ReadableCollection(NamedTuple):
    """A published collection.

    Attributes:
        snapshot_id: The snapshot that it belongs to.
        described: What the manifest says about it.
        collection: The open collection, of one directory or of several. None if it has only ever seen deletes: it
            holds no record.
        dropped_before: The version at which it was dropped last. None: never.
    """

    snapshot_id: str
    described: CollectionSnapshot
    collection: OpenCollection | None
    dropped_before: DeltaVersion | None

    @classmethod
    def of(cls, manifest: Manifest, name: str, collection: OpenCollection | None) -> ReadableCollection:
        """Return the collection `name` as the manifest has it."""
        return cls(manifest.snapshot_id, manifest.collection(name), collection, manifest.dropped_before(name))


@dataclass(eq=False)
class OpenDirectory:
    """An open copy of one directory. It is closed and removed when its last holder releases it.

    Attributes:
        stored: The description of the directory.
        collection: The open collection.
        resources: What closing it releases.
        holders: The number of copies of the collection that have it, or are being made with it.
    """

    stored: PartitionSnapshot
    collection: OpenCollection
    resources: ExitStack
    holders: int = 0


@dataclass(eq=False)
class OpenCopy:
    """An open copy of a collection. Its directories are released when it is neither current nor in use."""

    name: str
    readable: ReadableCollection
    directories: Sequence[OpenDirectory]
    users: int = 0
    current: bool = True

    def has_files_of(self, described: CollectionSnapshot) -> bool:
        """Return whether it holds exactly these files."""
        known = self.readable.described
        return known is described or known.chroma_files == described.chroma_files

    def unchanged_in(self, wanted: Sequence[PartitionSnapshot]) -> dict[str, OpenDirectory]:
        """Return its directories that are among `wanted` with the same files, by first id."""
        files = {each.first: each.chroma_files for each in wanted}
        return {
            each.stored.first: each
            for each in self.directories
            if files.get(each.stored.first) == each.stored.chroma_files
        }


class OpenCopies:
    """The current copy of each collection of one process.

    `lock` guards all copies. It is never held during a download, or while a copy is opened or removed. Methods with the
    argument `unused` are called with the lock. They leave the removal of what nobody uses any more to `unused`, which
    its owner unwinds without the lock.
    """

    def __init__(self) -> None:
        self.lock = Condition()
        # The one that was used least recently first.
        self._copies: dict[str, OpenCopy] = {}

    @property
    def names(self) -> list[str]:
        """The names of the collections."""
        return list(self._copies)

    def find(self, name: str) -> OpenCopy | None:
        """Return the copy of a collection. The caller has the lock."""
        return self._copies.get(name)

    def bytes_to_open(self, name: str, described: CollectionSnapshot) -> int | None:
        """Return the bytes to download before this is open. None: no copy of the collection is. It takes the lock."""
        with self.lock:
            copy = self._copies.get(name)
            if copy is None:
                return None
            if copy.has_files_of(described):
                return 0
            same = copy.unchanged_in(described.directories)
        return space_of(each for each in described.directories if each.first not in same).disk

    def use(self, copy: OpenCopy) -> tuple[ReadableCollection, OpenCopy]:
        """Count one more user of the current copy, who must release it. The caller has the lock."""
        copy.users += 1
        self._copies[copy.name] = self._copies.pop(copy.name)
        return copy.readable, copy

    def release(self, copy: OpenCopy, unused: ExitStack) -> None:
        """Count one user of the copy less."""
        copy.users -= 1
        _release_if_unused(copy, unused)

    def retire(self, name: str, unused: ExitStack) -> None:
        """Have no copy of a collection any more. It is removed when no query uses it."""
        copy = self._copies.pop(name, None)
        if copy is not None:
            copy.current = False
            _release_if_unused(copy, unused)

    def replace(self, services: Services, manifest: Manifest, name: str) -> tuple[ReadableCollection, OpenCopy]:
        """Download and open what has changed of a collection, and `use` the new copy.

        The directories that are the same are shared with the copy of before. Copies of other collections are removed
        if there is too little space. Raises SnapshotTooLargeError if that would not suffice, before anything is removed
        or downloaded, and the errors of `download`.
        """
        wanted = [each for each in manifest.collection(name).directories if each.chroma_files]
        with self.lock:
            before = self._copies.get(name)
            same = before.unchanged_in(wanted) if before else {}
            _hold(same.values())
        with ExitStack() as on_error:
            on_error.callback(self._release_all, same.values())
            missing = [each for each in wanted if each.first not in same]
            self._make_space(services, name, Space(space_of(missing).disk, space_of(wanted).memory))
            opened = {each.stored.first: each for each in _open(services, manifest, name, missing)}
            on_error.pop_all()
        _hold(opened.values())
        directories = [(same | opened)[each.first] for each in wanted]
        copy = OpenCopy(name, ReadableCollection.of(manifest, name, _join(directories)), directories)
        with ExitStack() as unused, self.lock:
            self.retire(name, unused)
            self._copies[name] = copy
            return self.use(copy)

    def _make_space(self, services: Services, name: str, needed: Space) -> None:
        with ExitStack() as unused, self.lock:
            copies = [_removable(each) for each in self._copies.values()]
            removed = choose_removals(name, needed, available_space(services.settings), copies)
            for each in removed:
                self.retire(each, unused)
        if removed:
            log.warning("removed the copies of %s, which leave too little space for %s", ", ".join(removed), name)
            trim_heap()

    def _release_all(self, directories: Iterable[OpenDirectory]) -> None:
        with ExitStack() as unused, self.lock:
            _release(directories, unused)


def _hold(directories: Iterable[OpenDirectory]) -> None:
    for each in directories:
        each.holders += 1


def _release(directories: Iterable[OpenDirectory], unused: ExitStack) -> None:
    for each in directories:
        each.holders -= 1
        if not each.holders:
            unused.callback(each.resources.close)


def _release_if_unused(copy: OpenCopy, unused: ExitStack) -> None:
    if not copy.current and copy.users == 0:
        _release(copy.directories, unused)


def _removable(copy: OpenCopy) -> RemovableCopy:
    """Return what the removal of a copy frees: directories that another copy holds too stay."""
    space = space_of(each.stored for each in copy.directories if each.holders == 1)
    return RemovableCopy(copy.name, space, idle=copy.users == 0)


def _open(
    services: Services, manifest: Manifest, name: str, wanted: Sequence[PartitionSnapshot]
) -> list[OpenDirectory]:
    """Download directories of a collection in parallel, and open them. After an error nothing of them is left."""
    if not wanted:
        return []
    with ExitStack() as stack:
        resources = [stack.enter_context(ExitStack()) for _ in wanted]
        directories = [each.enter_context(cache_of(services).scratch()) / DIRECTORY for each in resources]
        files = [each.chroma_files for each in wanted]
        download(services, manifest, [Wanted(name, *each) for each in zip(files, directories, strict=True)])
        opened = [
            OpenDirectory(stored, own.enter_context(open_collection(directory, name)), own)
            for stored, own, directory in zip(wanted, resources, directories, strict=True)
        ]
        stack.pop_all()
        return opened


def _join(directories: Sequence[OpenDirectory]) -> OpenCollection | None:
    """Return the collection that these directories hold together, in the order of their ids. None: there is none."""
    if not directories:
        return None
    if len(directories) == 1:
        return directories[0].collection
    return PartitionedCollection([(each.stored.first, each.collection) for each in directories])
