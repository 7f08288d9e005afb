"""The largest possible state and history, calculated from messages whose fields have their greatest lengths."""

from __future__ import annotations

from chromadb_compaction import layout
from chromadb_compaction.messages import (
    MOST_TOO_LARGE,
    BaseRef,
    BatchRef,
    CleanedUp,
    CollectionCounts,
    CollectionShape,
    DeltaListing,
    DownloadedSnapshot,
    FoldedItem,
    FoldItem,
    MergedBatch,
    Message,
    PublishedSnapshot,
    ReleasedLock,
)
from tests.statemachine.definition import Json, tasks

STATE_LIMIT = 256 * 1024
HISTORY_LIMIT = 25_000
MAP_EVENTS = 4
"""A Map is entered, started, succeeded, left."""
LONGEST_CAUSE = 32_768
"""Characters of a cause that Step Functions keeps."""

EXECUTION = f"arn:aws:states:ap-southeast-2:123456789012:execution:{'m' * 80}:{'e' * 80}"
COLLECTION = "c" * 512
SNAPSHOT_ID = "9999999999-ffffffff"
LARGE = 10**15
TYPICAL_COLLECTION = "python-docs"


def a_full_state(*, batches: int, passes: int, collection: str = COLLECTION, failed: bool = True) -> Json:
    """Return the input of ReleaseLock when the last pass lists as many collections as batches."""
    state = {
        "lease": {
            "lock_id": "l" * 100,
            "owner": EXECUTION,
            "acquired_at": LARGE,
            "heartbeat_at": LARGE,
            "expires_at": LARGE,
        },
        "work": _json(_listing(batches, passes, collection))
        | {"folded": [_json(_folded(number, passes)) for number in range(batches)]},
        "base_copy": _json(_base_copy(batches, collection)),
        "runs": [_json(_run(number, passes, collection)) for number in range(batches)],
        "snapshot": _json(_snapshot(batches, collection)),
        "clean_up": _json(_clean_up()),
        "release": _json(ReleasedLock(released=False, holder=EXECUTION)),
    }
    failures = {name: {"Error": "E" * 256, "Cause": "c" * LONGEST_CAUSE} for name in ("failure", "release_failure")}
    return state | (failures if failed else {})


def _json(message: Message) -> Json:
    return message.model_dump(mode="json")


def _batch_key(number: int, passes: int) -> str:
    return layout.batch_key(EXECUTION, passes, number)


def _listing(batches: int, passes: int, collection: str) -> DeltaListing:
    return DeltaListing(
        pass_number=passes,
        batches=[
            BatchRef(key=_batch_key(number, passes), collection=collection, collections=1000, deltas=1000, bytes=LARGE)
            for number in range(batches)
        ],
        deltas=LARGE,
        more=False,
        base=BaseRef(snapshot_id=SNAPSHOT_ID, etag='"' + "e" * 40 + '"', sequence=10**10 - 1),
        pending=LARGE,
        oldest_seconds=1234567.1234567,
        finished_clean_up_of=SNAPSHOT_ID,
        queue_error="q" * 500,
        set_aside=LARGE,
        large_passes=passes,
        deferred=LARGE,
        deferred_until=1234567890.1234567,
    )


def _base_copy(batches: int, collection: str) -> DownloadedSnapshot:
    shape = CollectionShape(
        collection=collection, dimension=65_536, space="cosine", embedding_function="f" * 100, records=LARGE
    )
    return DownloadedSnapshot(
        collections=[shape] * batches, others=LARGE, bytes=LARGE, seconds=899.123456789, cached=False
    )


def _run(number: int, passes: int, collection: str) -> MergedBatch:
    key = _batch_key(number, passes)
    return MergedBatch(
        collection=collection,
        collections=1000,
        run=layout.run_key(key),
        parts=layout.parts_key(key),
        report=layout.report_key(key),
        merged=1000,
        quarantined=1000,
        missing=1000,
        rows=LARGE,
        bytes=LARGE,
        unreadable=1000,
        left=1000,
    )


def _snapshot(batches: int, collection: str) -> PublishedSnapshot:
    counts = CollectionCounts(
        collection=collection,
        added=LARGE,
        replaced=LARGE,
        deleted=LARGE,
        unchanged=LARGE,
        records=LARGE,
        older=LARGE,
    )
    return PublishedSnapshot(
        published=True,
        snapshot_id=SNAPSHOT_ID,
        outcome=layout.merged_deltas_key(SNAPSHOT_ID),
        collections=[counts] * batches,
        deltas_merged=LARGE,
        deltas_quarantined=LARGE,
        records=LARGE,
        bytes=LARGE,
        bytes_uploaded=LARGE,
        seconds={f"fold.phase-{number:02d}": 899.123456789 for number in range(20)},
        deltas_unreadable=LARGE,
        deltas_left=LARGE,
        too_large=[collection] * min(batches, MOST_TOO_LARGE),
    )


def fold_item(number: int, passes: int, collection: str) -> FoldItem:
    """Return an item of FoldPartitions whose fields have their greatest lengths."""
    key = layout.fold_item_key(EXECUTION, passes, number)
    return FoldItem(key=key, folds=1000, collection=collection, bytes=LARGE, estimated_seconds=1234567.1)


def _folded(number: int, passes: int) -> FoldedItem:
    key = layout.folded_part_key(layout.fold_item_key(EXECUTION, passes, number), SNAPSHOT_ID)
    return FoldedItem(key=key, sha256="f" * 64, folds=1000, left=1000, bytes_uploaded=LARGE, seconds=899.123456789)


def _clean_up() -> CleanedUp:
    return CleanedUp(
        archived=LARGE,
        quarantined=LARGE,
        messages_deleted=LARGE,
        snapshots_pruned=LARGE,
        objects_pruned=LARGE,
        skipped="s" * 300,
        queue_error="q" * 500,
    )


def most_history_events(definition: Json, *, batches: int, passes: int) -> int:
    """Return the number of events of an execution in which every task succeeds at its last attempt."""
    events = {name: _events_of_task(state) for name, state in tasks(definition).items()}
    once = sum(events.pop(name) for name in ("AcquireLock", "ReleaseLock"))
    ends = 1 + 2 + 2  # execution started; Succeeded? entered and left; Done entered, execution succeeded
    batch = events.pop("MergeBatch") + 2  # iteration started, ended
    events.pop("FoldPartition")
    choices = 2 * 2  # AnyDeltas? and MoreDeltas?, entered and left
    return once + ends + passes * (sum(events.values()) + choices + MAP_EVENTS + batches * batch)


def most_events_of_folds(definition: Json, *, items: int) -> int:
    """Return the most events that FoldPartitions, and the second calls that it causes, add to one pass."""
    events = {name: _events_of_task(state) for name, state in tasks(definition).items()}
    again = events["UploadSnapshot"] + events["CleanUp"] + 2  # and MoreDeltas?
    return MAP_EVENTS + again + items * (events["FoldPartition"] + 2)


def _events_of_task(state: Json) -> int:
    attempts = 1 + sum(int(retry["MaxAttempts"]) for retry in state["Retry"])
    return 2 + 3 * attempts  # entered, left; scheduled, started, ended
