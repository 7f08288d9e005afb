"""Exact distances and stored vectors, as ChromaDB 1.5.9 computes them, in float32."""

from __future__ import annotations

from typing import Final

import numpy as np

from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import Vector

SMALLEST: Final = np.float32(1e-30)
"""ChromaDB adds this to a vector's length before it divides by the length."""


def distances(questions: Vector, vectors: Vector, space: Space) -> Vector:
    """Return the distance of each question (row) to each vector (column). Both are matrices of one dimension."""
    if space == "l2":
        return np.stack([_squares(vectors - question) for question in questions])
    if space == "cosine":
        questions, vectors = _normalised(questions), _normalised(vectors)
    # A product of matrices adds in another order for each shape. So each question is multiplied alone.
    return np.stack([np.float32(1) - vectors @ question for question in questions])


def stored(vectors: Vector, space: Space) -> Vector:
    """Return the vectors as ChromaDB returns them: a cosine index normalises them, and scales them back."""
    if space != "cosine" or not len(vectors):
        return vectors
    return np.asarray(_normalised(vectors) * _lengths(vectors), dtype=np.float32)


def _normalised(vectors: Vector) -> Vector:
    return np.asarray(vectors * (np.float32(1) / (_lengths(vectors) + SMALLEST)), dtype=np.float32)


def _lengths(vectors: Vector) -> Vector:
    return np.sqrt(_squares(vectors))[:, np.newaxis]


def _squares(vectors: Vector) -> Vector:
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors), dtype=np.float32)
