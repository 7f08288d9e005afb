"""Whether a function can hold what it is asked to do: decided before it starts, on sizes alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.errors import SnapshotTooLargeError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.settings import MEBIBYTE, Settings

MERGE_BYTES: Final = 350 * MEBIBYTE
"""What a merge takes whatever its batch: the program, what is fetched ahead, what is held before it is spilled."""
MERGE_FACTOR: Final = 6
"""What decoding one delta takes, in its own bytes."""
FOLD_BYTES: Final = 250 * MEBIBYTE
FOLD_FACTOR: Final = 2.2
"""What a fold takes beside FOLD_BYTES, in bytes of all the collection's vectors."""


def check_merge(deltas: Sequence[ObjectInfo], directory: Path, settings: Settings) -> None:
    """Raise SnapshotTooLargeError unless memory holds any one of the deltas, and the disk all of them, merged twice.

    What is too large to be read at all does not count: it goes to quarantine.
    """
    sizes = [delta.bytes for delta in deltas if delta.bytes <= settings.max_delta_bytes]
    memory = settings.function_memory_bytes
    needed = MERGE_BYTES + MERGE_FACTOR * max(sizes, default=0)
    if memory is not None and memory < needed:
        raise SnapshotTooLargeError(
            f"reading a delta of {max(sizes):,} bytes may take {needed:,} bytes of memory, the function has"
            f" {memory:,}; raise merge-batch's memory, or lower MAX_DELTA_BYTES and write smaller deltas"
        )
    check_disk(
        directory,
        2 * sum(sizes),
        "merging the batch",
        "raise merge-batch's ephemeral storage, or lower COMPACTION_BATCH_SIZE or MAX_PASS_BYTES",
    )


class FoldSize(NamedTuple):
    """How many bytes a collection's vectors may take once its runs are folded in, all their vectors being new."""

    collection: str
    vectors: int

    @property
    def memory(self) -> int:
        """What folding it takes at most: the index twice over while it grows, and the program."""
        return FOLD_BYTES + int(FOLD_FACTOR * self.vectors)


def check_folds(sizes: Sequence[FoldSize], settings: Settings) -> None:
    """Raise SnapshotTooLargeError if the function's memory cannot hold one of the folds."""
    memory = settings.function_memory_bytes
    for size in sizes:
        if memory is not None and memory < size.memory:
            raise SnapshotTooLargeError(
                f"{size.collection}: folding its vectors, {size.vectors:,} bytes, may take {size.memory:,} bytes of"
                f" memory, the function has {memory:,}; raise the compactor's memory, or divide the collection"
            )


def folds_at_once(sizes: Sequence[FoldSize], settings: Settings) -> int:
    """Return how many of the folds, whichever they are, memory holds at once: at least one."""
    memory = settings.function_memory_bytes
    largest_first = sorted((size.memory for size in sizes), reverse=True)
    held = len(sizes) if memory is None else sum(total <= memory for total in accumulate(largest_first))
    return max(1, held)


def check_disk(directory: Path, needed: int, what: str, remedy: str) -> None:
    """Raise SnapshotTooLargeError unless so many bytes are free on the disk of `directory`."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise SnapshotTooLargeError(f"{what} may need {needed:,} bytes of disk, {free:,} are free; {remedy}")
