"""Deliberate mistakes in the real code. Each removes one safeguard, and the simulation must find it."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest.mock import ANY, Mock

import numpy as np
import pytest

from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.errors import ObjectMissingError
from chromadb_compaction.operations import rollback
from chromadb_compaction.pending import overlay, selection, views
from chromadb_compaction.pending.known import KnownDeltas, ReadDelta
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots import pruning
from chromadb_compaction.steps import archiving, clean_up, publication
from tests.interleavings.simulation import ActorSet
from tests.shared_defects import (
    Patch,
    a_border_is_on_neither_side,
    a_partition_is_left_out,
    deltas_that_wait_are_archived,
    the_part_of_another_attempt_is_taken,
    the_range_of_a_run_is_downloaded_short,
    the_rows_of_a_partition_are_read_short,
)


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
    monkeypatch.setattr(pruning, "_needed", lambda *_: frozenset())


def prune_without_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "is_claimed", lambda *_: False)
    monkeypatch.setattr(rollback, "is_being_pruned", lambda *_: False)
    monkeypatch.setattr(pruning, "_still_published", lambda *_: True)


def pointer_before_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_pending(prefix: str, snapshots: Any, services: Services, *, before: Any = None) -> Any:
        snapshot = snapshots.read_current(services)
        return list(services.objects.list(prefix)), snapshot

    monkeypatch.setattr(views, "list_pending", list_pending)


def pointer_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_pending(prefix: str, snapshots: Any, services: Services, *, before: Any = None) -> Any:
        listed = list(services.objects.list(prefix))
        return listed, snapshots.read_current(services)

    monkeypatch.setattr(views, "list_pending", list_pending)


def deletes_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Overlay):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.ids = frozenset(self.live_ids)

    monkeypatch.setattr(views, "Overlay", Forgetful)


def missing_delta_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = KnownDeltas._judge

    def judge_leniently(self: KnownDeltas, listed: ObjectInfo, *arguments: Any, **options: Any) -> ReadDelta:
        try:
            return judge(self, listed, *arguments, **options)
        except ObjectMissingError:
            return ReadDelta(listed)

    monkeypatch.setattr(KnownDeltas, "_judge", judge_leniently)


def late_rows_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "newer_rows", lambda rows, _ledger: np.ones(rows.num_rows, dtype=np.bool_))


def overlay_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection._Space, "may_fit", lambda *_: True)


def forget_older_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = publication.Draft.manifest

    def forgetful(self: publication.Draft, *arguments: Any, **options: Any) -> Any:
        made = manifest(self, *arguments, **options)
        return made.model_copy(update={"dropped": {}})

    monkeypatch.setattr(publication.Draft, "manifest", forgetful)


class SeededDefect(NamedTuple):
    """A mistake, the invariant that it breaks, the actors, and the first seed to try, which has shown it before."""

    defect: Patch
    invariant: str
    actor_set: ActorSet
    first: int


DEFECTS = (
    SeededDefect(swap_without_if_match, "[15]", "everybody", 19),
    SeededDefect(heartbeat_without_owner, "8", "everybody", 2),
    SeededDefect(release_without_owner, "[18]", "everybody", 2),
    SeededDefect(clean_up_without_pointer_check, "1", "rollback", 3),
    SeededDefect(clean_up_without_second_pointer_check, "1", "rollback", 25),
    SeededDefect(prune_by_age_alone, "4", "everybody", 15),
    SeededDefect(prune_without_marks, "4", "rollback", 15),
    SeededDefect(forget_older_drops, "[12]", "everybody", 0),
    SeededDefect(pointer_before_list, "9", "fresh reads", 268),
    SeededDefect(pointer_not_compared, "9", "fresh reads", 577),
    SeededDefect(deletes_hide_nothing, "9", "fresh reads", 7),
    SeededDefect(missing_delta_is_empty, "9", "fresh reads", 83),
    SeededDefect(late_rows_win, "9", "fresh reads", 6),
    SeededDefect(overlay_without_bounds, "9", "fresh reads", 2),
    SeededDefect(a_partition_is_left_out, "[129]", "partitions", 10),
    SeededDefect(a_border_is_on_neither_side, "[129]", "partitions", 6),
    SeededDefect(the_rows_of_a_partition_are_read_short, "[129]", "partitions", 0),
    SeededDefect(the_range_of_a_run_is_downloaded_short, "[129]", "partitions", 0),
    SeededDefect(the_part_of_another_attempt_is_taken, "4", "partitions", 13),
    SeededDefect(deltas_that_wait_are_archived, "[19]", "partitions", 5),
)
