"""Merging of more rows than fit in memory: an external merge sort with sorted spill files on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.disk import MORE_MERGE_DISK, check_disk
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.native_memory import trim_memory
from chromadb_compaction.rows.runs import ROW_GROUP, RunWriter, common_dimension, cut, run_dimension, with_dimension

HELD_BYTES = 32 * 1024 * 1024
"""The rows in memory before they are sorted and spilled. Sorting needs the same again."""
PIECE_BYTES = 512 * 1024
"""The bytes that are read from each spill at a time."""


class SpillingMerge:
    """Writes the run that merging.newest returns for all added tables, in bounded memory.

    Args:
        directory: An empty directory for the spills. The caller removes it.
        held_bytes: The most bytes of rows to hold in memory before they are spilled.
        piece_bytes: The bytes to read from each spill at a time.
    """

    def __init__(self, directory: Path, *, held_bytes: int = HELD_BYTES, piece_bytes: int = PIECE_BYTES) -> None:
        self.directory = directory
        self._held_bytes = held_bytes
        self._piece_bytes = piece_bytes
        self._tables: list[pa.Table] = []
        self._size = 0
        self._dimension: int | None = None
        self._spills: list[Path] = []
        self._spilled_bytes = 0

    def has_space_for(self, table: pa.Table) -> bool:
        """Return whether the disk can hold `table` too, once in a spill and once in the run."""
        needed = self._spilled_bytes + 2 * (self._size + table.nbytes)
        return shutil.disk_usage(self.directory).free >= needed

    def add(self, table: pa.Table) -> None:
        """Add a table with the columns of a run. Raises ValueError if tables with upserts differ in dimension."""
        self._dimension = common_dimension([self._dimension, run_dimension(table)])
        if table.nbytes <= self._held_bytes:
            self._hold(table)
            return
        # In parts, because sorting copies. All parts are spilled, because a held one would keep the table in memory.
        for part in cut(table, max_bytes=self._held_bytes, max_rows=table.num_rows):
            self._hold(part)
            self._spill()

    def write(self, target: Path) -> int:
        """Write the run, sorted by id with one row per id. Return its row count. Nothing may be added afterwards."""
        if self._spills:
            self._spill()
        rows = 0
        with RunWriter(target, self._dimension) as writer:
            for part in self._merge_spills() if self._spills else [newest(self._tables)]:
                writer.write(with_dimension(part, self._dimension))
                rows += part.num_rows
        self._tables = []
        return rows

    def _hold(self, table: pa.Table) -> None:
        if self._size + table.nbytes > self._held_bytes:
            self._spill()
        if table.num_rows:
            self._tables.append(table)
            self._size += table.nbytes

    def _spill(self) -> None:
        """Write the held rows to disk, sorted, and free them."""
        if not self._tables:
            return
        # The run, which is written last, may be as large as everything spilled.
        needed = self._spilled_bytes + 2 * self._size
        check_disk(self.directory, needed, "merging the batch", next_step=MORE_MERGE_DISK)
        path = self.directory / f"{len(self._spills):04d}.arrow"
        rows = newest(self._tables)
        self._tables, self._size = [], 0
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
            for piece in cut(rows, max_bytes=self._piece_bytes, max_rows=ROW_GROUP):
                stream.write_table(piece.combine_chunks())
        del rows
        trim_memory()
        self._spills.append(path)
        self._spilled_bytes += path.stat().st_size

    def _merge_spills(self) -> Iterator[pa.Table]:
        """Yield the newest version of every id, in the order of the ids, in parts of about one piece of each spill."""
        with ExitStack() as files:
            heads = [_Head(self._pieces(path, files)) for path in self._spills]
            while heads := [head for head in heads if head.rows.num_rows]:
                # All rows up to this id are in memory: each spill is sorted, and has each id once.
                limit = min(head.last for head in heads)
                yield newest(head.take(limit) for head in heads)

    def _pieces(self, path: Path, files: ExitStack) -> Iterator[pa.Table]:
        # Not memory-mapped, because mapped pages count as memory of the process.
        stream = pa.ipc.open_stream(files.enter_context(pa.OSFile(str(path), "rb")))
        for batch in stream:
            yield with_dimension(pa.Table.from_batches([batch]), self._dimension)


class _Head:
    """The rows of a spill that are read but not taken yet. They are empty only at its end."""

    def __init__(self, pieces: Iterator[pa.Table]) -> None:
        self._pieces = pieces
        self.rows = next(pieces)

    @property
    def last(self) -> str:
        """The greatest of their ids. Python orders strings like their UTF-8 bytes."""
        return str(self.rows["id"][-1])

    def take(self, limit: str) -> pa.Table:
        """Remove and return the rows with ids up to `limit`."""
        within = pc.less_equal(self.rows["id"], pa.scalar(limit, pa.string()))
        count = int(np.count_nonzero(within.to_numpy()))
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        if not self.rows.num_rows:
            self.rows = next(self._pieces, self.rows)
        return taken
