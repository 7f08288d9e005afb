"""ReleaseLock: the lease goes, whatever happened before; another execution's stays."""

from __future__ import annotations

import logging

from chromadb_compaction.messages import ReleasedLock, ReleaseLockRequest
from chromadb_compaction.ports import Services

log = logging.getLogger(__name__)


def release_lock(request: ReleaseLockRequest, services: Services) -> ReleasedLock:
    """Release the lease if it is this execution's, else say whose it is. Called twice, the second finds nobody."""
    lock_id = services.settings.lock_id
    if services.leases.release(lock_id, request.execution):
        return ReleasedLock(released=True, holder=None)
    lease = services.leases.read(lock_id)
    holder = lease.owner if lease else None
    log.warning("lock %s was not ours to release; its holder is %s", lock_id, holder or "nobody")
    return ReleasedLock(released=False, holder=holder)
