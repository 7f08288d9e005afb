"""The snapshot that a pass starts from, and its verified local copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import BaseRef
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import FILES, DirectoryName, Files, SnapshotCache
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.pointer import conflict, read_manifest, read_pointer


def cache_of(services: Services) -> SnapshotCache:
    """Return the cache of verified copies."""
    return SnapshotCache(Path(services.settings.chromadb_cache_dir))


def read_base(services: Services, base: BaseRef) -> Manifest | None:
    """Return the base's manifest, None if nothing is published yet.

    Raises SnapshotConflictError if the pointer has changed since the pass started: the swap would fail.
    """
    current = read_pointer(services)
    if (current.etag if current else None) != base.etag:
        raise conflict(current)
    return read_manifest(services, current.pointer) if current else None


def ensure_copies(services: Services, base: Manifest | None, directories: Iterable[DirectoryName]) -> int:
    """Download a verified copy of each of the base's `directories` that the cache lacks. Return the bytes transferred.

    Copies of other snapshots are evicted first, so that the disk holds only one.
    """
    cache = cache_of(services)
    cache.evict(keep=base.snapshot_id if base else None)
    if base is None:
        return 0
    missing = {
        name: files
        for name, files in _files(base, directories).items()
        if not cache.holds(base.snapshot_id, name.entry, files)
    }
    if not missing:
        return 0
    with cache.scratch() as scratch:
        wanted = [Wanted(name.collection, files, scratch / name.entry / FILES) for name, files in missing.items()]
        transferred = download(services, base, wanted)
        for name, copy in zip(missing, wanted, strict=True):
            cache.keep(base.snapshot_id, name.entry, copy.files, copy.directory)
    return transferred


def take_copies(
    services: Services, base: Manifest | None, directories: Iterable[DirectoryName], into: Path
) -> Mapping[DirectoryName, Path]:
    """Move copies of the base's `directories` out of the cache, after downloading what it lacks. Return their paths.

    The caller may change them. Those that the base does not have are left out.
    """
    into.mkdir(exist_ok=True)
    names = list(directories)
    ensure_copies(services, base, names)
    if base is None:
        return {}
    return {name: _take_copy(services, base, name, files, into) for name, files in _files(base, names).items()}


def return_copies(services: Services, base: Manifest, copies: Mapping[DirectoryName, Path]) -> None:
    """Move copies that `take_copies` has returned, and that have not changed since, back into the cache."""
    for name, files in _files(base, copies).items():
        cache_of(services).keep(base.snapshot_id, name.entry, files, copies[name])


def _files(base: Manifest, directories: Iterable[DirectoryName]) -> dict[DirectoryName, Files]:
    """Return the files of those of the directories that the base has."""
    names = list(directories)
    collections = list(dict.fromkeys(name.collection for name in names))
    base.collections.fetch(collections)
    known = {
        DirectoryName(collection, each.first): each.files
        for collection in collections
        if collection in base.collections
        for each in base.collections[collection].directories
    }
    return {name: known[name] for name in names if name in known}


def _take_copy(services: Services, base: Manifest, name: DirectoryName, files: Files, into: Path) -> Path:
    taken = cache_of(services).take(base.snapshot_id, name.entry, files, into)
    if taken is not None:
        return taken
    # Another process that shares the cache has taken or evicted the copy since.
    directory = into / name.entry / FILES
    download(services, base, [Wanted(name.collection, files, directory)])
    return directory
