"""Moving a snapshot's files between the bucket and the local disk, every one of them checked."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.adapters.snapshot_cache import Files, files_below
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError, SnapshotTooLargeError
from chromadb_compaction.manifest import Manifest, StoredFile
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.parallel import in_threads

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


def hash_files(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `directory`, by its path relative to it."""
    found = files_below(directory)
    return dict(zip(found, in_threads(_sha256, found.values()), strict=True))


def describe(directory: Path, base: Files, *, fresh_key: Callable[[str], str]) -> Files:
    """Return what a manifest says of `directory`: a file with the base's content keeps the base's key."""
    files: Files = {}
    for path, sha256 in hash_files(directory).items():
        before = base.get(path)
        if before is not None and before.sha256 == sha256:
            files[path] = before
        else:
            size = (directory / path).stat().st_size
            files[path] = StoredFile(key=fresh_key(path), bytes=size, sha256=sha256)
    return files


def upload(services: Services, snapshot_id: str, described: list[Wanted]) -> int:
    """Upload, in parallel, the files whose keys stand under `snapshot_id`, and return their bytes."""
    prefix = services.settings.snapshot_prefix
    fresh = [
        (file, directory / path)
        for _, files, directory in described
        for path, file in files.items()
        if layout.snapshot_of_key(file.key, prefix=prefix) == snapshot_id
    ]
    fresh.sort(key=lambda pair: pair[0].bytes, reverse=True)
    in_threads(lambda pair: services.objects.upload(pair[1], pair[0].key), fresh)
    return sum(file.bytes for file, _ in fresh)


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
