"""The pending records in a fresh read: the overlay's live rows, as ChromaDB would return them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.loader import ids_of, texts_of
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.chroma.records.columns import Columns
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.pending.distances import distances
from chromadb_compaction.pending.filtering import Mask
from chromadb_compaction.pending.overlay import Overlay

Positions = NDArray[np.int64]

PassFilter = Callable[[pa.Table, Filters], Mask]
"""Returns, per row, whether it passes `where` and `where_document`."""


class PendingSide:
    """The live rows of an overlay. A record is named by its position among them.

    Args:
        overlay: The rows.
        passing: The filter.
    """

    def __init__(self, overlay: Overlay, passing: PassFilter) -> None:
        self._overlay = overlay
        self._passing = passing

    def matching(self, filters: Filters) -> Positions:
        """Return the positions of the records that pass, ascending, which is in the order of the ids' bytes.

        Raises InvalidRequestError with ChromaDB's message if it refuses a filter.
        """
        live = self._overlay.live
        passed = np.ones(live.num_rows, dtype=np.bool_)
        if live.num_rows and (filters.where is not None or filters.where_document is not None):
            passed = self._passing(live, filters)
        if filters.ids is None:
            return np.flatnonzero(passed)
        at = sorted({self._overlay.positions[each] for each in filters.ids if each in self._overlay.positions})
        return np.array([each for each in at if passed[each]], dtype=np.int64)

    def distances(self, questions: Vector, at: Positions) -> Vector:
        """Return the distance of each question (row) to each record of `at` (column)."""
        vectors = self._overlay.vectors
        some = vectors if len(at) == len(vectors) else vectors[at]  # avoids a copy of all vectors
        return distances(questions, some, self._overlay.selection.shape.space)

    def records(self, at: Iterable[int], include: Sequence[str]) -> Columns:
        """Return these records, in the order of `at`. Distances are not among their fields."""
        positions = np.fromiter(at, dtype=np.int64)
        rows = self._overlay.live.take(positions)
        records: Columns = {"ids": ids_of(rows)}
        if "embeddings" in include:
            records["embeddings"] = list(self._overlay.stored_vectors[positions])
        if "documents" in include:
            records["documents"] = texts_of(rows, "document")
        if "metadatas" in include:
            records["metadatas"] = _metadatas(rows)
        if "uris" in include:
            records["uris"] = texts_of(rows, "uri")
        return records


def _metadatas(rows: pa.Table) -> list[dict[str, Any] | None]:
    """Return the metadata of each row. As in ChromaDB, a record without any has {} if it has a URI."""
    pairs = zip(texts_of(rows, "metadata"), texts_of(rows, "uri"), strict=True)
    return [orjson.loads(text) if text is not None else None if uri is None else {} for text, uri in pairs]
