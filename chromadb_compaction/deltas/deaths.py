"""Marks of work in progress. If its process is killed, its mark stays, and ListDeltas blames what it worked on.

A process that memory runs out for, that a native library ends or that reaches its timeout reports nothing itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import AttemptMark
from chromadb_compaction.errors import CompactionError, ObjectMissingError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore

_NEXT_STEP = (
    "read the function's log; raise its memory or timeout,"
    " or set the delta aside: chromadb-compaction deltas quarantine"
)

log = logging.getLogger(__name__)


class Process(NamedTuple):
    """The process of a task: one of an execution's pass, e.g. download, merge-0003, fold."""

    execution: str
    pass_number: int
    task: str


class RunningMark(BaseModel):
    """The content of a mark of work in progress: the deltas or the collections that the process works on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    execution: str
    task: str
    deltas: list[ObjectInfo] = []
    collections: list[str] = []


@contextmanager
def running(
    process: Process, objects: ObjectStore, *, deltas: Sequence[ObjectInfo] = (), collections: Sequence[str] = ()
) -> Iterator[None]:
    """Keep a mark that `process` works on these, until the block ends in any way but a kill.

    A process that does several things at once has several marks.
    """
    execution, pass_number, task = process
    mark = RunningMark(execution=execution, task=task, deltas=list(deltas), collections=list(collections))
    part = hashlib.sha256(" ".join([*collections, *(each.key for each in deltas)]).encode()).hexdigest()[:16]
    key = layout.running_key(execution, pass_number, f"{task}-{part}")
    objects.put(key, mark.model_dump_json().encode())
    try:
        yield
    finally:
        try:
            objects.delete([key])
        except CompactionError as error:
            # At worst the deltas are planned later than others, once.
            log.warning("the mark %s stays: %s", key, error)


def blame_for_deaths(marks: Sequence[ObjectInfo], objects: ObjectStore) -> bool:
    """Write an attempt mark about everything that a killed process worked on. Return whether there was any.

    `marks` are the keys under layout.RUNNING_PREFIX. The caller holds the lease, so that none of them is of a process
    that still runs. A process that worked on one thing has proven it; several are only suspected. A second call does
    the same.
    """
    killed: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for info in marks:
        mark = _read(info.key, objects)
        if mark is not None:
            killed[mark.execution, mark.task].update(_suspects(mark))
    for (execution, task), suspects in killed.items():
        log.warning("%s of %s was killed; suspected: %s", task, execution, ", ".join(suspects.values()))
        key_of = layout.failure_key if len(suspects) == 1 else layout.suspicion_key
        for folder, name in suspects.items():
            content = AttemptMark(delta=name, reason=_reason(task, name, len(suspects) - 1), execution=execution)
            objects.put(key_of(folder, execution), content.model_dump_json().encode())
    objects.delete(info.key for info in marks)
    return bool(killed)


def _suspects(mark: RunningMark) -> dict[str, str]:
    """Return the folder of the attempts of each delta and collection, and its name for people."""
    deltas = {layout.attempts_prefix(each.key, each.etag): each.key for each in mark.deltas}
    return deltas | {layout.collection_attempts_prefix(name): f"collection {name}" for name in mark.collections}


def _read(key: str, objects: ObjectStore) -> RunningMark | None:
    try:
        return RunningMark.model_validate_json(objects.get(key).body)
    except ObjectMissingError:
        return None  # its process has ended meanwhile


def _reason(task: str, name: str, others: int) -> str:
    together = f" and {others} others" if others else ""
    causes = "memory ran out, its timeout was reached, or a library crashed"
    return f"the process ({task}) that worked on {name}{together} was killed: {causes}; {_NEXT_STEP}"
