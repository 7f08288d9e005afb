"""The first copy of a bucket's content to its replica, and the check of what the replica lacks.

S3 replicates only what is written after replication was set up, and in any order. The published snapshot names files of
earlier snapshots, so a replica is of no use until those are copied too. The copy is repeatable: it skips what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import compare, content_of, read_sha256
from chromadb_compaction.errors import (
    ObjectMissingError,
    PreconditionFailedError,
    SnapshotConflictError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import Manifest, Pointer, StoredFile
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.snapshots.packs import FileObject, objects_of
from chromadb_compaction.snapshots.pointer import PublishedPointer, read_manifest, read_pointer
from chromadb_compaction.snapshots.tree.descriptions import collection_keys
from chromadb_compaction.snapshots.tree.shards import shard_keys

Listing = Mapping[str, ObjectInfo]


class ReplicaStatus(BaseModel):
    """The difference between a bucket and its replica.

    Attributes:
        snapshot_id: The published snapshot. None if there is none.
        replica_snapshot_id: The snapshot that the replica's pointer names. None if it has none.
        missing: The keys of the published snapshot that the replica lacks, or has in another size, sorted.
        missing_bytes: The bytes of its files among them.
        deltas: The keys of the pending deltas that the replica lacks, or has with other content, sorted.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str | None
    replica_snapshot_id: str | None
    missing: list[str]
    missing_bytes: int
    deltas: list[str]

    @property
    def complete(self) -> bool:
        """True if the replica has all objects. Its pointer may name an older snapshot until S3 has copied it."""
        return not self.missing and not self.deltas and (self.snapshot_id is None) == (self.replica_snapshot_id is None)


class ReplicaCopied(BaseModel):
    """The result of a copy.

    Attributes:
        snapshot_id: The published snapshot. None if there is none.
        files: The number of objects of the snapshot that were copied.
        bytes: Their size.
        deltas: The number of pending deltas that were copied.
        kept: The number of objects that were there already.
        pointer: Whether the pointer was written. It is not if the replica names this snapshot or a later one.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str | None
    files: int
    bytes: int
    deltas: int
    kept: int
    pointer: bool


class _Content(NamedTuple):
    """The content of a bucket: what a replica must have."""

    deltas: Listing
    published: PublishedPointer | None
    files: Mapping[str, FileObject]
    others: Listing


def replica_status(source: Services, replica: Services) -> ReplicaStatus:
    """Compare the published snapshot with a replica, by key and size, and the pending deltas, by content.

    Raises SnapshotCorruptError and NewerFormatError if the snapshot of the source cannot be read.
    """
    content = _read_content(source)
    there = _listing(replica, source.settings.snapshot_prefix)
    files = [key for key, each in content.files.items() if not each.is_in(there)]
    others = [key for key, info in content.others.items() if _differs(key, info.bytes, there)]
    pending = _missing_deltas(content, source, replica)
    current = read_pointer(replica)
    return ReplicaStatus(
        snapshot_id=content.published.pointer.snapshot_id if content.published else None,
        replica_snapshot_id=current.pointer.snapshot_id if current else None,
        missing=sorted([*files, *others]),
        missing_bytes=sum(content.files[key].bytes for key in files),
        deltas=sorted(pending),
    )


def copy_to_replica(source: Services, replica: Services) -> ReplicaCopied:
    """Copy what the replica lacks: the published snapshot, the pending deltas, and the pointer last.

    Every file of the snapshot is checked against its SHA-256 on the way. A second call goes on where the first one
    stopped. Raises SnapshotCorruptError if a file of the source is missing or altered, and SnapshotConflictError if
    the replica's pointer is being written at the same time.
    """
    content = _read_content(source)
    there = _listing(replica, source.settings.snapshot_prefix)
    files = {key: each for key, each in content.files.items() if not each.is_in(there)}
    others = [key for key, info in content.others.items() if _differs(key, info.bytes, there)]
    with cache_of(source).scratch() as scratch:
        in_threads(lambda item: _copy_object(*item, scratch, source, replica), enumerate(files.values()))
    # A manifest comes after its files, so that a reader of the copy finds all that it names.
    in_threads(lambda key: replica.objects.put(key, source.objects.get(key).body), others)
    deltas = _missing_deltas(content, source, replica)
    copied = in_threads(lambda key: _copy_delta(key, source, replica), deltas)
    total = len(content.files) + len(content.others) + len(content.deltas)
    return ReplicaCopied(
        snapshot_id=content.published.pointer.snapshot_id if content.published else None,
        files=len(files) + len(others),
        bytes=sum(each.bytes for each in files.values()) + sum(content.others[key].bytes for key in others),
        deltas=sum(copied),
        kept=total - len(files) - len(others) - len(deltas),
        pointer=content.published is not None and _publish(content.published.pointer, replica),
    )


def _read_content(source: Services) -> _Content:
    # The deltas are listed before the pointer is read: what has left delta/ by then is in the snapshot that it names.
    deltas = {key: info for key, info in _listing(source, source.settings.delta_prefix).items() if layout.is_delta(key)}
    published = read_pointer(source)
    if published is None:
        return _Content(deltas, None, {}, {})
    manifest = read_manifest(source, published.pointer)
    return _Content(deltas, published, objects_of(manifest.files), _others(manifest, source))


def _others(manifest: Manifest, source: Services) -> Listing:
    """Return the objects of the snapshot that are not files: the manifest, its collections and what lies beside."""
    prefix = source.settings.snapshot_prefix
    keys = (
        *collection_keys(manifest, prefix=prefix).values(),
        *shard_keys(manifest, prefix=prefix),
        layout.merged_deltas_key(manifest.snapshot_id, prefix=prefix),
        layout.result_key(manifest.snapshot_id, prefix=prefix),
        layout.cleaned_key(manifest.snapshot_id, prefix=prefix),
        layout.manifest_key(manifest.snapshot_id, prefix=prefix),
    )
    return {info.key: info for info in in_threads(source.objects.head, keys) if info is not None}


def _listing(services: Services, prefix: str) -> Listing:
    return {info.key: info for info in services.objects.list(prefix)}


def _differs(key: str, size: int, there: Listing) -> bool:
    # Objects of a snapshot are written once under fresh keys, so one of the same size is a whole copy.
    return key not in there or there[key].bytes != size


def _missing_deltas(content: _Content, source: Services, replica: Services) -> list[str]:
    """Return the keys of the deltas that the replica lacks, or has with other content."""
    there = _listing(replica, replica.settings.delta_prefix)

    def is_there(delta: ObjectInfo) -> bool:
        copy = there.get(delta.key)
        known = copy and compare(content_of(delta), content_of(copy))
        if copy is None or known is not None:
            return bool(known)
        try:
            return read_sha256(delta, source.objects) == read_sha256(copy, replica.objects)
        except ObjectMissingError:
            return False  # it was merged meanwhile

    present = in_threads(is_there, content.deltas.values())
    return [key for key, is_present in zip(content.deltas, present, strict=True) if not is_present]


def _copy_object(number: int, held: FileObject, scratch: Path, source: Services, replica: Services) -> None:
    path = scratch / str(number)
    try:
        whole = source.objects.download(held.key, path)
    except ObjectMissingError as error:
        raise SnapshotCorruptError.damaged(held.key, "is missing") from error
    for file in held.files:
        sha256 = whole if file.offset is None else _sha256_of_part(path, file)
        if sha256 != file.sha256:
            raise SnapshotCorruptError.damaged(held.key, f"has the SHA-256 {sha256}, its manifest says {file.sha256}")
    replica.objects.upload(path, held.key)
    path.unlink()


def _sha256_of_part(pack: Path, file: StoredFile) -> str:
    with pack.open("rb") as opened:
        opened.seek(file.offset or 0)
        return hashlib.sha256(opened.read(file.bytes)).hexdigest()


def _copy_delta(key: str, source: Services, replica: Services) -> bool:
    """Copy a delta, from compacted/ if it was merged meanwhile. Return whether it was found.

    The pointer that is copied may be older than its merge. Merging it twice changes nothing.
    """
    for place in (key, layout.compacted_key(key, prefix=source.settings.delta_prefix)):
        try:
            body = source.objects.get(place).body
        except ObjectMissingError:
            continue
        replica.objects.put(key, body)
        return True
    return False


def _publish(pointer: Pointer, replica: Services) -> bool:
    """Write the pointer, unless the replica has it or a later one. Return whether it was written."""
    if _has(replica, pointer):
        return False
    current = read_pointer(replica)
    key = layout.pointer_key(prefix=replica.settings.snapshot_prefix)
    try:
        replica.objects.put_if(key, pointer.model_dump_json().encode(), etag=current.etag if current else None)
    except PreconditionFailedError as error:
        if not _has(replica, pointer):
            raise SnapshotConflictError(
                f"the pointer of {replica.settings.chromadb_bucket} was written by something else",
                next_step="run the command again",
            ) from error
        return False
    return True


def _has(replica: Services, pointer: Pointer) -> bool:
    current = read_pointer(replica)
    return current is not None and current.pointer.sequence >= pointer.sequence
