"""Deltas as stored objects: parse and validate their keys and bytes, and write them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa

from chromadb_compaction.configuration import DEFAULT_INDEX, KeptSettings
from chromadb_compaction.deltas import jsonl
from chromadb_compaction.deltas.columns import DeltaColumns, check_row_bytes, check_values
from chromadb_compaction.deltas.header import HEADER_KEY, DeltaHeader, parse_header
from chromadb_compaction.deltas.parquet import files as parquet
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.layout import DELTA_PREFIX, parse_delta_key
from chromadb_compaction.rows.fingerprints import DELETED, fingerprint
from chromadb_compaction.rows.runs import DELTA_ID, FINGERPRINT, run_schema
from chromadb_compaction.rows.shapes import StoredShape

DROP_BYTES = 512
"""The largest delta that drops a collection. It is JSON Lines, without rows.

A pass must know its drops before it merges anything, so it reads every delta that may be one. A drop has 100 bytes.
With one row, JSON Lines have 50 bytes for a delete, and for an upsert 70 to 90 (2 dimensions), 220 to 390 (32) or
1,700 to 3,900 (384). Parquet has 1,400 or more. So only the smallest JSON Lines are read twice.
"""
_DROP_SUFFIX = ".jsonl.gz"
_PRODUCER_CHARACTERS = 80
"""The longest producer of a drop. In any alphabet it takes less than DROP_BYTES."""


class Delta(NamedTuple):
    """A valid delta.

    Attributes:
        collection: The collection that its rows belong to.
        table: Its rows with the columns of a run (rows.runs.run_schema), in the order of the file.
        dimension: The length of every embedding. None if it has no upsert.
        header: Its header, or the defaults.
        id: Its name, a UUIDv7 in canonical form.
    """

    collection: str
    table: pa.Table
    dimension: int | None
    header: DeltaHeader
    id: str

    @property
    def settings(self) -> KeptSettings:
        """The facts that it states of its collection beside the rows."""
        return self.header.settings(self.id)


def read_delta(key: str, body: bytes, *, now: float, max_bytes: int, prefix: str = DELTA_PREFIX) -> Delta:
    """Parse and validate the delta under `key`.

    `now` is S3's clock in Unix seconds. No more than about `max_bytes` are decompressed. Raises CorruptDeltaError; its
    text is the reason that is stored in quarantine.
    """
    name = parse_delta_key(key, prefix=prefix)
    delta_id = parse_delta_id(name.stem, now=now)
    if name.suffix == ".parquet":
        columns, header = parquet.read(body, header_key=HEADER_KEY, max_bytes=max_bytes)
    else:
        columns, header = jsonl.read(body, header_key=HEADER_KEY, max_bytes=max_bytes)
    check_row_bytes(columns)
    check_values(columns, max_bytes=max_bytes)
    parsed = parse_header(header)
    if parsed.drop and (columns.ids or not may_drop(key, len(body))):
        raise CorruptDeltaError(
            f"it drops its collection, but is a {name.suffix} file of {len(body):,} bytes, {len(columns.ids):,} rows",
            next_step=f"drop a collection by a {_DROP_SUFFIX} file without rows, of at most {DROP_BYTES} bytes",
        )
    return Delta(name.collection, _as_run(columns, delta_id), columns.dimension, parsed, str(delta_id))


def may_drop(key: str, size: int) -> bool:
    """Return whether a delta of `size` bytes may drop its collection."""
    return key.endswith(_DROP_SUFFIX) and size <= DROP_BYTES


def write_drop(header: DeltaHeader) -> tuple[bytes, str]:
    """Return a delta that drops its collection, and its suffix. A long name of the producer is cut."""
    short = header.model_copy(update={"producer": header.producer and header.producer[:_PRODUCER_CHARACTERS]})
    return jsonl.write_header(short.model_dump_json(exclude_none=True).encode(), header_key=HEADER_KEY), _DROP_SUFFIX


def write_delta(columns: DeltaColumns, header: DeltaHeader) -> bytes:
    """Return a delta as Parquet."""
    return parquet.write(columns, {HEADER_KEY: header.model_dump_json(exclude_none=True).encode()})


def _as_run(columns: DeltaColumns, delta_id: UUID) -> pa.Table:
    rows = len(columns.ids)
    return pa.Table.from_arrays(
        [
            pa.array(columns.ids, pa.string()),
            pa.array([delta_id.bytes] * rows, DELTA_ID),
            pa.array(range(rows), pa.uint32()),
            pa.array(columns.deleted),
            pa.array(_fingerprints(columns), FINGERPRINT),
            columns.embedding_array(),
            pa.array(columns.documents, pa.string()),
            pa.array(columns.metadatas, pa.string()),
            pa.array(columns.uris, pa.string()),
        ],
        schema=run_schema(columns.dimension),
    )


def _fingerprints(columns: DeltaColumns) -> list[bytes]:
    result = [DELETED] * len(columns.ids)
    for vector, row in zip(columns.vectors, np.flatnonzero(~columns.deleted).tolist(), strict=True):
        texts = columns.documents[row], columns.metadatas[row], columns.uris[row]
        result[row] = fingerprint(vector.tobytes(), *texts)
    return result


def shape_decided_by(delta: Delta, shape: StoredShape) -> StoredShape:
    """Return the shape if this delta decides what `shape` lacks: everything, or only the dimension."""
    function = delta.header.stated_function
    stated = {
        "space": delta.header.stated_space or "l2",
        "embedding_function": function.name if function else None,
        "settings": delta.settings,
    }
    decided = {} if shape.is_stated else stated
    return shape.model_copy(update={"dimension": shape.dimension or delta.dimension, **decided})


def check_shape(delta: Delta, shape: StoredShape) -> None:
    """Raise CorruptDeltaError unless `delta` fits the collection: what it states, and every row."""
    if shape.is_stated:
        _check_statements(delta, shape)
    if delta.dimension is None or shape.dimension is None:
        return
    if delta.dimension != shape.dimension:
        raise CorruptDeltaError(
            f"its embeddings have {delta.dimension} dimensions, but the collection {shape.collection!r} has"
            f" {shape.dimension}",
            next_step="embed with the model of the collection, or write to another collection",
        )


def _check_statements(delta: Delta, shape: StoredShape) -> None:
    """Raise CorruptDeltaError if the header states another distance, index or embedding function."""
    stated, kept = delta.settings, shape.settings
    for what, said, known in (
        ("distance", delta.header.stated_space, shape.space),
        ("ef_construction", stated.ef_construction, kept.ef_construction or DEFAULT_INDEX.ef_construction),
        ("max_neighbors", stated.max_neighbors, kept.max_neighbors or DEFAULT_INDEX.max_neighbors),
    ):
        if said not in {None, known}:
            raise _contradiction(shape.collection, what, said, known)
    if stated.function and kept.function and not stated.function.agrees_with(kept.function):
        raise _contradiction(shape.collection, "embedding function", stated.function.text, kept.function.text)


def _contradiction(collection: str, what: str, stated: object, known: object) -> CorruptDeltaError:
    return CorruptDeltaError(
        f"it states the {what} {stated}, but the collection {collection!r} has {known}",
        next_step="state nothing, or write to another collection: this is fixed when a collection is made",
    )
