"""Filters on pending rows, applied by ChromaDB itself to a directory that holds these rows and no vectors.

ChromaDB's filters have rules of their own: numbers, case, regular expressions, and what is an error. So no filter is
evaluated here. The rows are written into the tables of an empty directory as a fold writes them, which takes 50
microseconds a row, and ChromaDB reads them from there.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import CollectionSpec, create_directory, open_collection
from chromadb_compaction.chroma.compatibility import incompatibility
from chromadb_compaction.chroma.loader import add_records
from chromadb_compaction.chroma.query import Filters, matching
from chromadb_compaction.chroma.tables import scratch_tables
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import versions
from chromadb_compaction.snapshots.base import cache_of

SPEC: Final = CollectionSpec("pending", dimension=1, space="l2")
ROWS_AT_ONCE: Final = 5_000
SPARE_ROWS: Final = 2_000

Mask = NDArray[np.bool_]


class PendingFilter:
    """The filter of one collection's pending rows, shared by threads. The directory is made at the first use."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._directory: _RowDirectory | None = None

    def passing(self, rows: pa.Table, filters: Filters, services: Services) -> Mask:
        """Return, per row, whether it passes `where` and `where_document`.

        `rows` are live rows with the columns of a run. Raises InvalidRequestError with ChromaDB's message if it refuses
        a filter.
        """
        with self._lock:
            directory = self._directory
            # Rows that newer versions have replaced stay in the directory until they are the most.
            if directory is None or directory.rows > 2 * rows.num_rows + SPARE_ROWS:
                directory = self._directory = _RowDirectory(services)
            # ChromaDB has a SQLite of its own. Of two in one process, neither sees the file locks of the other.
            return np.isin(directory.add(rows), directory.matching(filters))

    def close(self) -> None:
        """Remove the directory when no other thread uses it."""
        with self._lock:
            self._directory = None


class _RowDirectory:
    """A ChromaDB directory of row versions, whose ids are numbers. It is removed with the last reference to it.

    Rows are added and never removed, so an answer about a row never changes.
    """

    def __init__(self, services: Services) -> None:
        self._numbers: dict[bytes, int] = {}
        with ExitStack() as stack:
            self._path = stack.enter_context(cache_of(services).scratch()) / SPEC.name
            create_directory(self._path, SPEC)
            self._bulk = incompatibility(self._path, SPEC) is None
            self._collection = stack.enter_context(open_collection(self._path, SPEC.name))
            weakref.finalize(self, stack.pop_all().close)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._numbers)

    def add(self, rows: pa.Table) -> NDArray[np.int64]:
        """Add the rows that are missing, and return the number of each row."""
        keys: list[bytes] = versions(rows).tolist()
        missing = [at for at, key in enumerate(keys) if key not in self._numbers]
        if missing:
            first = len(self._numbers)
            added = {keys[at]: first + number for number, at in enumerate(missing)}
            self._write(rows.take(missing), list(added.values()))
            self._numbers |= added
        return np.array([self._numbers[key] for key in keys], dtype=np.int64)

    def matching(self, filters: Filters) -> NDArray[np.int64]:
        """Return the numbers of all rows that pass `where` and `where_document`."""
        wanted = filters._replace(ids=None)
        found = matching(self._collection, wanted, limit=None, offset=None, include=[])
        return np.array(found["ids"], dtype=np.int64)

    def _write(self, rows: pa.Table, numbers: list[int]) -> None:
        ids = pa.array([str(number) for number in numbers])
        named = rows.select(["document", "metadata", "uri"]).append_column("id", ids)
        if self._bulk:
            with scratch_tables(self._path) as tables:
                tables.insert(tables.read_state(), [named], range(1, len(numbers) + 1), progress=lambda: None)
        else:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(len(numbers), np.float32)), 1)
            whole = named.append_column("embedding", vectors)
            for start in range(0, len(numbers), ROWS_AT_ONCE):
                add_records(self._collection, whole.slice(start, ROWS_AT_ONCE))
