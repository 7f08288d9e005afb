"""Measure one collection that is too large for one function: its first fold in partitions, later passes, searches."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from benchmarks import job
from benchmarks.answers import Answers, answer_rows
from benchmarks.memory import processor_seconds, watched_workers
from benchmarks.on_lambda import Platform
from benchmarks.report import Row, memory_rows
from benchmarks.simulated import Measured, simulated_rows
from benchmarks.simulation import Rates
from benchmarks.workload import COLLECTION, LARGE_DELTA_ROWS, Records, large_records, records
from chromadb_compaction import layout
from chromadb_compaction.cli.executions.timeline import FOLDS, Timeline
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.manifest import CollectionSnapshot
from chromadb_compaction.messages import FoldedItem, PublishedSnapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import MEBIBYTE
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer
from chromadb_compaction.snapshots.space import PROGRAM_BYTES, space_of
from infra.task_lambdas import LONG_SECONDS

RECORDS: Final = 1_000_000
PASS_ROWS: Final = 1000
MOST_MEBIBYTES: Final = 3 * 1024
"""The memory of the compactor's functions: infra/task_lambdas.py."""
STACK: Final = "large"


class _Execution(NamedTuple):
    """One measured execution.

    Attributes:
        timeline: Its history.
        seconds: The seconds of each state, all visits together.
        processor: The processor seconds of each function.
        peaks: The peak memory of each function, in MiB.
    """

    timeline: Timeline
    seconds: dict[str, float]
    processor: dict[str, float]
    peaks: dict[str, float]

    @property
    def uploads(self) -> list[PublishedSnapshot]:
        """The results of UploadSnapshot."""
        return [PublishedSnapshot.model_validate(each["snapshot"]) for each in self.timeline.outputs["UploadSnapshot"]]

    @property
    def folded(self) -> list[FoldedItem]:
        """The results of the functions that folded beside it."""
        return [FoldedItem.model_validate(each) for each in self.timeline.outputs.get("FoldPartition", [])]

    @property
    def total(self) -> float:
        """The seconds from the beginning to the end."""
        return job.phases(self.timeline)["execution"]

    @property
    def folding(self) -> float:
        """The seconds in which anything was folded."""
        here = sum(upload.seconds.get(phase, 0.0) for upload in self.uploads for phase in ("fold", "upload"))
        return here + self.seconds.get(FOLDS, 0.0)

    @property
    def passes(self) -> int:
        """The number of passes that published."""
        return sum(upload.published for upload in self.uploads)


def large_collection(home: StackHome, exact: Answers, count: int, dimension: int) -> Iterator[Row]:
    """Measure `count` records that arrive at once, and a thousand more with ids that ascend, and with random ids.

    Then simulate the first execution with the cores of this machine, and larger collections on Lambda.
    """
    services = job.deployed(home, STACK)
    job.warm_up(services)
    part = f"{count:,} records in one collection"
    begun = time.perf_counter()
    _write(services, large_records(count, dimension))
    yield Row(part=part, what="put", value=time.perf_counter() - begun, unit="s")
    pending = list(services.objects.list(services.settings.delta_prefix))
    first = _execute(services)
    yield Row(part=part, what="passes", value=first.passes, unit="passes")
    yield from _rows(part, first, services)
    partitions = _described(services).directories
    needed = space_of(partitions)
    yield Row(part=part, what="partitions", value=len(partitions), unit="directories")
    yield Row(part=part, what="largest partition", value=max(each.records for each in partitions), unit="records")
    memory = (needed.memory + PROGRAM_BYTES) / MEBIBYTE
    yield Row(part=part, what="memory that a reader plans for it", value=memory, unit="MiB")
    yield from answer_rows(part, services, exact, dimension)
    sizes = {
        "delta_bytes": sum(info.bytes for info in pending) / count,
        "run_bytes": _run_bytes(services) / count,
        "record_bytes": _described(services).bytes / count,
        "memory_bytes": needed.memory / count,
    }
    rng = np.random.default_rng(5)
    passes = []
    for what, ids in (
        ("ascending ids", [f"{count + number:09d}" for number in range(PASS_ROWS)]),
        ("random ids", [f"{number:09d}-new" for number in rng.choice(count, PASS_ROWS, replace=False)]),
    ):
        part = f"{PASS_ROWS:,} rows more, {what}"
        _write(services, [records(dimension, seed=count, ids=ids)])
        passes.append(_execute(services))
        yield from _rows(part, passes[-1], services)
    small = passes[0]
    rates = Rates(
        merge=first.processor["merge-batch"] / count,
        clean_up=first.seconds["CleanUp"] / len(pending),
        fixed=small.total - small.folding - small.seconds["MergeBatches"] - small.seconds["CleanUp"],
        **sizes,
    )
    cores = os.cpu_count() or 1
    here = Platform(cores, 1, LONG_SECONDS, shutil.disk_usage(services.settings.chromadb_cache_dir).free)
    yield from simulated_rows(rates, here, Measured(count, LARGE_DELTA_ROWS, first.folding, first.total))


def _write(services: Services, deltas: Iterable[Records]) -> None:
    with DeltaWriter(services.settings, objects=services.objects, queue=services.queue) as writer:
        for rows in deltas:
            writer.upsert(COLLECTION, rows.ids, rows.embeddings, rows.documents, rows.metadatas)
            writer.flush()


def _execute(services: Services) -> _Execution:
    before = processor_seconds(f"-{STACK}")
    with watched_workers(f"-{STACK}") as peaks:
        timeline = job.compact(services)
    used = {name: after - before.get(name, 0.0) for name, after in processor_seconds(f"-{STACK}").items()}
    ended = max(visit.left for visit in timeline.visits if visit.left)
    seconds: dict[str, float] = {}
    for visit in timeline.visits:
        seconds[visit.name] = seconds.get(visit.name, 0.0) + visit.seconds(ended)
    return _Execution(timeline, seconds, used, peaks)


def _rows(part: str, execution: _Execution, services: Services) -> Iterator[Row]:
    folded = execution.folded
    yield Row(part=part, what="merge batch", value=execution.seconds["MergeBatches"], unit="s")
    yield Row(part=part, what="folds", value=execution.folding, unit="s")
    yield Row(part=part, what="execution", value=execution.total, unit="s")
    if folded:
        each = [item.seconds / item.folds for item in folded if item.folds]
        yield Row(part=part, what="a fold elsewhere", value=median(each), unit="s", repeated=each)
    yield Row(part=part, what="processor, all functions", value=sum(execution.processor.values()), unit="s")
    written = sum(item.bytes_uploaded for item in folded) or sum(each.bytes_uploaded for each in execution.uploads)
    yield Row(part=part, what="written to snapshot/", value=written / 1e6, unit="MB")
    yield Row(part=part, what="the whole collection", value=_described(services).bytes / 1e6, unit="MB")
    functions = {"compactor", "fold-partitions", "merge-batch"}
    peaks = {name: peak for name, peak in execution.peaks.items() if name in functions}
    yield from memory_rows(f"{part}, peak memory", peaks, limit=MOST_MEBIBYTES)


def _run_bytes(services: Services) -> int:
    runs = (info for info in services.objects.list(layout.WORK_PREFIX) if "/runs/" in info.key)
    return sum(info.bytes for info in runs if info.key.endswith(".parquet"))


def _described(services: Services) -> CollectionSnapshot:
    current = read_pointer(services)
    if current is None:
        raise RuntimeError("nothing was published")
    return read_manifest(services, current.pointer).collection(COLLECTION)
