"""One fold, measured in a process of its own: `python -m benchmarks.folds`. No AWS: runs and bases are files.

A run is made as MergeBatch makes it, from Parquet deltas. The process that folds reads the run, the ledger and a
scratch copy of the base, as UploadSnapshot does after its downloads.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args
from uuid import UUID

import pyarrow as pa

from benchmarks.child import run_child
from benchmarks.memory import peak_mebibytes
from benchmarks.workload import COLLECTION, Records
from chromadb_compaction.chroma.bulk_loader import BulkLoader
from chromadb_compaction.chroma.loader import ApiLoader, Loader
from chromadb_compaction.deltas.formats import DeltaHeader, read_delta, write_delta
from chromadb_compaction.deltas.row_buffer import upserts_of
from chromadb_compaction.fold.fold import FoldRequest, fold_collection
from chromadb_compaction.rows.merging import newest
from chromadb_compaction.rows.runs import RunWriter, run_dimension
from infra.environment import ALLOCATORS

LoaderName = Literal["default", "api", "in place", "anew"]
"""Which loader folds: the one that is chosen, ChromaDB's API, or the bulk loader without a choice for the index."""
EPOCH_MILLISECONDS = 1_700_000_000_000
_VERSION_7 = 0x7 << 76 | 0x2 << 62
_NO_LIMIT = 2**40


class Fold(NamedTuple):
    """What one fold took: wall and CPU seconds, peak MiB of the process, and the bytes of the directory it left."""

    loader: str | None
    seconds: float
    cpu: float
    phases: dict[str, float]
    peak_mebibytes: float
    bytes: int

    @property
    def unverified(self) -> float:
        """Seconds without reading everything back, which no reference does."""
        return self.seconds - self.phases.get("verify", 0)


def write_run(path: Path, deltas: Iterable[Records], *, first: int = 0) -> Path:
    """Write the run that MergeBatch makes of the deltas; `first` numbers them, the later the newer."""
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
    place: Path, run: Path, dimension: int, *, base: Path | None = None, loader: LoaderName = "default"
) -> Fold:
    """Fold a run into a copy of the collection at `base` (None: into nothing), which then stands at `place`."""
    shutil.rmtree(place, ignore_errors=True)
    if base is not None:
        shutil.copytree(base, place)
    place.mkdir(exist_ok=True)
    arguments = str(place), str(run), str(dimension), loader
    return Fold(**run_child("benchmarks.folds", *arguments, environment=ALLOCATORS))


def main(place: Path, run: Path, dimension: int, loader: LoaderName) -> Fold:
    """Fold, and return what it took. The collection is `place`/chroma, its ledger beside it."""
    ledger = place / "ledger.parquet"
    request = FoldRequest(
        collection=COLLECTION,
        dimension=dimension,
        space="l2",
        directory=place / "chroma",
        ledger=ledger if ledger.exists() else None,
        runs=[run],
        next_ledger=place / "next.parquet",
    )
    started, cpu = time.perf_counter(), time.process_time()
    result = fold_collection(request, loader=_loader(loader))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    request.next_ledger.replace(ledger)
    held = sum(path.stat().st_size for path in request.directory.rglob("*") if path.is_file())
    return Fold(result.loader, seconds, cpu, result.seconds, peak_mebibytes(), held)


def _loader(name: LoaderName) -> Loader | None:
    loaders: dict[LoaderName, Loader | None] = {
        "default": None,
        "api": ApiLoader(),
        "in place": BulkLoader(rebuilds=lambda change: change.isolates),
        "anew": BulkLoader(rebuilds=lambda _: True),
    }
    return loaders[name]


def _argument(name: str) -> LoaderName:
    if name not in get_args(LoaderName):
        raise SystemExit(f"there is no loader {name!r}; there are {', '.join(get_args(LoaderName))}")
    return cast("LoaderName", name)


if __name__ == "__main__":
    _place, _run, _dimension, _name = sys.argv[1:]
    measured: dict[str, Any] = main(Path(_place), Path(_run), int(_dimension), _argument(_name))._asdict()
    sys.stdout.write(json.dumps(measured))
