"""The lock item in memory, under the same rules as the one in DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chromadb_compaction.aws.lease_store import held, lost
from chromadb_compaction.lease import Lease

Hook = Callable[[str], None]
"""Called with the method's name; what it raises, the method raises."""


def _nothing(_call: str) -> None:
    pass


class InMemoryLeaseStore:
    """Leases in a dict. `calls` names every call; a fault raised by `after` is a lost response."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.calls: list[str] = []
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self._lock = threading.Lock()

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Take the lease if it is free, expired or already ours. Raises LockHeldError."""
        self._begin("acquire")
        with self._lock:
            present = self.leases.get(lock_id)
            if present and present.owner != owner and not present.is_expired(now):
                raise held(present, now=now)
            lease = self.leases[lock_id] = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        self.after("acquire")
        return lease

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend our lease. Raises LockLostError."""
        self._begin("renew")
        with self._lock:
            present = self.leases.get(lock_id)
            if not present or present.owner != owner:
                raise lost(lock_id, owner, present.owner if present else None)
            renewed = Lease.starting(lock_id, owner, now=now, seconds=seconds)
            lease = self.leases[lock_id] = renewed.model_copy(update={"acquired_at": present.acquired_at})
        self.after("renew")
        return lease

    def release(self, lock_id: str, owner: str) -> bool:
        """Give up our lease; another's stays."""
        self._begin("release")
        with self._lock:
            present = self.leases.get(lock_id)
            ours = present is not None and present.owner == owner
            if ours:
                del self.leases[lock_id]
        self.after("release")
        return ours

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease, expired or not."""
        self._begin("read")
        return self.leases.get(lock_id)

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)
