"""Builders that show only what matters: `a_delta(upserts={"a": [1, 0]}, deletes={"b"})`."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from chromadb_compaction.layout import delta_key
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore

NOW = 1_760_000_000.0
"""The present time in tests, in Unix seconds."""

Embedding = Sequence[float] | None


class BuiltDelta(NamedTuple):
    """A delta that only pyarrow or json has written, not the product."""

    key: str
    body: bytes

    def put_into(self, objects: ObjectStore) -> ObjectInfo:
        """Store it and return its entry in a listing."""
        objects.put(self.key, self.body)
        info = objects.head(self.key)
        assert info is not None
        return info


def a_uuid7(at: float = NOW, number: int | None = None) -> UUID:
    """Return a UUIDv7 of the Unix time `at`. Within one millisecond, `number` gives the order."""
    low = random.getrandbits(62) if number is None else number
    return UUID(int=int(at * 1000) << 80 | 7 << 76 | 2 << 62 | low)


def a_delta(  # noqa: PLR0913 - each is a column or a part of the key, passed by name
    upserts: Mapping[str, Embedding] | None = None,
    deletes: Collection[str] = (),
    *,
    collection: str = "docs",
    documents: Mapping[str, str] | None = None,
    metadatas: Mapping[str, Mapping[str, Any]] | None = None,
    uris: Mapping[str, str] | None = None,
    header: Mapping[str, Any] | None = None,
    name: UUID | str | None = None,
    at: float = NOW,
) -> BuiltDelta:
    """Return a Parquet delta: the upserts in order, then the sorted deletes."""
    rows = list(_rows(upserts or {}, deletes, documents or {}, metadatas or {}))
    links = [(uris or {}).get(row["id"]) for row in rows]
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            "op": pa.array([row["op"] for row in rows], pa.string()),
            "embedding": pa.array([row["embedding"] for row in rows], pa.list_(pa.float32())),
            "document": pa.array([row["document"] for row in rows], pa.string()),
            "metadata": pa.array(
                [None if row["metadata"] is None else json.dumps(row["metadata"]) for row in rows], pa.string()
            ),
        }
    )
    if uris is not None:
        table = table.append_column("uri", pa.array(links, pa.string()))
    if header is not None:
        table = table.replace_schema_metadata({"chromadb_compaction": json.dumps(header)})
    return BuiltDelta(delta_key(collection, str(name or a_uuid7(at))), parquet(table))


def a_drop(
    header: Mapping[str, Any] | None = None,
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    collection: str = "docs",
    at: float = NOW,
) -> BuiltDelta:
    """Return a delta that drops the collection."""
    stated = {"chromadb_compaction": {"format": 2, "drop": True, **(header or {})}}
    return a_jsonl_delta([stated, *rows], collection=collection, at=at)


def a_jsonl_delta(
    rows: Iterable[Mapping[str, Any]],
    *,
    collection: str = "docs",
    name: UUID | str | None = None,
    at: float = NOW,
) -> BuiltDelta:
    """Return a gzipped JSON Lines delta of `rows`, valid or not."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return BuiltDelta(delta_key(collection, str(name or a_uuid7(at)), ".jsonl.gz"), gzip.compress(text.encode()))


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Return `table` in Parquet, with these options or pyarrow's defaults."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _rows(
    upserts: Mapping[str, Embedding],
    deletes: Collection[str],
    documents: Mapping[str, str],
    metadatas: Mapping[str, Mapping[str, Any]],
) -> Iterable[dict[str, Any]]:
    for row_id, embedding in upserts.items():
        yield {
            "id": row_id,
            "op": "upsert",
            "embedding": embedding,
            "document": documents.get(row_id),
            "metadata": metadatas.get(row_id),
        }
    for row_id in sorted(deletes):
        yield {"id": row_id, "op": "delete", "embedding": None, "document": None, "metadata": None}
