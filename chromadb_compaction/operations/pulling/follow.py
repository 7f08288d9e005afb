"""A copy that is refreshed whenever another snapshot is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from chromadb_compaction.errors import (
    CompactionError,
    NoSnapshotError,
    ObjectMissingError,
    SnapshotCorruptError,
    TransientStorageError,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer, read_pointer_if_changed

Result = TypeVar("Result")

PASSING = (NoSnapshotError, ObjectMissingError, SnapshotCorruptError, TransientStorageError)
"""Errors that may be gone at the next reading, by themselves or because an operator has published another snapshot."""


def follow(
    services: Services,
    pull: Callable[[], Result],
    *,
    every: float,
    on_error: Callable[[CompactionError], None],
    sleep: Callable[[float], None] | None = None,
) -> Iterator[Result]:
    """Yield the result of `pull` now, and again after each change of the pointer, which is read every `every` seconds.

    An unchanged pointer costs one request without a body. One of the errors PASSING is passed to `on_error`, and tried
    again, unless it comes from the first pull.
    """
    known = read_pointer(services)  # before the pull, so that no later change is missed
    yield pull()
    while True:
        (sleep or time.sleep)(every)
        try:
            found = read_pointer_if_changed(services, known) if known else read_pointer(services)
            if found == known:
                continue
            result = pull()
        except PASSING as error:
            on_error(error)
        else:
            known = found
            yield result
