"""Measure records a second from the first PUT to the last snapshot, over rounds that follow each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from benchmarks import job
from benchmarks.report import Row
from benchmarks.workload import Load, Records, records
from chromadb_compaction.local.home import StackHome

ROUNDS: Final = 10


def sustained_rows(home: StackHome, load: Load) -> Iterator[Row]:
    """Write a round of new records and compact it, ten times, so that the base grows to ten rounds."""
    services = job.deployed(home, "sustained")
    job.warm_up(services)
    part = f"{ROUNDS} rounds of {load.records:,} records"
    prepared = [list(_round(load, number)) for number in range(ROUNDS)]
    started = time.perf_counter()
    seconds = []
    for deltas in prepared:
        begun = time.perf_counter()
        job.produce(services, deltas)
        job.compact(services)
        seconds.append(time.perf_counter() - begun)
    total = time.perf_counter() - started
    yield Row(part=part, what="PUT to published", value=ROUNDS * load.records / total, unit="records/s")
    yield Row(part=part, what="the last round", value=load.records / seconds[-1], unit="records/s")


def _round(load: Load, number: int) -> Iterator[Records]:
    for delta in range(load.deltas):
        ids = [f"{number}-{delta}-{row}" for row in range(load.rows)]
        yield records(load.dimension, seed=1000 * number + delta, ids=ids)
