"""Check that a disk has enough free space before something is written to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError

MORE_COMPACTOR_DISK: Final = "raise the compactor's ephemeral storage"
MORE_MERGE_DISK: Final = "raise merge-batch's ephemeral storage, or lower COMPACTION_BATCH_SIZE or MAX_PASS_BYTES"


def check_disk(
    directory: Path,
    needed: int,
    action: str,
    *,
    next_step: str,
    error: type[CompactionError] = SnapshotTooLargeError,
) -> None:
    """Raise SnapshotTooLargeError, or `error`, unless the disk of an existing directory has `needed` bytes free.

    The message starts with the `action` that needs them, for example "merging the batch".
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise error(f"{action} may need {needed:,} bytes of disk, {free:,} are free", next_step=next_step)
