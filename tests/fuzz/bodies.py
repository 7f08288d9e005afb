"""Well-formed deltas to be damaged. A seeded generator chooses among the options of pyarrow and gzip."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIMENSION = 3
COMPRESSIONS: tuple[Any, ...] = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")


def some_rows(chance: Random, count: int) -> list[dict[str, Any]]:
    """Return upserts and deletes. Their ids overlap with those of other deltas."""
    return [_row(chance) for _ in range(count)]


def a_parquet(chance: Random) -> bytes:
    """Return a Parquet delta with random encodings, compression, pages and row groups."""
    rows = some_rows(chance, chance.choice((1, 3, 20, 60)))
    encoding = chance.choice((None, None, "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"))
    sink = io.BytesIO()
    pq.write_table(
        _table(chance, rows),
        sink,
        compression=chance.choice(COMPRESSIONS),
        use_dictionary=encoding is None and chance.random() < 0.5,
        column_encoding=encoding and cast("Any", dict.fromkeys(("id", "document", "metadata"), encoding)),
        data_page_version=chance.choice(("1.0", "2.0")),
        write_statistics=chance.random() < 0.5,
        write_page_checksum=chance.random() < 0.3,
        write_page_index=chance.random() < 0.2,
        row_group_size=chance.choice((7, 1000)),
        data_page_size=chance.choice((64, 2**20)),
        store_schema=chance.random() < 0.7,
    )
    return sink.getvalue()


def a_json_lines(chance: Random) -> bytes:
    """Return a gzipped JSON Lines delta."""
    return packed("\n".join(json.dumps(row) for row in some_rows(chance, chance.choice((1, 5, 40)))))


def packed(text: str | bytes) -> bytes:
    """Return gzipped text, always the same bytes."""
    return gzip.compress(text if isinstance(text, bytes) else text.encode(), mtime=0)


def parquet_of(columns: Mapping[str, pa.Array[Any]], **options: Any) -> bytes:
    """Return a Parquet file of these columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table(cast("Any", columns)), sink, **options)
    return sink.getvalue()


def _row(chance: Random) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"fuzz-{chance.randrange(500)}"}
    if chance.random() < 0.2:
        return row | {"op": "delete"}
    row |= {"op": "upsert", "embedding": [chance.randrange(-99, 99) / 4 for _ in range(DIMENSION)]}
    if chance.random() < 0.7:
        row["document"] = chance.choice(("short", "a longer text, of several words", "ünïcödé \N{SNOWMAN}")) * 3
    if chance.random() < 0.5:
        row["metadata"] = {"page": chance.randrange(9), "tag": "x" * chance.randrange(9), "new": chance.random() < 0.5}
    return row


def _table(chance: Random, rows: list[dict[str, Any]]) -> pa.Table:
    vectors = pa.list_(pa.float32(), chance.choice((-1, DIMENSION)))
    text = chance.choice((pa.string(), pa.large_string()))
    embeddings = [row.get("embedding") for row in rows]
    metadatas = [json.dumps(row["metadata"]) if "metadata" in row else None for row in rows]
    columns = {
        "id": pa.array([row["id"] for row in rows], text),
        "op": pa.array([row["op"] for row in rows], text),
        "embedding": pa.array([e and np.asarray(e, np.float32) for e in embeddings], vectors),
        "document": pa.array([row.get("document") for row in rows], text),
        "metadata": pa.array(metadatas, text),
    }
    table = pa.table(cast("Any", columns))
    header = {"format": 1, "space": "l2", "producer": "fuzz"}
    return (
        table.replace_schema_metadata({"chromadb_compaction": json.dumps(header)}) if chance.random() < 0.5 else table
    )
