"""The exit codes, and the code of each error. Scripts depend on them."""

from __future__ import annotations

from enum import IntEnum

from chromadb_compaction import errors


class ExitCode(IntEnum):
    """The codes. Never change their numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUSY = 3
    NOTHING_FOUND = 4
    CORRUPT = 5
    NEWER_FORMAT = 6
    INTERRUPTED = 130


class NothingFoundError(errors.CompactionError):
    """An argument names something that does not exist. The next step lists what exists."""


_CODES: dict[type[errors.CompactionError], ExitCode] = {
    errors.ConfigurationError: ExitCode.USAGE,
    errors.InvalidRequestError: ExitCode.USAGE,
    errors.LockHeldError: ExitCode.BUSY,
    NothingFoundError: ExitCode.NOTHING_FOUND,
    errors.NoSnapshotError: ExitCode.NOTHING_FOUND,
    errors.NoSuchCollectionError: ExitCode.NOTHING_FOUND,
    errors.ObjectMissingError: ExitCode.NOTHING_FOUND,
    errors.CorruptDeltaError: ExitCode.CORRUPT,
    errors.NewerFormatError: ExitCode.NEWER_FORMAT,
    errors.SnapshotCorruptError: ExitCode.CORRUPT,
    errors.VerificationError: ExitCode.CORRUPT,
}


def exit_code(error: errors.CompactionError) -> ExitCode:
    """Return the exit code of a command that ends with `error`."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)
