"""The actors that are no task: producers, readers, and an operator who rolls back with a replay."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from chromadb_compaction import layout
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
)
from chromadb_compaction.operations.rollback import RollbackRequest, rollback
from chromadb_compaction.ports import DeltaNotification, Services
from chromadb_compaction.snapshots.reader import SnapshotReader
from tests.builders import a_uuid7
from tests.interleavings.stage import START, Stage

COLLECTIONS = ("docs", "pages")
IDS = ("a", "b", "c")
REFUSED_BY_RULE = (LockHeldError, ObjectMissingError, SnapshotConflictError, SnapshotCorruptError, LockLostError)


class Written(NamedTuple):
    """One row that was accepted: a delete has no document."""

    collection: str
    version: UUID
    row: int
    id: str
    document: str | None


@dataclass
class Writing:
    """Every delta that stands, or has stood, in delta/: what good ones hold, and the keys of bad ones."""

    rows: dict[str, list[Written]] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    number: int = 0


class Writer(DeltaWriter):
    """A producer whose clock may be late: its deltas get the names that it is given."""

    def __init__(self, services: Services, names: Iterator[UUID], **options: Any) -> None:
        super().__init__(services.settings, objects=services.objects, **options)
        self._names = names

    def _next_id(self) -> UUID:
        return next(self._names)


def producing(writing: Writing, chance: random.Random, *, files: int) -> Callable[[Services], None]:
    """Return a producer that writes files, some late, some twice, one in eight bad; some notices never come."""
    plans = [_plan(writing, chance) for _ in range(files)]

    def produce(services: Services) -> None:
        for plan in plans:
            plan(services)

    return produce


def _plan(writing: Writing, chance: random.Random) -> Callable[[Services], None]:
    writing.number += 1
    collection, number = chance.choice(COLLECTIONS), writing.number
    name = a_uuid7(START + chance.choice((number, -1000 * number)), number)
    key = layout.delta_key(collection, str(name))
    ids = chance.sample(IDS, chance.randint(1, 2))
    deletes = [ids.pop()] if chance.random() < 0.4 else []
    bell, twice = chance.choice((0, 1, 1, 2)), chance.random() < 0.2
    if chance.random() < 0.12:
        return lambda services: _write_bad(services, writing, key.replace(".parquet", ".jsonl.gz"))

    def write(services: Services) -> None:
        documents = [f"{number}-{id_}" for id_ in ids]
        rows = [*zip(ids, documents, strict=True), *((id_, None) for id_ in deletes)]
        writing.rows[key] = [Written(collection, name, row, *each) for row, each in enumerate(rows)]
        for _ in range(1 + twice):
            with Writer(services, iter([name]), queue=services.queue if bell else None) as writer:
                if ids:
                    writer.upsert(collection, ids, [[float(number), 1.0]] * len(ids), documents=documents)
                if deletes:
                    writer.delete(collection, deletes)
        if bell > 1:
            services.queue.notify([DeltaNotification(key, 1, 1)])

    return write


def _write_bad(services: Services, writing: Writing, key: str) -> None:
    writing.bad.add(key)
    services.objects.put(key, gzip.compress(b'{"id": "z", "embedding": [1, 2]}\n{"id": ""}\n'))


def reading(witness: Any, *, looks: int) -> Callable[[Services], None]:
    """Return a reader that asks a few times for both collections, and shows the witness what it was given."""

    def read(services: Services) -> None:
        reader = SnapshotReader()
        for _ in range(looks):
            for name in COLLECTIONS:
                _ask(reader, services, name, witness)
        reader.close()

    return read


def _ask(reader: SnapshotReader, services: Services, name: str, witness: Any) -> None:
    asked = len(witness.swaps)
    try:
        with reader.reading(services, name) as readable:
            rows: Any = readable.collection or []
            witness.seen(name, readable.snapshot_id, dict(rows), asked=asked)
    except (NoSnapshotError, NoSuchCollectionError):
        pass
    except SnapshotCorruptError:
        assert len(witness.swaps) > asked + 1, "a reader found half a snapshot, though nobody swapped the pointer"


def operators_rollback(stage: Stage, chance: random.Random) -> Callable[[Services], None]:
    """Return an operator who rolls back, with a replay, to a snapshot that is there when they look."""
    tries = chance.randint(1, 6)

    def roll_back(services: Services) -> None:
        for number in range(tries):
            found = sorted(key.split("/")[1] for key in stage.keys("snapshot/") if key.endswith("/manifest.json"))
            if services.objects.head(layout.pointer_key()) is None or not found:
                continue
            wanted = found[0] if number % 2 else found[max(0, len(found) - 2)]
            request = RollbackRequest(snapshot_id=wanted, operator=f"operator:me/{number}", replay=True)
            try:
                rollback(request, services)
            except (*REFUSED_BY_RULE, InvalidRequestError, NoSnapshotError):
                services.objects.head(layout.pointer_key())
            else:
                return

    return roll_back
