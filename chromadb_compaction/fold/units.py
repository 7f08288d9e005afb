"""The units of folding: each fold writes a range of ids of a collection as one directory."""

from __future__ import annotations

from typing import NamedTuple

from chromadb_compaction.manifest import CollectionSnapshot, PartitionSnapshot
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, ranges
from chromadb_compaction.snapshots.cache import DirectoryName


class FoldUnit(NamedTuple):
    """One fold: it writes the ids of a collection from `first` to before `end` as one directory.

    An `end` of None has no limit. Without a limit on either side it is the whole collection.
    """

    collection: str
    first: str = ""
    end: str | None = None

    @property
    def ids(self) -> IdRange:
        """The ids."""
        return IdRange(self.first, self.end)

    @property
    def is_whole(self) -> bool:
        """True if it is the whole collection."""
        return self.ids == ALL_IDS

    @property
    def directory(self) -> DirectoryName:
        """The name of the directory that it writes."""
        return DirectoryName(self.collection, self.first)

    def sources(self, described: CollectionSnapshot | None) -> list[PartitionSnapshot]:
        """Return the directories of the base's collection that may have its ids, in their order."""
        return [each for each, ids in directories_of(described) if ids.overlaps(self.ids)]

    def in_place(self, described: CollectionSnapshot | None) -> PartitionSnapshot | None:
        """Return the directory that has exactly its ids: the fold changes a copy of it. None: it writes another."""
        return next((each for each, ids in directories_of(described) if ids == self.ids), None)


def directories_of(described: CollectionSnapshot | None) -> list[tuple[PartitionSnapshot, IdRange]]:
    """Return the directories of a collection with their ids. None: it has none."""
    if described is None:
        return []
    directories = described.directories
    return list(zip(directories, ranges([each.first for each in directories]), strict=True))
