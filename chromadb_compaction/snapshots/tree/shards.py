"""The objects of a manifest's shards: read when they are needed, and written for the collections that change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import CollectionRef, Collections, Manifest, ReadShard, Shard, ShardedRefs, ShardRef
from chromadb_compaction.manifest.shards import divide, shards_for
from chromadb_compaction.ports import Bucket
from chromadb_compaction.snapshots.tree.descriptions import not_understood, read_named


class NextCollections(NamedTuple):
    """The collections of a new manifest.

    Attributes:
        collections: The collections.
        dropped: The versions of drops that the manifest itself has.
        shards: The shards to be written, by key.
    """

    collections: Collections
    dropped: dict[str, DeltaVersion]
    shards: dict[str, bytes]

    @property
    def format(self) -> Literal[2, 3]:
        """The format of the manifest."""
        return 2 if self.collections.sharded is None else 3


class Changes(NamedTuple):
    """The changes that a snapshot makes to its base.

    Attributes:
        refs: The references of the collections that it describes. None: a collection that it removes.
        dropped: The versions of the drops that it has merged.
    """

    refs: Mapping[str, CollectionRef | None]
    dropped: Mapping[str, DeltaVersion]

    @property
    def names(self) -> dict[str, None]:
        """The names of both."""
        return dict.fromkeys([*self.refs, *self.dropped])


def read_shard(services: Bucket, number: int, ref: ShardRef) -> Shard:
    """Return a shard of a manifest.

    Raises SnapshotCorruptError if its object is missing, or is not what the manifest says. Collections of other shards
    can still be read then.
    """
    key = layout.shard_key(ref.snapshot_id, number, prefix=services.settings.snapshot_prefix)
    what = f"(a shard of {ref.collections} collections)"
    body = read_named(services, key, ref.sha256, what)
    try:
        shard = Shard.model_validate_json(body)
    except ValidationError as error:
        raise not_understood(key, error) from error
    if shard.ref(ref.snapshot_id, ref.sha256) != ref:
        raise SnapshotCorruptError.damaged(key, f"{what} has other totals than its manifest says")
    return shard


def reading_once(services: Bucket) -> ReadShard:
    """Return what reads the shards of several manifests, and those that they share once."""
    found: dict[str, Shard] = {}

    def read(number: int, ref: ShardRef) -> Shard:
        if ref.sha256 not in found:
            found[ref.sha256] = read_shard(services, number, ref)
        return found[ref.sha256]

    return read


def shard_keys(manifest: Manifest, *, prefix: str) -> list[str]:
    """Return the keys of the shards of a manifest. Empty if it has none."""
    sharded = manifest.collections.sharded
    refs = [] if sharded is None else sharded.shard_refs
    return [layout.shard_key(each.snapshot_id, number, prefix=prefix) for number, each in enumerate(refs)]


def next_collections(base: Manifest | None, changes: Changes, *, snapshot_id: str, prefix: str) -> NextCollections:
    """Return the collections of the snapshot that makes `changes` to `base`.

    Of a base with shards only those that a change belongs to are read, and written, unless their number changes. Every
    collection that the base describes in itself must be among the changes.
    """
    before = base.collections.sharded if base else None
    if before is not None:
        before.fetch([*changes.refs, *changes.dropped])
    number = shards_for(_names_after(base, changes), 0 if before is None else len(before.shard_refs))
    if before is not None and number == len(before.shard_refs):
        return _write(before, changes, divide(changes.names, number), snapshot_id=snapshot_id, prefix=prefix)
    entries = base.collections.entries if base else {}
    refs = {name: each for name, each in entries.items() if isinstance(each, CollectionRef)}
    everything = Changes({**refs, **changes.refs}, {**(base.all_dropped if base else {}), **changes.dropped})
    if number:
        names = {**dict.fromkeys(range(number), ()), **divide(everything.names, number)}
        return _write(ShardedRefs.empty(number), everything, names, snapshot_id=snapshot_id, prefix=prefix)
    flat = _changed(Shard(collections={}), everything, everything.names)
    return NextCollections(Collections(flat.collections), flat.dropped, {})


def _names_after(base: Manifest | None, changes: Changes) -> int:
    """Return the number of collections, and of those that were ever dropped, which a shard names too."""
    if base is None:
        return sum(each is not None for each in changes.refs.values()) + len(changes.dropped)
    sharded = base.collections.sharded
    before = len(base.collections) + len(base.dropped) if sharded is None else sharded.names_stored
    added = sum((each is not None) - (name in base.collections) for name, each in changes.refs.items())
    return before + added + sum(base.dropped_before(name) is None for name in changes.dropped)


def _write(
    before: ShardedRefs, changes: Changes, names: Mapping[int, Iterable[str]], *, snapshot_id: str, prefix: str
) -> NextCollections:
    """Return the collections after the changes of `names`, which are given by the number of their shard."""
    shards: dict[int, tuple[ShardRef, Shard]] = {}
    bodies: dict[str, bytes] = {}
    for number, of_shard in names.items():
        shard = _changed(before.shard(number), changes, of_shard)
        body = shard.model_dump_json().encode()
        shards[number] = shard.ref(snapshot_id, hashlib.sha256(body).hexdigest()), shard
        bodies[layout.shard_key(snapshot_id, number, prefix=prefix)] = body
    return NextCollections(Collections(before.replaced(shards)), {}, bodies)


def _changed(shard: Shard, changes: Changes, names: Iterable[str]) -> Shard:
    """Return the shard after the changes of `names`, sorted by name."""
    refs: dict[str, CollectionRef | None] = {**shard.collections}
    dropped = {**shard.dropped}
    for name in names:
        if name in changes.refs:
            refs[name] = changes.refs[name]
        if name in changes.dropped:
            dropped[name] = changes.dropped[name]
    present = {name: each for name, each in sorted(refs.items()) if each is not None}
    return Shard.model_construct(collections=present, dropped=dict(sorted(dropped.items())))
