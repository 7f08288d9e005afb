"""The compaction lock, held by an operator's command so that no execution works meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.ports import Services


@contextmanager
def operator_lease(services: Services, owner: str) -> Iterator[Heartbeat]:
    """Hold the lock as `owner`, a name that is unique to the command. Raises LockHeldError with the holder.

    Without the lock, a CleanUp that is running could archive again the deltas that the command makes pending.
    """
    settings = services.settings
    services.leases.acquire(settings.lock_id, owner, now=services.clock(), seconds=settings.lease_seconds)
    try:
        with heartbeat_for(services, owner) as lease:
            yield lease
    finally:
        services.leases.release(settings.lock_id, owner)
