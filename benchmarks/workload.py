"""The records of the benchmark. They are the same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COLLECTION = "benchmark"
WRITES = 20
"""The records that are written one by one until a reader has found them."""
QUERIES = 60
"""The queries whose median time counts."""
LARGE_DELTA_ROWS = 2000
"""The records of a delta of a large collection."""
_WORDS = ["vector", "search", "finds", "what", "is", "near", "in", "meaning", "quickly", "and", "well", "enough"]


class Load(NamedTuple):
    """The size of each of the two rounds."""

    deltas: int = 20
    rows: int = 500
    dimension: int = 384

    @property
    def records(self) -> int:
        """The records written in one round."""
        return self.deltas * self.rows


class Records(NamedTuple):
    """The content of one delta: records with a document and three metadata keys each."""

    ids: list[str]
    embeddings: NDArray[np.float32]
    documents: list[str]
    metadatas: list[dict[str, Any]]


def first_round(load: Load) -> Iterator[Records]:
    """Yield deltas of new records."""
    for delta in range(load.deltas):
        yield records(load.dimension, seed=delta, ids=[_id(delta, row) for row in range(load.rows)])


def second_round(load: Load) -> Iterator[Records]:
    """Yield as many deltas, each with half updates of the first round's records and half new records."""
    updates = load.rows // 2
    for delta in range(load.deltas):
        old = [_id(delta, row) for row in range(updates)]
        new = [_id(load.deltas + delta, row) for row in range(load.rows - updates)]
        yield records(load.dimension, seed=load.deltas + delta, ids=old + new)


def large_records(count: int, dimension: int) -> Iterator[Records]:
    """Yield the deltas of a collection of `count` records whose ids ascend."""
    for start in range(0, count, LARGE_DELTA_ROWS):
        ids = [f"{number:09d}" for number in range(start, min(start + LARGE_DELTA_ROWS, count))]
        yield records(dimension, seed=start, ids=ids)


def a_query(load: Load) -> NDArray[np.float32]:
    """Return a vector to search for."""
    return vectors_like_those_of_texts(np.random.default_rng(1_000_000), 1, load.dimension)


def _id(delta: int, row: int) -> str:
    return f"document-{delta:04d}-{row:05d}"


def records(dimension: int, *, seed: int, ids: list[str]) -> Records:
    """Return records with these ids, the same for the same seed."""
    rng = np.random.default_rng(seed)
    count = len(ids)
    texts = rng.choice(_WORDS, size=(count, 40)).tolist()
    return Records(
        ids=ids,
        embeddings=vectors_like_those_of_texts(rng, count, dimension),
        documents=[" ".join(words) for words in texts],
        metadatas=[{"source": f"file-{row % 10}.txt", "page": row, "score": row / 8} for row in range(count)],
    )


def vectors_like_those_of_texts(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Return vectors of length 1 whose variance falls from axis to axis as 1, 1/2, 1/3, ...

    The cost of an index depends on how its vectors are spread. A language model's vectors vary much in few directions
    and little in many. benchmarks.vectors compares these with a real model's, and with vectors without order.
    """
    spread = 1 / np.sqrt(np.arange(1, dimension + 1, dtype=np.float32))
    vectors = rng.standard_normal((count, dimension), dtype=np.float32) * spread
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
