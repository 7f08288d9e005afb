"""The rows of several runs in files: ids, versions and fingerprints in memory, texts and vectors read when needed.

So an arriving row costs a fold about a hundred bytes, however large its text and vector. Texts and vectors are read one
row group at a time, as often as the fold needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, groups_between
from chromadb_compaction.rows.merging import winners
from chromadb_compaction.rows.runs import LENGTH, common_dimension, open_run, run_dimension, run_schema

LEDGER_SCHEMA = pa.schema([run_schema(None).field(name) for name in ("id", "delta", "row", "deleted", "fingerprint")])
"""The columns of a run that a ledger keeps: the id, its version, and whether it is deleted."""

PART_METADATA_BYTES = 256 * 1024
"""The most metadata in one part, as JSON. A value of two bytes takes up to 1 KB while ChromaDB writes or reads it."""

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class Piece(NamedTuple):
    """Consecutive rows that are read together: their count, their bytes, and a function that reads some columns."""

    rows: int
    bytes: int
    read: Callable[[Sequence[str]], pa.Table]


class SelectedRows:
    """Some rows of runs, in the order of the runs and, within each run, of the ids.

    `at` has their positions in `pieces`, ascending.
    """

    def __init__(self, pieces: Sequence[Piece], at: Positions, ids: pa.ChunkedArray[pa.StringScalar]) -> None:
        self._pieces = pieces
        self._at = at
        self._ids = ids

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self._at)

    @property
    def nbytes(self) -> int:
        """An estimate of their memory without reading them: their share of the pieces."""
        total, rows = sum(piece.bytes for piece in self._pieces), sum(piece.rows for piece in self._pieces)
        return -(-total * self.num_rows // max(1, rows))

    @property
    def id_column(self) -> pa.ChunkedArray[pa.StringScalar]:
        """Their ids."""
        return self._ids

    def ids(self) -> list[str]:
        """Return their ids as Python strings."""
        return cast("list[str]", self._ids.to_pylist())

    def parts(self, most: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns of all rows, at most `most` rows and PART_METADATA_BYTES at a time.

        The embeddings of moved cosine rows come with their `length` (runs.LENGTH).
        At most one piece is in memory. A row with more metadata is a part of its own.
        """
        ends = accumulate(piece.rows for piece in self._pieces)
        for piece, end in zip(self._pieces, ends, strict=True):
            first = end - piece.rows
            start, stop = np.searchsorted(self._at, (first, end)).tolist()
            if start == stop:
                continue
            table = piece.read(columns)
            if stop - start < piece.rows:
                table = table.take(self._at[start:stop] - first)
            yield from _parts(table, most)


NO_ROWS: Final = SelectedRows((), np.empty(0, np.int64), pa.chunked_array([], pa.string()))


class RunRows:
    """The newest version of each id in some runs. `keys` has LEDGER_SCHEMA and one row per id."""

    def __init__(self, pieces: Sequence[Piece], keys: pa.Table, at: Positions, dimension: int | None) -> None:
        self.keys = keys
        self.dimension = dimension
        self._pieces = pieces
        self._at = at

    def select(self, selected: Mask) -> SelectedRows:
        """Return the rows whose entry in `selected` is true."""
        return SelectedRows(self._pieces, self._at[selected], self.keys["id"].filter(pa.array(selected)))


def stored_rows(paths: Sequence[Path], ids: IdRange = ALL_IDS) -> RunRows:
    """Return the newest rows (merging.newest) of runs in files, of the ids in `ids`. The others are not read.

    The files must not change while the result is in use. Raises ValueError if runs with upserts differ in dimension.
    """
    pieces: list[Piece] = []
    tables = [LEDGER_SCHEMA.empty_table()]
    dimensions: list[int | None] = []
    for path in paths:
        with open_run(path) as run:
            groups = list(groups_between(run.metadata, ids))
            columns = run.read_row_groups(groups, columns=LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA)
            tables.append(columns)
            pieces.extend(_pieces(path, run.metadata, groups))
            dimensions.append(run_dimension(run.schema_arrow.empty_table()))
    keys = pa.concat_tables(tables)
    at = np.flatnonzero(ids.mask(keys["id"])).astype(np.int64)
    keys = keys.take(at) if len(at) < keys.num_rows else keys
    if len(paths) > 1:
        # In the order of the files, so that each file is read from start to end.
        won = np.sort(winners(keys).to_numpy()).astype(np.int64)
        at, keys = at[won], keys.take(won)
    return RunRows(pieces, keys, at, common_dimension(dimensions))


def _parts(table: pa.Table, most: int) -> Iterator[pa.Table]:
    ends = np.zeros(table.num_rows, dtype=np.int64)
    if "metadata" in table.column_names:
        ends = np.cumsum(cast("Any", pc).binary_length(table["metadata"]).fill_null(0).to_numpy(), dtype=np.int64)
    start = taken = 0
    while start < table.num_rows:
        full = int(np.searchsorted(ends, taken + PART_METADATA_BYTES, side="right"))
        end = max(start + 1, min(full, start + most))
        yield table.slice(start, end - start)
        start, taken = end, int(ends[end - 1])


def _pieces(path: Path, footer: pq.FileMetaData, groups: Sequence[int]) -> Iterator[Piece]:
    for number in groups:
        group = footer.row_group(number)
        yield Piece(group.num_rows, group.total_byte_size, partial(_read, path, footer, number))


def _read(path: Path, footer: pq.FileMetaData, group: int, columns: Sequence[str]) -> pa.Table:
    with open_run(path, footer=footer) as run:
        scaled = "embedding" in columns and LENGTH.name in run.schema_arrow.names
        table = run.read_row_group(group, columns=[*columns, LENGTH.name] if scaled else list(columns))
    # A run that the version before URIs has written, during an update, has no such column.
    if "uri" in columns and "uri" not in table.column_names:
        table = table.append_column("uri", pa.nulls(table.num_rows, pa.string()))
    return table
