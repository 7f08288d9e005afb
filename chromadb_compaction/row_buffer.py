"""Rows on their way into a delta: checked as they come, cut into files of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chromadb_compaction.delta_columns import DeltaColumns, other_dimension
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.records import (
    Vector,
    check_document,
    check_each,
    check_embedding,
    check_id,
    check_metadata,
    narrow_rows,
    row_error,
)

_ROW_OVERHEAD = 16


class RowBuffer:
    """The rows of one collection that are not written yet, in the order they were given."""

    def __init__(self) -> None:
        self._parts: list[DeltaColumns] = []
        self._dimension: int | None = None
        self.bytes = 0
        """What the buffered rows take before compression."""

    def extend(self, rows: DeltaColumns) -> None:
        """Add rows. Raises CorruptDeltaError if their vectors differ in length from those already seen."""
        if self._dimension is None:
            self._dimension = rows.dimension
        elif rows.dimension not in (None, self._dimension):
            raise CorruptDeltaError(
                f"embeddings have {rows.dimension} dimensions, but this writer's earlier rows have {self._dimension}"
            )
        if len(rows.deleted):
            self._parts.append(rows)
            self.bytes += int(_row_bytes(rows).sum())

    def cut(self, size: int) -> DeltaColumns:
        """Take out the oldest rows: as many as fit `size` bytes, but at least one. The buffer must not be empty."""
        rows = _joined(self._parts)
        ends = np.cumsum(_row_bytes(rows))
        count = max(1, int(np.searchsorted(ends, size, side="right")))
        head, tail = _slice(rows, 0, count), _slice(rows, count, len(rows.deleted))
        self._parts = [tail] if len(tail.deleted) else []
        self.bytes -= int(ends[count - 1])
        return head


def upserts_of(
    ids: Sequence[str],
    embeddings: Any,  # noqa: ANN401 - whatever numpy makes a matrix of
    documents: Sequence[str | None] | None,
    metadatas: Sequence[dict[str, Any] | None] | None,
) -> DeltaColumns:
    """Return checked rows that share no memory with the arguments. Raises CorruptDeltaError naming the bad row."""
    names = _checked_ids(ids)
    count = len(names)
    texts = _column("documents", documents, count)
    objects = _column("metadatas", metadatas, count)
    return DeltaColumns(
        ids=pa.array(names, pa.string()),
        deleted=np.zeros(count, dtype=np.bool_),
        vectors=_matrix(embeddings, names),
        documents=pa.array(check_each(check_document, texts, names), pa.string()),
        metadatas=pa.array(check_each(check_metadata, objects, names), pa.string()),
    )


def deletes_of(ids: Sequence[str]) -> DeltaColumns:
    """Return checked deletes."""
    names = _checked_ids(ids)
    nothing = pa.nulls(len(names), pa.string())
    return DeltaColumns(
        ids=pa.array(names, pa.string()),
        deleted=np.ones(len(names), dtype=np.bool_),
        vectors=np.empty((0, 0), dtype=np.float32),
        documents=nothing,
        metadatas=nothing,
    )


def _checked_ids(ids: Sequence[str]) -> list[str]:
    if isinstance(ids, (str, bytes)):
        raise CorruptDeltaError("ids is a single string; give a list of them")
    given = list(ids)
    return check_each(check_id, given, given)


def _column(name: str, values: Sequence[object] | None, count: int) -> Sequence[object]:
    if values is None:
        return [None] * count
    if isinstance(values, (str, bytes, dict)):
        raise CorruptDeltaError(f"{name} is a single {type(values).__name__}; give a list, one entry for each id")
    if len(values) != count:
        raise CorruptDeltaError(f"{name} has {len(values)} entries, but there are {count} ids")
    return values


def _matrix(embeddings: Any, ids: list[str]) -> Vector:  # noqa: ANN401 - as upserts_of
    if isinstance(embeddings, np.ndarray) and embeddings.ndim != 2:
        raise CorruptDeltaError(f"embeddings has {embeddings.ndim} axes; it must have two, rows and dimensions")
    vectors = _column("embeddings", embeddings, len(ids))
    if embeddings is None and ids:
        raise row_error(0, ids[0], "an upsert needs an embedding, and this row has none")
    if not ids:
        return np.empty((0, 0), dtype=np.float32)
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
    return narrow_rows(_numeric(value).reshape(1, -1), [""])[0]


def _numeric(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fiu":
        raise CorruptDeltaError(f"embeddings are of numpy type {array.dtype}; they must be numbers")
    if array.shape[-1] == 0:
        raise CorruptDeltaError("embedding is empty")
    return array


def _row_bytes(rows: DeltaColumns) -> NDArray[np.int64]:
    sizes = np.full(len(rows.deleted), _ROW_OVERHEAD, dtype=np.int64)
    sizes[~rows.deleted] += 4 * (rows.dimension or 0)
    for column in (rows.ids, rows.documents, rows.metadatas):
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return sizes


def _joined(parts: list[DeltaColumns]) -> DeltaColumns:
    vectors = [part.vectors for part in parts if len(part.vectors)]
    return DeltaColumns(
        ids=pa.concat_arrays([part.ids for part in parts]),
        deleted=np.concatenate([part.deleted for part in parts]),
        vectors=np.concatenate(vectors) if vectors else np.empty((0, 0), dtype=np.float32),
        documents=pa.concat_arrays([part.documents for part in parts]),
        metadatas=pa.concat_arrays([part.metadatas for part in parts]),
    )


def _slice(rows: DeltaColumns, start: int, end: int) -> DeltaColumns:
    first, last = (int((~rows.deleted[:edge]).sum()) for edge in (start, end))
    return DeltaColumns(
        ids=rows.ids[start:end],
        deleted=rows.deleted[start:end],
        vectors=rows.vectors[first:last],
        documents=rows.documents[start:end],
        metadatas=rows.metadatas[start:end],
    )
