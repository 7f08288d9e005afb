"""The actors beside the tasks: producers, readers, and an operator who rolls back with a replay."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from chromadb_compaction import layout
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.errors import (
    InvalidRequestError,
    LockHeldError,
    LockLostError,
    NoSnapshotError,
    NoSuchCollectionError,
    ObjectMissingError,
    SnapshotConflictError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.pending.collection import PendingCounts
from chromadb_compaction.pending.reader import FreshReader
from chromadb_compaction.ports import DeltaNotification, Services
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import a_uuid7
from tests.interleavings.environment import START, Environment

COLLECTIONS = ("docs", "pages")
IDS = ("a", "b", "c")
MANY_IDS = tuple("abcdefghijklmnop")
"""Ids for several partitions."""
EXPECTED_ERRORS = (LockHeldError, ObjectMissingError, SnapshotConflictError, SnapshotCorruptError, LockLostError)


class WrittenRow(NamedTuple):
    """One row of a good delta. A delete has no document."""

    collection: str
    version: UUID
    row: int
    id: str
    document: str | None


class WrittenDrop(NamedTuple):
    """A delta that drops its collection."""

    collection: str
    version: UUID


@dataclass
class WrittenDeltas:
    """Every delta that was written: the rows of good ones, the drops, and the keys of bad ones."""

    rows: dict[str, list[WrittenRow]] = field(default_factory=dict)
    drops: dict[str, WrittenDrop] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    number: int = 0


class NamedDeltaWriter(DeltaWriter):
    """A DeltaWriter that takes the names of its deltas from outside, so that a producer's clock can be late."""

    def __init__(self, services: Services, names: Iterator[UUID], **options: Any) -> None:
        super().__init__(services.settings, objects=services.objects, check_published=False, **options)
        self._names = names

    def _next_id(self) -> UUID:
        return next(self._names)


class Writes(NamedTuple):
    """The deltas of a producer.

    Attributes:
        ids: Their ids.
        most: The most ids of one.
        drops: The share of them that drop their collection.
        clears: Whether each deletes most of the ids, and nothing else.
    """

    ids: Sequence[str] = IDS
    most: int = 2
    drops: float = 0.1
    clears: bool = False


SMALL_WRITES = Writes()


def producer(
    written: WrittenDeltas, chance: random.Random, *, files: int, writes: Writes = SMALL_WRITES
) -> Callable[[Services], None]:
    """Return a producer. It writes some deltas late, some twice, and some without notification. One in eight is bad."""
    plans = [_plan(written, chance, writes) for _ in range(files)]

    def produce(services: Services) -> None:
        for plan in plans:
            plan(services)

    return produce


def _plan(written: WrittenDeltas, chance: random.Random, writes: Writes) -> Callable[[Services], None]:
    written.number += 1
    collection, number = chance.choice(COLLECTIONS), written.number
    name = a_uuid7(START + chance.choice((number, number if writes.clears else -1000 * number)), number)
    key = layout.delta_key(collection, str(name))
    ids = chance.sample(writes.ids, chance.randint(1, writes.most))
    deletes = [ids.pop()] if chance.random() < 0.4 else []
    if writes.clears:
        first = chance.randint(0, len(writes.ids) // 4)
        ids, deletes = [], list(writes.ids[first : first + 3 * len(writes.ids) // 4])
    notifications, twice = chance.choice((0, 1, 1, 2)), chance.random() < 0.2
    kind = chance.random()
    if kind < 0.12:
        return lambda services: _write_bad(services, written, key.replace(".parquet", ".jsonl.gz"))
    if kind > 1 - writes.drops:
        drop = WrittenDrop(collection, name)
        return lambda services: _write_drop(services, written, drop, key.replace(".parquet", ".jsonl.gz"))

    def write(services: Services) -> None:
        documents = [f"{number}-{id_}" for id_ in ids]
        rows = [*zip(ids, documents, strict=True), *((id_, None) for id_ in deletes)]
        written.rows[key] = [WrittenRow(collection, name, row, *each) for row, each in enumerate(rows)]
        for _ in range(1 + twice):
            with NamedDeltaWriter(services, iter([name]), queue=services.queue if notifications else None) as writer:
                if ids:
                    writer.upsert(collection, ids, [[float(number), 1.0]] * len(ids), documents=documents)
                if deletes:
                    writer.delete(collection, deletes)
        if notifications > 1:
            services.queue.notify([DeltaNotification(key, 1, 1)])

    return write


def _write_drop(services: Services, written: WrittenDeltas, drop: WrittenDrop, key: str) -> None:
    written.drops[key] = drop
    NamedDeltaWriter(services, iter([drop.version]), queue=services.queue).drop_collection(drop.collection)


def _write_bad(services: Services, written: WrittenDeltas, key: str) -> None:
    written.bad.add(key)
    services.objects.put(key, gzip.compress(b'{"id": "z", "embedding": [1, 2]}\n{"id": ""}\n', mtime=0))


def reader(checker: Any, *, reads: int) -> Callable[[Services], None]:
    """Return a reader that reads both collections several times, and passes their rows to the checker."""

    def read(services: Services) -> None:
        # A copy that is not closed would be removed later, perhaps from the directory of another simulation.
        with closing(SnapshotReader()) as snapshots:
            for _ in range(reads):
                for name in COLLECTIONS:
                    _read_collection(snapshots, services, name, checker)

    return read


def _read_collection(snapshots: SnapshotReader, services: Services, name: str, checker: Any) -> None:
    swaps = len(checker.swaps)
    try:
        with snapshots.reading(services, name) as readable:
            found: Any = readable.collection.get(include=["documents"]) if readable.collection else {}
            rows = dict(zip(found.get("ids", ()), found.get("documents", ()), strict=True))
            checker.check_read(name, readable.snapshot_id, rows, swaps=swaps)
    except (NoSnapshotError, NoSuchCollectionError):
        pass
    except SnapshotCorruptError:
        assert len(checker.swaps) > swaps + 1, "a reader found half a snapshot, though nobody swapped the pointer"


def fresh_reader(checker: Any, *, reads: int) -> Callable[[Services], None]:
    """Return a reader that joins both collections with their pending deltas, and passes their rows to the checker."""

    def read(services: Services) -> None:
        with closing(FreshReader()) as fresh:
            for number in range(reads):
                for name in COLLECTIONS:
                    _read_fresh(fresh, services, name, checker, refresh=number % 2 == 0)

    return read


def _read_fresh(fresh: FreshReader, services: Services, name: str, checker: Any, *, refresh: bool) -> None:
    began = checker.now - (0 if refresh else services.settings.read_refresh_seconds)
    rows, pending = {}, PendingCounts(0, 0)
    try:
        with fresh.reading(services, name, refresh=refresh) as collection:
            found: Any = collection.get(Filters(), limit=None, offset=None, include=["documents"])
            rows, pending = dict(zip(found["ids"], found["documents"], strict=True)), collection.pending
            joined = len(collection._overlay.selection.deltas)
            assert joined <= services.settings.pending_deltas, "9. a fresh read joined more deltas than the bound"
            assert collection.count() == len(rows) == len(found["ids"]), "2. an id exists twice"
    except NoSuchCollectionError:
        if services.settings.pending_deltas == 1:
            return  # the delta that makes it may be beyond the bound
    except (TransientStorageError, SnapshotCorruptError):
        return  # S3 failed, or everything changed at each attempt
    if not pending.left:
        checker.check_fresh_read(name, rows, began=began)


def operator(environment: Environment, chance: random.Random) -> Callable[[Services], None]:
    """Return an operator who rolls back, with a replay, to a snapshot that exists at that moment."""
    tries = chance.randint(1, 6)

    def roll_back(services: Services) -> None:
        for number in range(tries):
            found = sorted(key.split("/")[1] for key in environment.keys("snapshot/") if key.endswith("/manifest.json"))
            if services.objects.head(layout.pointer_key()) is None or not found:
                continue
            wanted = found[0] if number % 2 else found[max(0, len(found) - 2)]
            request = RollbackRequest(snapshot_id=wanted, operator=f"operator:me/{number}", replay=True)
            try:
                rollback(request, services)
            except (*EXPECTED_ERRORS, InvalidRequestError, NoSnapshotError):
                services.objects.head(layout.pointer_key())
            else:
                return

    return roll_back
