"""The order in which a fold of everything pending would leave the records, so that pages stay as they are after it.

A fold leaves the records that it does not touch in place. It writes the others at the end: those with a new vector,
then those with the same vector, then new ids. Within each kind they are in the order of the ids' bytes, if one batch
holds all deltas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chromadb_compaction.chroma.client import OpenCollection
from chromadb_compaction.chroma.loader import batches, texts_of
from chromadb_compaction.chroma.query import Filters, matching
from chromadb_compaction.chroma.verification import differing, same_metadata
from chromadb_compaction.pending.overlay import UNKNOWN, Overlay
from chromadb_compaction.pending.pending_side import Positions

REPLACED, EDITED, INSERTED, UNCHANGED = range(4)

Kinds = NDArray[np.int64]

ROWS_AT_ONCE: Final = 1_000


def kinds_of(overlay: Overlay, at: Positions, collection: OpenCollection | None, existing: frozenset[str]) -> Kinds:
    """Return, for each live row of `at`, how a fold would treat it. `existing` are the pending ids of `collection`.

    The overlay remembers the result for each row.
    """
    known = overlay.kinds
    unknown = [position for position in at[known[at] == UNKNOWN].tolist() if overlay.live_ids[position] in existing]
    for part in batches(unknown, ROWS_AT_ONCE):
        if collection is not None:
            known[list(part)] = _compare(overlay, np.array(part, dtype=np.int64), collection)
    return np.where(known[at] == UNKNOWN, INSERTED, known[at])


def folded_order(at: Positions, kinds: Kinds) -> Positions:
    """Return the rows of `at`, which are in the order of their ids, in the order in which a fold would write them."""
    return at[np.argsort(kinds, kind="stable")]


def _compare(overlay: Overlay, at: Positions, collection: OpenCollection) -> list[int]:
    """Return how the rows differ from the collection's records of the same ids."""
    ids = [overlay.live_ids[position] for position in at]
    found: Any = matching(
        collection, Filters(ids=ids), limit=None, offset=None, include=["embeddings", "documents", "metadatas", "uris"]
    )
    order = {row_id: number for number, row_id in enumerate(found["ids"])}
    numbers = [order[row_id] for row_id in ids]
    vectors = np.asarray(found["embeddings"], dtype=np.float32)[numbers]
    other_vector = differing(vectors, overlay.vectors[at], overlay.selection.shape.space)
    other_texts = _other_texts(overlay.live.take(at), found, numbers)
    return [
        REPLACED if vector else EDITED if texts else UNCHANGED
        for vector, texts in zip(other_vector.tolist(), other_texts, strict=True)
    ]


def _other_texts(rows: pa.Table, found: Any, numbers: list[int]) -> Iterator[bool]:  # noqa: ANN401 - ChromaDB's result
    """Yield, per row, whether document, metadata or URI differ from the record found."""
    written = zip(*(texts_of(rows, name) for name in ("document", "metadata", "uri")), numbers, strict=True)
    for document, metadata, uri, number in written:
        yield (
            found["documents"][number] != document
            or found["uris"][number] != uri
            or not same_metadata(found["metadatas"][number], metadata)
        )
