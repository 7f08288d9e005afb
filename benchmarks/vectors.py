"""Measure the cost of indexing this benchmark's vectors, beside embeddings of real texts and vectors without order."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.references import opened
from benchmarks.report import Row
from benchmarks.workload import vectors_like_those_of_texts
from chromadb_compaction.chroma.embedding import WORDLLAMA, embed
from demo.corpus import docstrings, source_files

INSERTED = 5000
REPLACED = 1000


def vector_rows() -> list[Row]:
    """Measure inserting and replacing vectors of each kind, with equal dimensions, through ChromaDB's API."""
    real = _docstring_vectors()
    rng = np.random.default_rng(0)
    kinds = {
        "of docstrings": real,
        "of this benchmark": vectors_like_those_of_texts(rng, *real.shape),
        "without order": rng.standard_normal(real.shape, dtype=np.float32),
    }
    rows = []
    for kind, vectors in kinds.items():
        inserted, replaced = _seconds(vectors)
        rows += [
            Row(part=f"vectors {kind}", what=f"{INSERTED:,} inserted", value=inserted, unit="s"),
            Row(part=f"vectors {kind}", what=f"{REPLACED:,} replaced", value=replaced, unit="s"),
        ]
    return rows


def _docstring_vectors() -> NDArray[np.float32]:
    """Return the embeddings of docstrings of Python's standard library, in a fixed shuffled order."""
    found = chain.from_iterable(docstrings(path) for path in source_files())
    texts = sorted({docstring.document for docstring in found})
    chosen = np.random.default_rng(0).permutation(len(texts))[: INSERTED + REPLACED]
    return np.asarray(embed([texts[at] for at in chosen.tolist()], WORDLLAMA), dtype=np.float32)


def _seconds(vectors: NDArray[np.float32]) -> tuple[float, float]:
    first, second = vectors[:INSERTED], vectors[INSERTED:]
    ids = [f"row-{number}" for number in range(len(first))]
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name, opened(Path(name), flush_at=10**9) as collection:

        def seconds(write: Callable[[], object]) -> float:
            started = time.perf_counter()
            write()
            collection.count()
            return time.perf_counter() - started

        return (
            seconds(lambda: collection.add(ids=ids, embeddings=first)),
            seconds(lambda: collection.update(ids=ids[: len(second)], embeddings=second)),
        )
