"""Deltas as stored objects: parse and validate their keys and bytes, and write them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa

from chromadb_compaction.configuration import KeptSettings
from chromadb_compaction.deltas import jsonl
from chromadb_compaction.deltas.columns import DeltaColumns, check_row_bytes, check_values
from chromadb_compaction.deltas.drops import DROP_BYTES, DROP_SUFFIX, may_drop
from chromadb_compaction.deltas.fitting import Statement
from chromadb_compaction.deltas.header import HEADER_KEY, DeltaHeader, parse_header
from chromadb_compaction.deltas.parquet import files as parquet
from chromadb_compaction.deltas.versions import parse_delta_id
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.layout import DELTA_PREFIX, parse_delta_key
from chromadb_compaction.rows.fingerprints import DELETED, fingerprint
from chromadb_compaction.rows.runs import DELTA_ID, FINGERPRINT, run_schema

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

    @property
    def statement(self) -> Statement:
        """The facts that must fit its collection."""
        return Statement(self.header, self.dimension, self.id)


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
            next_step=f"drop a collection by a {DROP_SUFFIX} file without rows, of at most {DROP_BYTES} bytes",
        )
    return Delta(name.collection, _as_run(columns, delta_id), columns.dimension, parsed, str(delta_id))


def write_drop(header: DeltaHeader) -> tuple[bytes, str]:
    """Return a delta that drops its collection, and its suffix. A long name of the producer is cut."""
    short = header.model_copy(update={"producer": header.producer and header.producer[:_PRODUCER_CHARACTERS]})
    return jsonl.write_header(short.model_dump_json(exclude_none=True).encode(), header_key=HEADER_KEY), DROP_SUFFIX


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
