"""The buffer of rows that are not written yet. It checks them when they are added, and cuts them into files by size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromadb_compaction.deltas.columns import NO_EMBEDDING, NO_VECTORS, DeltaColumns, other_dimension
from chromadb_compaction.deltas.records import (
    Vector,
    check_document,
    check_each,
    check_embedding,
    check_id,
    check_metadata,
    check_uri,
    narrow,
    narrow_rows,
    row_error,
)
from chromadb_compaction.errors import CorruptDeltaError


class RowBuffer:
    """The rows of one collection that are not written yet, in the order in which they were added.

    Args:
        dimension: The length that every vector must have. None: that of the first vector.
    """

    def __init__(self, dimension: int | None = None) -> None:
        self._parts: list[DeltaColumns] = []
        self._bytes = 0
        self._dimension = dimension
        self._dimension_owner = "the collection has" if dimension else "this writer's earlier rows have"

    def extend(self, rows: DeltaColumns) -> None:
        """Add rows. Raises CorruptDeltaError if their vectors have the wrong length."""
        if self._dimension is None:
            self._dimension = rows.dimension
        elif rows.dimension not in (None, self._dimension):
            raise CorruptDeltaError(
                f"embeddings have {rows.dimension} dimensions, but {self._dimension_owner} {self._dimension}"
            )
        self._parts.append(rows)
        self._bytes += int(rows.row_bytes().sum())

    def cut(self, size: int, most: int, *, everything: bool) -> list[DeltaColumns]:
        """Remove and return the oldest rows in pieces of at most `size` bytes, until at most `most` bytes are left.

        With `everything` the rest is the last piece. A row larger than `size` is a piece of its own. Where pieces end
        depends only on the rows, not on how many were added at a time.
        """
        if self._bytes <= most and not everything:
            return []
        rows = _join(self._parts)
        edges = _edges(np.cumsum(rows.row_bytes()), size, most)
        if everything and edges[-1] < len(rows.ids):
            edges.append(len(rows.ids))
        rest = _slice(rows, edges[-1], len(rows.ids))
        self._parts = [rest] if rest.ids else []
        self._bytes = int(rest.row_bytes().sum())
        return [_slice(rows, start, end) for start, end in pairwise(edges)]


def upserts_of(
    ids: Sequence[str],
    embeddings: Any,  # noqa: ANN401 - anything that numpy can make a matrix of
    documents: Sequence[str | None] | None,
    metadatas: Sequence[dict[str, Any] | None] | None,
    uris: Sequence[str | None] | None = None,
) -> DeltaColumns:
    """Return valid rows that share no memory with the arguments. Raises CorruptDeltaError naming the invalid row."""
    names = _checked_ids(ids)
    count = len(names)
    texts = _column("documents", documents, count)
    objects = _column("metadatas", metadatas, count)
    links = _column("uris", uris, count)
    return DeltaColumns(
        ids=names,
        deleted=np.zeros(count, dtype=np.bool_),
        vectors=_matrix(embeddings, names),
        documents=check_each(check_document, texts, names),
        metadatas=check_each(check_metadata, objects, names),
        uris=check_each(check_uri, links, names),
    )


def deletes_of(ids: Sequence[str]) -> DeltaColumns:
    """Return valid deletes."""
    names = _checked_ids(ids)
    no_texts: list[str | None] = [None] * len(names)
    return DeltaColumns(names, np.ones(len(names), dtype=np.bool_), NO_VECTORS, no_texts, no_texts, no_texts)


def _checked_ids(ids: Sequence[str]) -> list[str]:
    if isinstance(ids, (str, bytes)):
        raise CorruptDeltaError("ids is a single string", next_step="give a list of strings")
    given = list(ids)
    return check_each(check_id, given, given)


def _column(name: str, values: Sequence[object] | None, count: int) -> Sequence[object]:
    if values is None:
        return [None] * count
    if isinstance(values, (str, bytes, dict)):
        raise CorruptDeltaError(
            f"{name} is a single {type(values).__name__}", next_step="give a list with one entry for each id"
        )
    if len(values) != count:
        raise CorruptDeltaError(f"{name} has {len(values)} entries, but there are {count} ids")
    return values


def _matrix(embeddings: Any, ids: list[str]) -> Vector:  # noqa: ANN401 - see upserts_of
    if isinstance(embeddings, np.ndarray) and embeddings.ndim != 2:
        raise CorruptDeltaError(f"embeddings has {embeddings.ndim} axes; it must have two, rows and dimensions")
    vectors = _column("embeddings", embeddings, len(ids))
    if embeddings is None and ids:
        raise row_error(0, ids[0], NO_EMBEDDING)
    if not ids:
        return NO_VECTORS
    if isinstance(embeddings, np.ndarray):
        return narrow_rows(_numeric(embeddings), ids).copy()
    rows = check_each(_vector, vectors, ids)
    first = len(rows[0])
    for row, vector in enumerate(rows):
        if len(vector) != first:
            raise row_error(row, ids[row], other_dimension(len(vector), first, 0))
    return np.stack(rows)


def _vector(value: object) -> Vector:
    if not isinstance(value, np.ndarray):
        return check_embedding(value)
    if value.ndim != 1:
        raise CorruptDeltaError(f"embedding has {value.ndim} axes; it must be a plain list of numbers")
    return narrow(_numeric(value))


def _numeric(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fiu":
        raise CorruptDeltaError(f"embeddings are of numpy type {array.dtype}; they must be numbers")
    if array.shape[-1] == 0:
        raise CorruptDeltaError("embedding is empty")
    return array


def _edges(ends: NDArray[np.int64], size: int, most: int) -> list[int]:
    """Return the rows at which pieces start, and last the row that stays. `ends`: the byte at which each row ends."""
    edges, taken = [0], 0
    while len(ends) and int(ends[-1]) - taken > most:
        edges.append(max(edges[-1] + 1, int(np.searchsorted(ends, taken + size, side="right"))))
        taken = int(ends[edges[-1] - 1])
    return edges


def _join(parts: list[DeltaColumns]) -> DeltaColumns:
    if len(parts) == 1:
        return parts[0]
    vectors = [part.vectors for part in parts if len(part.vectors)]
    return DeltaColumns(
        ids=[row_id for part in parts for row_id in part.ids],
        deleted=np.concatenate([part.deleted for part in parts]) if parts else np.empty(0, dtype=np.bool_),
        vectors=np.concatenate(vectors) if vectors else NO_VECTORS,
        documents=[document for part in parts for document in part.documents],
        metadatas=[metadata for part in parts for metadata in part.metadatas],
        uris=[uri for part in parts for uri in part.uris],
    )


def _slice(rows: DeltaColumns, start: int, end: int) -> DeltaColumns:
    first, last = (int((~rows.deleted[:edge]).sum()) for edge in (start, end))
    return DeltaColumns(
        ids=rows.ids[start:end],
        deleted=rows.deleted[start:end],
        vectors=rows.vectors[first:last],
        documents=rows.documents[start:end],
        metadatas=rows.metadatas[start:end],
        uris=rows.uris[start:end],
    )
