"""Disks: enough free space, a full disk reported as such, and a directory that nobody else can write to."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chromadb_compaction.errors import CompactionError, ConfigurationError, DiskFullError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
MORE_COMPACTOR_DISK: Final = "raise the compactor's ephemeral storage"
MORE_MERGE_DISK: Final = "raise merge-batch's ephemeral storage, or lower COMPACTION_BATCH_SIZE or MAX_PASS_BYTES"


def check_disk(
    directory: Path,
    needed: int,
    action: str,
    *,
    next_step: str,
    error: type[CompactionError] = DiskFullError,
) -> None:
    """Raise DiskFullError, or `error`, unless the disk of an existing directory has `needed` bytes free.

    The message starts with the `action` that needs them, for example "merging the batch".
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise error(f"{action} may need {needed:,} bytes of disk, {free:,} are free", next_step=next_step)


@contextmanager
def reporting_full_disk(function: str) -> Iterator[None]:
    """Raise DiskFullError in place of an error of the block that says that the disk of `function` is full."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if getattr(error, "errno", None) not in _FULL and "disk is full" not in str(error):
            raise
        raise DiskFullError(
            f"the disk of {function} is full: {error}", next_step=f"raise the ephemeral storage of {function}"
        ) from error


def make_private(*directories: Path) -> None:
    """Make the directories that do not exist, for this user alone.

    Raises ConfigurationError if one belongs to another user, or if every user may write to it: its files cannot be
    trusted then.
    """
    for directory in directories:
        _make_private(directory)


def _make_private(directory: Path) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise _unusable(directory, f"cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        found = directory.stat()  # the target of a link, which only its owner can have made there
    if found.st_uid != os.geteuid():
        raise _unusable(directory, "belongs to another user")
    if found.st_mode & stat.S_IWOTH:
        raise _unusable(directory, "can be written to by every user")
    if found.st_mode & stat.S_IWGRP:  # the default of some systems, where every user has a group of their own
        directory.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWGRP)


def _unusable(directory: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"the directory {directory} {problem}", next_step="set CHROMADB_CACHE_DIR to a directory of your own"
    )
