"""Deltas as stored objects: parse and validate their keys and bytes, and write them."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chromadb_compaction.deltas import jsonl, parquet
from chromadb_compaction.deltas.columns import DeltaColumns, check_row_bytes, check_values
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError, NewerFormatError
from chromadb_compaction.layout import DELTA_PREFIX, parse_delta_key
from chromadb_compaction.manifest import Space, parse_stored
from chromadb_compaction.messages import CollectionShape
from chromadb_compaction.rows.fingerprints import DELETED, fingerprint
from chromadb_compaction.rows.runs import DELTA_ID, FINGERPRINT, run_schema

HEADER_KEY = b"chromadb_compaction"


class DeltaHeader(BaseModel):
    """The optional file metadata under the key `chromadb_compaction`, as JSON. JSON Lines has none: all defaults.

    Args:
        format: The version of the delta format.
        space: The distance of a new collection: l2 (the default), cosine or ip. An existing one keeps its own.
        embedding_function: The name of a new collection's embedding function. An existing one keeps its own.
        producer: The name of the program that wrote the delta, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    space: Space | None = None
    embedding_function: str | None = Field(default=None, min_length=1)
    producer: str | None = None


class Delta(NamedTuple):
    """A valid delta.

    Attributes:
        collection: The collection that its rows belong to.
        table: Its rows with the columns of a run (rows.runs.run_schema), in the order of the file.
        dimension: The length of every embedding. None if it has no upsert.
        header: Its header, or the defaults.
    """

    collection: str
    table: pa.Table
    dimension: int | None
    header: DeltaHeader


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
        columns, header = jsonl.read(body, max_bytes=max_bytes), None
    check_row_bytes(columns)
    check_values(columns, max_bytes=max_bytes)
    return Delta(name.collection, _as_run(columns, delta_id), columns.dimension, parse_header(header))


def write_delta(columns: DeltaColumns, header: DeltaHeader) -> bytes:
    """Return a delta as Parquet."""
    return parquet.write(columns, {HEADER_KEY: header.model_dump_json(exclude_none=True).encode()})


def parse_header(raw: bytes | None) -> DeltaHeader:
    """Parse a delta's header. None gives the defaults. Raises CorruptDeltaError naming the invalid field."""
    if raw is None:
        return DeltaHeader()
    try:
        return parse_stored(DeltaHeader, raw, "its header")
    except NewerFormatError as error:
        # It goes to quarantine like a corrupt delta, so that it does not stop the others, and can be requeued.
        raise CorruptDeltaError(
            error.message, next_step="upgrade the functions, then run: chromadb-compaction deltas requeue ID"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"the field {field!r}" if field else "the header"
        raise CorruptDeltaError(
            f"the file metadata {HEADER_KEY.decode()!r} is invalid: {where}: {first['msg']}",
            next_step="correct it, or write the delta without it",
        ) from error


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


def check_shape(delta: Delta, shape: CollectionShape) -> None:
    """Raise CorruptDeltaError unless every row of `delta` fits the collection."""
    if delta.dimension is None:
        return
    if delta.dimension != shape.dimension:
        raise CorruptDeltaError(
            f"its embeddings have {delta.dimension} dimensions, but the collection {shape.collection!r} has"
            f" {shape.dimension}",
            next_step="embed with the model of the collection, or write to another collection",
        )
