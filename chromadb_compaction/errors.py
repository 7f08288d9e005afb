"""Every error that this package raises by name. Each is named for its remedy.

Step Functions matches these class names in its Retry and Catch fields, so renaming one changes the state machine.
A test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import ClassVar, Self

_TIMES = ("since", "until")


class CompactionError(Exception):
    """Base of the errors below. `str(error)` is one line: the message, then the next step.

    Attributes:
        kind: The class name without "Error". It is stable: `--json`, the query function and the logs show it.
        message: What happened, and to which object.
        next_step: What to do about it. None if nothing can be done, or if the message already says it.
    """

    kind: ClassVar[str] = "Compaction"

    def __init_subclass__(cls) -> None:
        """Derive the kind from the class name."""
        cls.kind = cls.__name__.removesuffix("Error")

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(f"{message}; {next_step}" if next_step else message)
        self.message = message
        self.next_step = next_step

    @property
    def fields(self) -> dict[str, object]:
        """Every attribute that is set, beside message and next step. Times are Unix seconds."""
        hidden = {"message", "next_step"}
        return {name: value for name, value in vars(self).items() if name not in hidden and value is not None}

    def as_dict(self) -> dict[str, object]:
        """Return kind, message, next step and fields as JSON shows them. Times are ISO 8601 in UTC."""
        from chromadb_compaction.times import iso_time  # pydantic takes long to import

        times = {name: iso_time(vars(self)[name]) for name in _TIMES if name in self.fields}
        return {"kind": self.kind, "message": self.message, "next_step": self.next_step, **self.fields, **times}


class ConfigurationError(CompactionError):
    """A setting is missing, misspelt or out of range. Correct the environment and start again."""


class EmbeddingFunctionError(ConfigurationError):
    """An embedding function cannot run here: its package, its model or its API key is missing. Embed elsewhere."""


class MalformedLockError(ConfigurationError):
    """The lock item is not a lease, so its holder is unknown. Release it by force once nothing runs."""


class LockHeldError(CompactionError):
    """Another execution or command holds the lease. Wait for it, or read its history.

    Attributes:
        holder: The owner of the lease: an execution's ARN, or an operator's name.
        since: When the holder acquired the lease, in Unix seconds.
        until: When the lease expires unless it is renewed, in Unix seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        holder: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.holder = holder
        self.since = since
        self.until = until


class LockLostError(CompactionError):
    """The caller no longer owns the lease. Stop and publish nothing from now on; the next execution does the rest.

    Attributes:
        holder: The owner of the lease now. None if the lock is free.
    """

    def __init__(self, message: str, *, next_step: str | None = None, holder: str | None = None) -> None:
        super().__init__(message, next_step=next_step)
        self.holder = holder


class _ObjectError(CompactionError):
    """An error about one object of the bucket.

    Attributes:
        key: The object's key.
    """

    def __init__(self, message: str, *, next_step: str | None = None, key: str | None = None) -> None:
        super().__init__(message, next_step=next_step)
        self.key = key


class SnapshotConflictError(CompactionError):
    """Another execution published first. Nothing is lost: run again."""


class SnapshotCorruptError(_ObjectError):
    """An object of a published snapshot is missing or differs from its manifest. Roll back, or restore the object."""

    @classmethod
    def damaged(cls, key: str, problem: str, *, roll_back_to: str = "") -> Self:
        """Return the error for the object `key`, whose `problem` continues the sentence, with the remedy.

        `roll_back_to` is the snapshot that can be published instead, if one is known.
        """
        target = f"{roll_back_to} --replay" if roll_back_to else "ID --replay (for the IDs: snapshots list)"
        return cls(
            f"{key} {problem}",
            next_step="restore its previous version in the bucket, or run:"
            f" chromadb-compaction snapshots rollback {target}",
            key=key,
        )


class NewerFormatError(_ObjectError):
    """A stored object has a format that a newer version of this package writes. Upgrade; nothing is damaged.

    Attributes:
        key: The object's key.
        format: The number of its format.
    """

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        key: str | None = None,
        format: int | None = None,  # noqa: A002 - named as the field of the stored object
    ) -> None:
        super().__init__(message, next_step=next_step, key=key)
        self.format = format

    @classmethod
    def found(cls, key: str, number: int, *, newest: int) -> Self:
        """Return the error for the object `key`, whose format `number` is above `newest`, the last one known here."""
        return cls(
            f"{key} has format {number} and was written by a newer version of chromadb-compaction;"
            f" this version reads formats up to {newest}, and leaves the object as it is",
            next_step="upgrade chromadb-compaction, on this machine and in the functions",
            key=key,
            format=number,
        )


class SnapshotTooLargeError(CompactionError):
    """A batch, a fold or a collection to read cannot fit memory or disk. Raise that limit; nothing was changed."""


class DiskFullError(SnapshotTooLargeError):
    """The disk of a function is too small for its work. Raise its ephemeral storage; nothing was changed."""


class OutOfTimeError(SnapshotTooLargeError):
    """A fold would not end within the timeout of its function. The next pass of its collections is smaller."""


class VerificationError(CompactionError):
    """The folded collection does not hold what the ledger says. Nothing was published."""


class CorruptDeltaError(_ObjectError):
    """A delta breaks a rule. It goes to quarantine whole, with `str(error)` as the reason."""


class NoSnapshotError(CompactionError):
    """Nothing has been published yet. Run a compaction first."""

    @classmethod
    def nothing_published(cls) -> Self:
        """Return the error for a bucket without a published snapshot."""
        return cls("nothing has been published yet", next_step="run: chromadb-compaction compact --wait")


class NoSuchCollectionError(CompactionError):
    """Neither the published snapshot nor, in a fresh read, a pending delta has a collection of that name."""


class InvalidRequestError(CompactionError):
    """A request breaks a documented rule. Correct the request; nothing was written."""


class AmbiguousIdError(InvalidRequestError):
    """The beginning of an id is that of several. Type more of it.

    Attributes:
        candidates: The ids that begin with it, sorted.
    """

    def __init__(self, message: str, *, next_step: str | None = None, candidates: list[str] | None = None) -> None:
        super().__init__(message, next_step=next_step)
        self.candidates = candidates

    @classmethod
    def of(cls, typed: str, candidates: Collection[str]) -> Self:
        """Return the error for `typed`. Its message names the first ten candidates."""
        found = sorted(candidates)
        rest = f" and {len(found) - 10:,} more" if len(found) > 10 else ""
        message = f"{typed} may mean {', '.join(found[:10])}{rest}"
        return cls(message, next_step="type more of the id that you mean", candidates=found)


class ObjectMissingError(_ObjectError):
    """There is no object under that key."""


class UnreadableObjectError(_ObjectError):
    """One object cannot be read or copied, though others can: its key, its storage class or its permission. Fix it."""


class DeltaFailedError(_ObjectError):
    """Reading one delta failed with an unforeseen error. It stays pending, and is set aside if that happens again."""


class DeltasGoneError(ObjectMissingError):
    """Deltas to replay are gone. Restore them, or give up their rows.

    Attributes:
        gone: Their pending keys.
    """

    def __init__(
        self, message: str, *, next_step: str | None = None, key: str | None = None, gone: list[str] | None = None
    ) -> None:
        super().__init__(message, next_step=next_step, key=key)
        self.gone = gone


class TransientStorageError(CompactionError):
    """S3, DynamoDB or SQS failed temporarily: throttling, a 5xx, a broken connection. Retry."""


class NotReplicatedYetError(TransientStorageError):
    """The pointer has reached a replica before an object that it needs. Wait, or copy what is missing."""

    @classmethod
    def of(cls, bucket: str, problem: str) -> Self:
        """Return the error for a replica in which `problem`."""
        return cls(
            f"{problem} in the replica {bucket}: S3 copies objects in any order, and only those that were written after"
            " replication was set up",
            next_step=f"wait some minutes, or copy it from the original: chromadb-compaction replica copy {bucket}",
        )


class PreconditionFailedError(_ObjectError):
    """A conditional write failed because the object is not what the caller last read. Read it again."""


def error_named(name: str, message: str, *, next_step: str | None = None, **fields: object) -> CompactionError:
    """Return the error with that class name or kind, as another process or a function reported it.

    For a name that is not in this module, return a CompactionError whose message starts with the name.
    """
    module = vars(sys.modules[__name__])
    found = module.get(name) or module.get(f"{name}Error")
    if isinstance(found, type) and issubclass(found, CompactionError):
        return found(message, next_step=next_step, **fields)
    return CompactionError(f"{name}: {message}", next_step=next_step)
