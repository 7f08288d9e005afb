"""The rows that a fold may write: what decides about them is in memory, their texts and vectors stay in their files.

So what arrives costs a fold some hundred bytes a row, however large its texts and vectors: it goes through the files as
often as it needs to, a row group at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.rows.merging import winners
from chromadb_compaction.rows.runs import open_run, run_dimension, run_schema

KEY_SCHEMA = pa.schema([run_schema(None).field(name) for name in ("id", "delta", "row", "deleted", "fingerprint")])
"""What says which version of which id a row is: all that a ledger keeps of it."""

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class Piece(NamedTuple):
    """Consecutive rows that are read together: their count and bytes, and how to read some columns of them."""

    rows: int
    bytes: int
    read: Callable[[Sequence[str]], pa.Table]


class Rows:
    """Some rows of runs, in the order of the runs and, within each, of the ids."""

    def __init__(self, pieces: Sequence[Piece], at: Positions, ids: pa.ChunkedArray[pa.StringScalar]) -> None:
        self._pieces = pieces
        self._at = at
        self._ids = ids

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return len(self._at)

    @property
    def nbytes(self) -> int:
        """What they take in memory, as far as that can be told without reading them: their share of their pieces."""
        total, rows = sum(piece.bytes for piece in self._pieces), sum(piece.rows for piece in self._pieces)
        return -(-total * self.num_rows // max(1, rows))

    def ids(self) -> list[str]:
        """Return their ids."""
        return cast("list[str]", self._ids.to_pylist())

    def parts(self, most: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns of all rows, at most `most` rows at once; no more than one piece is in memory."""
        ends = accumulate(piece.rows for piece in self._pieces)
        for piece, end in zip(self._pieces, ends, strict=True):
            first = end - piece.rows
            start, stop = np.searchsorted(self._at, (first, end)).tolist()
            if start == stop:
                continue
            table = piece.read(columns)
            if stop - start < piece.rows:
                table = table.take(self._at[start:stop] - first)
            for row in range(0, table.num_rows, most):
                yield table.slice(row, most)


class RunRows:
    """The newest version of each id in some runs: `keys` has KEY_SCHEMA and one row for each."""

    def __init__(self, pieces: Sequence[Piece], keys: pa.Table, at: Positions, dimension: int | None) -> None:
        self.keys = keys
        self.dimension = dimension
        self._pieces = pieces
        self._at = at

    def choose(self, chosen: Mask) -> Rows:
        """Return those rows whose entry in `chosen` is true."""
        return Rows(self._pieces, self._at[chosen], self.keys["id"].filter(pa.array(chosen)))


def stored_rows(paths: Sequence[Path]) -> RunRows:
    """Return the newest rows of the runs in files, which must stay as they are while this is in use.

    Newest as merging.newest says. Runs with upserts must agree in dimension; ValueError otherwise.
    """
    pieces: list[Piece] = []
    tables = [KEY_SCHEMA.empty_table()]
    dimensions: set[int | None] = set()
    for path in paths:
        with open_run(path) as run:
            tables.append(run.read(columns=KEY_SCHEMA.names).cast(KEY_SCHEMA))
            pieces.extend(_pieces(path, run.metadata))
            dimensions.add(run_dimension(run.schema_arrow.empty_table()))
    known = sorted(dimension for dimension in dimensions if dimension)
    if len(known) > 1:
        raise ValueError(f"runs of dimensions {known} cannot be one collection's")
    keys = pa.concat_tables(tables)
    at = np.arange(keys.num_rows, dtype=np.int64)
    if len(paths) > 1:
        # In the order of the files, so that each is read from one end to the other.
        at = np.sort(winners(keys).to_numpy()).astype(np.int64)
        keys = keys.take(at)
    return RunRows(pieces, keys, at, next(iter(known), None))


def _pieces(path: Path, footer: pq.FileMetaData) -> Iterator[Piece]:
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        yield Piece(group.num_rows, group.total_byte_size, partial(_read, path, footer, number))


def _read(path: Path, footer: pq.FileMetaData, group: int, columns: Sequence[str]) -> pa.Table:
    with open_run(path, footer=footer) as run:
        return run.read_row_group(group, columns=list(columns))
