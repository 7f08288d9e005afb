"""Measure one collection that is too large for one function: its first fold in partitions, later passes, searches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks import job
from benchmarks.memory import peak_mebibytes, processor_seconds, watched_workers
from benchmarks.report import Row, memory_rows
from benchmarks.workload import COLLECTION, QUERIES, records, vectors_like_those_of_texts
from chromadb_compaction.cli.executions.timeline import Timeline
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.messages import FoldedItem, PublishedSnapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.reader import SnapshotReader

RECORDS: Final = 1_000_000
DELTA_ROWS: Final = 2000
PASS_ROWS: Final = 1000
NEIGHBOURS: Final = 10
MOST_MEBIBYTES: Final = 3 * 1024
"""The memory of the compactor's functions: infra/task_lambdas.py."""
STACK: Final = "large"


def large_collection(home: StackHome, count: int, dimension: int) -> Iterator[Row]:
    """Measure `count` records that arrive at once, and a thousand more with ids that ascend, and with random ids."""
    services = job.deployed(home, STACK)
    job.warm_up(services)
    part = f"{count:,} records in one collection"
    begun = time.perf_counter()
    _write(services, [f"{number:09d}" for number in range(count)], dimension)
    yield Row(part=part, what="put", value=time.perf_counter() - begun, unit="s")
    yield from _execution(services, part)
    partitions = _described(services).directories
    yield Row(part=part, what="partitions", value=len(partitions), unit="directories")
    yield Row(part=part, what="largest partition", value=max(each.records for each in partitions), unit="records")
    yield from _searches(services, part, count, dimension)
    rng = np.random.default_rng(5)
    for what, ids in (
        ("ascending ids", [f"{count + number:09d}" for number in range(PASS_ROWS)]),
        ("random ids", [f"{number:09d}-new" for number in rng.choice(count, PASS_ROWS, replace=False)]),
    ):
        part = f"{PASS_ROWS:,} rows more, {what}"
        _write(services, ids, dimension)
        yield from _execution(services, part)


def _write(services: Services, ids: list[str], dimension: int) -> None:
    with DeltaWriter(services.settings, objects=services.objects, queue=services.queue) as writer:
        for start in range(0, len(ids), DELTA_ROWS):
            rows = records(dimension, seed=start, ids=ids[start : start + DELTA_ROWS])
            writer.upsert(COLLECTION, rows.ids, rows.embeddings, rows.documents, rows.metadatas)
            writer.flush()


def _execution(services: Services, part: str) -> Iterator[Row]:
    before = processor_seconds(f"-{STACK}")
    with watched_workers(f"-{STACK}") as peaks:
        timeline = job.compact(services)
    seconds = job.phases(timeline)
    folded = _folded(timeline)
    yield Row(part=part, what="merge batch", value=seconds["merge batch"], unit="s")
    yield Row(part=part, what="execution", value=seconds["execution"], unit="s")
    if folded:
        each = [item.seconds / item.folds for item in folded if item.folds]
        yield Row(part=part, what="a fold elsewhere", value=median(each), unit="s", repeated=each)
    used = {name: after - before.get(name, 0.0) for name, after in processor_seconds(f"-{STACK}").items()}
    yield Row(part=part, what="processor, all functions", value=sum(used.values()), unit="s")
    written = sum(item.bytes_uploaded for item in folded) or _uploaded(timeline)
    yield Row(part=part, what="written to snapshot/", value=written / 1e6, unit="MB")
    yield Row(part=part, what="the whole collection", value=_described(services).bytes / 1e6, unit="MB")
    functions = {name: peak for name, peak in peaks.items() if name in {"compactor", "fold-partitions", "merge-batch"}}
    yield from memory_rows(f"{part}, peak memory", functions, limit=MOST_MEBIBYTES)


def _folded(timeline: Timeline) -> list[FoldedItem]:
    return [FoldedItem.model_validate(each) for each in timeline.outputs.get("FoldPartition", [])]


def _uploaded(timeline: Timeline) -> int:
    uploads = [PublishedSnapshot.model_validate(each["snapshot"]) for each in timeline.outputs["UploadSnapshot"]]
    return sum(upload.bytes_uploaded for upload in uploads)


def _described(services: Services) -> CollectionSnapshot:
    current = read_pointer(services)
    if current is None:
        raise RuntimeError("nothing was published")
    return read_manifest(services, current.pointer).collection(COLLECTION)


def _searches(services: Services, part: str, count: int, dimension: int) -> Iterator[Row]:
    """Measure the first answer, the recall against exact search, and the median time of a query."""
    queries = vectors_like_those_of_texts(np.random.default_rng(1_000_000), QUERIES, dimension)
    reader = SnapshotReader()
    begun = time.perf_counter()
    found: list[list[str]] = []
    seconds: list[float] = []
    try:
        for query in queries:
            asked = time.perf_counter()
            with reader.reading(services, COLLECTION) as readable:
                if readable.collection is None:
                    raise RuntimeError("the collection has no records")
                vectors = cast("Any", query[None])
                answer = readable.collection.query(
                    query_embeddings=vectors, n_results=NEIGHBOURS, include=["distances"]
                )
            found.append(answer["ids"][0])
            if not seconds:
                yield Row(part=part, what="first answer", value=time.perf_counter() - begun, unit="s")
            seconds.append(time.perf_counter() - asked)
        yield Row(part=part, what="query p50", value=1000 * median(seconds[1:]), unit="ms")
        yield Row(part=part, what="query, peak memory", value=peak_mebibytes(), unit="MiB")
    finally:
        reader.close()
    exact = _exact(queries, count, dimension)
    hits = sum(len(set(ids) & nearest) for ids, nearest in zip(found, exact, strict=True))
    yield Row(part=part, what="recall at 10", value=hits / (QUERIES * NEIGHBOURS), unit="")


def _exact(queries: NDArray[np.float32], count: int, dimension: int) -> list[set[str]]:
    """Return the ids of each query's nearest records: those of the greatest products, as vectors have length 1."""
    best: list[list[tuple[float, str]]] = [[] for _ in queries]
    for start in range(0, count, DELTA_ROWS):
        ids = [f"{number:09d}" for number in range(start, min(start + DELTA_ROWS, count))]
        products = queries @ records(dimension, seed=start, ids=ids).embeddings.T
        for known, row in zip(best, products, strict=True):
            known.extend((float(row[at]), ids[at]) for at in np.argpartition(-row, NEIGHBOURS)[:NEIGHBOURS])
            known.sort(reverse=True)
            del known[NEIGHBOURS:]
    return [{name for _, name in known} for known in best]
