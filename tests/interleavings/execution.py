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


class SimulatedExecution:
    """One execution. `status` becomes SUCCEEDED, HELD, FAILED or ABORTED."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = name
        self.arn = f"{ARN_PREFIX}:{name}"
        self.status = "RUNNING"
        self.attempt: Actor | None = None
        self._simulation = simulation
        self._task = ""
        self._attempts = 0
        self._failed = False
        self._listing: DeltaListing | None = None
        self._runs: list[MergedBatch] = []
        self._published: PublishedSnapshot | None = None
        self._start_task("AcquireLock")

    def proceed(self) -> None:
        """Continue with the next task or attempt if the current one has ended."""
        if self.attempt is None or not self.attempt.ended or self.status != "RUNNING":
            return
        error = self.attempt.error
        if error is None:
            self._after(self._task, self.attempt.result)
        elif self._is_transient(error) and self._attempts < ATTEMPTS:
            self._start_attempt()
        else:
            self._catch(error)

    def retry(self) -> None:
        """Start another attempt while the last one still runs, and ignore the last one's result."""
        self._start_attempt()

    def abort(self) -> None:
        """Do what StopExecution does. The running task continues."""
        self._end("ABORTED")

    def _is_transient(self, error: BaseException) -> bool:
        died = self.attempt is not None and self.attempt.died
        return died or isinstance(error, TransientStorageError)

    def _start_task(self, task: str) -> None:
        self._task, self._attempts = task, 0
        self._start_attempt()

    def _start_attempt(self) -> None:
        self._attempts += 1
        number = f" (attempt {self._attempts})" if self._attempts > 1 else ""
        self.attempt = self._simulation.start_actor(f"{self.name} {self._task}{number}", self._body())

    def _body(self) -> Callable[[Services], Any]:
        step, request = self._request()
        return lambda services: step(request, services)

    def _request(self) -> tuple[Callable[[Any, Services], Any], object]:
        match self._task:
            case "AcquireLock":
                return acquire_lock, AcquireLockRequest(execution=self.arn)
            case "ListDeltas":
                done = self._listing.pass_number if self._listing else 0
                return list_deltas, ListDeltasRequest(execution=self.arn, previous_pass=done)
            case "ReleaseLock":
                return release_lock, ReleaseLockRequest(execution=self.arn)
        assert self._listing is not None
        return self._request_of_a_pass(self._listing)

    def _request_of_a_pass(self, listing: DeltaListing) -> tuple[Callable[[Any, Services], Any], object]:
        published = self._published
        common = {"execution": self.arn, "pass_number": listing.pass_number}
        match self._task:
            case "DownloadSnapshot":
                return download_snapshot, DownloadSnapshotRequest(base=listing.base, batches=listing.batches, **common)
            case "MergeBatch":
                return merge_batch, MergeBatchRequest(batch=listing.batches[len(self._runs)], **common)
            case "UploadSnapshot":
                return upload_snapshot, UploadSnapshotRequest(base=listing.base, runs=self._runs, **common)
        assert published is not None
        return clean_up, CleanUpRequest(snapshot_id=published.snapshot_id, outcome=published.outcome, **common)

    def _after(self, task: str, result: Any) -> None:
        match task:
            case "AcquireLock":
                self._start_task("ListDeltas")
            case "ListDeltas":
                self._listing, self._runs = result, []
                self._start_task("DownloadSnapshot" if result.deltas else "ReleaseLock")
            case "DownloadSnapshot":
                self._start_task("MergeBatch")
            case "MergeBatch":
                self._runs.append(result)
                assert self._listing is not None
                self._start_task("MergeBatch" if len(self._runs) < len(self._listing.batches) else "UploadSnapshot")
            case "UploadSnapshot":
                self._published = result
                self._start_task("CleanUp")
            case "CleanUp":
                assert self._listing is not None
                self._start_task("ListDeltas" if self._listing.more else "ReleaseLock")
            case _:
                self._end("FAILED" if self._failed else "SUCCEEDED")

    def _catch(self, error: BaseException) -> None:
        if self._task == "AcquireLock" and isinstance(error, LockHeldError):
            self._end("HELD")
        elif self._task == "ReleaseLock":
            self._end("FAILED")
        else:
            self._failed = self._failed or self._task != "CleanUp"
            self._start_task("ReleaseLock")

    def _end(self, status: str) -> None:
        self.status, self.attempt = status, None
        self._simulation.log(f"{self.name} is {status}")
        if status in ("FAILED", "ABORTED"):
            self._simulation.start_actor(f"status-change rule for {self.name}", self._release)

    def _release(self, services: Services) -> object:
        return release_lock(ReleaseLockRequest(execution=self.arn), services)
