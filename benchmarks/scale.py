"""Measure very many small collections: the passes, the seconds and the objects of one execution over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks import job
from benchmarks.memory import watched_workers
from benchmarks.report import Row, memory_rows
from benchmarks.workload import records
from chromadb_compaction import layout
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.ports import Services

COLLECTIONS: Final = 5000
PASSES: Final = 3
"""The most passes of an execution over all collections."""
ROWS: Final = 5
"""The records of each delta."""
WRITERS: Final = 8
STACK: Final = "collections"


def many_collections(home: StackHome, count: int, dimension: int) -> Iterator[Row]:
    """Measure one execution over `count` new collections of one delta each, and one over as many that have a base."""
    services = job.deployed(home, STACK)
    job.warm_up(services)
    for name, seed in (("new", 0), ("with a base", 1)):
        part = f"{count:,} collections, {name}"
        _write(services, count, dimension, seed=seed)
        before = _objects(services)
        with watched_workers(f"-{STACK}") as peaks:
            timeline = job.compact(services)
        after = _objects(services)
        seconds = job.phases(timeline)
        # An UploadSnapshot that only plans the folds of other functions publishes nothing.
        passes = sum(each["snapshot"]["published"] for each in timeline.outputs["UploadSnapshot"])
        yield Row(part=part, what="passes", value=passes, unit="passes", limit=PASSES)
        yield Row(part=part, what="execution", value=seconds["execution"], unit="s")
        yield Row(part=part, what="seconds a collection", value=1000 * seconds["execution"] / count, unit="ms")
        objects, bytes_ = after[0] - before[0], after[1] - before[1]
        yield Row(part=part, what="objects a collection", value=objects / count, unit="objects")
        yield Row(part=part, what="bytes a collection", value=bytes_ / count / 1024, unit="KiB")
        yield from memory_rows(f"{part}, peak memory", {name: peaks[name] for name in ("compactor", "merge-batch")})


def _write(services: Services, count: int, dimension: int, *, seed: int) -> None:
    """Write one delta to each collection."""

    def write(numbers: range) -> None:
        with DeltaWriter(services.settings, objects=services.objects, queue=services.queue) as writer:
            for number in numbers:
                row = records(dimension, seed=1000 * number + seed, ids=[f"{seed}-{each}" for each in range(ROWS)])
                writer.upsert(f"user-{number:06d}", row.ids, row.embeddings, row.documents, row.metadatas)
                writer.flush()

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, [range(start, count, WRITERS) for start in range(WRITERS)]))


def _objects(services: Services) -> tuple[int, int]:
    """Return the number of the objects of all snapshots, and their bytes."""
    sizes = [info.bytes for info in services.objects.list(layout.SNAPSHOT_PREFIX)]
    return len(sizes), sum(sizes)
