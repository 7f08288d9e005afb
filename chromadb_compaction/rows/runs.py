"""Runs: the row versions between deltas and the fold, in one Arrow schema, stored as Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chromadb_compaction.rows.id_ranges import GroupIds

DELTA_ID = pa.binary(16)
FINGERPRINT = pa.binary(32)
LENGTH = pa.field("length", pa.float32())
"""A column beside those of a run, in runs of moved cosine rows.

Their embeddings are as the index stores them: scaled to length 1. This is the length that they had."""
ROW_GROUP = 16_384
ROW_GROUP_BYTES = 2 * 1024 * 1024
"""The limits of a row group, whichever is reached first. It bounds the memory of the Parquet writer and reader.

A reader holds several groups: as stored, decoded, selected from, and the previous one. Measured: groups four times as
large cost a fold 25 to 45 MiB more, and save no time.
"""
_ROW_BYTES = 64
"""The memory of a row without texts and vector: version, fingerprint, offsets."""


def embedding_type(dimension: int | None) -> pa.DataType:
    """Return the type of the embedding column. Without a dimension, all rows are deletes and the column is null."""
    return pa.list_(pa.float32()) if dimension is None else pa.list_(pa.float32(), dimension)


def run_schema(dimension: int | None) -> pa.Schema:
    """Return the columns of a run: the id, its version (delta, row, fingerprint), whether it is deleted, the record.

    `delta` is the 16 bytes of the delta's UUIDv7, `row` the row number in that delta, `metadata` canonical JSON.
    embedding, document, metadata and uri are null for deletes.
    """
    columns: dict[str, pa.DataType] = {
        "id": pa.string(),
        "delta": DELTA_ID,
        "row": pa.uint32(),
        "deleted": pa.bool_(),
        "fingerprint": FINGERPRINT,
        "embedding": embedding_type(dimension),
        "document": pa.string(),
        "metadata": pa.string(),
        "uri": pa.string(),
    }
    return pa.schema(columns)


def moved_schema(dimension: int | None, *, scaled: bool) -> pa.Schema:
    """Return the columns of a run of moved rows. Vectors `scaled` to length 1 have their length beside them."""
    return run_schema(dimension).append(LENGTH) if scaled else run_schema(dimension)


def run_dimension(table: pa.Table) -> int | None:
    """Return the dimension of a table with the columns of a run. None if it has no upsert."""
    column = table.schema.field("embedding").type
    return column.list_size if pa.types.is_fixed_size_list(column) else None


def common_dimension(dimensions: Iterable[int | None]) -> int | None:
    """Return the one dimension, apart from None. Raises ValueError if there are several."""
    known = sorted({dimension for dimension in dimensions if dimension})
    if len(known) > 1:
        raise ValueError(f"runs of one collection have dimensions {known}")
    return known[0] if known else None


def with_dimension(table: pa.Table, dimension: int | None) -> pa.Table:
    """Return the table with an embedding column of `dimension`. Only a table without a dimension changes."""
    if run_dimension(table) == dimension:
        return table
    position = table.schema.get_field_index("embedding")
    field = run_schema(dimension).field("embedding")
    return table.set_column(position, field, pa.nulls(table.num_rows, field.type))


class RunWriter:
    """Writes a run to a file or stream, with at most one row group in memory.

    The bytes depend only on the rows, not on how many are written at a time. Moved rows may be `scaled` (moved_schema).
    """

    def __init__(self, sink: Path | BinaryIO, dimension: int | None, *, scaled: bool = False) -> None:
        self._pending = moved_schema(dimension, scaled=scaled).empty_table()
        self._firsts: list[str] = []
        self._last = ""
        # Fingerprints and vectors do not compress.
        compressed = ("id", "delta", "row", "deleted", "document", "metadata", "uri")
        self._writer = pq.ParquetWriter(
            sink,
            self._pending.schema,
            compression=cast("Any", dict.fromkeys(compressed, "zstd")),
            compression_level=dict.fromkeys(compressed, 1),
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last row group and the footer. After an exception the file is incomplete."""
        if kind is None and self._pending.num_rows:
            self._write_group(self._pending)
        if self._firsts:
            self._writer.add_key_value_metadata(GroupIds(self._firsts, self._last).encode())
        self._writer.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows. Their ids must be greater than those written before."""
        *whole, self._pending = cut(
            pa.concat_tables([self._pending, rows]), max_bytes=ROW_GROUP_BYTES, max_rows=ROW_GROUP
        )
        for group in whole:
            self._write_group(group)

    def _write_group(self, rows: pa.Table) -> None:
        self._firsts.append(str(rows["id"][0]))
        self._last = str(rows["id"][-1])
        # In one chunk, because a page ends at the end of a chunk.
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)


def cut(table: pa.Table, *, max_bytes: int, max_rows: int) -> list[pa.Table]:
    """Return the rows in order, in pieces as large as both limits allow. The last piece is the rest, maybe empty.

    A row larger than `max_bytes` is a piece of its own.
    """
    ends = np.cumsum(_row_bytes(table))
    pieces, start, taken = [], 0, 0
    while len(ends) and (len(ends) - start > max_rows or int(ends[-1]) - taken > max_bytes):
        full = int(np.searchsorted(ends, taken + max_bytes, side="right"))
        end = max(start + 1, min(full, start + max_rows))
        if end == len(ends):
            break
        pieces.append(table.slice(start, end - start))
        start, taken = end, int(ends[end - 1])
    return [*pieces, table.slice(start)]


def _row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Return the memory that each row takes."""
    sizes = np.full(table.num_rows, _ROW_BYTES + 4 * (run_dimension(table) or 0), dtype=np.int64)
    for name in ("id", "document", "metadata", "uri"):
        lengths = cast("Any", pc).binary_length(table[name])
        sizes += lengths.fill_null(0).to_numpy()
    return sizes


def open_run(path: Path, *, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open a run to read whole row groups. Nothing is read ahead, and every page's checksum is verified.

    `footer` is the file's footer, if it was read before.
    """
    return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True, pre_buffer=False)
