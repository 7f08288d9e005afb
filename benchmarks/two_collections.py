"""Two collections folded at once, beside one after the other: `python -m benchmarks.two_collections`, without AWS."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.folds import write_run
from benchmarks.loaders import REPETITIONS
from benchmarks.report import Row
from benchmarks.workload import Load, first_round
from chromadb_compaction.steps.fold import FoldRequest
from chromadb_compaction.steps.fold_all import fold_all
from infra.environment import ALLOCATORS

WAYS = {"one after the other": 1, "at once": 2}


def two_collection_rows(load: Load) -> Iterator[Row]:
    """Measure folds of one run each into two empty collections, verifying included."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        run = write_run(Path(name, "run"), first_round(load))
        repeated = [
            {way: _measure(run, load.dimension, at_once) for way, at_once in WAYS.items()} for _ in range(REPETITIONS)
        ]
    for way in WAYS:
        yield Row(part="two collections", what=way, value=median(each[way] for each in repeated), unit="s")


def _measure(run: Path, dimension: int, at_once: int) -> float:
    command = [sys.executable, "-m", "benchmarks.two_collections", str(run), str(dimension), str(at_once)]
    ended = subprocess.run(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent, env={**os.environ, **ALLOCATORS}
    )
    return float(ended.stdout)


def main(run: Path, dimension: int, at_once: int) -> float:
    """Fold the run into two collections that are not there yet, and return the seconds."""
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
        fold_all(requests, at_once=at_once)
        return time.perf_counter() - started


if __name__ == "__main__":
    _run, _dimension, _at_once = sys.argv[1:]
    sys.stdout.write(str(main(Path(_run), int(_dimension), int(_at_once))))
