"""Moving a snapshot's files between the bucket and the local disk, every one of them checked."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.manifest import Manifest, StoredFile
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files

ANCESTORS_SEARCHED: Final = 20


class Wanted(NamedTuple):
    """One collection's files, by path, and the directory they go to."""

    collection: str
    files: Files
    directory: Path


class _Transfer(NamedTuple):
    collection: str
    path: str
    file: StoredFile
    target: Path


def download(services: Services, manifest: Manifest, wanted: list[Wanted]) -> int:
    """Download all files in parallel and return their bytes.

    Each must have the bytes and the SHA-256 that the manifest states: else SnapshotCorruptError, which names the
    file and the way back. SnapshotTooLargeError says that the disk cannot hold them. What stands in the directories
    after an error is worthless.
    """
    transfers = [
        _Transfer(collection, path, file, _target(directory, path))
        for collection, files, directory in wanted
        for path, file in files.items()
    ]
    # The largest first: they decide when all are done.
    transfers.sort(key=lambda transfer: transfer.file.bytes, reverse=True)
    for copy in wanted:
        copy.directory.mkdir(parents=True, exist_ok=True)
    for transfer in transfers:
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(transfers)
    in_threads(lambda transfer: _download(services, manifest, transfer), transfers)
    return sum(transfer.file.bytes for transfer in transfers)


class FoldedFile(NamedTuple):
    """One file after a fold: where it is, the key that it gets if it is new, and what the base has under its name."""

    path: Path
    key: str
    before: StoredFile | None


def upload(services: Services, files: Sequence[FoldedFile]) -> list[StoredFile]:
    """Return what a manifest says of each file, once every one that is not the base's is uploaded under its key."""
    # The largest first: they decide when all are done.
    largest_first = sorted(files, key=lambda file: file.path.stat().st_size, reverse=True)
    stored = dict(zip(largest_first, in_threads(lambda file: _upload(services, file), largest_first), strict=True))
    return [stored[file] for file in files]


def _upload(services: Services, file: FoldedFile) -> StoredFile:
    size = file.path.stat().st_size
    if file.before is not None and file.before.bytes == size:
        sha256 = _sha256(file.path)
        if file.before.sha256 == sha256:
            return file.before
        services.objects.upload(file.path, file.key)
    else:
        # Of another size, so of other content: it need not be hashed before it goes.
        with ThreadPoolExecutor(1) as pool:
            hashed = pool.submit(_sha256, file.path)
            services.objects.upload(file.path, file.key)
            sha256 = hashed.result()
    return StoredFile(key=file.key, bytes=size, sha256=sha256)


def _target(directory: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if ".." in parts or PurePosixPath(path).is_absolute():
        raise SnapshotCorruptError(f"the manifest names the path {path!r}, which leaves its directory; roll back")
    return directory.joinpath(*parts)


def _check_disk(transfers: list[_Transfer]) -> None:
    needed = sum(transfer.file.bytes for transfer in transfers)
    free = min((shutil.disk_usage(transfer.target.parent).free for transfer in transfers), default=0)
    if free < needed:
        raise SnapshotTooLargeError(
            f"the snapshot's files take {needed:,} bytes of disk, {free:,} are free;"
            " raise the function's ephemeral storage"
        )


def _download(services: Services, manifest: Manifest, transfer: _Transfer) -> None:
    try:
        sha256 = services.objects.download(transfer.file.key, transfer.target)
    except ObjectMissingError as error:
        raise _corrupt(services, manifest, transfer, "is missing") from error
    size = transfer.target.stat().st_size
    if size != transfer.file.bytes:
        raise _corrupt(services, manifest, transfer, f"has {size} bytes, its manifest says {transfer.file.bytes}")
    if sha256 != transfer.file.sha256:
        raise _corrupt(
            services, manifest, transfer, f"has the SHA-256 {sha256}, its manifest says {transfer.file.sha256}"
        )


def _corrupt(services: Services, manifest: Manifest, transfer: _Transfer, problem: str) -> SnapshotCorruptError:
    return SnapshotCorruptError(
        f"{transfer.file.key} ({transfer.path} of collection {transfer.collection} in snapshot {manifest.snapshot_id})"
        f" {problem}; restore the object's previous version, or {_way_back(services, manifest, transfer.file.key)}"
    )


def _way_back(services: Services, manifest: Manifest, key: str) -> str:
    """Say how to roll back to the newest ancestor that does without the object under `key`."""
    ancestor = manifest.parent
    for _ in range(ANCESTORS_SEARCHED):
        if ancestor is None:
            break
        try:
            stored = services.objects.get(layout.manifest_key(ancestor, prefix=services.settings.snapshot_prefix))
            older = Manifest.model_validate_json(stored.body)
        except (ObjectMissingError, ValidationError):
            break
        if not any(file.key == key for collection in older.collections.values() for file in collection.files.values()):
            return f"run: chromadb-compaction snapshots rollback {ancestor} --replay"
        ancestor = older.parent
    return (
        "roll back with chromadb-compaction snapshots rollback ID --replay"
        " (no ancestor of this snapshot does without it)"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
