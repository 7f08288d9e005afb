"""Downloads and uploads of a snapshot's files, each of them checked."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.disk import check_disk
from chromadb_compaction.errors import (
    NewerFormatError,
    NotReplicatedYetError,
    ObjectMissingError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import Manifest, Pointer, StoredFile
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files
from chromadb_compaction.snapshots.packs import PACK_BYTES, objects_of, write_files, write_pack
from chromadb_compaction.snapshots.pointer import noticing_a_replica, read_manifest, read_stored_manifest

ANCESTORS_SEARCHED: Final = 20


class Wanted(NamedTuple):
    """The files of one collection that are to be downloaded.

    Attributes:
        collection: The name of the collection.
        files: The files, by path inside `directory`.
        directory: The directory that will hold them.
    """

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

    Raises SnapshotCorruptError, with the snapshot to roll back to, if a file does not have the bytes and the SHA-256
    that the manifest states; SnapshotTooLargeError if the disk has not enough space. After an error the content of
    the directories is of no use.
    """
    transfers = [
        _Transfer(collection, path, file, _target(directory, path))
        for collection, files, directory in wanted
        for path, file in files.items()
    ]
    # The largest first, because they take the longest.
    transfers.sort(key=lambda transfer: transfer.file.bytes, reverse=True)
    total = sum(transfer.file.bytes for transfer in transfers)
    for copy in wanted:
        copy.directory.mkdir(parents=True, exist_ok=True)
        check_disk(
            copy.directory, total, "downloading the snapshot", next_step="raise the function's ephemeral storage"
        )
    for transfer in transfers:
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
    objects: dict[str, list[_Transfer]] = defaultdict(list)
    for transfer in transfers:
        objects[transfer.file.key].append(transfer)
    in_threads(lambda found: _download(services, manifest, found), objects.values())
    return total


class FoldedFile(NamedTuple):
    """One file after a fold.

    Attributes:
        path: The local file.
        key: The key for it if its content is new.
        before: The base's file of the same name, if there is one.
    """

    path: Path
    key: str
    before: StoredFile | None


def upload(services: Services, files: Sequence[FoldedFile]) -> list[StoredFile]:
    """Upload the files whose content differs from the base's. Return the manifest entry of each file, in order.

    Those of a directory that are at most PACK_BYTES together become one object, if the content of one of them differs.
    """
    sizes = {file: file.path.stat().st_size for file in files}
    directories: dict[str, list[FoldedFile]] = defaultdict(list)
    for file in files:
        directories[layout.pack_key(file.key, prefix=services.settings.snapshot_prefix)].append(file)
    uploads: list[_Upload] = []
    for pack, found in directories.items():
        total = sum(sizes[file] for file in found)
        single = [_Upload(None, [file], sizes[file]) for file in found]
        uploads += [_Upload(pack, found, total)] if total <= PACK_BYTES else single
    # The largest first, because they take the longest.
    uploads.sort(key=lambda each: each.bytes, reverse=True)
    stored = in_threads(lambda each: _upload_object(services, each), uploads)
    entries = {
        file: entry
        for each, of in zip(uploads, stored, strict=True)
        for file, entry in zip(each.files, of, strict=True)
    }
    return [entries[file] for file in files]


def absent_files(services: Services, files: Iterable[StoredFile]) -> list[str]:
    """Return the keys of the objects that are missing or have another size, sorted. It lists their folders."""
    wanted = objects_of(files)
    prefix = services.settings.snapshot_prefix
    folders = {layout.collection_folder(key, prefix=prefix) for key in wanted}
    listings = in_threads(lambda folder: list(services.objects.list(folder)), folders)
    found = {info.key: info for listing in listings for info in listing}
    return sorted(key for key, each in wanted.items() if not each.is_in(found))


def read_replicated_manifest(services: Services, pointer: Pointer, *, known: Manifest | None = None) -> Manifest:
    """Return the manifest of the published snapshot. In a replica, make sure that all its files have arrived.

    Those of the collections that `known`, an earlier result, has unchanged have arrived. Raises the errors of
    `read_manifest`, and NotReplicatedYetError if files have not arrived.
    """
    manifest = read_manifest(services, pointer, known=known)
    if not services.settings.is_replica:
        return manifest
    before = known.collections.entries if known else {}
    with noticing_a_replica(services):
        names = [name for name, entry in manifest.collections.entries.items() if before.get(name) != entry]
        described = in_threads(manifest.collections.peek, names)
    absent = absent_files(services, (file for each in described for file in each.all_files.values()))
    if absent:
        problem = f"{len(absent)} files of snapshot {manifest.snapshot_id}, such as {absent[0]}, are missing"
        raise NotReplicatedYetError.of(services.settings.chromadb_bucket, problem)
    return manifest


class _Upload(NamedTuple):
    """The files of an object, which is a pack if that key is given."""

    pack: str | None
    files: list[FoldedFile]
    bytes: int


def _upload_object(services: Services, each: _Upload) -> list[StoredFile]:
    if each.pack is None:
        return [_upload(services, file) for file in each.files]
    paths, before = [file.path for file in each.files], [file.before for file in each.files]
    return write_pack(services.objects, each.pack, paths, before)


def _upload(services: Services, file: FoldedFile) -> StoredFile:
    size = file.path.stat().st_size
    if file.before is not None and file.before.bytes == size:
        sha256 = _sha256(file.path)
        if file.before.sha256 == sha256:
            return file.before
        services.objects.upload(file.path, file.key)
    else:
        # A file of another size has other content, so it is hashed while it is uploaded.
        with ThreadPoolExecutor(1) as pool:
            hashed = pool.submit(_sha256, file.path)
            services.objects.upload(file.path, file.key)
            sha256 = hashed.result()
    return StoredFile(key=file.key, bytes=size, sha256=sha256)


def _target(directory: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if ".." in parts or PurePosixPath(path).is_absolute():
        raise SnapshotCorruptError(
            f"the manifest names the path {path!r}, which is outside its directory",
            next_step="roll back with --replay to one of: chromadb-compaction snapshots list",
        )
    return directory.joinpath(*parts)


def _download(services: Services, manifest: Manifest, transfers: Sequence[_Transfer]) -> None:
    """Download files that are in one object."""
    try:
        found = write_files(services.objects, [(transfer.file, transfer.target) for transfer in transfers])
    except ObjectMissingError as error:
        raise _corrupt(services, manifest, transfers[0], "is missing") from error
    for transfer, sha256 in zip(transfers, found, strict=True):
        size = transfer.target.stat().st_size
        if size != transfer.file.bytes:
            raise _corrupt(services, manifest, transfer, f"has {size} bytes, its manifest says {transfer.file.bytes}")
        if sha256 != transfer.file.sha256:
            problem = f"has the SHA-256 {sha256}, its manifest says {transfer.file.sha256}"
            raise _corrupt(services, manifest, transfer, problem)


def _corrupt(services: Services, manifest: Manifest, transfer: _Transfer, problem: str) -> SnapshotCorruptError:
    where = f"({transfer.path} of collection {transfer.collection} in snapshot {manifest.snapshot_id})"
    ancestor = _ancestor_without(services, manifest, transfer.collection, transfer.file.key)
    if ancestor is None:
        problem = f"{problem}; no ancestor of this snapshot does without it"
    return SnapshotCorruptError.damaged(transfer.file.key, f"{where} {problem}", roll_back_to=ancestor or "")


def _ancestor_without(services: Services, manifest: Manifest, collection: str, key: str) -> str | None:
    """Return the newest ancestor that does not need the object `key`, None if there is none or it is unknown."""
    ancestor = manifest.parent
    for _ in range(ANCESTORS_SEARCHED):
        if ancestor is None:
            return None
        try:
            older = read_stored_manifest(services, ancestor).manifest
            described = older.collections.get(collection)
        except (SnapshotCorruptError, NewerFormatError):
            return None
        if described is None or all(file.key != key for file in described.all_files.values()):
            return ancestor
        ancestor = older.parent
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
