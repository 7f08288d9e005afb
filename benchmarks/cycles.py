"""Measure how well records are found after many folds that each replace a few vectors, beside ChromaDB's API."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.folds import write_run
from benchmarks.report import Reference, Row
from benchmarks.workload import COLLECTION, Records
from chromadb_compaction.chroma.client import open_collection
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.configuration import Space
from chromadb_compaction.fold.fold import FoldRequest, fold_collection

RECORDS = 1500
DIMENSION = 32
CYCLES = 100
REPLACED = 45
"""The vectors that each fold replaces."""
NEIGHBOURS = 10
TOLERATED = RECORDS // 100
"""The most records that may be missed beyond those that the API misses, because an index differs from run to run."""
_LENGTHS = 0.5
"""The standard deviation of the logarithm of the vectors' lengths. l2 and ip suffer most when lengths vary."""


class Missed(NamedTuple):
    """The records that searches miss, of RECORDS.

    Attributes:
        out_of_reach: Those that a query for all records does not return: no link of the index leads to them.
        not_found: Those for which a query with their own vector lacks the nearest record among the first ten.
    """

    out_of_reach: int
    not_found: int


def cycle_rows() -> list[Row]:
    """Return the records missed after CYCLES folds, for each distance, beside those that the API loader leaves."""
    rows = []
    for space in get_args(Space):
        ours, api = (missed_after(CYCLES, space, loader) for loader in (None, ApiLoader()))
        for what, value, reference in zip(("out of reach", "not found"), ours, api, strict=True):
            rows.append(
                Row(
                    part=f"missed of {RECORDS:,} after {CYCLES} folds",
                    what=f"{what}, {space}",
                    value=value,
                    unit="records",
                    references=[Reference(name="api", value=reference)],
                    limit=reference + TOLERATED,
                )
            )
    return rows


def missed_after(cycles: int, space: Space, loader: Loader | None) -> Missed:
    """Fold RECORDS new records, then replace REPLACED of them `cycles` times. None: choose_loader's choice."""
    rng = np.random.default_rng(11)
    vectors = _vectors(rng, RECORDS)
    changed = np.arange(RECORDS)
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        directory = Path(name)
        request = FoldRequest(
            collection=COLLECTION,
            dimension=DIMENSION,
            space=space,
            directory=directory / "chroma",
            ledger=None,
            runs=[directory / "run"],
            next_ledger=directory / "ledger",
        )
        for cycle in range(cycles + 1):
            if cycle:
                changed = rng.choice(RECORDS, REPLACED, replace=False)
                vectors[changed] = _vectors(rng, REPLACED)
            write_run(request.runs[0], [_records(changed, vectors)], first=cycle)
            replaced = fold_collection(request, loader=loader).replaced_in_place
            request = request.model_copy(update={"ledger": request.next_ledger, "replaced_in_place": replaced})
        return _missed(request.directory, vectors, space)


def _missed(directory: Path, vectors: NDArray[np.float32], space: Space) -> Missed:
    lengths = np.linalg.norm(vectors, axis=1)
    scaled = vectors / lengths[:, None] if space == "cosine" else vectors
    # A greater score is nearer.
    scores = 2 * scaled @ scaled.T - np.square(lengths)[None] if space == "l2" else scaled @ scaled.T
    nearest = scores.argmax(axis=1)
    with open_collection(directory, COLLECTION) as collection:
        everything = collection.query(query_embeddings=vectors[:1], n_results=len(vectors), include=[])["ids"][0]
        found = collection.query(query_embeddings=vectors, n_results=NEIGHBOURS, include=[])["ids"]
    not_found = sum(_id(best) not in ids for best, ids in zip(nearest.tolist(), found, strict=True))
    return Missed(len(vectors) - len(everything), not_found)


def _vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    directions = rng.standard_normal((count, DIMENSION))
    lengths = np.exp(_LENGTHS * rng.standard_normal((count, 1)))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths, dtype=np.float32)


def _records(rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> Records:
    ids = [_id(row) for row in rows.tolist()]
    return Records(ids, vectors[rows], ["text"] * len(ids), [{"n": row} for row in rows.tolist()])


def _id(row: int) -> str:
    return f"row-{row:05d}"
