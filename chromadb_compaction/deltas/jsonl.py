"""Deltas as gzipped JSON Lines: one object a line, with the same names as the columns of a Parquet delta.

The first line may be the header instead of a row: an object that holds it under the only key `chromadb_compaction`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from itertools import chain
from typing import NamedTuple

import numpy as np

from chromadb_compaction.deltas import strict_json
from chromadb_compaction.deltas.columns import (
    NO_EMBEDDING,
    NO_VECTORS,
    DeltaColumns,
    damaged,
    other_dimension,
    too_large,
)
from chromadb_compaction.deltas.records import (
    ROW_BYTES,
    Vector,
    check_delete,
    check_document,
    check_embedding,
    check_id,
    check_metadata,
    check_metadata_text,
    check_names,
    check_op,
    check_uri,
    row_error,
)
from chromadb_compaction.errors import CorruptDeltaError

_CHUNK_BYTES = 1024 * 1024


class _Row(NamedTuple):
    id: str
    vector: Vector | None
    document: str | None
    metadata: str | None
    uri: str | None


def read(body: bytes, *, header_key: bytes, max_bytes: int) -> tuple[DeltaColumns, bytes | None]:
    """Parse and validate a whole file. Return its rows, and the JSON of its header if it has one.

    Raises CorruptDeltaError naming the first invalid row, counted from 0.

    Blank lines are skipped and not counted. An empty file is an empty delta. Metadata may be an object, or, as in
    Parquet, a string that holds one.
    """
    ids, documents, metadatas, uris = [], [], [], []  # columns, not row objects: a file may hold a million rows
    deleted = bytearray()
    vectors: list[Vector] = []
    first_row = 0
    text = decompress(body, max_bytes=max_bytes)
    lines = (line for _, line in strict_json.lines_of(io.BytesIO(text)))
    first = next(lines, b"")
    header = _header_of(first, header_key.decode())
    for number, line in enumerate(chain([first] if first and header is None else [], lines)):
        if len(text) + number * ROW_BYTES > max_bytes:
            raise too_large(max_bytes)
        row = _parse_row(number, line)
        if row.vector is not None:
            if not vectors:
                first_row = number
            elif len(row.vector) != len(vectors[0]):
                raise row_error(number, row.id, other_dimension(len(row.vector), len(vectors[0]), first_row))
            vectors.append(row.vector)
        ids.append(row.id)
        deleted.append(row.vector is None)
        documents.append(row.document)
        metadatas.append(row.metadata)
        uris.append(row.uri)
    columns = DeltaColumns(
        ids=ids,
        deleted=np.frombuffer(deleted, dtype=np.bool_),
        vectors=np.stack(vectors) if vectors else NO_VECTORS,
        documents=documents,
        metadatas=metadatas,
        uris=uris,
    )
    return columns, header


def write_header(header: bytes, *, header_key: bytes) -> bytes:
    """Return a file without rows, whose header is this JSON object."""
    return gzip.compress(b'{"%s":%s}\n' % (header_key, header), mtime=0)


def _header_of(line: bytes, key: str) -> bytes | None:
    """Return the JSON of the header if the line is one, or None."""
    if key.encode() not in line:
        return None
    try:
        value = strict_json.parse(line)
    except ValueError:
        return None
    return json.dumps(value[key]).encode() if isinstance(value, dict) and list(value) == [key] else None


def decompress(body: bytes, *, max_bytes: int) -> bytes:
    """Unpack gzip of one or several members. Raises CorruptDeltaError if it is damaged or exceeds `max_bytes`."""
    if not body:
        raise damaged("gzip", "it is empty")
    file = gzip.GzipFile(fileobj=io.BytesIO(body))
    parts: list[bytes] = []
    size = 0
    try:
        while size <= max_bytes and (part := file.read(_CHUNK_BYTES)):
            parts.append(part)
            size += len(part)
    except EOFError as error:
        raise damaged("gzip", "it ends too early") from error
    except (OSError, zlib.error) as error:
        raise damaged("gzip", str(error)) from error
    if size > max_bytes:
        raise too_large(max_bytes)
    return b"".join(parts)


def _parse_row(number: int, line: bytes) -> _Row:
    try:
        value = strict_json.parse(line)
    except ValueError as error:
        raise row_error(number, None, f"the line {error}") from error
    if not isinstance(value, dict):
        raise row_error(number, None, "the line is not a JSON object")
    try:
        return _check_row(value)
    except CorruptDeltaError as error:
        raise row_error(number, value.get("id"), error.message, next_step=error.next_step) from error


def _check_row(value: dict[str, object]) -> _Row:
    check_names(value, "name")
    row_id = check_id(value.get("id"))
    if check_op(value.get("op")):
        check_delete(value)
        return _Row(row_id, None, None, None, None)
    embedding = value.get("embedding")
    if embedding is None:
        raise CorruptDeltaError(NO_EMBEDDING)
    metadata = value.get("metadata")
    checked = check_metadata_text(metadata) if isinstance(metadata, str) else check_metadata(metadata)
    document, uri = check_document(value.get("document")), check_uri(value.get("uri"))
    return _Row(row_id, check_embedding(embedding), document, checked, uri)
