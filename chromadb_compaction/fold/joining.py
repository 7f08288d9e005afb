"""The directories of a collection after their folds, joined with those that no fold has touched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.configuration import DeltaVersion, KeptSettings, Space
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.fold import FoldResult
from chromadb_compaction.fold.units import FoldUnit, directories_of
from chromadb_compaction.manifest import (
    CollectionSnapshot,
    Conservation,
    LocalPath,
    PartitionSnapshot,
    StoredFile,
    totals,
)

MODULUS = 2**128


class PartOfManifest(BaseModel):
    """One directory of a collection after its fold, as the next manifest has it.

    Attributes:
        unit: The fold.
        result: Its result.
        files: The files of the directory. None if nothing of it is left, or if it did not change.
        space: The distance of the collection.
        embedding_function: The name of the function that embeds its texts, if known.
        settings: Its other settings.
        dropped_before: The version at which it was dropped last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    unit: FoldUnit
    result: FoldResult
    files: dict[LocalPath, StoredFile] | None
    space: Space
    embedding_function: str | None
    settings: KeptSettings
    dropped_before: DeltaVersion | None

    def stays_as_it_is(self, base: CollectionSnapshot | None) -> bool:
        """Return whether the base's directory of the same ids is the next one too."""
        return not self.result.changed and self.unit.in_place(base) is not None


def join_parts(parts: Sequence[PartOfManifest], base: CollectionSnapshot | None) -> CollectionSnapshot | None:
    """Return the next version of a collection, given the parts of all its folds. None: nothing of it is left.

    A directory without any row is left out: the ids of the one before it reach to the next one.

    Raises VerificationError if the directories are not all ids, each once, or if the folds have not begun with exactly
    the rows of the base.
    """
    name = parts[0].unit.collection
    folded = [part for part in parts if not part.stays_as_it_is(base)]
    kept = [
        (each, ids) for each, ids in directories_of(base) if not any(ids.overlaps(part.unit.ids) for part in folded)
    ]
    spans = sorted([*(ids for _, ids in kept), *(part.unit.ids for part in folded)], key=lambda ids: ids.first)
    if spans[0].first or spans[-1].end is not None or any(one.end != other.first for one, other in pairwise(spans)):
        raise VerificationError(f"{name}: the folds and the directories that stay are not all ids, each once: {spans}")
    check_base(
        name, [*(part.result.conservation.base for part in folded), *(each.conservation.next for each, _ in kept)], base
    )
    directories = [
        *(_unchanged(each) for each, _ in kept),
        *(_directory(part) for part in folded if part.files is not None),
    ]
    dimensions = [part.result.dimension for part in parts]
    if base is not None and kept:
        dimensions.append(base.dimension)
    return _collection(parts[0], sorted(directories, key=lambda each: each.first), dimensions)


def whole_collection(part: PartOfManifest) -> CollectionSnapshot | None:
    """Return the next version of a collection that one fold has written whole. None: nothing of it is left."""
    return _collection(part, [] if part.files is None else [_directory(part)], [part.result.dimension])


def check_base(name: str, sums: Sequence[str], base: CollectionSnapshot | None) -> None:
    """Raise VerificationError unless the sums of all directories' base rows add up to that of the base's collection."""
    expected = int(base.conservation.next, 16) if base else 0
    if (sum(int(each, 16) for each in sums) - expected) % MODULUS:
        raise VerificationError(f"{name}: the folds have not begun with exactly the rows of the base")


def _collection(
    part: PartOfManifest, directories: Sequence[PartitionSnapshot], dimensions: Sequence[int | None]
) -> CollectionSnapshot | None:
    if not directories:
        return None
    least, *others = directories
    least = least.model_copy(update={"first": ""})
    one = {name: getattr(least, name) for name in PartitionSnapshot.model_fields if name != "first"}
    several = {**totals([least, *others]), "files": {}, "partitions": [least, *others]}
    return CollectionSnapshot(
        dimension=next((each for each in dimensions if each is not None), None),
        space=part.space,
        embedding_function=part.embedding_function,
        settings=part.settings,
        **(several if others else one),
    )


def _directory(part: PartOfManifest) -> PartitionSnapshot:
    return PartitionSnapshot(
        first=part.unit.first,
        records=part.result.counts.records,
        tombstones=part.result.counts.tombstones,
        conservation=part.result.conservation,
        files=part.files or {},
        newest=part.result.newest,
        replaced_in_place=part.result.replaced_in_place,
    )


def _unchanged(directory: PartitionSnapshot) -> PartitionSnapshot:
    """Return a directory that no fold has touched: all its rows are those of the base."""
    return directory.model_copy(update={"conservation": Conservation.unchanged(directory.conservation.next)})
