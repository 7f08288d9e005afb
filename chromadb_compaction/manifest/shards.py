"""The shards of a manifest with very many collections: each has the references of a part of them.

A name belongs to the shard that its hash says. So a pass reads and writes the shards of the collections that it
touches, and a reader reads those of the collections that it wants.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import Field

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest.stored import CollectionName, Count, Sha256, SnapshotId, Stored

MOST_WITHOUT_SHARDS: Final = 2000
"""The most names of a manifest that begins without shards: 320 KB."""
NAMES_IN_A_SHARD: Final = 128
"""The most names of a new shard, on average: 20 KB."""
GROWTH: Final = 4
"""Shards are divided again, or joined, when they have this many times more names, or fewer."""


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


class ShardRef(Stored):
    """The place of a shard, which is an object: see layout.shard_key. Its number is its place in the manifest's list.

    Attributes:
        snapshot_id: The snapshot that wrote the object, this one or an older one.
        sha256: The SHA-256 of the object, in hexadecimal.
        collections: The number of its collections.
        dropped: The number of its collections that were ever dropped.
        records: The live rows of its collections.
        bytes: The size of all their files.
    """

    snapshot_id: SnapshotId
    sha256: Sha256
    collections: Count
    dropped: Count
    records: Count
    bytes: Count


class Shard(Stored):
    """A part of a manifest: `collections` and `dropped` of the names that belong to it."""

    collections: dict[CollectionName, CollectionRef]
    dropped: dict[CollectionName, DeltaVersion] = Field(default_factory=dict)

    def ref(self, snapshot_id: str, sha256: str) -> ShardRef:
        """Return the reference to this shard, as `snapshot_id` writes it."""
        return ShardRef(
            snapshot_id=snapshot_id,
            sha256=sha256,
            collections=len(self.collections),
            dropped=len(self.dropped),
            records=sum(each.records for each in self.collections.values()),
            bytes=sum(each.bytes for each in self.collections.values()),
        )


ReadShard = Callable[[int, ShardRef], Shard]


def number_of(name: str, shards: int) -> int:
    """Return the number of the shard that a name belongs to."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % shards


def shards_for(names: int, present: int) -> int:
    """Return the number of shards of a manifest of so many names, whose base has `present` of them. 0: none.

    It seldom changes, because then all shards are written again.
    """
    if present and present * NAMES_IN_A_SHARD // GROWTH <= names <= present * NAMES_IN_A_SHARD * GROWTH:
        return present
    if names <= (MOST_WITHOUT_SHARDS // GROWTH if present else MOST_WITHOUT_SHARDS):
        return 0
    shards = 2
    while shards * NAMES_IN_A_SHARD < names:
        shards *= 2
    return shards


def divide(names: Iterable[str], shards: int) -> dict[int, list[str]]:
    """Return the names of each shard that has any, by its number."""
    divided: dict[int, list[str]] = defaultdict(list)
    for name in names:
        divided[number_of(name, shards)].append(name)
    return divided


class ShardedRefs(Mapping[str, CollectionRef]):
    """The references of all collections, sorted by name. A shard is read when one of its names is asked for, and kept.

    Args:
        refs: The shards in the order of their numbers.
        read: Returns a shard. It may raise.
        known: The shards that are known already, by their SHA-256.
    """

    def __init__(self, refs: Sequence[ShardRef], read: ReadShard, known: Mapping[str, Shard] | None = None) -> None:
        self.shard_refs = list(refs)
        self._read = read
        self._known = dict(known or {})

    def reading(self, read: ReadShard, before: ShardedRefs | None) -> ShardedRefs:
        """Return the same references, whose shards `read` reads unless they are known in `before`.

        Those that are known here are read again, so that a pass notices one that is gone, whatever its process knows.
        """
        return ShardedRefs(self.shard_refs, read, before.known_of(self.shard_refs) if before is not None else None)

    def known_of(self, refs: Sequence[ShardRef]) -> dict[str, Shard]:
        """Return those of the shards `refs` that were read, by their SHA-256."""
        return {each.sha256: self._known[each.sha256] for each in refs if each.sha256 in self._known}

    @classmethod
    def empty(cls, number: int) -> ShardedRefs:
        """Return so many shards without any name. They are not stored."""
        nothing = Shard(collections={})
        return cls([nothing.ref("0" * 10 + "-" + "0" * 8, "0" * 64)] * number, lambda _number, _ref: nothing)

    def replaced(self, shards: Mapping[int, tuple[ShardRef, Shard]]) -> ShardedRefs:
        """Return these references with other shards under some of the numbers."""
        refs = [shards[number][0] if number in shards else each for number, each in enumerate(self.shard_refs)]
        known = {ref.sha256: shard for ref, shard in shards.values()}
        return ShardedRefs(refs, self._read, {**self.known_of(refs), **known})

    @property
    def names_stored(self) -> int:
        """The number of names, which counts a collection that was dropped once and exists twice."""
        return sum(each.collections + each.dropped for each in self.shard_refs)

    def ref_of(self, name: str) -> ShardRef:
        """Return the reference to the shard that the name belongs to."""
        return self.shard_refs[number_of(name, len(self.shard_refs))]

    def shard(self, number: int) -> Shard:
        """Return a shard, read first if it is not known. Raises what `read` raises."""
        ref = self.shard_refs[number]
        if ref.sha256 not in self._known:
            self._known[ref.sha256] = self._read(number, ref)
        return self._known[ref.sha256]

    def fetch(self, names: Iterable[str]) -> None:
        """Read the shards of the names in threads."""
        in_threads(self.shard, divide(names, len(self.shard_refs)))

    def if_known(self, name: str) -> CollectionRef | None:
        """Return a reference without reading anything: None if its shard is not known, or has no such name."""
        shard = self._known.get(self.ref_of(name).sha256)
        return shard.collections.get(name) if shard else None

    def dropped_before(self, name: str) -> DeltaVersion | None:
        """Return the version at which the collection was dropped last. None: never."""
        return self.shard(number_of(name, len(self.shard_refs))).dropped.get(name)

    @property
    def shards(self) -> list[Shard]:
        """All shards, read in threads."""
        return in_threads(self.shard, range(len(self.shard_refs)))

    def each_shard(self) -> list[Shard | SnapshotCorruptError]:
        """Return all shards, read in threads, and the errors in place of those that are damaged."""

        def read(number: int) -> Shard | SnapshotCorruptError:
            try:
                return self.shard(number)
            except SnapshotCorruptError as error:
                return error

        return in_threads(read, range(len(self.shard_refs)))

    def __getitem__(self, name: str) -> CollectionRef:
        return self.shard(number_of(name, len(self.shard_refs))).collections[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(name for shard in self.shards for name in shard.collections))

    def __len__(self) -> int:
        return sum(each.collections for each in self.shard_refs)
