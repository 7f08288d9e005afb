"""The messages of DownloadSnapshot, FoldPartitions and UploadSnapshot."""

from __future__ import annotations

from pydantic import Field

from chromadb_compaction.configuration import Space
from chromadb_compaction.messages.base import BaseRef, BatchRef, PassNumber, WorkflowMessage
from chromadb_compaction.messages.merging import MergedBatch


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
    folded: list[FoldedItem] = Field(default=[])


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
    too_large: list[str] = Field(default=[])
    folds: list[FoldItem] = Field(default=[])
    folds_left: int = 0
