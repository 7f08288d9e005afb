"""The manifest of a snapshot, and its collections, which are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import CoreSchema, core_schema

from chromadb_compaction.concurrency import LazyMapping
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import NoSuchCollectionError
from chromadb_compaction.manifest.collection import CollectionSnapshot
from chromadb_compaction.manifest.stored import CollectionName, Count, Sha256, SnapshotId, Stored, StoredFile


class CollectionRef(Stored):
    """The place of a collection's description, which is an object: see layout.collection_key.

    Attributes:
        snapshot_id: The snapshot that wrote the object, this one or an older one.
        sha256: The SHA-256 of the object, in hexadecimal.
        records: The number of live rows.
        bytes: The size of all files.
    """

    snapshot_id: SnapshotId
    sha256: Sha256
    records: Count
    bytes: Count


ReadCollection = Callable[[str, CollectionRef], CollectionSnapshot]
Entry = CollectionRef | CollectionSnapshot


def _unread(name: str, _ref: CollectionRef) -> CollectionSnapshot:
    raise TypeError(f"collection {name} cannot be read: the manifest is not of a bucket")


class Collections(LazyMapping[Entry, CollectionSnapshot]):
    """The collections of a manifest, by name. `entries` has descriptions in format 1, references in format 2."""

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

    @cached_property
    def totals(self) -> tuple[int, int]:
        """The records and the bytes of all collections."""
        return sum(each.records for each in self.entries.values()), sum(each.bytes for each in self.entries.values())

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        # No call of Python for each entry: one parse of 20,000 would take twice as long.
        stored = handler(dict[CollectionName, CollectionRef])
        inline = handler(dict[CollectionName, CollectionSnapshot])
        either = core_schema.union_schema([(stored, "objects"), (inline, "inline")], mode="left_to_right")
        parsed = core_schema.no_info_after_validator_function(cls, either)
        dump = core_schema.plain_serializer_function_ser_schema(
            lambda each: dict(each.entries), return_schema=core_schema.any_schema()
        )
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), parsed], mode="left_to_right", serialization=dump
        )


class Manifest(Stored):
    """Everything about one snapshot.

    Attributes:
        format: The version of this format. In 1, which is only read, the manifest has the collections' descriptions.
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
        dropped: The version at which each collection was dropped last. Older rows of it stay out for good.
        records: Live rows of all collections.
        bytes: The size of all files, including those shared with older snapshots.
    """

    format: Literal[1, 2] = 2
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
        wanted = CollectionSnapshot if self.format == 1 else CollectionRef
        if not all(isinstance(each, wanted) for each in self.collections.entries.values()):
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

    def reading(self, read: ReadCollection, known: Manifest | None = None) -> Manifest:
        """Return this manifest, whose collections `read` reads. Those that `known` has read already are not read."""
        collections = Collections(self.collections.entries, read, known.collections if known else None)
        return self.model_copy(update={"collections": collections})

    def collection(self, name: str) -> CollectionSnapshot:
        """Return a collection by its name. Raises NoSuchCollectionError with the names that exist."""
        if name not in self.collections:
            names = ", ".join(self.collections) or "none"
            raise NoSuchCollectionError(f"snapshot {self.snapshot_id} has no collection {name!r}; it has: {names}")
        return self.collections[name]
