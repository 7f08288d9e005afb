"""Mistakes that the product does not make, for the harness to find: each breaks one invariant of the design."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pyarrow.compute as pc

from chromadb_compaction import layout
from chromadb_compaction.aws import lease_store
from chromadb_compaction.aws.lease_store import DynamoDBLeaseStore
from chromadb_compaction.aws.object_store import S3ObjectStore
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import TransientStorageError
from chromadb_compaction.fold import fold
from chromadb_compaction.rows import ledger
from chromadb_compaction.snapshots import pointer as snapshots
from chromadb_compaction.snapshots import pruning
from chromadb_compaction.steps import archiving, listed_deltas, merge_batch, publication, upload_snapshot
from tests.crash.faults import Kind
from tests.fakes.aws.protocol import Call

ALWAYS = "attribute_not_exists(nothing) OR #owner = :me"


class Defect(NamedTuple):
    """A mistake, the scenario and faults that show it, and what the harness says then."""

    name: str
    planted: Callable[[], AbstractContextManager[object]]
    scenario: str
    shown_by: Callable[[str, Call, Kind], bool]
    said: str


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


def _lease_is_taken_from_anybody() -> AbstractContextManager[object]:
    return patch.object(lease_store, "CAN_ACQUIRE", f"expires_at > :now OR {ALWAYS}")


def _lease_is_kept() -> AbstractContextManager[object]:
    return patch.object(DynamoDBLeaseStore, "release", lambda _self, _lock_id, _owner: True)


def _deltas_go_before_the_swap() -> AbstractContextManager[object]:
    right = publication.write_objects

    def wrong(services: Any, manifest: Any, outcomes: list[DeltaOutcome], answer: Any) -> Any:
        pointer = right(services, manifest, outcomes, answer)
        for outcome in outcomes:
            services.objects.copy(outcome.key, layout.compacted_key(outcome.key), etag=outcome.etag)
        services.objects.delete(outcome.key for outcome in outcomes)
        return pointer

    return patch.object(upload_snapshot, "write_objects", wrong)


@contextmanager
def _pointer_goes_before_the_files() -> Iterator[None]:
    late: list[Callable[[], Any]] = []
    upload, publish = S3ObjectStore.upload, snapshots.publish

    def later(store: S3ObjectStore, source: Path, key: str) -> None:
        if key.startswith(layout.SNAPSHOT_PREFIX):
            late.append(lambda: upload(store, source, key))
        else:
            upload(store, source, key)

    def sooner(*arguments: Any, **options: Any) -> Any:
        standing = publish(*arguments, **options)
        while late:
            late.pop()()
        return standing

    with patch.object(S3ObjectStore, "upload", later), patch.object(upload_snapshot, "publish", sooner):
        yield


@contextmanager
def _tombstones_are_forgotten() -> Iterator[None]:
    right = ledger.plan_fold

    def wrong(*arguments: Any, **options: Any) -> Any:
        plan = right(*arguments, **options)
        return plan._replace(ledger=plan.ledger.filter(pc.invert(plan.ledger["deleted"])))

    with patch.object(fold, "plan_fold", wrong):
        yield


@contextmanager
def _files_go_by_age_alone() -> Iterator[None]:
    # UploadSnapshot would notice, and publish nothing more.
    with (
        patch.object(pruning, "_named_files", lambda _kept, _services: frozenset()),
        patch.object(upload_snapshot, "check_kept_files", lambda _services, _manifest: None),
    ):
        yield


@contextmanager
def _a_failed_delta_is_done() -> Iterator[None]:
    fetch, outcome = listed_deltas.fetch_delta, merge_batch._outcome

    def wrong(*arguments: Any) -> Any:
        try:
            return fetch(*arguments)
        except TransientStorageError:
            return None

    def done(delta: Any, _status: Any, **options: Any) -> DeltaOutcome:
        return outcome(delta, "merged", **options)

    with patch.object(merge_batch, "fetch_delta", wrong), patch.object(merge_batch, "_outcome", done):
        yield


def _a_refused_delta_is_dropped() -> AbstractContextManager[object]:
    return patch.object(
        merge_batch, "_quarantine", lambda bad, *_: merge_batch._outcome(bad.delta, "merged", reason=bad.reason)
    )


def _own_commit_is_not_known() -> AbstractContextManager[object]:
    def read_back(*_: Any, cause: Exception, **__: Any) -> Any:
        raise snapshots.conflict(None) from cause

    return patch.object(snapshots, "_read_back", read_back)


def _deltas_are_deleted_before_they_are_copied() -> AbstractContextManager[object]:
    def copied(merged: list[DeltaOutcome], services: Any) -> list[DeltaOutcome]:
        for delta in merged:
            body = services.objects.get(delta.key).body
            services.objects.delete([delta.key])
            services.objects.put(layout.compacted_key(delta.key), body)
        return merged

    return patch.object(archiving, "_copy_to_compacted", copied)


def _snapshots_share_one_name() -> AbstractContextManager[object]:
    return patch.object(layout, "new_snapshot_id", lambda _sequence, _token: "0000000001-00000000")


def _nothing_is_told() -> AbstractContextManager[object]:
    return patch.object(archiving, "_send_dead_letters", lambda _refused, _services: None)


def _overtaken(_state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "overtaken" and call.target == layout.pointer_key() and call.writes


def _overtaken_while_merging(state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "overtaken" and state == "MergeBatches" and call.writes


def _midway(_state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "overtaken midway" and call.writes


def _dies(_state: str, call: Call, kind: Kind) -> bool:
    return kind.name in {"crash before, dies", "crash after, dies"} and call.writes


def _dies_cleaning_up(state: str, call: Call, kind: Kind) -> bool:
    return state == "CleanUp" and _dies(state, call, kind)


def _dies_after_the_manifest(_state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "crash after, dies" and call.target.endswith("/manifest.json") and call.writes


def _given_up(state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "500 until given up" and state == "MergeBatches"


def _lost_at_the_pointer(_state: str, call: Call, kind: Kind) -> bool:
    return kind.name == "response lost" and call.target == layout.pointer_key()


def _none(_state: str, _call: Call, _kind: Kind) -> bool:
    return False


FIRST, BASE = "first snapshot", "updates and deletes on a base"
DEFECTS = (
    Defect("the pointer is overwritten", _pointer_is_overwritten, BASE, _overtaken, "a commit was overwritten"),
    Defect("a heartbeat is anybody's", lambda: _without_owner("renew"), FIRST, _overtaken_while_merging, "lease"),
    Defect("a release is anybody's", lambda: _without_owner("release"), FIRST, _midway, "was taken away"),
    Defect("a lease is taken from anybody", _lease_is_taken_from_anybody, FIRST, _dies, "was taken away"),
    Defect("a lease is kept", _lease_is_kept, FIRST, _none, "leaked"),
    Defect("deltas go before the swap", _deltas_go_before_the_swap, FIRST, _dies, "lost"),
    Defect("the pointer goes before the files", _pointer_goes_before_the_files, FIRST, _none, "half a snapshot"),
    Defect("tombstones are forgotten", _tombstones_are_forgotten, BASE, _none, "deltas say"),
    Defect("files go by age alone", _files_go_by_age_alone, "pruning", _none, "half a snapshot"),
    Defect("a delta that failed is done", _a_failed_delta_is_done, FIRST, _given_up, "lost"),
    Defect("a delta that is refused is dropped", _a_refused_delta_is_dropped, "a quarantined delta", _none, "lost"),
    Defect("one's own commit is not known", _own_commit_is_not_known, FIRST, _lost_at_the_pointer, "it FAILED"),
    Defect(
        "deltas go before they are copied",
        _deltas_are_deleted_before_they_are_copied,
        FIRST,
        _dies_cleaning_up,
        "compacted/",
    ),
    Defect("snapshots share one name", _snapshots_share_one_name, FIRST, _dies_after_the_manifest, "written twice"),
    Defect("nobody is told", _nothing_is_told, "a quarantined delta", _none, "untold"),
)
