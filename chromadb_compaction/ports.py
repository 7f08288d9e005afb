"""The interfaces to S3, DynamoDB and SQS. Every implementation of one passes the same contract tests."""

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
    """An object.

    Attributes:
        body: The content.
        etag: The ETag, which a conditional write compares.
        modified: When it was written, by S3's clock, in Unix seconds.
    """

    body: bytes
    etag: str
    modified: float


class ObjectStore(Protocol):
    """One bucket. Every method raises TransientStorageError if a retry may succeed.

    Whatever reads or copies an object raises UnreadableObjectError if this object alone cannot be read.
    """

    def get(self, key: str) -> StoredObject:
        """Return the object. Raises ObjectMissingError."""

    def get_if_changed(self, key: str, etag: str) -> StoredObject | None:
        """Return the object, or None if its ETag is still `etag`, without a body. Raises ObjectMissingError."""

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> bytes:
        """Return the bytes from `start` to before `end`, which is greater. What lies past the object's end is left out.

        Raises ObjectMissingError, and PreconditionFailedError if the object no longer has `etag`.
        """

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None if there is no object."""

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects under `prefix` in key order, only those with a greater key than `start_after`."""

    def put(self, key: str, body: bytes) -> str:
        """Write the object unconditionally, and return its ETag."""

    def seconds_ahead(self) -> float | None:
        """Return how far this machine's clock was ahead of S3's at the last `put`. None if that is unknown."""

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        """Write only if the object's ETag is `etag` (None: only if there is no object), and return the new ETag.

        Raises PreconditionFailedError if the condition failed (412), and TransientStorageError if the result is unknown
        (409, 5xx, lost response). After either error the caller must read the object: the client may have repeated a
        write whose response was lost, and failed because the first one succeeded.
        """

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copy within the bucket if the source still has `etag`. Raises ObjectMissingError, PreconditionFailedError."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete in bulk. A missing key is not an error."""

    def delete_if(self, etags: Mapping[str, str]) -> frozenset[str]:
        """Delete in bulk each key that still has its ETag. Return the keys that were written again, which stay.

        A missing key is not an error.
        """

    def download(self, key: str, target: Path) -> str:
        """Stream an object to a file, and return the SHA-256 of the file. Raises ObjectMissingError."""

    def upload(self, source: Path, key: str) -> None:
        """Stream a file to an object, in parts if it is large."""


class LeaseStore(Protocol):
    """The lock item. Reads are consistent, and every change is one conditional write. Times are Unix seconds."""

    def acquire(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Take the lease if it is free, expired or already the owner's. Raises LockHeldError with the holder."""

    def renew(self, lock_id: str, owner: str, *, now: float, seconds: int) -> Lease:
        """Extend the lease. Raises LockLostError if `owner` does not own it."""

    def release(self, lock_id: str, owner: str) -> bool:
        """Release the lease. Return False, and change nothing, if `owner` does not own it."""

    def read(self, lock_id: str) -> Lease | None:
        """Return the lease, expired or not. None if there is none. Raises MalformedLockError for anything else."""

    def delete_malformed(self, lock_id: str) -> bool:
        """Delete an item that is not a lease, if it is still what was read. Return whether it was deleted."""


class DeltaNotification(NamedTuple):
    """A notification that a delta was written.

    Attributes:
        key: The delta's key.
        rows: The number of rows, for people who read the queue.
        bytes: The size, for people who read the queue.
    """

    key: str
    rows: int
    bytes: int


class ReceivedNotification(NamedTuple):
    """A message from the queue.

    Attributes:
        receipt: The handle that deletes it.
        key: The delta's key. None if the body is not a notification.
        body: The text of the message.
    """

    receipt: str
    key: str | None
    body: str


class DeadLetterMessage(NamedTuple):
    """A message for the dead-letter queue.

    Attributes:
        key: The key of the quarantined delta, if it is about one.
        reason: Why it is there.
        body: The text of the message that was not a notification, if it is about one.
    """

    key: str | None
    reason: str
    body: str | None = None


class QueueDepth(NamedTuple):
    """The approximate number of messages in a queue: those that wait, and those that a consumer has received."""

    messages: int
    in_flight: int


class DeltaQueue(Protocol):
    """The notification queue and its dead-letter queue. Every method raises CompactionError if its queue fails."""

    def notify(self, notices: Sequence[DeltaNotification]) -> None:
        """Send notifications, in batches of ten."""

    def receive(self, limit: int) -> Iterator[Sequence[ReceivedNotification]]:
        """Yield at most `limit` messages, those of several calls at a time, fewer if the queue returns no more.

        What was yielded stays hidden from other receivers for a while, and later calls are made when they are needed.
        """

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages."""

    def dead_letter(self, messages: Sequence[DeadLetterMessage]) -> None:
        """Send messages to the dead-letter queue."""

    def depth(self) -> QueueDepth | None:
        """Return the approximate depth of the notification queue. None if it is not configured."""

    def dead_letter_depth(self) -> QueueDepth | None:
        """Return the approximate depth of the dead-letter queue. None if it is not configured."""


class Bucket(Protocol):
    """The bucket and its layout: enough to read what is published."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def objects(self) -> ObjectStore:
        """The objects."""


class Services(NamedTuple):
    """Everything outside the process that a step or operation uses.

    Attributes:
        settings: The settings.
        objects: The bucket.
        leases: The lock.
        queue: The queues.
        clock: The time.
        deadline: When the timeout of the function ends this process, by `clock`. None: never.
    """

    settings: Settings
    objects: ObjectStore
    leases: LeaseStore
    queue: DeltaQueue
    clock: Clock
    deadline: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the deadline. None if there is none."""
        return None if self.deadline is None else self.deadline - self.clock()
