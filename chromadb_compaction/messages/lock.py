"""The messages of AcquireLock and ReleaseLock."""

from __future__ import annotations

from chromadb_compaction.messages.base import WorkflowMessage


class AcquireLockRequest(WorkflowMessage):
    """The request of AcquireLock. The result is a lease.Lease."""

    execution: str


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
