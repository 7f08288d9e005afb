"""Deliberate mistakes for the campaign to find. Each breaks one invariant of the design."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import pyarrow.compute as pc

from chromadb_compaction import layout
from chromadb_compaction.aws import lease_store
from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.deltas import identity
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import CompactionError, TransientStorageError
from chromadb_compaction.fold import fold
from chromadb_compaction.operations import merged_since
from chromadb_compaction.pending import listed as listed_deltas
from chromadb_compaction.pending.overlay import Overlay
from chromadb_compaction.rows import ledger
from chromadb_compaction.snapshots import pointer as snapshots
from chromadb_compaction.snapshots import pruning
from chromadb_compaction.steps import archiving, clean_up, fold_partitions, merge_batch, publication, upload_snapshot
from chromadb_compaction.steps.notifications import Notifications
from tests.crash.faults import FaultKind
from tests.fakes.aws.protocol import Call
from tests.shared_defects import (
    a_border_is_on_neither_side,
    a_partition_is_left_out,
    deltas_that_wait_are_archived,
    seeded,
    the_part_of_another_attempt_is_taken,
    the_range_of_a_run_is_downloaded_short,
    the_rows_of_a_partition_are_read_short,
)

ALWAYS = "attribute_not_exists(nothing) OR #owner = :me"


class Defect(NamedTuple):
    """A mistake, the scenario and the faults that show it, and a part of the resulting message."""

    name: str
    seeded: Callable[[], AbstractContextManager[object]]
    scenario: str
    shown_by: Callable[[str, Call, FaultKind], bool]
    message: str


def _pointer_is_overwritten() -> AbstractContextManager[object]:
    def put_if(self: S3ObjectStore, key: str, body: bytes, *, etag: str | None) -> str:
        return self.put(key, body)

    return patch.object(S3ObjectStore, "put_if", put_if)


@contextmanager
def _without_owner(method: str) -> Iterator[None]:
    right: Callable[..., Any] = getattr(DynamoDBLeaseStore, method)

    def wrong(*arguments: Any, **options: Any) -> Any:
        with patch.object(lease_store, "IS_OWNER", ALWAYS):
            return right(*arguments, **options)

    with patch.object(DynamoDBLeaseStore, method, wrong):
        yield


def _a_held_lease_can_be_taken() -> AbstractContextManager[object]:
    return patch.object(lease_store, "CAN_ACQUIRE", f"expires_at > :now OR {ALWAYS}")


def _lease_is_never_released() -> AbstractContextManager[object]:
    return patch.object(DynamoDBLeaseStore, "release", lambda _self, _lock_id, _owner: True)


def _deltas_are_archived_before_the_swap() -> AbstractContextManager[object]:
    right = publication.write_objects

    def wrong(services: Any, manifest: Any, outcomes: list[DeltaOutcome], *others: Any) -> Any:
        pointer = right(services, manifest, outcomes, *others)
        for outcome in outcomes:
            services.objects.copy(outcome.key, layout.compacted_key(outcome.key), etag=outcome.etag)
        services.objects.delete(outcome.key for outcome in outcomes)
        return pointer

    return patch.object(upload_snapshot, "write_objects", wrong)


@contextmanager
def _pointer_is_swapped_before_the_files() -> Iterator[None]:
    late: list[Callable[[], Any]] = []
    put, publish = S3ObjectStore.put, snapshots.publish

    def later(store: S3ObjectStore, key: str, body: bytes) -> str:
        if not _is_pack(key):
            return put(store, key, body)
        late.append(lambda: put(store, key, body))
        return ""

    def sooner(*arguments: Any, **options: Any) -> Any:
        published = publish(*arguments, **options)
        while late:
            late.pop()()
        return published

    with patch.object(S3ObjectStore, "put", later), patch.object(upload_snapshot, "publish", sooner):
        yield


def _is_pack(key: str) -> bool:
    return key.endswith(f"/{layout.PACK_FILE}")


@contextmanager
def _tombstones_are_forgotten() -> Iterator[None]:
    right = ledger.plan_fold

    def wrong(*arguments: Any, **options: Any) -> Any:
        plan = right(*arguments, **options)
        return plan._replace(ledger=plan.ledger.filter(pc.invert(plan.ledger["deleted"])))

    with patch.object(fold, "plan_fold", wrong):
        yield


@contextmanager
def _files_are_pruned_by_age_alone() -> Iterator[None]:
    # The second patch is needed because UploadSnapshot would detect the loss and publish nothing.
    with (
        patch.object(pruning, "_needed", lambda *_: frozenset()),
        patch.object(publication.Draft, "check_kept_files", lambda *_: None),
    ):
        yield


def _descriptions_of_kept_collections_are_pruned() -> AbstractContextManager[object]:
    right = pruning._keys_of

    def wrong(*arguments: Any, **options: Any) -> Iterator[str]:
        return (key for key in right(*arguments, **options) if not key.endswith(f"/{layout.COLLECTION_FILE}"))

    return patch.object(pruning, "_keys_of", wrong)


@contextmanager
def _a_failed_delta_counts_as_merged() -> Iterator[None]:
    fetch, outcome = listed_deltas.try_fetch, merge_batch._outcome

    def wrong(*arguments: Any) -> Any:
        try:
            return fetch(*arguments)
        except TransientStorageError:
            return None

    def done(delta: Any, _status: Any, **options: Any) -> DeltaOutcome:
        return outcome(delta, "merged", **options)

    with patch.object(merge_batch, "try_fetch", wrong), patch.object(merge_batch, "_outcome", done):
        yield


def _an_unreadable_delta_stops_all() -> AbstractContextManager[object]:
    return patch.object(merge_batch, "try_fetch", listed_deltas.fetch_delta)


def _a_bad_delta_is_dropped() -> AbstractContextManager[object]:
    return patch.object(
        merge_batch, "_quarantine", lambda bad, reason, *_: merge_batch._outcome(bad, "merged", reason=reason)
    )


def _own_commit_is_not_recognised() -> AbstractContextManager[object]:
    def read_back(*_: Any, cause: Exception, **__: Any) -> Any:
        raise snapshots.conflict(None) from cause

    return patch.object(snapshots, "_read_back", read_back)


def _deltas_are_deleted_before_they_are_copied() -> AbstractContextManager[object]:
    def copied(merged: list[DeltaOutcome], services: Any) -> tuple[list[DeltaOutcome], list[DeltaOutcome]]:
        for delta in merged:
            body = services.objects.get(delta.key).body
            services.objects.delete([delta.key])
            services.objects.put(layout.compacted_key(delta.key), body)
        return merged, []

    return patch.object(archiving, "_copy_to_compacted", copied)


def _snapshots_share_one_id() -> AbstractContextManager[object]:
    return patch.object(layout, "new_snapshot_id", lambda _sequence, _token: "0000000001-00000000")


def _quarantine_is_not_reported() -> AbstractContextManager[object]:
    return patch.object(Notifications, "send_dead_letters", lambda _self, _quarantined: None)


@contextmanager
def _a_queue_error_counts_as_cleaned() -> Iterator[None]:
    right = archiving.archive

    def wrong(outcomes: Any, services: Any, **checks: Any) -> Any:
        try:
            services.queue.depth()
        except CompactionError:
            return archiving.ArchivedDeltas(archived=len(outcomes), quarantined=0, messages_deleted=0)
        return right(outcomes, services, **checks)

    with patch.object(clean_up, "archive", wrong):
        yield


def _content_is_compared_by_size() -> AbstractContextManager[object]:
    return patch.object(identity, "compare", lambda one, other: one.bytes == other.bytes)


@contextmanager
def _a_replay_stops_at_the_branch() -> Iterator[None]:
    with (
        patch.object(merged_since, "as_new_as", lambda _target, _snapshots: ()),
        patch.object(merged_since, "_archived_since", lambda _since, _archived: {}),
    ):
        yield


def _a_part_is_left_out() -> AbstractContextManager[object]:
    def wrong(request: Any, _plan: Any, services: Any) -> Any:
        found = [fold_partitions._read_part(item, services) for item in request.folded[1:]]
        return fold_partitions.StoredParts(parts=[part for each in found for part in each.parts], too_large=[], late=[])

    return patch.object(upload_snapshot, "collect", wrong)


@contextmanager
def _a_drop_is_forgotten() -> Iterator[None]:
    right = publication.Draft.manifest

    def wrong(draft: Any, *arguments: Any, **options: Any) -> Any:
        return right(draft, *arguments, **options).model_copy(update={"dropped": {}})

    with patch.object(publication.Draft, "manifest", wrong):
        yield


def _overtaken(_state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "overtaken" and call.target == layout.pointer_key() and call.writes


def _overtaken_while_merging(state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "overtaken" and state == "MergeBatches" and call.writes


def _a_pending_delete_hides_nothing() -> AbstractContextManager[object]:
    return patch.object(Overlay, "replaced", lambda _self, _find: frozenset())


def _midway(_state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "overtaken midway" and call.writes


def _dies(_state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name in {"crash before, dies", "crash after, dies"} and call.writes


def _dies_cleaning_up(state: str, call: Call, kind: FaultKind) -> bool:
    return state == "CleanUp" and _dies(state, call, kind)


def _dies_after_the_manifest(_state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "crash after, dies" and call.target.endswith("/manifest.json") and call.writes


def _given_up(state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "500 until given up" and state == "MergeBatches"


def _lost_at_the_pointer(_state: str, call: Call, kind: FaultKind) -> bool:
    return kind.name == "response lost" and call.target == layout.pointer_key()


def _killed_while_folding(state: str, call: Call, kind: FaultKind) -> bool:
    return state == "FoldPartitions" and kind.name == "crash after, retried" and "/folds/" in call.target


def _none(_state: str, _call: Call, _kind: FaultKind) -> bool:
    return False


FIRST, BASE, SEVERAL = "first snapshot", "updates and deletes on a base", "folds by several functions"
PARTITIONS = "partitions"
DEFECTS = (
    Defect("the pointer is overwritten", _pointer_is_overwritten, BASE, _overtaken, "a commit was overwritten"),
    Defect("anybody can renew the lease", lambda: _without_owner("renew"), FIRST, _overtaken_while_merging, "lease"),
    Defect("anybody can release the lease", lambda: _without_owner("release"), FIRST, _midway, "was taken away"),
    Defect("a held lease can be taken", _a_held_lease_can_be_taken, FIRST, _dies, "was taken away"),
    Defect("the lease is never released", _lease_is_never_released, FIRST, _none, "leaked"),
    Defect("deltas are archived before the swap", _deltas_are_archived_before_the_swap, FIRST, _dies, "lost"),
    Defect(
        "the pointer is swapped before the files", _pointer_is_swapped_before_the_files, FIRST, _none, "half a snapshot"
    ),
    Defect("tombstones are forgotten", _tombstones_are_forgotten, BASE, _none, "the ledger differs"),
    Defect("files are pruned by age alone", _files_are_pruned_by_age_alone, "pruning", _none, "half a snapshot"),
    Defect(
        "files of a line are pruned by age alone",
        _files_are_pruned_by_age_alone,
        "pruning of a line",
        _none,
        "half a snapshot",
    ),
    Defect(
        "a kept collection's description is pruned",
        _descriptions_of_kept_collections_are_pruned,
        "pruning",
        _none,
        "half a snapshot",
    ),
    Defect("a drop is forgotten", _a_drop_is_forgotten, "dropped collections", _none, "lost: the drop"),
    Defect("a part is left out of the swap", _a_part_is_left_out, SEVERAL, _none, "lost"),
    Defect(
        "a part of another attempt is taken",
        lambda: seeded(the_part_of_another_attempt_is_taken),
        SEVERAL,
        _killed_while_folding,
        "half a snapshot",
    ),
    Defect("a pending delete hides nothing", _a_pending_delete_hides_nothing, BASE, _none, "incomplete read"),
    Defect("a failed delta counts as merged", _a_failed_delta_counts_as_merged, FIRST, _given_up, "lost"),
    Defect("an unreadable delta stops all", _an_unreadable_delta_stops_all, "an unreadable delta", _none, "FAILED"),
    Defect("a bad delta is dropped", _a_bad_delta_is_dropped, "a quarantined delta", _none, "lost"),
    Defect("the own commit is not recognised", _own_commit_is_not_recognised, FIRST, _lost_at_the_pointer, "it FAILED"),
    Defect(
        "deltas are deleted before they are copied",
        _deltas_are_deleted_before_they_are_copied,
        FIRST,
        _dies_cleaning_up,
        "compacted/",
    ),
    Defect("content is compared by size", _content_is_compared_by_size, "a key written again", _none, "invented"),
    Defect(
        "content is compared by size in a clean-up",
        _content_is_compared_by_size,
        "a key written again before its clean-up",
        _none,
        "lost",
    ),
    Defect(
        "a replay stops at the branch",
        _a_replay_stops_at_the_branch,
        "rollback with replay, also of a branch",
        _none,
        "lost",
    ),
    Defect("all snapshots have the same id", _snapshots_share_one_id, FIRST, _dies_after_the_manifest, "written twice"),
    Defect(
        "a queue error counts as cleaned", _a_queue_error_counts_as_cleaned, "a deleted queue", _none, "left behind"
    ),
    Defect("a partition is left out of a swap", lambda: seeded(a_partition_is_left_out), PARTITIONS, _none, "lost"),
    Defect(
        "the id of a border is on neither side", lambda: seeded(a_border_is_on_neither_side), PARTITIONS, _none, "lost"
    ),
    Defect(
        "the rows of a partition are read short",
        lambda: seeded(the_rows_of_a_partition_are_read_short),
        PARTITIONS,
        _none,
        "lost",
    ),
    Defect(
        "the range of a run is downloaded short",
        lambda: seeded(the_range_of_a_run_is_downloaded_short),
        PARTITIONS,
        _none,
        "lost",
    ),
    Defect(
        "the part of another attempt is taken for a partition",
        lambda: seeded(the_part_of_another_attempt_is_taken),
        f"{PARTITIONS} folded by several functions",
        _killed_while_folding,
        "half a snapshot",
    ),
    Defect(
        "deltas that wait are archived",
        lambda: seeded(deltas_that_wait_are_archived),
        "a collection that waits",
        _none,
        "lost",
    ),
    Defect("a quarantine is not reported", _quarantine_is_not_reported, "a quarantined delta", _none, "unreported"),
)
