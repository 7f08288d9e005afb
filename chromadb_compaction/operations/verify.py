"""Verification that a snapshot is what its manifest says: its objects and, in full, its records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.chroma.audit import Audit, audit
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import NewerFormatError, ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, PartitionSnapshot, StoredFile
from chromadb_compaction.operations.typed_ids import find_snapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import decode_ledger, live_sum
from chromadb_compaction.snapshots.base import cache_of
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.delta_lists import read_list
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.packs import FileObject, objects_of, write_files
from chromadb_compaction.snapshots.pointer import noticing_a_replica
from chromadb_compaction.snapshots.pruning import pruned_meanwhile

MISSING = "is missing"
NOWHERE = Path(os.devnull)
"""The target of an object that is only hashed."""


class Verified(BaseModel):
    """The number of files and records that were read, and every problem found. `records` is 0 unless `full`.

    `manifest_proven` is False if neither the pointer nor a later snapshot states the manifest's SHA-256.
    A fingerprint cannot prove `unproven_vectors`, nor the metadata of `unproven_texts` records. `missing` is the number
    of the problems that are objects which do not exist.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    full: bool
    manifest_proven: bool
    files: int
    bytes: int
    records: int
    unproven_vectors: int
    unproven_texts: int
    problems: list[str]
    missing: int = 0


class _Labelled(NamedTuple):
    collection: str
    path: str
    file: StoredFile


def verify_snapshot(services: Services, snapshot_id: str | None, *, full: bool) -> Verified:
    """Check a snapshot (None: the published one) and return all problems.

    Always checks the pointer, the manifest and its conservation proofs, the list of merged deltas, and the SHA-256 of
    each object. In full, also compares every record with the ledger, and computes the proof again from the ledger.
    Raises NoSnapshotError if there is none or it is pruned meanwhile, SnapshotCorruptError if its manifest cannot be
    used, NewerFormatError if a newer version wrote it or the pointer, NotReplicatedYetError in a replica without it.
    """
    catalogue = read_catalogue(services)
    if isinstance(catalogue.current_pointer.error, NewerFormatError):
        raise catalogue.current_pointer.error
    with noticing_a_replica(services):
        manifest = find_snapshot(snapshot_id, catalogue).manifest
    problems = [catalogue.current_pointer.problem] if catalogue.current_pointer.problem else []
    try:
        read_list(services, manifest.snapshot_id)
    except SnapshotCorruptError as error:
        problems.append(str(error))
    described, undescribed = _read_collections(manifest)
    labelled = [
        _Labelled(name, path, file)
        for name, each in sorted(described.items())
        for path, file in sorted(each.all_files.items())
    ]
    unique = {each.file: each for each in labelled}
    found = in_threads(lambda each: _check(each, unique, services), objects_of(unique).values())
    damaged = [*undescribed, *(problem for problems in found for problem in problems)]
    pruned = pruned_meanwhile(manifest.snapshot_id, services) if damaged else None
    if pruned is not None:
        raise pruned
    audits = _audit_all(manifest, described, services) if full and not damaged else []
    return Verified(
        snapshot_id=manifest.snapshot_id,
        full=full,
        manifest_proven=catalogue.is_proven(manifest.snapshot_id),
        files=len(unique),
        bytes=sum(file.bytes for file in unique),
        records=sum(each.records for each in audits),
        unproven_vectors=sum(each.unproven_vectors for each in audits),
        unproven_texts=sum(each.unproven_texts for each in audits),
        problems=[*problems, *damaged, *(problem for each in audits for problem in each.problems)],
        missing=sum(problem.endswith(MISSING) for problem in damaged),
    )


def _check(held: FileObject, labels: Mapping[StoredFile, _Labelled], services: Services) -> list[str]:
    """Read the files of an object, and return what is wrong with them."""
    first = labels[held.files[0]]
    try:
        found = write_files(services.objects, [(file, NOWHERE) for file in held.files])
    except ObjectMissingError:
        what = first.path if len(held.files) == 1 else f"{len(held.files)} files"
        return [f"{held.key} ({what} of collection {first.collection}) {MISSING}"]
    damaged = [labels[file] for file, sha256 in zip(held.files, found, strict=True) if sha256 != file.sha256]
    return [
        f"{held.key} ({each.path} of collection {each.collection}) is not what was published (its SHA-256 differs)"
        for each in damaged
    ]


def _read_collections(manifest: Manifest) -> tuple[dict[str, CollectionSnapshot], list[str]]:
    """Return the descriptions of the collections by name, and what is wrong with those that cannot be read."""

    def read(name: str) -> CollectionSnapshot | SnapshotCorruptError:
        try:
            return manifest.collections.peek(name)
        except SnapshotCorruptError as error:
            return error

    entries, damaged = manifest.collections.readable()
    found = dict(zip(entries, in_threads(read, entries), strict=True))
    described = {name: each for name, each in found.items() if isinstance(each, CollectionSnapshot)}
    errors = [*damaged, *(each for each in found.values() if isinstance(each, SnapshotCorruptError))]
    return described, [each.message for each in errors]


def _audit_all(manifest: Manifest, described: Mapping[str, CollectionSnapshot], services: Services) -> list[Audit]:
    """Read one directory after the other, so that the disk holds only one."""
    return [
        _audit(manifest, name, each, directory, services)
        for name, each in sorted(described.items())
        for directory in each.directories
    ]


def _audit(
    manifest: Manifest, name: str, described: CollectionSnapshot, stored: PartitionSnapshot, services: Services
) -> Audit:
    with cache_of(services).scratch() as scratch:
        directory = scratch / "directory"
        download(services, manifest, [Wanted(name, stored.files, directory)])
        ledger = decode_ledger((directory / layout.LEDGER_FILE).read_bytes())
        problems = _check_ledger(name, stored, ledger)
        if described.dimension is None or not stored.chroma_files:
            return Audit(0, 0, 0, tuple(problems))
        found = audit(directory, name, ledger, dimension=described.dimension, space=described.space)
        return found._replace(problems=(*problems, *found.problems))


def _check_ledger(name: str, described: PartitionSnapshot, ledger: pa.Table) -> list[str]:
    """Compare the counts and the sum of the ledger's rows with the manifest's."""
    problems = []
    tombstones = int(pc.sum(ledger["deleted"]).as_py() or 0)
    if (ledger.num_rows - tombstones, tombstones) != (described.records, described.tombstones):
        problems.append(
            f"{name}: the ledger has {ledger.num_rows - tombstones} live rows and {tombstones} tombstones,"
            f" the manifest says {described.records} and {described.tombstones}"
        )
    if described.records and not described.chroma_files:
        problems.append(f"{name}: a directory of {described.records} records has no files")
    if live_sum(ledger) != described.conservation.next:
        problems.append(f"{name}: the sum of the ledger's live rows is not the manifest's conservation proof")
    return problems
