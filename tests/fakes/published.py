"""Builders of published snapshots and the deltas they merged, without ChromaDB directories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import DeltaOutcome, DeltaStatus, pack_outcomes
from chromadb_compaction.manifest import (
    CollectionRef,
    Collections,
    CollectionSnapshot,
    Conservation,
    Manifest,
    Pointer,
    Shard,
    ShardRef,
    StoredFile,
    commit_id,
)
from chromadb_compaction.snapshots.tree.descriptions import describe
from tests.fakes.services import EXECUTION, Fakes

ZERO = "0" * 32


def a_snapshot_id(sequence: int) -> str:
    """Return the id of the snapshot with that number."""
    return layout.new_snapshot_id(sequence, f"{sequence:08x}")


def put_delta(fakes: Fakes, number: int, *, collection: str = "docs", body: bytes | None = None) -> str:
    """Store a pending delta and return its key."""
    key = layout.delta_key(collection, f"{number:06d}")
    fakes.objects.put(key, body if body is not None else f"delta {number}".encode())
    return key


def put_quarantined(fakes: Fakes, number: int, *, reason: str = "row 7 holds NaN") -> DeltaOutcome:
    """Store a pending delta and its copy in quarantine/, as MergeBatch does, and return its outcome."""
    key = put_delta(fakes, number)
    fakes.objects.put(layout.quarantine_key(key), fakes.objects.objects[key].body)
    return outcome_of(fakes, key, "quarantined", reason)


def outcome_of(fakes: Fakes, key: str, status: DeltaStatus = "merged", reason: str | None = None) -> DeltaOutcome:
    """Return the outcome that MergeBatch reports for the stored delta."""
    found = fakes.objects.objects[key]
    sha256 = hashlib.sha256(found.body).hexdigest()
    return DeltaOutcome(key=key, etag=found.etag, bytes=len(found.body), status=status, reason=reason, sha256=sha256)


def put_snapshot(
    fakes: Fakes, sequence: int, *, files: list[str] | None = None, parent: str | None = None, **described: Any
) -> str:
    """Store the objects of a snapshot and return its id. Its manifest names `files` (default: one of its own).

    `described` are fields of its collection: l2, without an embedding function, 2 dimensions.
    """
    snapshot_id = a_snapshot_id(sequence)
    own = layout.snapshot_file_key(snapshot_id, "docs", "chroma.sqlite3")
    if files is None:
        files = [own]
    ref = put_collection(fakes, snapshot_id, "docs", files, **described)
    manifest = Manifest(
        snapshot_id=snapshot_id,
        parent=parent,
        execution=EXECUTION,
        commit_id=commit_id(EXECUTION, sequence),
        created_at=fakes.clock(),
        seconds=1,
        deltas_merged=1,
        deltas_quarantined=0,
        collections=Collections({"docs": ref}),
    )
    fakes.objects.put(layout.manifest_key(snapshot_id), manifest.model_dump_json().encode())
    return snapshot_id


def put_collection(fakes: Fakes, snapshot_id: str, name: str, files: list[str], **described: Any) -> CollectionRef:
    """Store the description of a collection with one record, and those of its `files` that there are not yet."""
    for key in files:
        if key not in fakes.objects.objects:
            fakes.objects.put(key, key.encode())
    sha256 = {key: hashlib.sha256(fakes.objects.objects[key].body).hexdigest() for key in files}
    collection = CollectionSnapshot(
        **{"dimension": 2, "space": "l2", "embedding_function": None, **described},
        records=1,
        tombstones=0,
        conservation=Conservation(base=ZERO, replaced=ZERO, deleted=ZERO, added=ZERO, next=ZERO),
        files={
            key.rpartition("/")[2] + f"-{n}": StoredFile(key=key, bytes=len(key), sha256=sha256[key])
            for n, key in enumerate(files)
        },
    )
    return put_described(fakes, snapshot_id, name, collection)


def put_described(fakes: Fakes, snapshot_id: str, name: str, described: CollectionSnapshot) -> CollectionRef:
    """Store the object that describes a collection, and return the reference to it."""
    key, body, ref = describe(snapshot_id, name, described, prefix=layout.SNAPSHOT_PREFIX)
    fakes.objects.put(key, body)
    return ref


class _HasBody(Protocol):
    @property
    def body(self) -> bytes: ...


def parse_manifest(body: bytes, objects: Mapping[str, _HasBody]) -> Manifest:
    """Return the manifest, whose collections are read from `objects`, without checks."""

    def read(name: str, ref: CollectionRef) -> CollectionSnapshot:
        return CollectionSnapshot.model_validate_json(objects[layout.collection_key(ref.snapshot_id, name)].body)

    def read_shard(number: int, ref: ShardRef) -> Shard:
        return Shard.model_validate_json(objects[layout.shard_key(ref.snapshot_id, number)].body)

    return Manifest.model_validate_json(body).reading(read, read_shard=read_shard)


def body_of(file: StoredFile, objects: Mapping[str, _HasBody]) -> bytes:
    """Return the bytes of a file of a snapshot, which may lie in a pack."""
    body = objects[file.key].body
    return body if file.offset is None else body[file.offset : file.end]


def point_to(fakes: Fakes, sequence: int, *, swap: int | None = None) -> str:
    """Write a pointer to that snapshot, as publishing it does. `swap` is the sequence if a rollback does it."""
    snapshot_id = a_snapshot_id(sequence)
    manifest = fakes.objects.objects.get(layout.manifest_key(snapshot_id))
    pointer = Pointer(
        snapshot_id=snapshot_id,
        sequence=swap or sequence,
        manifest_sha256=hashlib.sha256(manifest.body if manifest else b"").hexdigest(),
        commit_id=commit_id(EXECUTION, swap or sequence),
        published_at=fakes.clock(),
    )
    fakes.objects.put(layout.pointer_key(), pointer.model_dump_json().encode())
    return snapshot_id


def publish(fakes: Fakes, sequence: int, outcomes: list[DeltaOutcome], *, parent: str | None = None) -> str:
    """Publish a snapshot that merged `outcomes` and return its id."""
    snapshot_id = put_snapshot(fakes, sequence, parent=parent)
    fakes.objects.put(layout.merged_deltas_key(snapshot_id), pack_outcomes(outcomes))
    return point_to(fakes, sequence)
