"""A delta's rows in columns, after validation: what both readers produce and the writer takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.records import Vector
from chromadb_compaction.runs import embedding_type

KNOWN_COLUMNS = ("id", "op", "embedding", "document", "metadata")
UPSERT, DELETE = "upsert", "delete"


class DeltaColumns(NamedTuple):
    """Rows 0 to n-1. `vectors` (float32, one row per upsert, in order) skips the deletes; all else has n entries.

    `metadatas` is canonical JSON. A delete has neither document nor metadata.
    """

    ids: pa.StringArray
    deleted: NDArray[np.bool_]
    vectors: Vector
    documents: pa.StringArray
    metadatas: pa.StringArray

    @property
    def dimension(self) -> int | None:
        """The length of every vector, None without upserts."""
        return self.vectors.shape[1] if len(self.vectors) else None

    def embedding_array(self) -> pa.Array:
        """Return the embedding column, one entry a row, null for deletes."""
        kind = embedding_type(self.dimension)
        if self.dimension is None:
            return pa.nulls(len(self.deleted), kind)
        if len(self.vectors) == len(self.deleted):
            return pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.reshape(-1)), type=kind)
        spread = np.zeros((len(self.deleted), self.dimension), dtype=np.float32)
        spread[~self.deleted] = self.vectors
        return pa.FixedSizeListArray.from_arrays(pa.array(spread.reshape(-1)), type=kind, mask=pa.array(self.deleted))


def check_column_names(names: list[str]) -> None:
    """Raise CorruptDeltaError for an unknown or repeated column: a misspelt one would lose data silently."""
    for name in names:
        if name not in KNOWN_COLUMNS:
            raise CorruptDeltaError(f"the column {name!r} is unknown; a delta has {', '.join(KNOWN_COLUMNS)}")
        if names.count(name) > 1:
            raise CorruptDeltaError(f"the column {name!r} stands there twice")


def unknown_op(op: object) -> str:
    """Return the reason for refusing an `op` that is neither upsert nor delete."""
    return f"op is {op!r}; it must be {UPSERT!r} or {DELETE!r}"


def no_embedding() -> str:
    """Return the reason for refusing an upsert without embedding."""
    return "an upsert needs an embedding, and this row has none"


def delete_carries(column: str) -> str:
    """Return the reason for refusing a delete that carries data."""
    return f"a delete carries nothing but its id, and this row has a value in {column}"


def other_dimension(found: int, first: int, first_row: int) -> str:
    """Return the reason for refusing a vector of another length than the file's first."""
    return f"embedding has {found} dimensions, but that of row {first_row} has {first}"
