"""Passes of an execution over in-memory fakes. The steps run in the state machine's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from chromadb_compaction.messages import (
    CleanedUp,
    CleanUpRequest,
    DeltaListing,
    DownloadedSnapshot,
    DownloadSnapshotRequest,
    FoldedItem,
    FoldItem,
    FoldPartitionRequest,
    ListDeltasRequest,
    MergeBatchRequest,
    MergedBatch,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.clean_up import clean_up
from chromadb_compaction.steps.download_snapshot import download_snapshot
from chromadb_compaction.steps.fold_partitions import fold_partition
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.merge_batch import merge_batch
from chromadb_compaction.steps.upload_snapshot import upload_snapshot
from tests.builders import BuiltDelta
from tests.fakes.services import EXECUTION, Fakes

_numbers = count()


@dataclass
class Pass:
    """One pass. Each step takes the results of earlier steps.

    Args:
        fakes: The services that the steps use.
        execution: The ARN of the execution, which owns the lease.
        number: The number of the pass, from 1.
        begin: Returns the services of a task that begins. None: those of `fakes`.
    """

    fakes: Fakes
    execution: str = EXECUTION
    number: int = 1
    begin: Callable[[], Services] | None = None
    listing: DeltaListing = field(init=False)
    runs: list[MergedBatch] = field(init=False)

    def find(self) -> DeltaListing:
        """Run AcquireLock, which succeeds even if another execution owns the lease, and ListDeltas."""
        self.take_lease()
        request = ListDeltasRequest(execution=self.execution, previous_pass=self.number - 1)
        self.listing = list_deltas(request, self._services())
        return self.listing

    def download(self) -> DownloadedSnapshot:
        """Run DownloadSnapshot."""
        request = DownloadSnapshotRequest(
            execution=self.execution, pass_number=self.number, base=self.listing.base, batches=self.listing.batches
        )
        return download_snapshot(request, self._services())

    def merge(self) -> list[MergedBatch]:
        """Run MergeBatch for every batch."""
        requests = [
            MergeBatchRequest(execution=self.execution, pass_number=self.number, batch=batch)
            for batch in self.listing.batches
        ]
        self.runs = [merge_batch(request, self._services()) for request in requests]
        return self.runs

    def upload(self, folded: Sequence[FoldedItem] = ()) -> PublishedSnapshot:
        """Run UploadSnapshot, with the results of FoldPartition if there are any."""
        request = UploadSnapshotRequest(
            execution=self.execution,
            pass_number=self.number,
            base=self.listing.base,
            runs=self.runs,
            folded=list(folded),
        )
        return upload_snapshot(request, self._services())

    def fold(self, item: FoldItem) -> FoldedItem:
        """Run FoldPartition for one item."""
        request = FoldPartitionRequest(
            execution=self.execution, pass_number=self.number, base=self.listing.base, item=item
        )
        return fold_partition(request, self._services())

    def clean_up(self, published: PublishedSnapshot) -> CleanedUp:
        """Run CleanUp."""
        request = CleanUpRequest(
            execution=self.execution,
            pass_number=self.number,
            snapshot_id=published.snapshot_id,
            outcome=published.outcome,
        )
        return clean_up(request, self._services())

    def up_to_upload(self) -> Pass:
        """Run every step before UploadSnapshot."""
        self.find()
        self.download()
        self.merge()
        return self

    def _services(self) -> Services:
        return self.begin() if self.begin else self.fakes.services

    def take_lease(self) -> None:
        """Release the lease of any other execution and acquire it for this one."""
        lease = self.fakes.leases.read(self.fakes.settings.lock_id)
        if lease is not None and lease.owner != self.execution:
            self.fakes.leases.release(self.fakes.settings.lock_id, lease.owner)
        self.fakes.hold_lease(self.execution)


def compact(fakes: Fakes, *deltas: BuiltDelta, execution: str | None = None) -> PublishedSnapshot:
    """Store `deltas`, run one whole pass of a new execution, and return UploadSnapshot's result."""
    for delta in deltas:
        delta.put_into(fakes.objects)
    one = Pass(fakes, execution or f"{EXECUTION}-{next(_numbers)}").up_to_upload()
    published = one.upload()
    one.clean_up(published)
    return published
