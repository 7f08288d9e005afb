"""Every error this system raises by name, each named for its remedy.

Step Functions matches these class names in its Retry and Catch fields, so renaming one is a change of the
state machine; a test holds the two together.
"""

from __future__ import annotations


class CompactionError(Exception):
    """Base of all errors below. Its message is one line: what happened, to which object, what to do next."""


class ConfigurationError(CompactionError):
    """A setting is missing, misspelt or out of range. Mend the environment and start again."""


class LockHeldError(CompactionError):
    """Another execution holds the lease. Wait for it, or read its history."""


class LockLostError(CompactionError):
    """The lease is no longer ours. Stop and publish nothing; the next execution starts afresh."""


class SnapshotConflictError(CompactionError):
    """Another execution published first. Nothing is lost: run again."""


class SnapshotCorruptError(CompactionError):
    """An object of a published snapshot is missing or differs from its manifest. Roll back, or restore the object."""


class SnapshotTooLargeError(CompactionError):
    """A batch or a fold cannot fit the memory or disk of its function. Raise its size; nothing was changed."""


class VerificationError(CompactionError):
    """The folded collection does not hold what the ledger says. Nothing was published."""


class CorruptDeltaError(CompactionError):
    """A delta is proven bad. It goes to quarantine whole, with this message as the reason."""


class NoSnapshotError(CompactionError):
    """Nothing has been published yet. Run a compaction first."""


class NoSuchCollectionError(CompactionError):
    """The published snapshot has no collection of that name."""


class InvalidRequestError(CompactionError):
    """A caller's request breaks a documented rule. Mend the request; nothing was written."""


class ObjectMissingError(CompactionError):
    """No object stands under that key."""


class TransientStorageError(CompactionError):
    """S3, DynamoDB or SQS failed in a way that passes: throttling, a 5xx, a broken connection. Retry."""


class PreconditionFailedError(CompactionError):
    """A conditional write lost: the object is not what the caller last read."""
