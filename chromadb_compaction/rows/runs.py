"""The shape that every version of every row has between a delta and the fold: one Arrow schema, stored as Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

DELTA_ID = pa.binary(16)
FINGERPRINT = pa.binary(32)
ROW_GROUP = 16_384
ROW_GROUP_BYTES = 2 * 1024 * 1024
"""What Parquet's writer and reader hold at once beside the table: so many rows, or bytes, whichever is less.

A reader holds several such groups: as they are stored, decoded, picked from, and the one before. Measured: groups four
times as large cost a fold 25 to 45 MiB more, and save no time.
"""
ROW_BYTES = 64
"""What a row takes before its texts and its vector: version, fingerprint, offsets."""


def embedding_type(dimension: int | None) -> pa.DataType:
    """Return the embedding column's type. None: only deletes, so the column holds nulls alone."""
    return pa.list_(pa.float32()) if dimension is None else pa.list_(pa.float32(), dimension)


def run_schema(dimension: int | None) -> pa.Schema:
    """Return the columns of a run: version (delta, row, fingerprint), deleted or not, and the record itself.

    `delta` holds a UUIDv7's 16 bytes, `row` its row number, `metadata` canonical JSON; embedding, document and
    metadata are null for deletes.
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
    }
    return pa.schema(columns)


def run_dimension(table: pa.Table) -> int | None:
    """Return the dimension of a run-shaped table, None if it holds no upsert."""
    column = table.schema.field("embedding").type
    return column.list_size if pa.types.is_fixed_size_list(column) else None


def with_dimension(table: pa.Table, dimension: int | None) -> pa.Table:
    """Return a run-shaped table with the embedding column of `dimension`, if it has none of its own yet."""
    if run_dimension(table) == dimension:
        return table
    position = table.schema.get_field_index("embedding")
    field = run_schema(dimension).field("embedding")
    return table.set_column(position, field, pa.nulls(table.num_rows, field.type))


class RunWriter:
    """Writes a run to a file or stream as its rows come, with no more than one row group in memory.

    The bytes depend on the rows alone, not on how many came at a time.
    """

    def __init__(self, sink: Path | BinaryIO, dimension: int | None) -> None:
        self._pending = run_schema(dimension).empty_table()
        # Fingerprints and vectors are noise to a compressor: only what repeats pays for its time.
        compressed = ("id", "delta", "row", "deleted", "document", "metadata")
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
        """Write the last row group and the footer. After an exception the file is worthless."""
        if kind is None and self._pending.num_rows:
            self._write_group(self._pending)
        self._writer.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows, which must follow those written before in the order of their ids."""
        *whole, self._pending = cut(
            pa.concat_tables([self._pending, rows]), max_bytes=ROW_GROUP_BYTES, max_rows=ROW_GROUP
        )
        for group in whole:
            self._write_group(group)

    def _write_group(self, rows: pa.Table) -> None:
        # In one chunk, since pages end where chunks do.
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)


def encode_run(table: pa.Table) -> bytes:
    """Return a run as Parquet: equal tables give equal bytes."""
    sink = io.BytesIO()
    with RunWriter(sink, run_dimension(table)) as writer:
        writer.write(table)
    return sink.getvalue()


def cut(table: pa.Table, *, max_bytes: int, max_rows: int) -> list[pa.Table]:
    """Return the rows in order, in pieces filled up to both limits; the last is what is left, perhaps nothing.

    A row that is larger than `max_bytes` makes a piece of its own.
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
    """Return what each row takes in memory."""
    sizes = np.full(table.num_rows, ROW_BYTES + 4 * (run_dimension(table) or 0), dtype=np.int64)
    for name in ("id", "document", "metadata"):
        lengths = cast("Any", pc).binary_length(table[name])
        sizes += lengths.fill_null(0).to_numpy()
    return sizes


def open_run(path: Path, *, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open the run in a file, to be read by whole row groups: nothing is fetched ahead, every page is checked.

    `footer`: the file's, where it has been read before.
    """
    return pq.ParquetFile(path, metadata=footer, page_checksum_verification=True, pre_buffer=False)


def decode_run(body: bytes) -> pa.Table:
    """Parse what encode_run wrote."""
    return pq.read_table(pa.BufferReader(body), page_checksum_verification=True)
