"""AcquireLock: one execution at a time, so that none does work that another would throw away."""

from __future__ import annotations

from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import AcquireLockRequest
from chromadb_compaction.ports import Services


def acquire_lock(request: AcquireLockRequest, services: Services) -> Lease:
    """Take the lease for this execution; taking it twice is no error. Raises LockHeldError naming the holder."""
    settings = services.settings
    return services.leases.acquire(
        settings.lock_id, request.execution, now=services.clock(), seconds=settings.lease_seconds
    )
