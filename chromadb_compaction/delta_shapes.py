"""Whether a delta fits its collection."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chromadb_compaction.delta_formats import Delta
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.messages import CollectionShape
from chromadb_compaction.records import row_error

_LONGEST_SQUARED = float(np.finfo(np.float32).max) * 0.999
"""ChromaDB sums the squares in float32, with its rounding: stay below."""


def check_shape(delta: Delta, shape: CollectionShape) -> None:
    """Raise CorruptDeltaError unless every row of `delta` can live in the collection."""
    if delta.dimension is None:
        return
    if delta.dimension != shape.dimension:
        raise CorruptDeltaError(
            f"its embeddings have {delta.dimension} dimensions, but the collection {shape.collection!r} has"
            f" {shape.dimension}"
        )
    if shape.space == "cosine":
        _check_lengths(delta.table)


def _check_lengths(table: pa.Table) -> None:
    """Refuse vectors whose squared length overflows float32: a cosine collection would turn them into NaN."""
    live = table.filter(pc.invert(table["deleted"]))
    column = live["embedding"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(live.num_rows, -1).astype(np.float64)
    too_long = np.flatnonzero(np.einsum("ij,ij->i", vectors, vectors) > _LONGEST_SQUARED)
    if len(too_long):
        at = int(too_long[0])
        reason = "embedding is too long a vector for cosine distance, whose float32 arithmetic would make it NaN"
        raise row_error(live["row"][at].as_py(), live["id"][at].as_py(), reason)
