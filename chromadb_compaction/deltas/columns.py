"""A delta's rows in columns, after validation: what both readers produce and the writer takes."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.deltas.records import Vector, shown
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.rows.runs import embedding_type

KNOWN_COLUMNS = ("id", "op", "embedding", "document", "metadata")
UPSERT, DELETE = "upsert", "delete"
NO_VECTORS: Vector = np.empty((0, 0), dtype=np.float32)


class DeltaColumns(NamedTuple):
    """Rows 0 to n-1. `vectors` (float32, one row per upsert, in order) skips the deletes; all else has n entries.

    `metadatas` is canonical JSON. A delete has neither document nor metadata.
    """

    ids: list[str]
    deleted: NDArray[np.bool_]
    vectors: Vector
    documents: list[str | None]
    metadatas: list[str | None]

    @property
    def dimension(self) -> int | None:
        """The length of every vector, None without upserts."""
        return self.vectors.shape[1] if len(self.vectors) else None

    def embedding_array(self) -> pa.Array[Any]:
        """Return the embedding column, one entry a row, null for deletes."""
        kind = embedding_type(self.dimension)
        if self.dimension is None:
            return pa.array([None] * len(self.ids), kind)
        if len(self.vectors) == len(self.ids):
            return _fixed_size_lists(self.vectors, kind)
        spread = np.zeros((len(self.ids), self.dimension), dtype=np.float32)
        spread[~self.deleted] = self.vectors
        return _fixed_size_lists(spread, kind, mask=pa.array(self.deleted))


def _fixed_size_lists(matrix: Vector, kind: pa.DataType, mask: pa.BooleanArray | None = None) -> pa.Array[Any]:
    values = cast("Any", pa.array(matrix.reshape(-1)))
    return pa.FixedSizeListArray.from_arrays(values, type=cast("Any", kind), mask=mask)


def check_column_names(names: list[str]) -> None:
    """Raise CorruptDeltaError for a missing id, or an unknown or repeated column: a misspelt one would lose data."""
    for name in names:
        if name not in KNOWN_COLUMNS:
            raise CorruptDeltaError(f"the column {shown(name)} is unknown; a delta has {', '.join(KNOWN_COLUMNS)}")
        if names.count(name) > 1:
            raise CorruptDeltaError(f"the column {shown(name)} stands there twice")
    if "id" not in names:
        raise CorruptDeltaError("the column 'id' is missing")


def check_op(op: object) -> bool:
    """Say whether the row deletes; a row without op upserts. Raises CorruptDeltaError for an unknown op."""
    if op not in (None, UPSERT, DELETE):
        raise CorruptDeltaError(f"op is {op!r}; it must be {UPSERT!r} or {DELETE!r}")
    return op == DELETE


def no_embedding() -> str:
    """Return the reason for refusing an upsert without embedding."""
    return "an upsert needs an embedding, and this row has none"


def delete_carries(column: str) -> str:
    """Return the reason for refusing a delete that carries data."""
    return f"a delete carries nothing but its id, and this row has a value in {column}"


def other_dimension(found: int, first: int, first_row: int) -> str:
    """Return the reason for refusing a vector of another length than the file's first."""
    return f"embedding has {found} dimensions, but that of row {first_row} has {first}"


def too_large(limit: int) -> CorruptDeltaError:
    """Return the error for a file that takes more than `limit` bytes once read."""
    return CorruptDeltaError(f"the file unpacks to more than {limit} bytes; write smaller deltas (1-5 MB)")
