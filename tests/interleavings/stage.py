"""The fakes in which actors play: one AWS in this process; for each actor clients, a clock and a disk of its own."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction import concurrency, heartbeat
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.chroma.loader import PartSeconds
from chromadb_compaction.fold import fold
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import FoldPlan
from chromadb_compaction.settings import Settings, load_settings
from chromadb_compaction.snapshots import reader
from chromadb_compaction.steps import merge_batch
from tests.fakes.aws.in_process import InProcessAws, Interceptor, Perform, carry_out
from tests.fakes.aws.protocol import Answer, Call

START = 1_760_000_000.0
PAPER = "paper.json"
LEASE_SECONDS = 900
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
    """Unix seconds that pass only when they are told to. Every actor's own clock is this one and an error."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Seat:
    """What one Lambda sandbox or one person's computer has: clients, a disk, a clock that is `wrong` by seconds."""

    def __init__(self, stage: Stage, disk: Path) -> None:
        self.wrong = 0.0
        self.intercept: Interceptor = carry_out
        self.disk = disk
        view = InProcessAws(lambda: stage.clock() + self.wrong)
        view.s3, view.dynamodb, view.sqs = stage.aws.s3, stage.aws.dynamodb, stage.aws.sqs
        view.intercept = self._intercept
        self.services: Services = view.services(stage.settings.model_copy(update={"chromadb_cache_dir": str(disk)}))

    def _intercept(self, call: Call, perform: Perform) -> Answer:
        return self.intercept(call, perform)

    def be_new(self) -> None:
        """Forget what was read of the bucket: who has read of it before asks otherwise than who has not."""
        store: Any = self.services.objects
        self.services = self.services._replace(objects=S3ObjectStore(store._client, store._bucket))

    def sit_down(self, intercept: Interceptor, wrong: float) -> None:
        """Give the seat to another actor, with an empty disk."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.intercept, self.wrong = intercept, wrong


class Stage:
    """The bucket, the table and the queues, and as many seats as are ever taken at once. Reset between plays."""

    def __init__(self, disk: Path) -> None:
        self.clock = VirtualClock()
        self.aws = InProcessAws(self.clock)
        self.settings: Settings = load_settings(ENVIRONMENT)
        self.aws.create(self.settings)
        self._disk = disk
        self._seats: list[Seat] = []
        self._free: list[Seat] = []
        self._empty = self.aws.save()

    def reset(self) -> None:
        """Empty everything; every seat is free, and as if it were new."""
        self.aws.restore(self._empty)
        for seat in self._seats:
            seat.be_new()
        self.clock.now = START
        self._free = list(self._seats)

    def seat(self) -> Seat:
        """Return a seat that nobody has taken."""
        if not self._free:
            made = Seat(self, self._disk / str(len(self._seats)))
            self._seats.append(made)
            return made
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
        """The lock's item as it stands."""
        items = self.aws.dynamodb.tables.items[str(self.settings.dynamodb_table)]
        return next(iter(items.values()), None)

    def delete_lock(self) -> None:
        """Do what the console does to the lock's item."""
        self.aws.dynamodb.tables.items[str(self.settings.dynamodb_table)].clear()


class NoThread:
    """A thread that never runs. A real one would outlive the actors that are killed."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        """Begin nothing."""

    def join(self, _timeout: float) -> None:
        """Wait for nothing."""


def make_deterministic(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let nothing but a seed decide what happens; return what plants it. No pause is waited for, no beat beats."""
    chance = random.Random()
    monkeypatch.setattr(secrets, "token_hex", lambda count: chance.randbytes(count).hex())
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr(concurrency, "THREADS", 1)
    monkeypatch.setattr(merge_batch, "READERS", 1)
    monkeypatch.setattr(heartbeat, "Thread", NoThread)
    return chance.seed


class PaperLoader:
    """Folds into a list of rows on paper, where ChromaDB would take a hundred times as long."""

    name = "paper"

    def apply(self, directory: Path, _spec: object, plan: FoldPlan, *, progress: Callable[[], object]) -> PartSeconds:
        """Write down what the plan says."""
        progress()
        directory.mkdir(parents=True, exist_ok=True)
        paper = directory / PAPER
        rows: list[list[Any]] = json.loads(paper.read_text()) if paper.exists() else []
        gone = set(plan.removed)
        kept = [row for row in rows if row[0] not in gone]
        written = plan.written(1000, ("id", "document"))
        added = [[row["id"], row["document"]] for part in written for row in part.to_pylist()]
        paper.write_text(json.dumps(kept + added))
        return {}


@contextmanager
def open_paper(directory: Path, _name: str) -> Iterator[list[list[Any]]]:
    """Give the rows of a collection on paper."""
    yield json.loads((directory / PAPER).read_text())


def use_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folds and readers use paper instead of ChromaDB."""
    monkeypatch.setattr(fold, "create_directory", lambda _directory, _spec: None)
    monkeypatch.setattr(fold, "choose_loader", lambda _directory, _spec: PaperLoader())
    monkeypatch.setattr(fold, "verify", lambda *_, **__: None)
    monkeypatch.setattr(fold, "finalize", lambda _directory: None)
    monkeypatch.setattr(reader, "open_collection", open_paper)
