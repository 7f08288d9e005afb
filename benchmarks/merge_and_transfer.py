"""Measure the work around the fold, each part in a new process: `python -m benchmarks.merge_and_transfer`.

The parts are merging one batch of deltas of several sizes, and transferring files to the bucket and back. Seconds are
wall and CPU time. Memory is the kernel's high-water mark, which counts every page, those of files included.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import job
from benchmarks.child import run_child
from benchmarks.memory import peak_mebibytes
from benchmarks.report import Row
from benchmarks.workload import Load, first_round
from chromadb_compaction.aws import clients
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.messages import DownloadSnapshotRequest, ListDeltasRequest, MergeBatchRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import MEBIBYTE, Settings
from chromadb_compaction.steps.download_snapshot import download_snapshot
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.merge_batch import merge_batch

Work = dict[str, Callable[[], object]]
"""The functions to measure, by name."""

MERGES = {"one-row": Load(100, 1, 384), "usual": Load(20, 500, 384), "largest": Load(100, 2000, 384)}
MERGE_MEBIBYTES = 400e6 / MEBIBYTE
FILES_MEBIBYTES = (128, 64, 16, 1)
MEMORY = "peak memory"
ONE_BATCH = 2**40
EXECUTION = "arn:aws:states:eu-west-1:000000000000:execution:benchmark:merges"


def part_rows(home: StackHome) -> Iterator[Row]:
    """Measure every part on the local stack."""
    for name, load in MERGES.items():
        services = job.deployed(home, name)
        requests = plan_merges(services, load)
        part = f"merge {load.deltas} deltas of {load.rows} rows"
        yield from _measured(part, "merge", services.settings, requests, limit=MERGE_MEBIBYTES)
    settings = job.deployed(home, "transfer").settings
    yield from _measured(f"transfer files of {FILES_MEBIBYTES} MiB", "transfer", settings, list(FILES_MEBIBYTES))


def plan_merges(services: Services, load: Load) -> list[str]:
    """Write the load's deltas, and return the requests that merge them in the fewest batches."""
    job.produce(services, first_round(load))
    services = services._replace(settings=services.settings.model_copy(update={"max_pass_bytes": ONE_BATCH}))
    services.leases.acquire(services.settings.lock_id, EXECUTION, now=time.time(), seconds=3600)
    listing = list_deltas(ListDeltasRequest(execution=EXECUTION, previous_pass=0), services)
    download = DownloadSnapshotRequest(execution=EXECUTION, pass_number=1, base=listing.base, batches=listing.batches)
    download_snapshot(download, services)
    requests = [MergeBatchRequest(execution=EXECUTION, pass_number=1, batch=batch) for batch in listing.batches]
    return [request.model_dump_json() for request in requests]


def merge(services: Services, requests: list[str]) -> Work:
    """Return the function that merges all batches, one after the other."""
    return {"merge": lambda: [merge_batch(MergeBatchRequest.model_validate_json(each), services) for each in requests]}


def transfer(services: Services, sizes: list[int]) -> Work:
    """Write random files of these sizes in MiB, and return the functions that upload and download them all at once."""
    directory = Path(services.settings.chromadb_cache_dir)
    files = {f"transfer/{size}": directory / str(size) for size in sizes}
    for size, file in zip(sizes, files.values(), strict=True):
        file.write_bytes(os.urandom(size * MEBIBYTE))
    return {
        "upload": lambda: in_threads(lambda key: services.objects.upload(files[key], key), files),
        "download": lambda: in_threads(lambda key: services.objects.download(key, files[key]), files),
    }


def _measured(part: str, kind: str, settings: Settings, work: object, *, limit: float | None = None) -> Iterator[Row]:
    measured = run_child("benchmarks.merge_and_transfer", kind, settings.model_dump_json(), json.dumps(work))
    for what, value in measured.items():
        if what == MEMORY:
            yield Row(part=part, what=what, value=value, unit="MiB", limit=limit)
        else:
            yield Row(part=part, what=what, value=value, unit="s")


def _measure(kind: str, settings: str, work: str) -> dict[str, float]:
    """Do one part in this process, and return its seconds and its peak memory in MiB."""
    measured: dict[str, float] = {}
    with TemporaryDirectory(prefix="chromadb-benchmark-") as directory:
        local = Settings.model_validate_json(settings).model_copy(update={"chromadb_cache_dir": directory})
        parts: dict[str, Callable[[Services, Any], Work]] = {"merge": merge, "transfer": transfer}
        for what, do in parts[kind](clients.connect(local), json.loads(work)).items():
            clock, processor = time.perf_counter(), time.process_time()
            do()
            measured[what] = time.perf_counter() - clock
            measured[f"{what}, processor"] = time.process_time() - processor
    return measured | {MEMORY: peak_mebibytes()}


def main() -> None:
    """Print one line for each measurement."""
    with job.local_server() as home:
        for row in part_rows(home):
            limit = {None: "", True: "within the limit", False: "OVER THE LIMIT"}[row.within_limits]
            sys.stdout.write(f"{row.part:40} {row.what:22} {row.value:8.2f} {row.unit:3} {limit}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(_measure(*sys.argv[1:])))
    else:
        main()
