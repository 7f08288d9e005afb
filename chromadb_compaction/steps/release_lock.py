"""ReleaseLock: release this execution's lease, on success and on failure. Leave another owner's lease alone."""

from __future__ import annotations

import logging

from chromadb_compaction.messages import ReleasedLock, ReleaseLockRequest
from chromadb_compaction.ports import Services

log = logging.getLogger(__name__)


def release_lock(request: ReleaseLockRequest, services: Services) -> ReleasedLock:
    """Release the lease if this execution owns it, else return the holder: None if the lock is free."""
    lock_id = services.settings.lock_id
    if services.leases.release(lock_id, request.execution):
        return ReleasedLock(released=True, holder=None)
    lease = services.leases.read(lock_id)
    holder = lease.owner if lease else None
    log.warning("lock %s is not owned by this execution; its holder: %s", lock_id, holder or "none")
    return ReleasedLock(released=False, holder=holder)
