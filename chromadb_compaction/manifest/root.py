"""The manifest of a snapshot, and its collections, which are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import CoreSchema, core_schema

from chromadb_compaction.concurrency import LazyMapping
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import NoSuchCollectionError, SnapshotCorruptError
from chromadb_compaction.manifest.collection import CollectionSnapshot
from chromadb_compaction.manifest.shards import CollectionRef, ReadShard, Shard, ShardedRefs, ShardRef
from chromadb_compaction.manifest.stored import CollectionName, Sha256, SnapshotId, Stored, StoredFile

NAMES_LISTED: Final = 20
"""The most collections that a message names."""


ReadCollection = Callable[[str, CollectionRef], CollectionSnapshot]
Entry = CollectionRef | CollectionSnapshot


def _unread(name: str, _ref: CollectionRef) -> CollectionSnapshot:
    raise TypeError(f"collection {name} cannot be read: the manifest is not of a bucket")


def _no_shard(number: int, _ref: ShardRef) -> Shard:
    raise TypeError(f"shard {number} cannot be read: the manifest is not of a bucket")


class Collections(LazyMapping[Entry, CollectionSnapshot]):
    """The collections of a manifest, by name.

    `entries` has descriptions in format 1, references in format 2, and references that are read when they are needed in
    format 3.
    """

    def __init__(
        self, entries: Mapping[str, Entry], read: ReadCollection = _unread, known: Collections | None = None
    ) -> None:
        super().__init__(
            entries, lambda name, each: each if isinstance(each, CollectionSnapshot) else read(name, each), known
        )

    @property
    def refs(self) -> dict[str, CollectionRef]:
        """The references. Empty in format 1."""
        return {name: each for name, each in self.entries.items() if isinstance(each, CollectionRef)}

    @property
    def inline(self) -> dict[str, CollectionSnapshot]:
        """The descriptions that the manifest itself has. Empty except in format 1."""
        if self.sharded is not None:
            return {}
        return {name: each for name, each in self.entries.items() if isinstance(each, CollectionSnapshot)}

    @property
    def sharded(self) -> ShardedRefs | None:
        """The shards, which has only format 3."""
        return self.entries if isinstance(self.entries, ShardedRefs) else None

    @cached_property
    def totals(self) -> tuple[int, int]:
        """The records and the bytes of all collections."""
        parts = self.sharded.shard_refs if self.sharded is not None else self.entries.values()
        return sum(each.records for each in parts), sum(each.bytes for each in parts)

    def locate(self, names: Iterable[str]) -> None:
        """Read, in threads, what is needed to find the entries of `names`."""
        if self.sharded is not None:
            self.sharded.fetch(names)

    def fetch(self, names: Iterable[str]) -> None:
        """Read and keep, in threads, the descriptions of `names`. Names that there are not are left out."""
        wanted = list(names)
        self.locate(wanted)
        super().fetch(wanted)

    def kept(self, entries: Mapping[str, Entry]) -> dict[str, CollectionSnapshot]:
        """Return the descriptions that were read, of collections that are known to be the same in `entries`."""
        if not isinstance(entries, ShardedRefs):
            return super().kept(entries)
        # Nothing is read for this: a damaged shard stops its own collections only.
        return super().kept({name: each for name in self._kept.copy() if (each := entries.if_known(name))})

    def written_by(self, snapshot_id: str, names: Iterable[str]) -> list[str]:
        """Return those of `names` whose description the snapshot wrote, or has in itself."""
        if self.sharded is not None:
            names = [name for name in names if self.sharded.ref_of(name).snapshot_id == snapshot_id]
        found = self.present(names)
        refs = {name: self.entries[name] for name in found}
        return [
            n for n, each in refs.items() if isinstance(each, CollectionSnapshot) or each.snapshot_id == snapshot_id
        ]

    def readable(self) -> tuple[dict[str, Entry], list[SnapshotCorruptError]]:
        """Return the entries by name, and the errors of the shards that cannot be read."""
        if self.sharded is None:
            return {**self.entries}, []
        found = self.sharded.each_shard()
        errors = [each for each in found if isinstance(each, SnapshotCorruptError)]
        shards = [each.collections for each in found if isinstance(each, Shard)]
        return dict(sorted(item for each in shards for item in each.items())), errors

    def present(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that there are."""
        wanted = list(names)
        self.locate(wanted)
        return [name for name in wanted if name in self.entries]

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        # No call of Python for each entry: one parse of 20,000 would take twice as long.
        stored = handler(dict[CollectionName, CollectionRef])
        inline = handler(dict[CollectionName, CollectionSnapshot])
        shards = core_schema.no_info_after_validator_function(
            lambda refs: ShardedRefs(refs, _no_shard), handler(Annotated[list[ShardRef], Field(min_length=2)])
        )
        either = core_schema.union_schema(
            [(stored, "objects"), (inline, "inline"), (shards, "shards")], mode="left_to_right"
        )
        parsed = core_schema.no_info_after_validator_function(cls, either)
        dump = core_schema.plain_serializer_function_ser_schema(
            lambda each: each.sharded.shard_refs if each.sharded is not None else dict(each.entries),
            return_schema=core_schema.any_schema(),
        )
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), parsed], mode="left_to_right", serialization=dump
        )


class Manifest(Stored):
    """Everything about one snapshot.

    Attributes:
        format: The version of this format. In 1, which is only read, the manifest has the collections' descriptions. In
            3, for very many collections, it has a list of shards, which have their references.
        snapshot_id: The id of the snapshot.
        parent: The id of the snapshot it was folded from. None for the first.
        parent_sha256: The SHA-256 of the parent's manifest, in hexadecimal. None for the first, and in manifests of
            earlier versions, which did not state it.
        execution: The ARN of the execution that made it.
        commit_id: The identity of the pass that made it.
        created_at: When it was made, in Unix seconds.
        seconds: How long that took.
        deltas_merged: The number of deltas that its pass merged.
        deltas_quarantined: The number of deltas that its pass quarantined.
        collections: The collections, by name.
        dropped: The version at which each collection was dropped last. Older rows of it stay out for good. Format 3 has
            them in the shards: see `dropped_before`.
        records: Live rows of all collections.
        bytes: The size of all files, including those shared with older snapshots.
    """

    format: Literal[1, 2, 3] = 2
    snapshot_id: SnapshotId
    parent: str | None
    parent_sha256: Sha256 | None = None
    execution: str
    commit_id: str
    created_at: float
    seconds: float
    deltas_merged: Annotated[int, Field(ge=0)]
    deltas_quarantined: Annotated[int, Field(ge=0)]
    collections: Collections
    dropped: dict[CollectionName, DeltaVersion] = Field(default_factory=dict)
    records: int = Field(default_factory=lambda data: data["collections"].totals[0])
    bytes: int = Field(default_factory=lambda data: data["collections"].totals[1])

    @model_validator(mode="after")
    def _is_of_its_format(self) -> Self:
        if self.format == 3:
            is_of_it = self.collections.sharded is not None and not self.dropped
        else:
            wanted = CollectionSnapshot if self.format == 1 else CollectionRef
            is_of_it = self.collections.sharded is None
            is_of_it = is_of_it and all(isinstance(each, wanted) for each in self.collections.entries.values())
        if not is_of_it:
            raise ValueError(f"the collections are not those of format {self.format}")
        if (self.records, self.bytes) != self.collections.totals:
            raise ValueError("the totals are not those of the collections")
        return self

    @property
    def files(self) -> Iterator[StoredFile]:
        """The files of all collections, which are read one after the other."""
        return (file for collection in self.collections.values() for file in collection.all_files.values())

    def bytes_of(self, name: str) -> int:
        """Return the size of a collection's files, 0 if there is none of that name. It reads no description."""
        entry = self.collections.entries.get(name)
        return entry.bytes if entry else 0

    def dropped_before(self, name: str) -> DeltaVersion | None:
        """Return the version at which a collection was dropped last. None: never."""
        sharded = self.collections.sharded
        return sharded.dropped_before(name) if sharded is not None else self.dropped.get(name)

    @property
    def all_dropped(self) -> dict[str, DeltaVersion]:
        """The version at which each collection was dropped last. All shards are read for it."""
        sharded = self.collections.sharded
        dropped = [each.dropped for each in sharded.shards] if sharded is not None else [self.dropped]
        return dict(sorted(item for each in dropped for item in each.items()))

    def reading(
        self,
        read: ReadCollection,
        known: Manifest | None = None,
        *,
        read_shard: ReadShard = _no_shard,
    ) -> Manifest:
        """Return this manifest, whose collections `read` reads, and whose shards `read_shard`.

        What `known` has read already is not read again.
        """
        entries, before = self.collections.entries, known.collections if known else None
        if isinstance(entries, ShardedRefs):
            entries = entries.reading(read_shard, before.sharded if before is not None else None)
        return self.model_copy(update={"collections": Collections(entries, read, before)})

    def collection(self, name: str) -> CollectionSnapshot:
        """Return a collection by its name. Raises NoSuchCollectionError with the names that exist."""
        if name not in self.collections:
            raise NoSuchCollectionError(f"snapshot {self.snapshot_id} has no collection {name!r}; it has: {self.names}")
        return self.collections[name]

    @property
    def names(self) -> str:
        """The names of the collections for a message. Their number if there are many."""
        if len(self.collections) > NAMES_LISTED:
            return f"{len(self.collections):,} others"
        return ", ".join(self.collections) or "none"
