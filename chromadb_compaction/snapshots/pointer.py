"""Published snapshots in the bucket: the pointer, the manifest it vouches for, and the one write that publishes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.errors import (
    ObjectMissingError,
    PreconditionFailedError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.manifest import Manifest, Pointer
from chromadb_compaction.ports import Services, StoredObject

SWAP_ATTEMPTS: Final = 5
SWAP_PAUSE_SECONDS: Final = 0.2

log = logging.getLogger(__name__)


class PublishedPointer(NamedTuple):
    """The pointer, and the ETag that a swap must still find."""

    pointer: Pointer
    etag: str


class CurrentPointer(NamedTuple):
    """What stands under the pointer's key, whatever it is worth: `problem` says why there is no `pointer`.

    `etag` None: no object stands there.
    """

    pointer: Pointer | None
    etag: str | None
    problem: str | None


def read_current_pointer(services: Services) -> CurrentPointer:
    """Return the pointer even if it cannot be understood: a rollback replaces that one too."""
    key = layout.pointer_key(prefix=services.settings.snapshot_prefix)
    try:
        stored = services.objects.get(key)
    except ObjectMissingError:
        return CurrentPointer(None, None, None)
    try:
        return CurrentPointer(_parsed(key, stored).pointer, stored.etag, None)
    except SnapshotCorruptError as error:
        return CurrentPointer(None, stored.etag, str(error))


def read_pointer(services: Services) -> PublishedPointer | None:
    """Return the pointer, None before the first snapshot. Raises SnapshotCorruptError if it cannot be understood."""
    key = layout.pointer_key(prefix=services.settings.snapshot_prefix)
    try:
        return _parsed(key, services.objects.get(key))
    except ObjectMissingError:
        return None


def read_pointer_if_changed(services: Services, known: PublishedPointer) -> PublishedPointer:
    """Return the pointer, `known` itself if it has not changed: then one request without a body was the cost.

    Raises ObjectMissingError if it has gone.
    """
    key = layout.pointer_key(prefix=services.settings.snapshot_prefix)
    changed = services.objects.get_if_changed(key, known.etag)
    return known if changed is None else _parsed(key, changed)


def read_manifest(services: Services, pointer: Pointer) -> Manifest:
    """Return the manifest of the published snapshot, checked against the pointer's SHA-256."""
    key = layout.manifest_key(pointer.snapshot_id, prefix=services.settings.snapshot_prefix)
    try:
        body = services.objects.get(key).body
    except ObjectMissingError as error:
        raise _corrupt_manifest(key, "is missing") from error
    if hashlib.sha256(body).hexdigest() != pointer.manifest_sha256:
        raise _corrupt_manifest(key, "is not what the pointer says it is (its SHA-256 differs)")
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise _corrupt_manifest(key, f"cannot be understood: {_first_problem(error)}") from error


def publish(
    services: Services, pointer: Pointer, *, etag: str | None, before_swap: Callable[[], None] = lambda: None
) -> Pointer:
    """Swap the pointer if it still has `etag` (None: if there is none), and return the one that now stands.

    That is `pointer`, or one with the same commit id that an earlier attempt of the same pass put there, its
    response lost. `before_swap` is called before each attempt, and stops it by raising. Raises
    SnapshotConflictError when another execution has published, TransientStorageError when no attempt got through.
    """
    key = layout.pointer_key(prefix=services.settings.snapshot_prefix)
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
    raise TransientStorageError(f"{key} could not be swapped in {SWAP_ATTEMPTS} attempts; nothing was published")


def _read_back(services: Services, wanted: Pointer, *, etag: str | None, cause: Exception) -> Pointer | None:
    """Return the current pointer if the commit is ours, None if the pointer is still what it was."""
    current = read_pointer(services)
    if current is not None and current.pointer.commit_id == wanted.commit_id:
        return current.pointer
    if (current.etag if current else None) == etag:
        return None
    raise conflict(current) from cause


def conflict(current: PublishedPointer | None) -> SnapshotConflictError:
    """Return the error that says who published in between."""
    if current is None:
        return SnapshotConflictError("the pointer has gone since this pass began; nothing is lost: run again")
    pointer = current.pointer
    return SnapshotConflictError(
        f"{pointer.commit_id} has published snapshot {pointer.snapshot_id} since this pass began;"
        " nothing is lost: the deltas are still pending, run again"
    )


def _parsed(key: str, stored: StoredObject) -> PublishedPointer:
    try:
        return PublishedPointer(Pointer.model_validate_json(stored.body), stored.etag)
    except ValidationError as error:
        raise SnapshotCorruptError(
            f"{key} cannot be understood: {_first_problem(error)}; restore its previous version in the bucket,"
            " or run: chromadb-compaction snapshots rollback ID --replay (snapshots list names them)"
        ) from error


def _corrupt_manifest(key: str, problem: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        f"{key} {problem}; restore its previous version in the bucket, or run:"
        " chromadb-compaction snapshots rollback ID --replay (snapshots list names them)"
    )


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field}: {first['msg']}" if field else first["msg"]
