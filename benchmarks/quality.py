"""Measure the recall at 10 of a folded collection on clustered vectors, against exact search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import COLLECTION, Records
from chromadb_compaction.chroma.client import open_collection

RECORDS = 20_000
DIMENSION = 384
NEIGHBOURS = 10
_CLUSTERS = 50
_QUERIES = 300
_SPREAD = 2.0


def clustered(*, seed: int = 0, records: int = RECORDS) -> Records:
    """Return records whose vectors lie in clusters, like those of real texts."""
    rng = np.random.default_rng(seed)
    vectors = _around(rng, records)
    ids = [f"row-{n:06d}" for n in range(records)]
    return Records(ids, vectors, [f"text {n}" for n in range(records)], [{"n": n} for n in range(records)])


def updated(records: Records, *, share: float = 0.5) -> Records:
    """Return new vectors for the first `share` of the records."""
    count = int(len(records.ids) * share)
    return clustered(seed=1, records=count)._replace(ids=records.ids[:count])


def merged(old: Records, new: Records) -> Records:
    """Return the records after `new` has replaced the first of `old`."""
    count = len(new.ids)
    return old._replace(embeddings=np.concatenate([new.embeddings, old.embeddings[count:]]))


def missed(directory: Path, records: Records) -> float:
    """Return the share of the true ten nearest neighbours that the collection does not find."""
    rng = np.random.default_rng(2)
    queries = _around(rng, _QUERIES)
    with open_collection(directory, COLLECTION) as collection:
        answers = collection.query(query_embeddings=cast("Any", queries), n_results=NEIGHBOURS, include=[])["ids"]
    found = sum(
        len(set(answer) & {records.ids[at] for at in nearest})
        for answer, nearest in zip(answers, _exact(queries, records.embeddings), strict=True)
    )
    return 1 - found / (_QUERIES * NEIGHBOURS)


def _exact(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    lengths = (vectors.astype(np.float64) ** 2).sum(axis=1)
    for query in queries.astype(np.float64):
        yield np.argpartition(lengths - 2 * (vectors @ query), NEIGHBOURS)[:NEIGHBOURS]


def _around(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(3).standard_normal((_CLUSTERS, DIMENSION), dtype=np.float32)
    spread = rng.standard_normal((count, DIMENSION), dtype=np.float32) * np.float32(_SPREAD)
    return centres[rng.integers(0, _CLUSTERS, count)] + spread
