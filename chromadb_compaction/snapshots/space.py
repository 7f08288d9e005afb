"""The disk and the memory that open collections take, and the decision which of them must make space for another."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.chroma.schema import SQLITE_FILE
from chromadb_compaction.errors import DiskFullError, SnapshotTooLargeError
from chromadb_compaction.manifest import PartitionSnapshot
from chromadb_compaction.settings import MEBIBYTE, Settings

PROGRAM_BYTES: Final = 250 * MEBIBYTE
"""The memory of a process that answers queries, without any collection."""
RECORD_BYTES: Final = 800
"""The memory of a record in an open index beside its vector and links: locks, labels and ids. Measured: 770 bytes."""


class Space(NamedTuple):
    """Bytes of disk and of memory."""

    disk: int
    memory: int


class RemovableCopy(NamedTuple):
    """An open copy of a collection that may make space for another.

    Attributes:
        collection: The name of the collection.
        space: What its removal frees.
        idle: Whether no query uses it. Only then its disk is freed at once.
    """

    collection: str
    space: Space
    idle: bool


def space_of(directories: Iterable[PartitionSnapshot]) -> Space:
    """Return what open copies of these directories take, as soon as their indexes are in use.

    ChromaDB keeps an index in memory whole, entries of deleted records included. So its files tell more than the
    number of records.
    """
    disk = memory = 0
    for each in directories:
        files = each.chroma_files
        disk += sum(file.bytes for file in files.values())
        memory += sum(file.bytes for path, file in files.items() if path != SQLITE_FILE)
        memory += RECORD_BYTES * each.records if files else 0
    return Space(disk, memory)


def available_space(settings: Settings) -> Space:
    """Return the free disk of the cache, and the memory that collections may take: very much outside of a function."""
    directory = Path(settings.chromadb_cache_dir)
    while not directory.exists():
        directory = directory.parent
    limit = settings.function_memory_bytes
    memory = 2**63 if limit is None else max(0, limit - PROGRAM_BYTES)
    return Space(shutil.disk_usage(directory).free, memory)


def _megabytes(memory: int) -> int:
    return -(-(memory + PROGRAM_BYTES) // MEBIBYTE)


def choose_removals(name: str, needed: Space, available: Space, copies: Sequence[RemovableCopy]) -> list[str]:
    """Return the collections whose copies must be removed so that another one can be opened.

    Args:
        name: The name of the other one, which may have an open copy too.
        needed: The disk of what will be downloaded, and the memory of the whole collection.
        available: The free disk, and the memory of all collections.
        copies: The open copies, the one that was used least recently first.

    Raises:
        SnapshotTooLargeError: All memory does not suffice. Its subclass DiskFullError: the disk does not, even if all
            idle copies are removed.
    """
    if needed.memory > available.memory:
        raise SnapshotTooLargeError(
            f"{name}: its index may take {needed.memory:,} bytes of memory, and the function has {available.memory:,}"
            " for it",
            next_step=f"raise the function's memory (chromadb:memory.query) to {_megabytes(needed.memory):,} MB",
        )
    freed = sum(each.space.disk for each in copies if each.idle)
    if needed.disk > available.disk + freed:
        raise DiskFullError(
            f"{name}: downloading it may need {needed.disk:,} bytes of disk, {available.disk:,} are free, and"
            f" {freed:,} more without other collections",
            next_step="free some of it, or raise the function's (chromadb:ephemeralStorage.query)",
        )
    removed: list[str] = []
    disk = available.disk
    memory = available.memory - sum(each.space.memory for each in copies if each.collection != name)
    for each in sorted(copies, key=lambda copy: copy.collection == name):
        if needed.disk > disk or needed.memory > memory:
            removed.append(each.collection)
            disk += each.space.disk if each.idle else 0
            memory += each.space.memory if each.collection != name else 0
    return removed
