"""Published snapshots in the bucket: the pointer, the manifests, and the one write that publishes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Final, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.errors import (
    NewerFormatError,
    NotReplicatedYetError,
    ObjectMissingError,
    PreconditionFailedError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.manifest import Manifest, Pointer, ReadShard, parse_stored
from chromadb_compaction.ports import Bucket, Services, StoredObject
from chromadb_compaction.snapshots.tree.descriptions import not_understood, read_collection
from chromadb_compaction.snapshots.tree.shards import read_shard

SWAP_ATTEMPTS: Final = 5
SWAP_PAUSE_SECONDS: Final = 0.2
RECENT_MANIFESTS: Final = 2
"""The manifests that a process keeps parsed: each takes 15 MB for 20,000 collections."""

SnapshotError = SnapshotCorruptError | NewerFormatError
"""Why a pointer or a manifest cannot be used: it is damaged, or of a newer format."""

log = logging.getLogger(__name__)

_recent: Final[dict[str, Manifest]] = {}
_recent_lock: Final = Lock()


class PublishedPointer(NamedTuple):
    """The pointer, and the ETag that it must still have when it is swapped."""

    pointer: Pointer
    etag: str


class CurrentPointer(NamedTuple):
    """The object under the pointer's key, valid or not.

    Attributes:
        pointer: The pointer. None if there is no object, or if it cannot be understood.
        etag: The object's ETag. None if there is no object.
        error: Why there is no `pointer`, if that is a fault.
    """

    pointer: Pointer | None
    etag: str | None
    error: SnapshotError | None

    @property
    def problem(self) -> str | None:
        """The error as text."""
        return str(self.error) if self.error else None


class StoredManifest(NamedTuple):
    """A manifest as it is stored.

    Attributes:
        manifest: The manifest.
        sha256: The SHA-256 of the stored object, which its pointer must name.
        written: When it was written, by S3's clock, in Unix seconds.
    """

    manifest: Manifest
    sha256: str
    written: float


def read_current_pointer(services: Services) -> CurrentPointer:
    """Return the pointer even if it cannot be understood: a rollback can replace it."""
    try:
        stored = services.objects.get(_key(services))
    except ObjectMissingError:
        return CurrentPointer(None, None, None)
    try:
        return CurrentPointer(_parse(stored, services).pointer, stored.etag, None)
    except (SnapshotCorruptError, NewerFormatError) as error:
        return CurrentPointer(None, stored.etag, error)


def read_pointer(services: Bucket) -> PublishedPointer | None:
    """Return the pointer, None before the first snapshot.

    Raises SnapshotCorruptError if it cannot be understood, NewerFormatError if a newer version wrote it.
    """
    try:
        return _parse(services.objects.get(_key(services)), services)
    except ObjectMissingError:
        return None


def read_pointer_if_changed(services: Services, known: PublishedPointer) -> PublishedPointer:
    """Return the pointer. If it has not changed, that is `known`, at the cost of one request without a body.

    Raises ObjectMissingError if the pointer was deleted, and the errors of `read_pointer`.
    """
    changed = services.objects.get_if_changed(_key(services), known.etag)
    return known if changed is None else _parse(changed, services)


def read_manifest(services: Bucket, pointer: Pointer, *, known: Manifest | None = None) -> Manifest:
    """Return the manifest of the published snapshot, checked against the pointer's SHA-256.

    Collections that `known`, an earlier one, has read and that have not changed since are not read again.

    Raises the errors of `read_stored_manifest`, and NotReplicatedYetError if a replica does not have it yet.
    """
    with noticing_a_replica(services):
        stored = read_stored_manifest(services, pointer.snapshot_id, sha256=pointer.manifest_sha256, known=known)
        return stored.manifest


@contextmanager
def noticing_a_replica(services: Bucket) -> Iterator[None]:
    """Raise NotReplicatedYetError in place of a SnapshotCorruptError about an object that a replica lacks."""
    try:
        yield
    except SnapshotCorruptError as error:
        if services.settings.is_replica and isinstance(error.__cause__, ObjectMissingError):
            raise NotReplicatedYetError.of(services.settings.chromadb_bucket, f"{error.key} is missing") from error
        raise


def read_stored_manifest(
    services: Bucket,
    snapshot_id: str,
    *,
    sha256: str | None = None,
    known: Manifest | None = None,
    shards: ReadShard | None = None,
) -> StoredManifest:
    """Return the manifest of a snapshot, whose collections are read when they are asked for. `shards` reads its shards.

    Raises SnapshotCorruptError if it is missing, cannot be understood, or does not have the SHA-256 `sha256`, which
    the pointer has of the published one. Raises NewerFormatError if a newer version wrote it.
    """
    key = layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    try:
        stored = services.objects.get(key)
    except ObjectMissingError as error:
        raise SnapshotCorruptError.damaged(key, "is missing") from error
    found = hashlib.sha256(stored.body).hexdigest()
    if sha256 not in (None, found):
        raise SnapshotCorruptError.damaged(key, "is not what the pointer says it is (its SHA-256 differs)")
    manifest = _recent.get(found)
    if manifest is None:
        try:
            manifest = parse_stored(Manifest, stored.body, key)
        except ValidationError as error:
            raise not_understood(key, error) from error
        if sha256 is not None:
            remember(manifest, found)
    read = partial(read_collection, services)
    reading = manifest.reading(read, known, read_shard=shards or partial(read_shard, services))
    return StoredManifest(reading, found, stored.modified)


def remember(manifest: Manifest, sha256: str) -> None:
    """Keep a manifest that is or will be published, so that this process need not parse it when it reads it."""
    with _recent_lock:
        _recent.pop(sha256, None)
        _recent[sha256] = manifest
        for oldest in list(_recent)[:-RECENT_MANIFESTS]:
            del _recent[oldest]


def publish(
    services: Services, pointer: Pointer, *, etag: str | None, before_swap: Callable[[], None] = lambda: None
) -> Pointer:
    """Swap the pointer if it still has `etag` (None: if there is none), and return the current one.

    That is `pointer`, or one with the same commit id that an earlier attempt of the same pass wrote and whose response
    was lost. `before_swap` is called before each attempt, and stops it by raising. Raises SnapshotConflictError if
    another execution has published, TransientStorageError if no attempt succeeded.
    """
    key = _key(services)
    body = pointer.model_dump_json(indent=2).encode()
    for attempt in range(1, SWAP_ATTEMPTS + 1):
        before_swap()
        try:
            services.objects.put_if(key, body, etag=etag)
        except (PreconditionFailedError, TransientStorageError) as error:
            current = _read_back(services, pointer, etag=etag, cause=error)
            if current is not None:
                return current
            log.warning("swapping the pointer, attempt %d: %s", attempt, error)
            time.sleep(SWAP_PAUSE_SECONDS * attempt)
        else:
            return pointer
    raise TransientStorageError(
        f"{key} could not be swapped in {SWAP_ATTEMPTS} attempts; nothing was published", next_step="run again"
    )


def _read_back(services: Services, wanted: Pointer, *, etag: str | None, cause: Exception) -> Pointer | None:
    """Return the current pointer if it has our commit id, None if the pointer has not changed."""
    current = read_pointer(services)
    if current is not None and current.pointer.commit_id == wanted.commit_id:
        return current.pointer
    if (current.etag if current else None) == etag:
        return None
    raise conflict(current) from cause


def conflict(current: PublishedPointer | None) -> SnapshotConflictError:
    """Return the error that names the execution that published in between."""
    if current is None:
        return SnapshotConflictError(
            "the pointer was deleted since this pass began; nothing is lost", next_step="run again"
        )
    pointer = current.pointer
    return SnapshotConflictError(
        f"{pointer.commit_id} has published snapshot {pointer.snapshot_id} since this pass began; nothing is lost:"
        " the deltas are still pending",
        next_step="run again",
    )


def _key(services: Bucket) -> str:
    return layout.pointer_key(prefix=services.settings.snapshot_prefix)


def _parse(stored: StoredObject, services: Bucket) -> PublishedPointer:
    try:
        return PublishedPointer(parse_stored(Pointer, stored.body, _key(services)), stored.etag)
    except ValidationError as error:
        raise not_understood(_key(services), error) from error
