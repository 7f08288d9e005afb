"""What the exit codes mean, and which error ends with which: scripts depend on them."""

from __future__ import annotations

from enum import IntEnum

from chromadb_compaction import errors


class ExitCode(IntEnum):
    """Stable: never renumber."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUSY = 3
    NOTHING_FOUND = 4
    CORRUPT = 5


class NothingFoundError(errors.CompactionError):
    """What the command line names does not exist. The message says how to list what does."""


_CODES: dict[type[errors.CompactionError], ExitCode] = {
    errors.ConfigurationError: ExitCode.USAGE,
    errors.InvalidRequestError: ExitCode.USAGE,
    errors.LockHeldError: ExitCode.BUSY,
    NothingFoundError: ExitCode.NOTHING_FOUND,
    errors.NoSnapshotError: ExitCode.NOTHING_FOUND,
    errors.NoSuchCollectionError: ExitCode.NOTHING_FOUND,
    errors.ObjectMissingError: ExitCode.NOTHING_FOUND,
    errors.CorruptDeltaError: ExitCode.CORRUPT,
    errors.SnapshotCorruptError: ExitCode.CORRUPT,
    errors.VerificationError: ExitCode.CORRUPT,
}


def exit_code(error: errors.CompactionError) -> ExitCode:
    """Return the code that a command which ends with `error` exits with."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
