"""The messages of MergeBatch."""

from __future__ import annotations

from chromadb_compaction.messages.base import BatchRef, PassNumber, WorkflowMessage


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
