"""The lock item in memory, with the same rules as in DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chromadb_compaction.aws.lease_store import lock_held_error, lock_lost_error
from chromadb_compaction.errors import MalformedLockError
from chromadb_compaction.lease import Lease

Hook = Callable[[str], None]
"""Called with the method's name. The method raises whatever the hook raises."""


def _nothing(_call: str) -> None:
    pass


class InMemoryLeaseStore:
    """Leases in a dict. The items of `malformed` locks are not leases.

    `calls` lists the methods called. An error raised by `after` simulates a lost response.
    """

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.malformed: set[str] = set()
        self.calls: list[str] = []
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self._lock = threading.Lock()

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Acquire the lease if it is free, expired or already `owner`'s. Raises LockHeldError."""
        self._begin("acquire")
        self._check(lock_id)
        with self._lock:
            present = self.leases.get(lock_id)
            if present and present.owner != owner and not present.is_expired(now):
                raise lock_held_error(present, now=now)
            lease = self.leases[lock_id] = Lease.starting(lock_id, owner, now=now, seconds=seconds)
        self.after("acquire")
        return lease

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend the lease. Raises LockLostError if `owner` no longer owns it."""
        self._begin("renew")
        with self._lock:
            present = self.leases.get(lock_id)
            if not present or present.owner != owner:
                raise lock_lost_error(lock_id, owner, present.owner if present else None)
            renewed = Lease.starting(lock_id, owner, now=now, seconds=seconds)
            lease = self.leases[lock_id] = renewed.model_copy(update={"acquired_at": present.acquired_at})
        self.after("renew")
        return lease

    def release(self, lock_id: str, owner: str) -> bool:
        """Release the lease and return True, if `owner` owns it."""
        self._begin("release")
        with self._lock:
            present = self.leases.get(lock_id)
            owned = present is not None and present.owner == owner
            if owned:
                del self.leases[lock_id]
        self.after("release")
        return owned

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease, expired or not."""
        self._begin("read")
        self._check(lock_id)
        return self.leases.get(lock_id)

    def delete_malformed(self, lock_id: str) -> bool:
        """Delete what is not a lease."""
        self._begin("delete_malformed")
        found = lock_id in self.malformed
        self.malformed.discard(lock_id)
        return found

    def _check(self, lock_id: str) -> None:
        if lock_id in self.malformed:
            raise MalformedLockError(f"The holder of lock {lock_id} is unknown")

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)
