"""The snapshot that a pass starts from, and its verified local copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from chromadb_compaction.manifest import Manifest
from chromadb_compaction.messages import BaseRef
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import FILES, SnapshotCache
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


def ensure_copies(services: Services, base: Manifest | None, collections: Iterable[str]) -> int:
    """Download a verified copy of each of the base's `collections` that the cache lacks. Return the bytes transferred.

    Copies of other snapshots are evicted first, so that the disk holds only one.
    """
    cache = cache_of(services)
    cache.evict(keep=base.snapshot_id if base else None)
    if base is None:
        return 0
    names = list(collections)
    base.collections.fetch(names)
    missing = [
        name
        for name in names
        if name in base.collections and not cache.holds(base.snapshot_id, name, base.collections[name].all_files)
    ]
    if not missing:
        return 0
    with cache.scratch() as scratch:
        wanted = [Wanted(name, base.collections[name].all_files, scratch / name / FILES) for name in missing]
        transferred = download(services, base, wanted)
        for copy in wanted:
            cache.keep(base.snapshot_id, copy.collection, copy.files, copy.directory)
    return transferred


def take_copies(
    services: Services, base: Manifest | None, collections: Iterable[str], into: Path
) -> Mapping[str, Path]:
    """Move copies of `collections` out of the cache, after downloading what it lacks. Return their directories.

    The caller may change them. A collection that the base does not have gets an empty directory.
    """
    into.mkdir(exist_ok=True)
    names = list(collections)
    for name in names:
        if base is not None and name in base.collections:
            base.collections[name].check_one_directory(name)
    ensure_copies(services, base, names)
    return {name: _take_copy(services, base, name, into) for name in names}


def _take_copy(services: Services, base: Manifest | None, name: str, into: Path) -> Path:
    directory = into / name / FILES
    if base is None or name not in base.collections:
        directory.mkdir(parents=True)
        return directory
    files = base.collections[name].all_files
    taken = cache_of(services).take(base.snapshot_id, name, files, into)
    if taken is not None:
        return taken
    # Another process that shares the cache has taken or evicted the copy since.
    download(services, base, [Wanted(name, files, directory)])
    return directory
