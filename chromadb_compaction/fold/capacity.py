"""Check from sizes alone that a function's memory and disk can hold its work, before the work starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Final, NamedTuple, cast

from chromadb_compaction.configuration import DEFAULT_INDEX
from chromadb_compaction.errors import SnapshotTooLargeError
from chromadb_compaction.fold.distribution import FoldInput
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.rows.shapes import StoredShape
from chromadb_compaction.settings import MEBIBYTE, Settings

MERGE_BYTES: Final = 350 * MEBIBYTE
"""The memory of a merge for any batch: the program, the deltas fetched ahead, and the rows held before they spill."""
MERGE_FACTOR: Final = 6
"""The memory to decode one delta, as a multiple of the delta's bytes."""
FOLD_BYTES: Final = 250 * MEBIBYTE
"""The memory of a fold for any collection: the program."""
FOLD_FACTOR: Final = 2.2
"""The memory of a fold beside FOLD_BYTES, as a multiple of the bytes of all the collection's vectors."""

SMALLER_PARTITIONS: Final = "lower PARTITION_SPLIT_RECORDS and PARTITION_TARGET_RECORDS: the next pass divides it"
"""The remedy for a fold that one function cannot do."""


def check_merge(delta: ObjectInfo, settings: Settings) -> None:
    """Raise SnapshotTooLargeError unless memory can hold the delta. One over `max_delta_bytes` is never read."""
    memory = settings.function_memory_bytes
    needed = MERGE_BYTES + MERGE_FACTOR * delta.bytes
    if memory is not None and memory < needed and delta.bytes <= settings.max_delta_bytes:
        raise SnapshotTooLargeError(
            f"{delta.key}: reading a delta of {delta.bytes:,} bytes may take {needed:,} bytes of memory, the function"
            f" has {memory:,}",
            next_step="raise merge-batch's memory, or lower MAX_DELTA_BYTES and write smaller deltas",
        )


class FoldSize(NamedTuple):
    """The most bytes that a collection's vectors take after a fold: every vector of its runs counts as new.

    `vectors` includes the links of the index beyond ChromaDB's default (`extra_links`).
    """

    collection: str
    vectors: int

    @property
    def memory(self) -> int:
        """The most memory that the fold takes: the index twice while it grows, and the program."""
        return FOLD_BYTES + int(FOLD_FACTOR * self.vectors)


def extra_links(max_neighbors: int | None) -> int:
    """Return the bytes of links that each vector has in the index beyond those of ChromaDB's default.

    hnswlib keeps two links of four bytes for each neighbour. FOLD_FACTOR was measured with the default.
    """
    return 8 * max(0, (max_neighbors or 0) - cast("int", DEFAULT_INDEX.max_neighbors))


def folds_too_large(sizes: Sequence[FoldSize], settings: Settings) -> dict[str, SnapshotTooLargeError]:
    """Return the error of each collection whose fold the function's memory cannot hold."""
    memory = settings.function_memory_bytes
    return {
        size.collection: SnapshotTooLargeError(
            f"{size.collection}: folding its vectors, {size.vectors:,} bytes, may take {size.memory:,} bytes of"
            f" memory, the function has {memory:,}",
            next_step=f"raise the compactor's memory, or {SMALLER_PARTITIONS}",
        )
        for size in sizes
        if memory is not None and memory < size.memory
    }


def folds_at_once(sizes: Sequence[FoldSize], settings: Settings) -> int:
    """Return how many folds the memory can hold at once, in any combination: at least one."""
    memory = settings.function_memory_bytes
    largest_first = sorted((size.memory for size in sizes), reverse=True)
    held = len(sizes) if memory is None else sum(total <= memory for total in accumulate(largest_first))
    return max(1, held)


def fold_sizes(
    request: FoldInput,
    units: Sequence[FoldUnit],
    shapes: Mapping[str, StoredShape],
    known: Mapping[str, CollectionSnapshot],
    settings: Settings,
) -> list[FoldSize]:
    """Return the sizes of those of the folds that get rows."""
    parts: dict[str, list[RunPart]] = defaultdict(list)
    for part in chain.from_iterable(request.parts):
        parts[part.collection] += [part] if part.rows else []
    sizes = []
    for unit in units:
        shape = shapes[unit.collection]
        links = extra_links(shape.settings.max_neighbors)
        arriving = [(part, rows) for part in parts[unit.collection] if (rows := part.sampled.rows_within(unit.ids))]
        # A run's vectors are uncompressed, and deletes have none.
        vectors = sum(
            min(part.bytes * rows // part.rows, 4 * rows * (shape.dimension or 0)) + links * rows
            for part, rows in arriving
        )
        described = known.get(unit.collection)
        if described is not None:
            vectors += _base_records(unit, described, settings) * (4 * (described.dimension or 0) + links)
        if arriving:
            sizes.append(FoldSize(unit.collection, vectors))
    return sizes


def _base_records(unit: FoldUnit, described: CollectionSnapshot, settings: Settings) -> int:
    """Return the records that a fold begins with. Those of a directory that is divided are not counted yet."""
    place = unit.in_place(described)
    if place is not None:
        return place.records
    return min(sum(each.records for each in unit.sources(described)), settings.partition_target_records)
