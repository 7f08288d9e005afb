"""The shape that every version of every row has between a delta and the fold: one Arrow schema, stored as Parquet."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

DELTA_ID = pa.binary(16)
FINGERPRINT = pa.binary(32)
ROW_GROUP = 16_384
"""Rows that Parquet's writer and reader hold at once beside the table: 25 MB of 384 dimensions."""


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


def encode_run(table: pa.Table) -> bytes:
    """Return a run as Parquet: equal tables give equal bytes."""
    sink = io.BytesIO()  # unlike Arrow's own, it gives up its bytes without a copy
    # Fingerprints and vectors are noise to a compressor: only what repeats pays for its time.
    compressed = ("id", "delta", "row", "deleted", "document", "metadata")
    pq.write_table(
        table,
        sink,
        compression=cast("Any", dict.fromkeys(compressed, "zstd")),
        compression_level=dict.fromkeys(compressed, 1),
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        row_group_size=ROW_GROUP,
    )
    return sink.getvalue()


def read_run(path: Path) -> pa.Table:
    """Read the run in a file. Beside the table, no more than one row group of the file is in memory."""
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
        return pa.concat_tables([file.schema_arrow.empty_table(), *groups])


def decode_run(body: bytes) -> pa.Table:
    """Parse what encode_run wrote."""
    return pq.read_table(pa.BufferReader(body), page_checksum_verification=True)
