"""The records of the benchmark, the same in every process that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLLECTION = "benchmark"
_WORDS = ["vector", "search", "finds", "what", "is", "near", "in", "meaning", "quickly", "and", "well", "enough"]


class Load(NamedTuple):
    """How much there is to do in each of two rounds."""

    deltas: int = 20
    rows: int = 500
    dimension: int = 384

    @property
    def records(self) -> int:
        """Records written in one round."""
        return self.deltas * self.rows


class Records(NamedTuple):
    """The content of one delta: whole records, each with a document and three metadata keys."""

    ids: list[str]
    embeddings: NDArray[np.float32]
    documents: list[str]
    metadatas: list[dict[str, Any]]


def first_round(load: Load) -> Iterator[Records]:
    """Yield deltas of new records only."""
    for delta in range(load.deltas):
        yield random_records(load.dimension, seed=delta, ids=[_id(delta, row) for row in range(load.rows)])


def second_round(load: Load) -> Iterator[Records]:
    """Yield as many deltas again, each half updates of the first round's records and half new ones."""
    updates = load.rows // 2
    for delta in range(load.deltas):
        old = [_id(delta, row) for row in range(updates)]
        new = [_id(load.deltas + delta, row) for row in range(load.rows - updates)]
        yield random_records(load.dimension, seed=load.deltas + delta, ids=old + new)


def a_query(load: Load) -> NDArray[np.float32]:
    """Return a vector to search for."""
    return np.random.default_rng(1_000_000).standard_normal((1, load.dimension), dtype=np.float32)


def _id(delta: int, row: int) -> str:
    return f"document-{delta:04d}-{row:05d}"


def random_records(dimension: int, *, seed: int, ids: list[str]) -> Records:
    """Return records with these ids, the same for the same seed. Vectors without any order: an index's worst case."""
    rng = np.random.default_rng(seed)
    count = len(ids)
    texts = rng.choice(_WORDS, size=(count, 40)).tolist()
    return Records(
        ids=ids,
        embeddings=rng.standard_normal((count, dimension), dtype=np.float32),
        documents=[" ".join(words) for words in texts],
        metadatas=[{"source": f"file-{row % 10}.txt", "page": row, "score": row / 8} for row in range(count)],
    )
