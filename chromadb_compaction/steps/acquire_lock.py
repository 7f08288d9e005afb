"""AcquireLock: let one execution work at a time, so that no work is wasted."""

from __future__ import annotations

from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import AcquireLockRequest
from chromadb_compaction.ports import Services


def acquire_lock(request: AcquireLockRequest, services: Services) -> Lease:
    """Acquire the lease for this execution. Acquiring it twice is not an error. Raises LockHeldError."""
    settings = services.settings
    return services.leases.acquire(
        settings.lock_id, request.execution, now=services.clock(), seconds=settings.lease_seconds
    )
