"""Measure one fold in a new process: `python -m benchmarks.folds`. Runs and bases are local files, without AWS.

A run is made from Parquet deltas, as MergeBatch does. The new process reads the run, the ledger and a scratch copy of
the base, as UploadSnapshot does after its downloads.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

import pyarrow as pa

from benchmarks.child import run_child
from benchmarks.memory import peak_mebibytes
from benchmarks.workload import COLLECTION, Records
from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.client import load
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.chroma.page_size import DEFAULT_PAGES
from chromadb_compaction.client.row_buffer import upserts_of
from chromadb_compaction.deltas.formats import read_delta, write_delta
from chromadb_compaction.deltas.header import DeltaHeader
from chromadb_compaction.fold.fold import FoldRequest, fold_collection
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.runs import RunWriter, run_dimension
from infra.environment import ALLOCATORS

LoaderName = Literal["default", "api", "small pages"]
"""The loader: choose_loader's choice, ChromaDB's API, or the bulk loader with ChromaDB's page size."""
LOADERS: dict[LoaderName, Loader | None] = {
    "default": None,
    "api": ApiLoader(),
    "small pages": BulkLoader(page_sizes=[DEFAULT_PAGES]),
}
EPOCH_MILLISECONDS = 1_700_000_000_000
_VERSION_7 = 0x7 << 76 | 0x2 << 62
_NO_LIMIT = 2**40


class MeasuredFold(NamedTuple):
    """One fold's wall seconds and processor seconds, its process's peak MiB, and the bytes of the folded directory.

    `indexing` are the processor seconds of the threads in which ChromaDB builds the index. They need Linux.
    """

    seconds: float
    processor: float
    phases: dict[str, float]
    peak_mebibytes: float
    bytes: int
    indexing: float = 0.0

    @property
    def unverified(self) -> float:
        """The seconds without verification, which no reference does."""
        return self.seconds - self.phases.get("verify", 0)


def write_run(path: Path, deltas: Iterable[Records], *, first: int = 0) -> Path:
    """Write the run that MergeBatch makes of the deltas. They are numbered from `first`; a greater number is newer."""
    run = newest(_rows(number, records) for number, records in enumerate(deltas, first))
    with RunWriter(path, run_dimension(run)) as writer:
        writer.write(run)
    return path


def _rows(number: int, records: Records) -> pa.Table:
    delta_id = UUID(int=(EPOCH_MILLISECONDS + number) << 80 | _VERSION_7)
    body = write_delta(upserts_of(*records), DeltaHeader())
    key = f"delta/{COLLECTION}/{delta_id}.parquet"
    return read_delta(key, body, now=EPOCH_MILLISECONDS / 1000 + 86_400, max_bytes=_NO_LIMIT).table


def measure(
    target: Path,
    run: Path,
    dimension: int,
    *,
    base: Path | None = None,
    loader: LoaderName = "default",
    threads: int | None = None,
) -> MeasuredFold:
    """Fold a run into a copy of the collection at `base`, or into an empty one, and leave the result at `target`.

    `threads` is the number of threads in which ChromaDB builds the index. None: one for each core.
    """
    shutil.rmtree(target, ignore_errors=True)
    if base is not None:
        shutil.copytree(base, target)
    target.mkdir(exist_ok=True)
    arguments = str(target), str(run), str(dimension), loader
    # ChromaDB builds its index with rayon.
    environment = dict(ALLOCATORS) if threads is None else {**ALLOCATORS, "RAYON_NUM_THREADS": str(threads)}
    return MeasuredFold(**run_child("benchmarks.folds", *arguments, environment=environment))


def main(target: Path, run: Path, dimension: int, loader: LoaderName) -> MeasuredFold:
    """Fold and return the measurements. The collection is `target`/chroma, with the ledger beside it."""
    ledger = target / "ledger.parquet"
    request = FoldRequest(
        collection=COLLECTION,
        dimension=dimension,
        space="l2",
        directory=target / "chroma",
        ledger=ledger if ledger.exists() else None,
        runs=[run],
        next_ledger=target / "next.parquet",
    )
    load()
    started, processor = time.perf_counter(), time.process_time()
    result = fold_collection(request, loader=LOADERS[loader])
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    request.next_ledger.replace(ledger)
    size = sum(path.stat().st_size for path in request.directory.rglob("*") if path.is_file())
    return MeasuredFold(seconds, processor, result.seconds, peak_mebibytes(), size, _other_threads())


def _other_threads() -> float:
    """Return the processor seconds of the threads beside this one: after a fold, only those of the index are left."""
    ticks = 0
    for stat in Path("/proc/self/task").glob("*/stat"):
        if stat.parent.name != str(os.getpid()):
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    _target, _run, _dimension, _name = sys.argv[1:]
    measured: dict[str, Any] = main(Path(_target), Path(_run), int(_dimension), cast("LoaderName", _name))._asdict()
    sys.stdout.write(json.dumps(measured))
