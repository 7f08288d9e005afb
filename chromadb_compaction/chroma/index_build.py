"""Bringing a collection's index up to date in a directory of its own, while its records are written elsewhere.

ChromaDB takes what it is to index from a queue in SQLite, and nobody else may write there meanwhile. So the index moves
into an empty directory that states the same collection, with nothing in its database but the queue, and comes home
when it is done. The other database never holds a queue, whose room it would have to be rid of again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, open_collection
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.chroma.schema import with_threshold
from chromadb_compaction.chroma.tables import (
    Collection,
    Operation,
    scratch_tables,
    take_collection,
    take_progress,
)
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.native_memory import trim_memory

QUEUED_VALUES = 4_000_000
QUEUED_SHARE = 0.1
"""How much is queued at once: vector components, or a share of the whole index, whichever is more.

ChromaDB holds what is queued in memory twice; but before and after each portion it reads and writes the whole index.
"""


@cache
def _database_of_nothing() -> bytes:
    """Return the SQLite file of an empty directory as this version of ChromaDB makes it, which takes it a while."""
    with TemporaryDirectory() as name:
        create_directory(Path(name), CollectionSpec("nothing", 1, "l2"))
        return Path(name, SQLITE_FILE).read_bytes()


class IndexBuild:
    """A directory with the index of another one's collection; see `index_build`."""

    def __init__(self, place: Path, home: Path, spec: CollectionSpec, collection: Collection) -> None:
        self._place = place
        self._home = home
        self._spec = spec
        self._collection = collection._replace(dimension=spec.dimension)

    @property
    def segment(self) -> Path:
        """Where the index's files are meanwhile."""
        return self._place / self._collection.vector_segment

    def take(self, operations: Iterable[Operation], total: int, *, records: int, progress: Progress) -> None:
        """Have ChromaDB take in that many operations, as many at once as memory allows, and flush each portion.

        Its index is of `records` entries by then. Other threads run meanwhile. Raises VerificationError if ChromaDB
        has flushed fewer.
        """
        portion = max(1, QUEUED_VALUES // self._spec.dimension, int(QUEUED_SHARE * records))
        remaining = iter(operations)
        for start in range(0, total, portion):
            progress()
            first, count = self._collection.last_sequence + 1 + start, min(portion, total - start)
            last = first + count - 1
            with scratch_tables(self._place) as tables:
                schema = with_threshold(self._collection.schema, count)
                tables.describe(self._collection._replace(schema=schema))
                tables.mark_seen(self._collection.metadata_segment, last)
                tables.enqueue(self._collection, islice(remaining, count), first=first)
            trim_memory()
            with open_collection(self._place, self._spec.name) as opened:
                # Any question makes ChromaDB take in its queue first. This one asks for nothing, and unlike `count`
                # lets other threads run.
                opened.get(ids=["-"], include=[])
            trim_memory()
            with scratch_tables(self._place) as tables:
                seen = tables.seen(self._collection.vector_segment)
            if seen != last:
                raise VerificationError(
                    f"{self._spec.name}: ChromaDB flushed its index up to operation {seen}, not all of them"
                )

    def install(self) -> None:
        """Move the index back, and state there how far it is."""
        self.segment.rename(self._home / self.segment.name)
        take_progress(self._home, self._place)


@contextmanager
def index_build(directory: Path, spec: CollectionSpec, collection: Collection, *, anew: bool) -> Iterator[IndexBuild]:
    """Take the index of a closed directory away, to change it, or `anew` to build another.

    After an exception the directory is worthless.
    """
    with TemporaryDirectory(prefix=".index-", dir=directory.parent) as name:
        place = Path(name)
        (place / SQLITE_FILE).write_bytes(_database_of_nothing())
        take_collection(place, directory)
        build = IndexBuild(place, directory, spec, collection)
        files = directory / collection.vector_segment
        if anew:
            shutil.rmtree(files, ignore_errors=True)
            with scratch_tables(place) as tables:
                tables.mark_unseen(collection.vector_segment)
        elif files.exists():
            files.rename(build.segment)
        yield build
