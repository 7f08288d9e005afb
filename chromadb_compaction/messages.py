"""The messages between the states: the requests and results of the seven tasks.

They hold only keys, counts and times, because a state's payload is limited to 256 KiB. Field names are those of the
state machine. Times are Unix seconds. `execution` is the lease owner's ARN, and `pass_number` counts from 1.

A deployment may replace a function between two tasks of an execution. So a field of another version is ignored, a new
field of a request has a default, and no field of a result is removed. A request that lacks what its task needs is an
InvalidRequestError, and the next execution begins again.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from chromadb_compaction.configuration import Space
from chromadb_compaction.planning import ObjectInfo

LISTED_COLLECTIONS = 40
"""The most collections that a message lists, so that a pass over hundreds of them fits into a state's payload."""

MOST_TOO_LARGE = 8
"""The most collections that a message names because they are too large."""

PassNumber = Annotated[int, Field(ge=1, alias="pass")]


class Message(BaseModel):
    """Base of all messages: frozen, without unknown fields, with the state machine's names in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class WorkflowMessage(Message):
    """Base of the messages between states. A field that is not known is of another version, and ignored."""

    model_config = ConfigDict(extra="ignore")


class AcquireLockRequest(WorkflowMessage):
    """The request of AcquireLock. The result is a lease.Lease."""

    execution: str


class FoldedItem(WorkflowMessage):
    """The result of FoldPartition.

    Attributes:
        key: The key of the part of the manifest. Each attempt has its own.
        sha256: The SHA-256 of that object.
        folds: The number of collections that were folded.
        left: The number of those that memory, disk or time did not suffice for. Their deltas stay pending.
        bytes_uploaded: The bytes that were uploaded.
        seconds: The time that it took.
    """

    key: str
    sha256: str
    folds: int
    left: int
    bytes_uploaded: int
    seconds: float


class ListDeltasRequest(WorkflowMessage):
    """The request of ListDeltas.

    Attributes:
        previous_pass: The pass that was published last, 0 at first.
        large_passes: The number of passes before that one of which other functions did a part.
        folded: The results of these functions in the previous pass.
        execution_input: The input of the execution, whatever its caller gave.
    """

    execution: str
    previous_pass: Annotated[int, Field(ge=0)]
    execution_input: JsonValue = None
    large_passes: Annotated[int, Field(ge=0)] = 0
    folded: list[FoldedItem] = []

    @property
    def merges_all(self) -> bool:
        """True if the execution merges every collection, due or not: its input is {"all": true}."""
        return isinstance(self.execution_input, dict) and self.execution_input.get("all") is True


class BaseRef(WorkflowMessage):
    """The snapshot that a pass starts from.

    Attributes:
        snapshot_id: The snapshot. None if nothing is published yet.
        etag: The pointer's ETag, which the pointer must still have when the pass publishes. None with `snapshot_id`.
        sequence: The pointer's sequence, 0 if nothing is published yet.
    """

    snapshot_id: str | None
    etag: str | None
    sequence: Annotated[int, Field(ge=0)]


class BatchRef(WorkflowMessage):
    """One batch.

    Attributes:
        key: The key of its BATCH_MANIFEST.
        collection: The first of its collections, in order of their names.
        collections: The number of its collections.
        deltas: The number of deltas.
        bytes: Their size.
    """

    key: str
    collection: str
    collections: int = 1
    deltas: int
    bytes: int


BATCH_MANIFEST = TypeAdapter(list[ObjectInfo])
"""The stored list of one batch's deltas that ListDeltas writes for MergeBatch."""


class DeltaListing(WorkflowMessage):
    """The result of ListDeltas.

    Attributes:
        batches: The batches of this pass.
        deltas: The number of deltas in them.
        more: Whether another pass must follow.
        base: The snapshot that the pass starts from.
        pending: The number of all pending deltas.
        oldest_seconds: The age of the oldest of them. None if there are none.
        finished_clean_up_of: The snapshot whose clean-up an earlier execution left unfinished, if there was one.
        queue_error: The error of a queue that this clean-up could not use. None if there was none.
        set_aside: The number of pending deltas that cannot be read, or that have failed too often.
        large_passes: The number of passes so far of which other functions did a part. Each counts as two.
        deferred: The number of pending deltas of collections that are not due yet.
        deferred_until: When the first of these collections is due, if no delta follows. None if there are none.
    """

    pass_number: PassNumber
    batches: list[BatchRef]
    deltas: int
    more: bool
    base: BaseRef
    pending: int
    oldest_seconds: float | None
    finished_clean_up_of: str | None
    queue_error: str | None = None
    set_aside: int = 0
    large_passes: int = 0
    deferred: int = 0
    deferred_until: float | None = None


class DownloadSnapshotRequest(WorkflowMessage):
    """The request of DownloadSnapshot, for the collections of `batches`."""

    execution: str
    pass_number: PassNumber
    base: BaseRef
    batches: list[BatchRef]


class CollectionShape(WorkflowMessage):
    """The shape of a collection, which every delta must fit.

    Attributes:
        collection: The name of the collection.
        dimension: The length of its vectors. None if it has never had an upsert.
        space: The distance function.
        embedding_function: The name of the function that embeds its texts, if known.
        records: The number of live rows.
    """

    collection: str
    dimension: int | None
    space: Space
    embedding_function: str | None
    records: int


class DownloadedSnapshot(WorkflowMessage):
    """The result of DownloadSnapshot.

    Attributes:
        collections: The shapes of the collections, at most LISTED_COLLECTIONS of them, the largest first.
        others: The number of collections that are not listed.
        bytes: The bytes that were transferred.
        seconds: How long that took.
        cached: Whether nothing had to be transferred.
    """

    collections: list[CollectionShape]
    others: int = 0
    bytes: int
    seconds: float
    cached: bool


class MergeBatchRequest(WorkflowMessage):
    """The request of MergeBatch: one item of the Map."""

    execution: str
    pass_number: PassNumber
    batch: BatchRef


class MergedBatch(WorkflowMessage):
    """The result of MergeBatch.

    Attributes:
        collection: The first of the batch's collections.
        collections: The number of its collections.
        run: The key of the runs of all its collections, one after the other. None if they have no rows.
        report: The key of the report.
        merged: The number of merged deltas.
        quarantined: The number of quarantined deltas.
        missing: The number of deltas that have gone or changed since they were listed.
        rows: The number of rows in the run.
        bytes: The size of the run.
        unreadable: The number of deltas whose object cannot be read. They stay pending.
        left: The number of deltas for which the disk had no space. They stay pending, for the next execution.
        parts: The key of the list of the run's parts, one for each collection. None if no collection changes.
    """

    collection: str
    collections: int = 1
    run: str | None
    report: str
    merged: int
    quarantined: int
    missing: int
    rows: int
    bytes: int
    unreadable: int = 0
    left: int = 0
    parts: str | None = None


class FoldItem(WorkflowMessage):
    """The folds that one other function does: one item of the Map FoldPartitions.

    Attributes:
        key: The key of the list of these folds.
        folds: Their number.
        collection: The first of their collections.
        bytes: The size of the base's files that they need.
        estimated_seconds: The time that they are planned to take.
    """

    key: str
    folds: int
    collection: str
    bytes: int
    estimated_seconds: float


class FoldPartitionRequest(WorkflowMessage):
    """The request of FoldPartition: one item of the Map."""

    execution: str
    pass_number: PassNumber
    base: BaseRef
    item: FoldItem


class UploadSnapshotRequest(WorkflowMessage):
    """The request of UploadSnapshot: fold `runs` into `base` and publish the result.

    Attributes:
        folded: The results of FoldPartitions. Empty if the pass has none, or not yet.
    """

    execution: str
    pass_number: PassNumber
    base: BaseRef
    runs: list[MergedBatch]
    folded: list[FoldedItem] = []


class CollectionCounts(WorkflowMessage):
    """The result of a fold for one collection, in rows.

    Attributes:
        collection: The name of the collection.
        collections: The number of collections whose counts these are: more than 1 for the others of a large pass.
        added: New rows.
        replaced: Rows that a newer version replaced.
        deleted: Rows that were deleted.
        unchanged: Rows that are newer, and say the same.
        older: Rows that are older than what is there, or were merged before.
        records: All live rows now.
        loader: The loader that changed the records. None if none changed.
    """

    collection: str
    collections: int = 1
    added: int
    replaced: int
    deleted: int
    unchanged: int
    records: int
    loader: str | None = None
    older: int = 0


class PublishedSnapshot(WorkflowMessage):
    """The result of UploadSnapshot.

    Attributes:
        published: Whether a snapshot was published. It is not if the pass changed nothing.
        snapshot_id: The snapshot that is published now. None if there is none.
        outcome: The key of the list of delta outcomes, which CleanUp carries out. Empty with `folds`.
        collections: The changes, by collection: the LISTED_COLLECTIONS with the most changed rows, in order of their
            names. If there are more, the last entry adds up the others, and its name says how many they are.
        deltas_merged: The number of deltas that the pass merged.
        deltas_quarantined: The number of deltas that the pass quarantined.
        records: The records of the whole published snapshot.
        bytes: The size of the whole published snapshot.
        bytes_uploaded: The bytes that the pass uploaded.
        seconds: The seconds of each phase.
        deltas_unreadable: The number of deltas of the pass whose object cannot be read.
        deltas_left: The number of deltas left pending, because disk or memory had no space for them or their fold.
        too_large: The collections whose fold memory or disk could not hold, at most MOST_TOO_LARGE.
        folds: The folds that other functions must do first. With any, nothing was folded or published yet, and
            UploadSnapshot is called again with their results.
        folds_left: The number of these items.
    """

    published: bool
    snapshot_id: str | None
    outcome: str
    collections: list[CollectionCounts]
    deltas_merged: int
    deltas_quarantined: int
    records: int
    bytes: int
    bytes_uploaded: int
    seconds: dict[str, float]
    deltas_unreadable: int = 0
    deltas_left: int = 0
    too_large: list[str] = []
    folds: list[FoldItem] = []
    folds_left: int = 0


class CleanUpRequest(WorkflowMessage):
    """The request of CleanUp.

    Attributes:
        snapshot_id: The snapshot of the pass. If it is no longer published, nothing is moved.
        outcome: The key of the list of delta outcomes. Empty if other functions must fold first.
    """

    execution: str
    pass_number: PassNumber
    snapshot_id: str | None
    outcome: str


class CleanedUp(WorkflowMessage):
    """The result of CleanUp.

    Attributes:
        archived: The number of deltas moved to compacted/.
        quarantined: The number of quarantined deltas removed from delta/.
        messages_deleted: The number of notifications deleted from the queue.
        snapshots_pruned: The number of snapshots deleted.
        objects_pruned: The number of their objects deleted.
        skipped: Why nothing was done. None if it was.
        queue_error: The error of a queue that could not be used. None if both could.
    """

    archived: int
    quarantined: int
    messages_deleted: int
    snapshots_pruned: int
    objects_pruned: int
    skipped: str | None = None
    queue_error: str | None = None


class ReleaseLockRequest(WorkflowMessage):
    """The request of ReleaseLock, from the workflow and from the status-change rule."""

    execution: str


class ReleasedLock(WorkflowMessage):
    """The result of ReleaseLock.

    Attributes:
        released: Whether the lease was released. It is not if the execution did not own it.
        holder: The owner of the lease if it was not released. None if the lock is free.
    """

    released: bool
    holder: str | None
