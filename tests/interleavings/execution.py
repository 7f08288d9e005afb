"""An execution as Step Functions runs it. Each attempt of a task is an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chromadb_compaction.errors import LockHeldError, TransientStorageError
from chromadb_compaction.messages import (
    AcquireLockRequest,
    CleanUpRequest,
    DeltaListing,
    DownloadSnapshotRequest,
    FoldedItem,
    FoldItem,
    FoldPartitionRequest,
    ListDeltasRequest,
    MergeBatchRequest,
    MergedBatch,
    PublishedSnapshot,
    ReleaseLockRequest,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.acquire_lock import acquire_lock
from chromadb_compaction.steps.clean_up import clean_up
from chromadb_compaction.steps.download_snapshot import download_snapshot
from chromadb_compaction.steps.fold_partitions import fold_partition
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.merge_batch import merge_batch
from chromadb_compaction.steps.release_lock import release_lock
from chromadb_compaction.steps.upload_snapshot import upload_snapshot
from tests.interleavings.scheduler import Actor

if TYPE_CHECKING:
    from tests.interleavings.simulation import Simulation

ARN_PREFIX = "arn:aws:states:eu-west-1:000000000000:execution:chromadb-compaction-dev"
ATTEMPTS = 3
"""Attempts of a task. The state machine's 6 would make simulations longer and show nothing more."""


class Branch:
    """A task, or one item of a Map, with the attempts to do it. The last one counts.

    `start` takes the number of an attempt and returns its actor.
    """

    def __init__(self, start: Callable[[int], Actor]) -> None:
        self.attempts = 1
        self.attempt = start(1)
        self._start = start

    @property
    def result(self) -> Any:
        """The result. None: it has none yet."""
        return self.attempt.result

    @property
    def error(self) -> BaseException | None:
        """The error. None: it has none yet."""
        return self.attempt.error

    @property
    def may_be_retried(self) -> bool:
        """True if the error is transient, and attempts are left."""
        return self.attempts < ATTEMPTS and (self.attempt.died or isinstance(self.error, TransientStorageError))

    def start_again(self) -> None:
        """Start another attempt, whether the last one has ended or not."""
        self.attempts += 1
        self.attempt = self._start(self.attempts)


class SimulatedExecution:
    """One execution. `status` becomes SUCCEEDED, HELD, FAILED or ABORTED."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = name
        self.arn = f"{ARN_PREFIX}:{name}"
        self.status = "RUNNING"
        self._simulation = simulation
        self._task = ""
        self._branches: list[Branch] = []
        self._failed = False
        self._listing: DeltaListing | None = None
        self._runs: list[MergedBatch] = []
        self._folded: list[FoldedItem] = []
        self._published: PublishedSnapshot | None = None
        self._start_task("AcquireLock")

    @property
    def attempt(self) -> Actor | None:
        """The attempt that runs, or one of them. None: none runs."""
        branch = self._running_branch
        return branch.attempt if branch else None

    @property
    def _running_branch(self) -> Branch | None:
        return next((branch for branch in self._branches if not branch.attempt.ended), None)

    def proceed(self) -> None:
        """Continue with the next tasks and attempts, until one of them waits for a call."""
        while self.status == "RUNNING":
            for branch in self._branches:
                if branch.attempt.ended and branch.may_be_retried:
                    branch.start_again()
            errors = [branch.error for branch in self._branches if branch.attempt.ended and branch.error is not None]
            if errors:
                self._catch(errors[0])
            elif self.attempt is None:
                self._after(self._task, [branch.result for branch in self._branches])
            else:
                return

    def retry(self) -> None:
        """Start another attempt while the last one still runs, and ignore the last one's result."""
        if branch := self._running_branch:
            branch.start_again()

    def retry_item(self, attempt: Actor) -> bool:
        """Do the same to the item of a Map that this attempt works on. Return False if it is of no item."""
        branch = next((branch for branch in self._branches if branch.attempt is attempt), None)
        if branch is not None:
            branch.start_again()
        return branch is not None

    def abort(self) -> None:
        """Do what StopExecution does. The running task continues."""
        self._end("ABORTED")

    def _start_task(self, task: str) -> None:
        self._task = task
        self._branches = []
        self._start_branch(task, *self._request())

    def _start_map(self, items: list[FoldItem], listing: DeltaListing) -> None:
        """Start the Map FoldPartitions: the functions of all items run at the same time."""
        self._task = "FoldPartitions"
        self._branches = []
        common = {"execution": self.arn, "pass_number": listing.pass_number, "base": listing.base}
        for number, item in enumerate(items):
            self._start_branch(f"FoldPartition {number}", fold_partition, FoldPartitionRequest(item=item, **common))

    def _start_branch(self, name: str, step: Callable[[Any, Services], Any], request: object) -> None:
        def start(number: int) -> Actor:
            attempt = f" (attempt {number})" if number > 1 else ""
            return self._simulation.start_actor(
                f"{self.name} {name}{attempt}", lambda services: step(request, services)
            )

        self._branches.append(Branch(start))

    def _request(self) -> tuple[Callable[[Any, Services], Any], object]:
        match self._task:
            case "AcquireLock":
                return acquire_lock, AcquireLockRequest(execution=self.arn)
            case "ListDeltas":
                return list_deltas, self._request_of_a_listing()
            case "ReleaseLock":
                return release_lock, ReleaseLockRequest(execution=self.arn)
        assert self._listing is not None
        return self._request_of_a_pass(self._listing)

    def _request_of_a_listing(self) -> ListDeltasRequest:
        if self._listing is None:
            return ListDeltasRequest(execution=self.arn, previous_pass=0)
        return ListDeltasRequest(
            execution=self.arn,
            previous_pass=self._listing.pass_number,
            large_passes=self._listing.large_passes,
            folded=self._folded,
        )

    def _request_of_a_pass(self, listing: DeltaListing) -> tuple[Callable[[Any, Services], Any], object]:
        published = self._published
        common = {"execution": self.arn, "pass_number": listing.pass_number}
        match self._task:
            case "DownloadSnapshot":
                return download_snapshot, DownloadSnapshotRequest(base=listing.base, batches=listing.batches, **common)
            case "MergeBatch":
                return merge_batch, MergeBatchRequest(batch=listing.batches[len(self._runs)], **common)
            case "UploadSnapshot":
                return upload_snapshot, UploadSnapshotRequest(
                    base=listing.base, runs=self._runs, folded=self._folded, **common
                )
        assert published is not None
        return clean_up, CleanUpRequest(snapshot_id=published.snapshot_id, outcome=published.outcome, **common)

    def _after(self, task: str, results: list[Any]) -> None:
        match task:
            case "AcquireLock":
                self._start_task("ListDeltas")
            case "ListDeltas":
                self._listing, self._runs, self._folded = results[0], [], []
                self._start_task("DownloadSnapshot" if results[0].deltas else "ReleaseLock")
            case "DownloadSnapshot":
                self._start_task("MergeBatch")
            case "MergeBatch":
                self._runs += results
                assert self._listing is not None
                self._start_task("MergeBatch" if len(self._runs) < len(self._listing.batches) else "UploadSnapshot")
            case "FoldPartitions":
                self._folded = results
                self._start_task("UploadSnapshot")
            case "UploadSnapshot":
                self._published = results[0]
                self._start_task("CleanUp")
            case "CleanUp":
                self._after_the_clean_up()
            case _:
                self._end("FAILED" if self._failed else "SUCCEEDED")

    def _after_the_clean_up(self) -> None:
        assert self._listing is not None
        assert self._published is not None
        if self._published.folds:
            self._start_map(self._published.folds, self._listing)
        else:
            self._start_task("ListDeltas" if self._listing.more else "ReleaseLock")

    def _catch(self, error: BaseException) -> None:
        if self._task == "AcquireLock" and isinstance(error, LockHeldError):
            self._end("HELD")
        elif self._task == "ReleaseLock":
            self._end("FAILED")
        else:
            self._failed = self._failed or self._task != "CleanUp"
            self._start_task("ReleaseLock")

    def _end(self, status: str) -> None:
        self.status, self._branches = status, []
        self._simulation.log(f"{self.name} is {status}")
        if status in ("FAILED", "ABORTED"):
            self._simulation.start_actor(f"status-change rule for {self.name}", self._release)

    def _release(self, services: Services) -> object:
        return release_lock(ReleaseLockRequest(execution=self.arn), services)
