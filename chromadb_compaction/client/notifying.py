"""The notification of the queue about deltas that are in the bucket, and warnings that do not fail a write."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

from botocore.exceptions import BotoCoreError, ClientError

from chromadb_compaction.errors import CompactionError
from chromadb_compaction.ports import DeltaNotification, DeltaQueue

log = logging.getLogger(__name__)


def notify_or_warn(queue: DeltaQueue | None, notifications: Sequence[DeltaNotification], *, stacklevel: int) -> None:
    """Notify the queue, if there is one. An error is a warning: the next scheduled compaction finds the deltas."""
    if queue is None or not notifications:
        return
    try:
        queue.notify(notifications)
    except (CompactionError, BotoCoreError, ClientError) as error:
        message = f"{len(notifications)} deltas are safe in S3, but the queue was not notified: {error}"
        warn(message, stacklevel=stacklevel + 1)


def warn(message: str, *, stacklevel: int) -> None:
    """Log the warning, and warn the program that called `stacklevel` frames above the caller."""
    log.warning(message)
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel + 1)
