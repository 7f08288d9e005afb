"""Update a collection's index in a temporary directory, while its records are written in its own directory.

ChromaDB reads the vectors to index from a queue in SQLite, and no other writer may use that database meanwhile. So the
index moves to a temporary directory that describes the same collection and whose database holds only the queue. It is
moved back when it is done. The collection's own database never holds the queue, so its file does not grow by it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, open_collection
from chromadb_compaction.chroma.index_files import trim_capacity
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.chroma.schema import with_threshold
from chromadb_compaction.chroma.tables import CollectionState, Operation, copy_collection, copy_progress, scratch_tables
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.rows.native_memory import trim_memory

QUEUED_VALUES = 4_000_000
QUEUED_SHARE = 0.1
"""The most that is queued at once: vector components, or a share of the whole index, whichever is more.

ChromaDB holds queued vectors in memory twice, but it reads and writes the whole index for each portion.
"""


@cache
def index_threads() -> int:
    """Return the threads in which ChromaDB builds an index: one for each processor, or RAYON_NUM_THREADS."""
    return int(os.environ.get("RAYON_NUM_THREADS") or 0) or os.cpu_count() or 1


@cache
def _empty_database() -> bytes:
    """Return the SQLite file of an empty directory of this version of ChromaDB. Cached, because making it is slow."""
    with TemporaryDirectory() as name:
        create_directory(Path(name), CollectionSpec("empty", 1, "l2"))
        return Path(name, SQLITE_FILE).read_bytes()


class IndexBuild:
    """A temporary directory with the index of a collection. `index_build` makes it."""

    def __init__(self, scratch: Path, directory: Path, spec: CollectionSpec, state: CollectionState) -> None:
        self._scratch = scratch
        self._directory = directory
        self._spec = spec
        self._state = state

    @property
    def segment(self) -> Path:
        """The temporary directory of the index's files."""
        return self._scratch / self._state.vector_segment

    def apply(self, operations: Iterable[Operation], total: int, *, records: int, progress: Progress) -> None:
        """Make ChromaDB apply `total` operations to the index in portions, and flush it after each portion.

        Other threads can run meanwhile. `records` is the number of live records afterwards. Raises VerificationError
        if ChromaDB flushed fewer operations.
        """
        portion = max(1, QUEUED_VALUES // self._spec.dimension, int(QUEUED_SHARE * records))
        remaining = iter(operations)
        for start in range(0, total, portion):
            progress()
            first, count = self._state.last_sequence + 1 + start, min(portion, total - start)
            last = first + count - 1
            with scratch_tables(self._scratch) as tables:
                schema = with_threshold(self._state.schema, count)
                tables.write_state(self._state._replace(schema=schema))
                tables.mark_seen(self._state.metadata_segment, last)
                tables.enqueue(self._state, islice(remaining, count), first=first)
            trim_memory()
            with open_collection(self._scratch, self._spec.name) as opened:
                # Any read makes ChromaDB apply its queue first. This one returns nothing, and unlike `count` it lets
                # other threads run.
                opened.get(ids=["-"], include=[])
            trim_memory()
            with scratch_tables(self._scratch) as tables:
                seen = tables.seen(self._state.vector_segment)
            if seen != last:
                name = self._spec.name
                raise VerificationError(f"{name}: ChromaDB flushed its index up to operation {seen}, expected {last}")

    def install(self) -> None:
        """Move the index to its own directory, no larger than it must be, and copy its progress there."""
        trim_capacity(self.segment)
        self.segment.rename(self._directory / self.segment.name)
        copy_progress(self._scratch, self._directory)


@contextmanager
def index_build(
    directory: Path, spec: CollectionSpec, state: CollectionState, *, rebuild: bool
) -> Iterator[IndexBuild]:
    """Move the index of a closed directory to a temporary one to change it, or delete it to `rebuild` it there.

    `state` has the dimension. After an exception the directory is unusable.
    """
    with TemporaryDirectory(prefix=".index-", dir=directory.parent) as name:
        scratch = Path(name)
        (scratch / SQLITE_FILE).write_bytes(_empty_database())
        copy_collection(directory, scratch)
        build = IndexBuild(scratch, directory, spec, state)
        files = directory / state.vector_segment
        if rebuild:
            shutil.rmtree(files, ignore_errors=True)
            with scratch_tables(scratch) as tables:
                tables.mark_unseen(state.vector_segment)
        elif files.exists():
            files.rename(build.segment)
        yield build
