"""The check of a snapshot's files before a rollback publishes it."""

from __future__ import annotations

import os
from pathlib import Path

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.manifest import Manifest, StoredFile
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue
from chromadb_compaction.snapshots.packs import FileObject, objects_of, write_files
from chromadb_compaction.snapshots.pointer import StoredManifest

_NOWHERE = Path(os.devnull)


def check_complete(target: StoredManifest, catalogue: Catalogue, services: Services) -> None:
    """Raise SnapshotCorruptError if a file of `target` is missing, or has another size or SHA-256.

    The SHA-256 is that of the files which the published snapshot does not have too. Readers and compactions check the
    shared ones whenever they download them.
    """
    absent = catalogue.absent(target.manifest)
    if absent:
        raise _unpublishable(
            target, absent[0], f"and {len(absent) - 1} more of its files are missing or have another size"
        )
    published = catalogue.readable.get(catalogue.current or "")
    changed = _changed(target.manifest, published.manifest if published else None)
    found = in_threads(lambda each: _damaged(each, services), objects_of(changed).values())
    damaged = [file for files in found for file in files]
    if damaged:
        text = f"and {len(damaged) - 1} more of its files are not what its manifest says (the SHA-256 differs)"
        raise _unpublishable(target, damaged[0].key, text)


def _changed(target: Manifest, published: Manifest | None) -> list[StoredFile]:
    """Return the files of `target` that `published` lacks. Only the collections that differ are read."""
    before = published.collections.readable()[0] if published else {}
    found: list[StoredFile] = []
    for name, entry in target.collections.entries.items():
        if published and name in before and before[name] != entry:
            shared = _files(published, name)
            found += [file for file in target.collections.peek(name).all_files.values() if file not in shared]
        elif name not in before:
            found += target.collections.peek(name).all_files.values()
    return found


def _files(published: Manifest, name: str) -> set[StoredFile]:
    try:
        return set(published.collections.peek(name).all_files.values())
    except SnapshotCorruptError:
        return set()


def _damaged(held: FileObject, services: Services) -> list[StoredFile]:
    """Return the files of the object that are missing or have another SHA-256."""
    try:
        found = write_files(services.objects, [(file, _NOWHERE) for file in held.files])
    except ObjectMissingError:
        return list(held.files)
    return [file for file, sha256 in zip(held.files, found, strict=True) if sha256 != file.sha256]


def _unpublishable(target: StoredManifest, key: str, problem: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        f"snapshot {target.manifest.snapshot_id} cannot be published: {key} {problem}",
        next_step="restore their previous versions in the bucket, or choose another:"
        " chromadb-compaction snapshots list",
        key=key,
    )
