"""The smallest interfaces that the steps call. Adapters implement them; every implementation passes one contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from chromadb_compaction.lease import Lease
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.settings import Settings

Clock = Callable[[], float]
"""Returns Unix seconds."""


class StoredObject(NamedTuple):
    """An object's content and the ETag that a compare-and-swap needs."""

    body: bytes
    etag: str
    modified: float


class ObjectStore(Protocol):
    """One bucket. Every method raises TransientStorageError for what a retry may mend."""

    def get(self, key: str) -> StoredObject:
        """Return the object. Raises ObjectMissingError."""

    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        """Return the object, or None if its ETag is still `etag`: one cheap request. Raises ObjectMissingError."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is none."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects under `prefix` in key order."""

    def put(self, key: str, body: bytes) -> str:
        """Write unconditionally and return the ETag."""

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        """Write only if the object's ETag is `etag` (None: only if there is none) and return the new ETag.

        Raises PreconditionFailedError when the write lost (412), and TransientStorageError when its outcome
        is unknown (409, 5xx, lost response). After either the caller must read back before it decides: the
        client may have repeated a write whose response was lost, and met its own success.
        """

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy within the bucket if the source still has `etag`. Raises ObjectMissingError, PreconditionFailedError."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in bulk; a missing key is no error."""

    def delete_if(self, etags: Mapping[str, str]) -> frozenset[str]:
        """Delete in bulk each key that still has its ETag, and return the keys that were rewritten and so stay.

        A missing key is no error.
        """

    def download(self, key: str, target: Path) -> str:
        """Stream an object to a file and return the SHA-256 of what arrived. Raises ObjectMissingError."""

    def upload(self, source: Path, key: str) -> None:
        """Stream a file to an object, in parts if it is large."""


class LeaseStore(Protocol):
    """The lock item. Reads are consistent; every condition is one write."""

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Take the lease if it is free, expired or already ours. Raises LockHeldError naming the holder."""

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend our lease. Raises LockLostError if we no longer own it."""

    def release(self, lock_id: str, owner: str) -> bool:
        """Give up our lease. False: it was not ours, and stays as it is."""

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease as it stands, expired or not."""


class DeltaNotification(NamedTuple):
    """The bell: a delta has been written. Only `key` matters; the rest is for people who read the queue."""

    key: str
    rows: int
    bytes: int


class ReceivedNotification(NamedTuple):
    """A message from the queue. `key` is None when its body is not a notice."""

    receipt: str
    key: str | None
    body: str


class DeadLetterMessage(NamedTuple):
    """A quarantined delta, or a message that is no notice, and why."""

    key: str | None
    reason: str
    body: str | None = None


class DeltaQueue(Protocol):
    """The notification queue and its dead-letter queue."""

    def notify(self, notices: Sequence[DeltaNotification]) -> None:
        """Ring the bell, in batches of ten."""

    def receive(self, limit: int) -> Iterator[ReceivedNotification]:
        """Yield at most `limit` messages, stopping early when the queue answers empty."""

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages."""

    def dead_letter(self, letters: Sequence[DeadLetterMessage]) -> None:
        """Send to the dead-letter queue."""


class Services(NamedTuple):
    """What a step may touch."""

    settings: Settings
    objects: ObjectStore
    leases: LeaseStore
    queue: DeltaQueue
    clock: Clock
