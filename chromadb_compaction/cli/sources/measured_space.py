"""The distance that ChromaDB really uses for a collection, measured by queries.

ChromaDB has kept it in four places over the years. An answer of its own is right wherever it is kept.
"""

from __future__ import annotations

from typing import Any, Final, get_args

import numpy as np

from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import Matrix

_SAMPLE: Final = 100
_FACTORS: Final = (2.0, 3.0, 0.7)
"""Three queries: one alone may lie where two distances are equal."""
_TOLERANCE: Final = 1e-3


def measured_space(collection: Collection, *, configured: str | None) -> Space | None:
    """Return the distance that the answers to some queries have in common.

    If they fit several distances, as with vectors of zeros, return the `configured` one of them. None if unknown.
    """
    found: Any = collection.get(limit=_SAMPLE, include=["embeddings"])["embeddings"]
    possible: set[Space] = set(get_args(Space))
    for query in _queries(np.asarray(found, dtype=np.float64)):
        answer: Any = collection.query(
            query_embeddings=query[None].astype(np.float32), n_results=1, include=["embeddings", "distances"]
        )
        for stored, distance in zip(answer["embeddings"][0], answer["distances"][0], strict=True):
            possible &= _spaces_of(query, np.asarray(stored, dtype=np.float64), float(distance))
    if len(possible) > 1:
        possible &= {space for space in possible if space == configured}
    return possible.pop() if possible else None


def _queries(vectors: Matrix) -> list[Matrix]:
    """Return queries near the first vector that is not zero, whose product with it is not 1."""
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    usable = vectors[(lengths > 0) & np.isfinite(lengths)]
    if not len(usable):
        return [np.full(vectors.shape[1], factor) for factor in _FACTORS] if len(vectors) else []
    first = usable[0]
    return [factor * first / (first @ first) for factor in _FACTORS]


def _spaces_of(query: Matrix, stored: Matrix, distance: float) -> set[Space]:
    """Return the distances of which this one may be between the two vectors."""
    product, lengths = float(query @ stored), float(np.linalg.norm(query) * np.linalg.norm(stored))
    candidates: dict[Space, float] = {
        "l2": float(np.sum((query - stored) ** 2)),
        "ip": 1 - product,
        "cosine": 1 - product / lengths if lengths else 1.0,
    }
    scale = _TOLERANCE * max(1.0, abs(distance))
    return {space for space, expected in candidates.items() if abs(expected - distance) <= scale}
