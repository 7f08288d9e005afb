"""The checks of arguments that ChromaDB makes behind its interface, with its messages.

Programs in other languages reach the interface through a server, without the checks of the Python client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

from chromadb_compaction.client.chroma_api.chroma_errors import InvalidArgumentError, NotFoundError
from chromadb_compaction.client.chroma_api.record_changes import Record
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.layout import check_collection_name

MAX_BATCH: Final = 5461
"""The most records of one call. It is ChromaDB's own number."""


def records_of(
    ids: Sequence[str],
    embeddings: Sequence[Any] | None,
    metadatas: Sequence[dict[str, Any] | None] | None,
    documents: Sequence[str | None] | None,
    uris: Sequence[str | None] | None,
    *,
    dimension: int | None,
    needs_vectors: bool,
) -> list[Record]:
    """Return the records of a call. `dimension` is the collection's, if it has one.

    Raises InvalidArgumentError with ChromaDB's message, and ValueError for too many records.
    """
    count = len(ids)
    if count > MAX_BATCH:
        raise ValueError(f"Batch size {count} exceeds maximum batch size {MAX_BATCH}")
    if any(not each for each in ids):
        raise InvalidArgumentError("Empty ID, ID must have at least one character")
    if embeddings is None and needs_vectors and count:
        raise InvalidArgumentError("embeddings are missing")
    columns = [embeddings, metadatas, documents, uris]
    if any(column is not None and len(column) not in {0, count} for column in columns):
        raise InvalidArgumentError("Inconsistent number of IDs, embeddings, documents, URIs and metadatas")
    nothing: list[Any] = [None] * count
    vectors = [None if vector is None else as_vector(vector) for vector in _column(embeddings, nothing)]
    check_dimensions([vector for vector in vectors if vector is not None], dimension)
    rows = zip(
        ids, vectors, _column(documents, nothing), _column(metadatas, nothing), _column(uris, nothing), strict=True
    )
    return [Record(*row) for row in rows]


def _column(values: Sequence[Any] | None, nothing: list[Any]) -> Sequence[Any]:
    return nothing if values is None or len(values) == 0 else values


def as_vector(embedding: object) -> Vector:
    """Return an embedding as float32. Raises InvalidArgumentError if it is not a list of finite numbers."""
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(embedding, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"an embedding is not a list of numbers: {error}") from error
    if vector.ndim != 1:
        raise InvalidArgumentError(f"an embedding has {vector.ndim} axes, it must be a list of numbers")
    if not len(vector):
        raise InvalidArgumentError("Each embedding must have at least 1 dimension")
    if not np.isfinite(vector).all():
        raise InvalidArgumentError("Embeddings must not contain NaN or Infinity values")
    return vector


def check_dimensions(vectors: Sequence[Vector], dimension: int | None) -> None:
    """Raise InvalidArgumentError unless all vectors have one length, that of the collection if it has one."""
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        raise InvalidArgumentError("Inconsistent dimensions in provided embeddings")
    for length in lengths:
        if dimension not in {None, length}:
            raise InvalidArgumentError(f"Collection expecting embedding with dimension of {dimension}, got {length}")


def check_page(limit: int | None, offset: int | None) -> None:
    """Raise InvalidArgumentError for a negative limit or offset."""
    if (limit is not None and limit < 0) or (offset is not None and offset < 0):
        raise InvalidArgumentError("limit and offset must not be negative")


def check_included(include: Sequence[str]) -> None:
    """Raise InvalidArgumentError for an unknown name."""
    for name in include:
        if name not in {"documents", "embeddings", "metadatas", "distances", "uris", "data"}:
            raise InvalidArgumentError(f"Invalid include value: {name}")


def check_name(name: str) -> None:
    """Raise InvalidArgumentError unless the name is one that a collection can have."""
    try:
        check_collection_name(name)
    except CorruptDeltaError as error:
        raise InvalidArgumentError(
            "Validation error: name: Expected a name containing 3-255 characters from [a-zA-Z0-9._-], starting and"
            " ending with a character in [a-zA-Z0-9], without two periods in a row, and not an IPv4 address."
            f" Got: {name}"
        ) from error


def check_database(tenant: str, database: str) -> None:
    """Raise NotFoundError unless these are the only tenant and the only database."""
    if tenant != DEFAULT_TENANT:
        raise NotFoundError(f"Tenant [{tenant}] not found: a bucket has one tenant, {DEFAULT_TENANT}")
    if database != DEFAULT_DATABASE:
        raise NotFoundError(f"Database [{database}] not found: a bucket is one database, {DEFAULT_DATABASE}")
