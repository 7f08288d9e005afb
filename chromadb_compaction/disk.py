"""Disks that are too small: checked before something is written, and reported when they are full."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chromadb_compaction.errors import CompactionError, DiskFullError

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
