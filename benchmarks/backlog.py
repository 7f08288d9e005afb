"""Measure the time and the memory to drain a backlog of very many deltas of one row each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks import job
from benchmarks.memory import processor_seconds, watched_workers
from benchmarks.merge_and_transfer import MERGE_MEBIBYTES, plan_merges
from benchmarks.report import Reference, Row, memory_rows
from benchmarks.workload import Load, Records, first_round
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.messages import MergeBatchRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import MERGES_AT_ONCE
from chromadb_compaction.steps.merge_batch import merge_batch

LIMIT = 1.5
"""The most time, as a ratio to one bulk upsert of as many rows."""
MEBIBYTES = 600
"""The most memory of any function except MergeBatch, which has its own limit."""
WRITERS = 8


def backlog_rows(home: StackHome, load: Load, bulk_seconds: float, count: int) -> Iterator[Row]:
    """Measure `count` deltas of one row, and compare with a bulk upsert of as many rows if one was measured.

    The functions of one execution share this machine's cores with each other and with the emulated S3. So a batch
    that has the cores for itself is also measured. "if each were alone" is computed from its time and the fold's.
    """
    services = job.deployed(home, "backlog")
    job.warm_up(services, merges=MERGES_AT_ONCE)
    with watched_workers("-backlog") as peaks:
        seconds = _drain(services, first_round(Load(WRITERS, -(-count // WRITERS), load.dimension)))
    size = min(count, services.settings.compaction_batch_size)
    seconds["a batch alone"] = _alone(job.deployed(home, "batch"), Load(size, 1, load.dimension))
    rounds = -(-count // (size * MERGES_AT_ONCE))
    seconds["if each were alone"] = rounds * seconds["a batch alone"] + seconds["fold"]
    limits = {"merge and fold": LIMIT, "if each were alone": None} if count == load.records else {}
    for what, value in seconds.items():
        bulk = [Reference(name="bulk", value=bulk_seconds, limit=limits[what])] if what in limits else []
        yield Row(part=f"{count:,} pending", what=what, value=value, unit="s", references=bulk)
    merge = {name: peak for name, peak in peaks.items() if name == "merge-batch"}
    rest = {name: peak for name, peak in peaks.items() if name not in merge}
    yield from memory_rows("  peak memory", merge, limit=MERGE_MEBIBYTES)
    yield from memory_rows("  peak memory", rest, limit=MEBIBYTES)


def _drain(services: Services, deltas: Iterable[Records]) -> dict[str, float]:
    """Write each row as a delta, drain them all in one execution, and return the seconds of its phases.

    "GETs alone" is the time to read all of them from this process: the least that the emulated S3 needs. "processor"
    is the CPU time of the functions only, without that of the emulated services on the same cores.
    """
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda records: job.produce(services, _single_rows(records)), deltas))
    keys = [info.key for info in services.objects.list(services.settings.delta_prefix)]
    started = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(services.objects.get, keys):
            pass
    alone = time.perf_counter() - started
    before = processor_seconds("-backlog")
    timeline = job.compact(services)
    phases = job.phases(timeline)
    processor = {name: seconds - before.get(name, 0.0) for name, seconds in processor_seconds("-backlog").items()}
    left = next(iter(services.objects.list(services.settings.delta_prefix)), None)
    if left is not None:
        raise RuntimeError(f"the backlog did not drain: {left.key} is still pending")
    reported = ("merge batch", "fold", "merge and fold", "execution")
    return {
        "GETs alone": alone,
        "merge batch, processor": processor["merge-batch"],
        **{phase: phases[phase] for phase in reported},
        "clean up": job.seconds_of(timeline, "CleanUp"),
        "clean up, processor": processor["clean-up"],
    }


def _alone(services: Services, load: Load) -> float:
    """Return the seconds to merge one batch a second time, with no other work on this machine."""
    [request] = [MergeBatchRequest.model_validate_json(each) for each in plan_merges(services, load)]
    merge_batch(request, services)
    started = time.perf_counter()
    merge_batch(request, services)
    return time.perf_counter() - started


def _single_rows(records: Records) -> Iterator[Records]:
    for row in range(len(records.ids)):
        only = slice(row, row + 1)
        yield Records(records.ids[only], records.embeddings[only], records.documents[only], records.metadatas[only])
