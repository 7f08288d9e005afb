"""Measure fresh reads: how soon another process finds a write, and what pending rows cost a query.

Readers run in new processes: `python -m benchmarks.fresh`. Every number is of a read that joins the published snapshot
with the pending deltas.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import chromadb

from benchmarks import job
from benchmarks.child import run_child, say, say_when_found, seconds_until_seen
from benchmarks.lance import lance_rows
from benchmarks.memory import peak_mebibytes
from benchmarks.report import Reference, Row
from benchmarks.workload import COLLECTION, QUERIES, WRITES, Load, Records, a_query, records
from chromadb_compaction.aws import clients
from chromadb_compaction.chroma.client import Collection
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.client.chroma_client import Client
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.pending.filtering import PendingFilter
from chromadb_compaction.pending.known import KnownDeltas
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.pending.selection import Published, select
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.run_rows import LEDGER_SCHEMA
from chromadb_compaction.settings import load_settings
from tests.e2e.chroma_server import chroma_server

PENDING = (0, 1_000, 10_000)
PENDING_PER_DELTA = 500
BUILT_ROWS = 2_000
SECONDS_WITH_REFRESH = 1.5
SECONDS_WITHOUT_REFRESH = 0.2
QUERY_RATIO = 2.0
BUILD_SECONDS = 0.15


def fresh_rows(home: StackHome, load: Load) -> Iterator[Row]:
    """Yield the measurements, on a published collection of `load`'s records."""
    services = job.deployed(home, "fresh")
    job.produce(services, [records(load.dimension, seed=0, ids=[str(n) for n in range(load.records)])])
    job.compact(services)
    yield from _visibility(services, load)
    job.compact(services)
    yield from _queries(services, load)
    yield from lance_rows(load)
    yield _building(services, load)


def _row(part: str, what: str, seconds: float, *, limit: float | None = None) -> Row:
    return Row(part=part, what=what, value=seconds * 1000, unit="ms", limit=None if limit is None else limit * 1000)


def _visibility(services: Services, load: Load) -> Iterator[Row]:
    for refresh, limit in ((1.0, SECONDS_WITH_REFRESH), (0.0, SECONDS_WITHOUT_REFRESH)):
        seconds = _seconds_until_seen(services, load, refresh)
        part = f"write to first answer, refresh {refresh:.0f} s"
        yield _row(part, "p50", median(seconds))
        yield _row(part, "p95", quantiles(seconds, n=20)[-1], limit=limit)


def _seconds_until_seen(services: Services, load: Load, refresh: float) -> list[float]:
    """Write WRITES records one by one. Return the seconds from each call of `upsert` to another process's answer."""
    environment = _environment(services, READ_REFRESH_SECONDS=refresh)
    name = f"refresh-{refresh:.0f}"
    with Client(services=services) as client:
        collection = client.get_collection(COLLECTION, embedding_function=None)

        def write(number: int) -> None:
            collection.upsert(**records(load.dimension, seed=number, ids=[f"{name}-{number}"])._asdict())

        return seconds_until_seen(WRITES, write, "benchmarks.fresh", "watch", environment, name)


def _environment(services: Services, **changed: float) -> str:
    return json.dumps(job.environment_of(services) | {name: str(value) for name, value in changed.items()})


def _queries(services: Services, load: Load) -> Iterator[Row]:
    """Yield the median time of a query and the memory of its process, with more and more pending rows."""
    written, without = 0, 0.0
    for pending in PENDING:
        deltas = range(written // PENDING_PER_DELTA, pending // PENDING_PER_DELTA)
        job.produce(services, (_pending_records(load, number) for number in deltas))
        written = pending
        measured = run_child("benchmarks.fresh", "query", _environment(services), json.dumps(load))
        if measured["pending_rows"] != pending:
            raise RuntimeError(f"{measured['pending_rows']} pending rows were applied, not {pending}")
        part = f"query, {pending:,} pending rows"
        without = without or measured["seconds"]
        limit = QUERY_RATIO if pending == PENDING[1] else None
        ratio = [Reference(name="without", value=without * 1000, limit=limit)] if pending else []
        yield Row(part=part, what="p50", value=measured["seconds"] * 1000, unit="ms", references=ratio)
        yield _row(part, "opening", measured["opening"])
        yield Row(part=part, what="peak memory", value=measured["mebibytes"], unit="MiB")
    with TemporaryDirectory() as directory:
        yield _row("query, chroma run over HTTP", "p50", _over_http(Path(directory), load))


def _pending_records(load: Load, number: int) -> Records:
    """Return one delta: half updates of published records, as far as there are any, and half new records."""
    half = PENDING_PER_DELTA // 2
    numbers = range(number * half, (number + 1) * half)
    updates = [str(n) if n < load.records else f"other-{n}" for n in numbers]
    return records(load.dimension, seed=1000 + number, ids=[*updates, *[f"new-{n}" for n in numbers]])


def _over_http(directory: Path, load: Load) -> float:
    """Return the median time of the same query to ChromaDB's own server with the same records, by its HttpClient."""
    with chroma_server(directory) as server:
        address = urlsplit(server.url)
        client = chromadb.HttpClient(host=str(address.hostname), port=int(address.port or 0))
        collection = client.create_collection(COLLECTION, embedding_function=None)
        everything = records(load.dimension, seed=0, ids=[str(n) for n in range(load.records)])
        for start in range(0, load.records, 1000):
            part = slice(start, start + 1000)
            collection.upsert(**{name: value[part] for name, value in everything._asdict().items()})
        return _median_of_queries(collection, load)


def _median_of_queries(collection: Collection, load: Load) -> float:
    seconds = []
    for _ in range(QUERIES):
        started = time.perf_counter()
        collection.query(query_embeddings=a_query(load), n_results=10)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _building(services: Services, load: Load) -> Row:
    """Measure what a reader does with BUILT_ROWS pending rows after they were fetched and parsed."""
    name = "built"
    new = [records(load.dimension, seed=n, ids=[f"{n}-{row}" for row in range(500)]) for n in range(BUILT_ROWS // 500)]
    with Client(services=services) as client:
        made = client.create_collection(name, embedding_function=None)
        for each in new:
            made.upsert(**each._asdict())
    listed = list(services.objects.list(f"{services.settings.delta_prefix}{name}/"))
    published = Published(name, None, None, LEDGER_SCHEMA.empty_table)
    selection = select(listed, published, KnownDeltas(), services)
    seconds = []
    for _ in range(5):
        pending = PendingFilter()
        started = time.perf_counter()
        overlay = Overlay(selection, published)
        pending.passing(overlay.live, Filters(), services)
        seconds.append(time.perf_counter() - started)
        pending.close()
    return _row(f"overlay of {BUILT_ROWS:,} rows", "build", median(seconds), limit=BUILD_SECONDS)


def watch(name: str) -> None:
    """Print the time at which each of WRITES records was found first, in Unix seconds. `name` begins their ids."""
    with Client() as client:
        collection = client.get_collection(COLLECTION, embedding_function=None)
        collection.get(ids=["0"])
        say_when_found(WRITES, lambda number: bool(collection.get(ids=[f"{name}-{number}"], include=[])["ids"]))


def query(load: Load) -> Mapping[str, float]:
    """Return the seconds to the first answer and of the median query, the peak memory and the pending rows applied."""
    started = time.perf_counter()
    with Client() as client:
        collection = client.get_collection(COLLECTION, embedding_function=None)
        collection.query(query_embeddings=a_query(load), n_results=10)
        opening = time.perf_counter() - started
        seconds = _median_of_queries(collection, load)
        return {
            "opening": opening,
            "seconds": seconds,
            "mebibytes": peak_mebibytes(),
            "pending_rows": _pending_rows(),
        }


def _pending_rows() -> int:
    reader = FreshReader()
    with reader.reading(clients.connect(load_settings()), COLLECTION) as found:
        return found.pending_rows


if __name__ == "__main__":
    what, environment, *rest = sys.argv[1:]
    os.environ.update(json.loads(environment))
    if what == "watch":
        watch(rest[0])
    else:
        say(query(Load(*json.loads(rest[0]))))
