"""Reads a delta's rows with plain pyarrow and json, independently of the product."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from tests.e2e.model import Row


def rows_of(body: bytes, suffix: str) -> Iterator[Row]:
    """Yield the rows of an accepted delta."""
    rows = pq.read_table(io.BytesIO(body)).to_pylist() if suffix == ".parquet" else _json_rows(body)
    for row in rows:
        if row.get("op") == "delete":
            yield Row(row["id"])
        else:
            yield Row(row["id"], tuple(row["embedding"]), row.get("document"), _metadata(row.get("metadata")))


def _json_rows(body: bytes) -> Iterator[Any]:
    for line in gzip.decompress(body).split(b"\n"):
        if line.strip():
            yield json.loads(line)


def _metadata(value: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    metadata = json.loads(value) if isinstance(value, str) else value or {}
    return {key: item for key, item in metadata.items() if item is not None} or None
