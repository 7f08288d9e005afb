"""Measure two folds at once in two processes, and one after the other: the basis of CORES_PER_FOLD in fold/workers.py.

Each way runs in a new process: `python -m benchmarks.two_collections`. It does not use AWS.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.child import run_child
from benchmarks.folds import write_run
from benchmarks.loaders import REPETITIONS
from benchmarks.report import Row
from benchmarks.workload import Load, first_round
from chromadb_compaction.fold.fold import FoldRequest, fold_collection
from chromadb_compaction.fold.workers import fold_in_worker
from infra.environment import ALLOCATORS

WAYS = ("one after the other", "at once")


def two_collection_rows(load: Load) -> Iterator[Row]:
    """Measure folds of one run each into two empty collections, including verification."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        run = write_run(Path(name, "run"), first_round(load))
        repeated = [{way: _measure(run, load.dimension, way) for way in WAYS} for _ in range(REPETITIONS)]
    for way in WAYS:
        yield Row(part="two collections", what=way, value=median(each[way] for each in repeated), unit="s")


def _measure(run: Path, dimension: int, way: str) -> float:
    found = run_child("benchmarks.two_collections", str(run), str(dimension), way, environment=ALLOCATORS)
    return float(found["seconds"])


def main(run: Path, dimension: int, way: str) -> float:
    """Fold the run into two new collections, and return the seconds."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        requests = [
            FoldRequest(
                collection=collection,
                dimension=dimension,
                space="l2",
                directory=Path(name, collection, "chroma"),
                ledger=None,
                runs=[run],
                next_ledger=Path(name, collection, "next.parquet"),
            )
            for collection in ("first", "second")
        ]
        for request in requests:
            request.directory.parent.mkdir()
        started = time.perf_counter()
        if way == "at once":
            with ThreadPoolExecutor(len(requests)) as pool:
                list(pool.map(fold_in_worker, requests))
        else:
            for request in requests:
                fold_collection(request)
        return time.perf_counter() - started


if __name__ == "__main__":
    _run, _dimension, _way = sys.argv[1:]
    sys.stdout.write(json.dumps({"seconds": main(Path(_run), int(_dimension), _way)}))
