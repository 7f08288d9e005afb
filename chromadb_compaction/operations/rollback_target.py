"""The check of a snapshot's files before a rollback publishes it."""

from __future__ import annotations

import os
from pathlib import Path

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.manifest import StoredFile
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue
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
            target, absent[0].key, f"and {len(absent) - 1} more of its files are missing or have another size"
        )
    published = catalogue.readable.get(catalogue.current or "")
    shared = set(published.manifest.files) if published else set()
    changed = [file for file in target.manifest.files if file not in shared]
    whole = in_threads(lambda file: _is_whole(file, services), changed)
    damaged = [file for file, is_whole in zip(changed, whole, strict=True) if not is_whole]
    if damaged:
        text = f"and {len(damaged) - 1} more of its files are not what its manifest says (the SHA-256 differs)"
        raise _unpublishable(target, damaged[0].key, text)


def _is_whole(file: StoredFile, services: Services) -> bool:
    try:
        return services.objects.download(file.key, _NOWHERE) == file.sha256
    except ObjectMissingError:
        return False


def _unpublishable(target: StoredManifest, key: str, problem: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        f"snapshot {target.manifest.snapshot_id} cannot be published: {key} {problem}",
        next_step="restore their previous versions in the bucket, or choose another:"
        " chromadb-compaction snapshots list",
        key=key,
    )
