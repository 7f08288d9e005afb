"""The simulated environment: one AWS in this process, and for each actor its own clients, clock and disk."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromadb_compaction import concurrency, heartbeat
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.chroma.client import CollectionSpec
from chromadb_compaction.chroma.export import rows as export
from chromadb_compaction.chroma.export.proof import Texts
from chromadb_compaction.chroma.export.records import Record
from chromadb_compaction.chroma.loader import Loaded
from chromadb_compaction.fold import fold, reshaping, run_files
from chromadb_compaction.fold.cost import FOLD_SECONDS, FoldLimits
from chromadb_compaction.pending import known
from chromadb_compaction.ports import Services
from chromadb_compaction.rows import runs
from chromadb_compaction.rows.id_ranges import IdRange
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.settings import Settings, load_settings
from chromadb_compaction.snapshots import open_copies, pruning
from chromadb_compaction.steps import download_snapshot, fold_partitions, merge_batch, upload_snapshot
from tests.fakes.aws.in_process import InProcessAws, Interceptor, Perform, carry_out
from tests.fakes.aws.protocol import Answer, Call

START = 1_760_000_000.0
ROWS_FILE = "rows.json"
LEASE_SECONDS = 900
MOST_RECORDS = 100
"""More records than a simulated collection has. Simulations with partitions divide below that."""
ENVIRONMENT = {
    "CHROMADB_BUCKET": "bucket",
    "DYNAMODB_TABLE": "table",
    "DELTA_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/queue",
    "DELTA_DLQ_URL": "https://sqs.eu-west-1.amazonaws.com/000000000000/dlq",
    "COMPACTION_BATCH_SIZE": "2",
    "SNAPSHOT_RETENTION_COUNT": "1",
    "SNAPSHOT_RETENTION_DAYS": "0.0001",
}


class VirtualClock:
    """Unix seconds that only the simulation advances. An actor's clock adds an error to it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Sandbox:
    """One Lambda sandbox or one person's computer: clients, a disk, and a clock with `clock_error` in seconds."""

    def __init__(self, environment: Environment, disk: Path) -> None:
        self.clock_error = 0.0
        self.intercept: Interceptor = carry_out
        self.disk = disk
        view = InProcessAws(lambda: environment.clock() + self.clock_error)
        view.s3, view.dynamodb, view.sqs = environment.aws.s3, environment.aws.dynamodb, environment.aws.sqs
        view.intercept = self._intercept
        self.services: Services = view.services(
            environment.settings.model_copy(update={"chromadb_cache_dir": str(disk)})
        )

    def _intercept(self, call: Call, perform: Perform) -> Answer:
        return self.intercept(call, perform)

    def forget_reads(self) -> None:
        """Replace the object store, because it remembers whether the bucket was read and then calls S3 differently."""
        store: Any = self.services.objects
        self.services = self.services._replace(objects=S3ObjectStore(store._client, store._bucket))

    def assign(self, intercept: Interceptor, clock_error: float) -> None:
        """Give the sandbox to another actor, with an empty disk."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.intercept, self.clock_error = intercept, clock_error


class Environment:
    """The bucket, the table, the queues and the sandboxes. It is reused: `reset` it before each simulation."""

    def __init__(self, disk: Path) -> None:
        self.clock = VirtualClock()
        self.aws = InProcessAws(self.clock)
        self.settings: Settings = load_settings(ENVIRONMENT)
        self.aws.create(self.settings)
        self._disk = disk
        self._sandboxes: list[Sandbox] = []
        self._free: list[Sandbox] = []
        self._empty = self.aws.save()

    def reset(self) -> None:
        """Empty AWS and free every sandbox."""
        self.aws.restore(self._empty)
        for sandbox in self._sandboxes:
            sandbox.forget_reads()
        self.clock.now = START
        self._free = list(self._sandboxes)

    def take_sandbox(self) -> Sandbox:
        """Return a free sandbox."""
        if not self._free:
            added = Sandbox(self, self._disk / str(len(self._sandboxes)))
            self._sandboxes.append(added)
            return added
        return self._free.pop(0)

    @property
    def objects(self) -> dict[str, Any]:
        """The bucket's content, by key."""
        return self.aws.s3.buckets.objects[self.settings.chromadb_bucket]

    def keys(self, prefix: str) -> set[str]:
        """Return the keys under `prefix`."""
        return {key for key in self.objects if key.startswith(prefix)}

    @property
    def lock(self) -> Mapping[str, Any] | None:
        """The current lock item, if there is one."""
        items = self.aws.dynamodb.tables.items[str(self.settings.dynamodb_table)]
        return next(iter(items.values()), None)

    def delete_lock(self) -> None:
        """Delete the lock item, as a person could in the console."""
        self.aws.dynamodb.tables.items[str(self.settings.dynamodb_table)].clear()


class NoThread:
    """A thread that never runs. A real one would outlive the actors that are killed."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        """Do nothing."""

    def join(self, _timeout: float) -> None:
        """Return at once."""


def one_by_one(call: Callable[[Any], Any], items: Iterable[Any], **_: object) -> Iterator[Any]:
    """Yield `call` of each item. A replacement of concurrency.ahead, whose thread and its caller would race."""
    return (call(item) for item in items)


def make_deterministic(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make everything depend on a seed, without sleeps and heartbeats. Return the function that sets the seed."""
    chance = random.Random()
    monkeypatch.setattr(secrets, "token_hex", lambda count: chance.randbytes(count).hex())
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr(concurrency, "THREADS", 1)
    for module in (concurrency, merge_batch, known, download_snapshot, pruning, run_files):
        monkeypatch.setattr(module, "ahead", one_by_one)
    monkeypatch.setattr(heartbeat, "Thread", NoThread)

    def limits_of(services: Services) -> FoldLimits | None:
        """Return the limits of one fold, of two, or of any number. Two attempts may have different ones."""
        if services.settings.partition_split_records > MOST_RECORDS:
            return None
        return FoldLimits(seconds=1.1 * FOLD_SECONDS * chance.choice((1, 1, 2, MOST_RECORDS)), disk=float("inf"))

    def limits_of_an_item(services: Services) -> FoldLimits | None:
        """Return limits of which the disk holds one fold, so that each has a round, or all."""
        limits = limits_of(services)
        return limits and limits._replace(disk=chance.choice((0, limits.disk)))

    monkeypatch.setattr(upload_snapshot, "limits_of", limits_of)
    monkeypatch.setattr(download_snapshot, "limits_of", limits_of)
    monkeypatch.setattr(fold_partitions, "limits_of", limits_of_an_item)
    return chance.seed


class JsonLoader:
    """Folds into a JSON file of rows, because ChromaDB would take a hundred times as long."""

    name = "json"

    def apply(self, directory: Path, _spec: object, plan: FoldPlan, *, progress: Callable[[], object]) -> Loaded:
        """Apply the plan to the file."""
        progress()
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / ROWS_FILE
        rows: list[list[Any]] = json.loads(file.read_text()) if file.exists() else []
        removed = set(plan.removed)
        kept = [row for row in rows if row[0] not in removed]
        columns = ("id", "document", "embedding")
        added = [[row[name] for name in columns] for part in plan.written(1000, columns) for row in part.to_pylist()]
        file.write_text(json.dumps(kept + added))
        return Loaded({})


def read_json(directory: Path, spec: CollectionSpec, ids: IdRange) -> Iterator[export._Batch]:
    """Yield the rows of a range from a file of JsonLoader's, as export_rows reads ChromaDB's files."""
    rows = sorted(row for row in json.loads((directory / ROWS_FILE).read_text()) if ids.holds(row[0]))
    if rows:
        records = [Record(row_id, Texts(document, None, None)) for row_id, document, _ in rows]
        yield export._Batch.received(records, np.asarray([row[2] for row in rows], np.float32), spec.space)


class JsonCollection:
    """An open collection of JsonLoader's. It answers as far as readers ask."""

    def __init__(self, rows: list[list[Any]]) -> None:
        self._rows = rows

    def count(self) -> int:
        """Return the number of records."""
        return len(self._rows)

    def get(
        self, *, ids: list[str] | None = None, limit: int | None = None, offset: int | None = None, **_: object
    ) -> dict[str, list[Any]]:
        """Return the records, or those of `ids`, with every field."""
        start = offset or 0
        rows = [row for row in self._rows if ids is None or row[0] in ids][start : limit and start + limit]
        nothing = [None] * len(rows)
        names, documents, embeddings = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
        return {
            "ids": names,
            "documents": documents,
            "embeddings": embeddings,
            "metadatas": nothing,
            "uris": nothing,
        }


@contextmanager
def open_json(directory: Path, _name: str) -> Iterator[JsonCollection]:
    """Yield a collection."""
    yield JsonCollection(json.loads((directory / ROWS_FILE).read_text()))


def use_json_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folds and readers use JSON files instead of ChromaDB. The ledger still proves the rows that are moved."""
    monkeypatch.setattr(fold, "create_directory", lambda _directory, _spec: None)
    monkeypatch.setattr(fold, "choose_loader", lambda *_, **__: JsonLoader())
    monkeypatch.setattr(fold, "verify", lambda *_, **__: None)
    monkeypatch.setattr(fold, "finalize", lambda _directory: None)
    monkeypatch.setattr(runs, "ROW_GROUP", 2)  # so that a range of a run is not all of it
    monkeypatch.setattr(reshaping, "SQLITE_FILE", ROWS_FILE)
    monkeypatch.setattr(export, "incompatibility", lambda *_: None)
    monkeypatch.setattr(export, "_read_files", read_json)
    monkeypatch.setattr(open_copies, "open_collection", open_json)
