"""The objects that describe the collections of a snapshot, each shared by all snapshots that have it unchanged.

They lie beside the files of the collection. A manifest names each by its snapshot and its SHA-256, so that a fold
writes, and a reader reads, only those of the collections that it touches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.manifest import CollectionRef, CollectionSnapshot, Manifest
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Bucket
from chromadb_compaction.snapshots.packs import objects_of


class DescribedCollection(NamedTuple):
    """The object that describes a collection, and the reference to it."""

    key: str
    body: bytes
    ref: CollectionRef


def describe(snapshot_id: str, name: str, described: CollectionSnapshot, *, prefix: str) -> DescribedCollection:
    """Return the object to be written for a collection that the snapshot has changed."""
    body = described.model_dump_json().encode()
    ref = CollectionRef(
        snapshot_id=snapshot_id,
        sha256=hashlib.sha256(body).hexdigest(),
        records=described.records,
        bytes=described.bytes,
    )
    return DescribedCollection(layout.collection_key(snapshot_id, name, prefix=prefix), body, ref)


def read_collection(services: Bucket, name: str, ref: CollectionRef) -> CollectionSnapshot:
    """Return the description of a collection.

    Raises SnapshotCorruptError, with the key and the collection, if its object is missing, is not what the manifest
    says, or has a wrong conservation proof. Other collections of the snapshot can still be read then.
    """
    key = layout.collection_key(ref.snapshot_id, name, prefix=services.settings.snapshot_prefix)
    body = read_named(services, key, ref.sha256, f"(the description of collection {name})")
    try:
        described = CollectionSnapshot.model_validate_json(body)
    except ValidationError as error:
        raise not_understood(key, error) from error
    if not described.conservation.holds():
        raise SnapshotCorruptError.damaged(key, f"has a wrong conservation proof for collection {name}")
    return described


def read_named(services: Bucket, key: str, sha256: str, what: str) -> bytes:
    """Return the object that a manifest names, with its SHA-256. `what` describes it in errors.

    Raises SnapshotCorruptError if it is missing, or is another one.
    """
    try:
        body = services.objects.get(key).body
    except ObjectMissingError as error:
        raise SnapshotCorruptError.damaged(key, f"{what} is missing") from error
    if hashlib.sha256(body).hexdigest() != sha256:
        raise SnapshotCorruptError.damaged(key, f"{what} is not what its manifest says it is (its SHA-256 differs)")
    return body


def collection_keys(manifest: Manifest, *, prefix: str) -> dict[str, str]:
    """Return the key of the object of each collection, by name. Empty for a manifest of format 1."""
    return {
        name: layout.collection_key(ref.snapshot_id, name, prefix=prefix)
        for name, ref in manifest.collections.refs.items()
    }


def absent_keys(
    manifest: Manifest,
    objects: Mapping[str, ObjectInfo],
    *,
    prefix: str,
    known: dict[CollectionRef, list[str]] | None = None,
) -> list[str]:
    """Return the keys that the manifest needs and that are not among `objects`, or have another size there.

    A damaged description of a collection, or shard, counts as absent. `known` has, and gets, what was found for each
    reference, so that what several snapshots share is read once.
    """
    found = {} if known is None else known

    entries, damaged = manifest.collections.readable()

    def absent_of(name: str) -> list[str]:
        entry = entries[name]
        if isinstance(entry, CollectionSnapshot):
            return _absent_files(entry, objects)
        if entry not in found:
            key = layout.collection_key(entry.snapshot_id, name, prefix=prefix)
            try:
                found[entry] = _absent_files(manifest.collections.peek(name), objects) if key in objects else [key]
            except SnapshotCorruptError:
                found[entry] = [key]
        return found[entry]

    shards = [each.key or each.message for each in damaged]
    return [*shards, *(key for absent in in_threads(absent_of, entries) for key in absent)]


def _absent_files(described: CollectionSnapshot, objects: Mapping[str, ObjectInfo]) -> list[str]:
    return [each.key for each in objects_of(described.all_files.values()).values() if not each.is_in(objects)]


def not_understood(key: str, error: ValidationError) -> SnapshotCorruptError:
    """Return the error for an object that cannot be parsed, with its first fault."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return SnapshotCorruptError.damaged(
        key, f"cannot be understood: {field}: {first['msg']}" if field else f"cannot be understood: {first['msg']}"
    )
