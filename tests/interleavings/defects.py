"""Deliberate mistakes in the real code. Each removes one safeguard, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import ANY, Mock

import pytest

from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.operations import rollback
from chromadb_compaction.snapshots import pruning
from chromadb_compaction.steps import archiving, clean_up
from tests.interleavings.simulation import ActorSet

Patch = Callable[[pytest.MonkeyPatch], None]


def swap_without_if_match(monkeypatch: pytest.MonkeyPatch) -> None:
    def put_if(self: S3ObjectStore, key: str, body: bytes, *, etag: str | None) -> str:
        return self.put(key, body)

    monkeypatch.setattr(S3ObjectStore, "put_if", put_if)


def heartbeat_without_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    def renew(self: DynamoDBLeaseStore, lock_id: str, owner: str, *, now: float, seconds: int) -> Any:
        return self.acquire(lock_id, owner, now=now + 10**9, seconds=seconds - 10**9)

    monkeypatch.setattr(DynamoDBLeaseStore, "renew", renew)


def release_without_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    release = DynamoDBLeaseStore.release

    def release_any(self: DynamoDBLeaseStore, lock_id: str, owner: str) -> bool:
        found = self.read(lock_id)
        return found is not None and release(self, lock_id, found.owner)

    monkeypatch.setattr(DynamoDBLeaseStore, "release", release_any)


def clean_up_without_pointer_check(monkeypatch: pytest.MonkeyPatch) -> None:
    any_snapshot = Mock(pointer=Mock(snapshot_id=ANY))
    monkeypatch.setattr(clean_up, "read_pointer", lambda _services: any_snapshot)


def clean_up_without_second_pointer_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_restore_to_pending", lambda *_: None)


def prune_by_age_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_named_files", lambda *_: frozenset())


def prune_without_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "is_claimed", lambda *_: False)
    monkeypatch.setattr(rollback, "is_being_pruned", lambda *_: False)
    monkeypatch.setattr(pruning, "_still_published", lambda *_: True)


class SeededDefect(NamedTuple):
    """A mistake, the invariant that it breaks, the actors, and the first seed to try, which has shown it before."""

    defect: Patch
    invariant: str
    actor_set: ActorSet
    first: int


DEFECTS = (
    SeededDefect(swap_without_if_match, "[15]", "everybody", 265),
    SeededDefect(heartbeat_without_owner, "8", "everybody", 11),
    SeededDefect(release_without_owner, "[18]", "everybody", 11),
    SeededDefect(clean_up_without_pointer_check, "1", "rollback", 4),
    SeededDefect(clean_up_without_second_pointer_check, "1", "rollback", 25),
    SeededDefect(prune_by_age_alone, "4", "everybody", 4),
    SeededDefect(prune_without_marks, "4", "rollback", 1),
)
