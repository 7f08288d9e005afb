"""Whether a delta fits its collection."""

from __future__ import annotations

from typing import Any, cast

import pyarrow.compute as pc

from chromadb_compaction.deltas.formats import Delta
from chromadb_compaction.deltas.records import check_cosine_lengths
from chromadb_compaction.errors import CorruptDeltaError
from chromadb_compaction.messages import CollectionShape


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
        live = delta.table.filter(pc.invert(delta.table["deleted"]))
        values = cast("Any", live["embedding"].combine_chunks()).flatten().to_numpy()
        ids, rows = (cast("list[Any]", column.to_pylist()) for column in (delta.table["id"], live["row"]))
        check_cosine_lengths(values.reshape(-1, delta.dimension), ids, rows)
