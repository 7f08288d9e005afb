"""Renewal of the lease while a task works: once at the start, then every minute from a thread."""

from __future__ import annotations

import logging
from threading import Event, Thread
from types import TracebackType
from typing import Self

from chromadb_compaction.errors import CompactionError, TransientStorageError
from chromadb_compaction.ports import Clock, LeaseStore, Services

INTERVAL_SECONDS = 60.0
EXIT_PATIENCE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Heartbeat:
    """Renews the lease for the length of a `with` block.

    A task that ends within `interval` costs one write. A renewal that fails temporarily is repeated after the next
    interval, because a lease lasts many intervals. One that finds another owner ends the renewals: `check` raises it.

    Args:
        leases: The store of the lease.
        lock_id: The name of the lock.
        owner: The owner of the lease.
        clock: The time.
        seconds: How long a renewed lease lasts.
        interval: The seconds between two renewals.
    """

    def __init__(
        self,
        leases: LeaseStore,
        lock_id: str,
        owner: str,
        clock: Clock,
        seconds: int,
        *,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._leases = leases
        self._lock_id = lock_id
        self._owner = owner
        self._clock = clock
        self._seconds = seconds
        self._interval = interval
        self._expires_at = 0.0
        self._ended_by: CompactionError | None = None
        self._done = Event()
        self._thread = Thread(target=self._renew_regularly, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Renew the lease. Raises LockLostError, and then the block does not run."""
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the renewals. One in progress is not waited for long: it can only extend the owner's own lease."""
        self._done.set()
        self._thread.join(EXIT_PATIENCE_SECONDS)

    def check(self) -> None:
        """Raise LockLostError if the lease is lost. Costs a write only if all renewals of a whole lease have failed."""
        if self._ended_by is not None:
            raise self._ended_by
        if self._clock() > self._expires_at:
            self._renew()

    def _renew(self) -> None:
        lease = self._leases.renew(self._lock_id, self._owner, now=self._clock(), seconds=self._seconds)
        self._expires_at = lease.expires_at

    def _renew_regularly(self) -> None:
        while not self._done.wait(self._interval):
            try:
                self._renew()
            except TransientStorageError as error:
                log.warning("a renewal of the lease failed and will be repeated: %s", error)
            except CompactionError as error:
                self._ended_by = error
                return


def heartbeat_for(services: Services, execution: str) -> Heartbeat:
    """Return the heartbeat that renews the compaction lock for `execution`."""
    settings = services.settings
    return Heartbeat(services.leases, settings.lock_id, execution, services.clock, settings.lease_seconds)
