"""Holding the compaction lock for a person's command, so that no execution works meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.ports import Services


@contextmanager
def operator_lease(services: Services, owner: str) -> Iterator[Heartbeat]:
    """Hold the lock as `owner`, which no other command may share. Raises LockHeldError naming the holder.

    A CleanUp on its way could otherwise take away again what the command puts back.
    """
    settings = services.settings
    services.leases.acquire(settings.lock_id, owner, now=services.clock(), seconds=settings.lease_seconds)
    try:
        with heartbeat_for(services, owner) as heartbeat:
            yield heartbeat
    finally:
        services.leases.release(settings.lock_id, owner)
