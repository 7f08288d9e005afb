"""Marks of work in progress. If its process is killed, its mark stays, and ListDeltas blames what it worked on.

A process that memory runs out for, that a native library ends or that reaches its timeout reports nothing itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import AttemptMark
from chromadb_compaction.errors import CompactionError, ObjectMissingError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore

_KILLED = "memory ran out, its timeout was reached, or a library crashed"
_OUT_OF_TIME = "its timeout was reached. The next pass of it is smaller"
_NEXT_STEP = (
    "read the function's log; raise its memory or timeout,"
    " or set the delta aside: chromadb-compaction deltas quarantine"
)

LAST_SECONDS = 60.0
"""A process that works until so shortly before its timeout is out of time. If it is killed then, that was the cause."""

log = logging.getLogger(__name__)


class Process(NamedTuple):
    """The process of a task: one of an execution's pass, e.g. download, merge-0003, fold."""

    execution: str
    pass_number: int
    task: str


class RunningMark(BaseModel):
    """The content of a mark of work in progress: the deltas or the collections that the process works on.

    Attributes:
        execution: The ARN of the execution.
        task: The name of the process.
        deltas: The deltas.
        collections: The collections.
        whole: Whether this is all that the process works on. A mark of a part names the culprit more closely.
        out_of_time: Whether the process has reached its last seconds. Then all its work took too long, not a part.
        ended: Whether the process has ended, and could not delete the mark. It was not killed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    execution: str
    task: str
    deltas: list[ObjectInfo] = []
    collections: list[str] = []
    whole: bool = False
    out_of_time: bool = False
    ended: bool = False


@contextmanager
def running(
    process: Process,
    objects: ObjectStore,
    *,
    deltas: Sequence[ObjectInfo] = (),
    collections: Sequence[str] = (),
    part: str = "",
) -> Iterator[None]:
    """Keep a mark that `process` works on these, until the block ends in any way but a kill.

    A process that does several things at once has several marks. `part` tells those about one collection apart.
    """
    mark = RunningMark(
        execution=process.execution, task=process.task, deltas=list(deltas), collections=list(collections)
    )
    named = " ".join([*collections, *(each.key for each in deltas)]) + part
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    with _kept(mark, layout.running_key(process.execution, process.pass_number, f"{process.task}-{digest}"), objects):
        yield


@contextmanager
def running_whole_pass(
    process: Process, objects: ObjectStore, collections: Sequence[str], *, seconds_left: float | None
) -> Iterator[None]:
    """Keep a mark that `process` works on all these collections of a pass, until the block ends but by a kill.

    `seconds_left` is the time until the process is killed. Shortly before, the mark is written again as out of time.
    """
    mark = RunningMark(execution=process.execution, task=process.task, collections=list(collections), whole=True)
    key = layout.running_key(process.execution, process.pass_number, f"{process.task}-whole")
    with _kept(mark, key, objects), _noting_the_end_of_time(mark, key, objects, seconds_left):
        yield


@contextmanager
def _noting_the_end_of_time(
    mark: RunningMark, key: str, objects: ObjectStore, seconds_left: float | None
) -> Iterator[None]:
    if seconds_left is None:
        yield
        return

    def note() -> None:
        log.warning("%s of %s is running out of time", mark.task, mark.execution)
        try:
            objects.put(key, mark.model_copy(update={"out_of_time": True}).model_dump_json().encode())
        except CompactionError as error:
            # If the process is killed, the mark still blames the parts that it worked on then.
            log.warning("the mark %s does not say that time ran out: %s", key, error)

    timer = Timer(max(0.0, seconds_left - LAST_SECONDS), note)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # so that it writes no mark after the mark was deleted


@contextmanager
def _kept(mark: RunningMark, key: str, objects: ObjectStore) -> Iterator[None]:
    objects.put(key, mark.model_dump_json().encode())
    try:
        yield
    finally:
        try:
            _remove(mark, key, objects)
        except CompactionError as error:
            # At worst the deltas are set aside for a while.
            log.warning("the mark %s stays: %s", key, error)


def _remove(mark: RunningMark, key: str, objects: ObjectStore) -> None:
    try:
        objects.delete([key])
    except CompactionError:
        # What is not allowed or throttled may be the deletion alone.
        objects.put(key, mark.model_copy(update={"ended": True}).model_dump_json().encode())


def blame_for_deaths(marks: Sequence[ObjectInfo], objects: ObjectStore) -> bool:
    """Write an attempt mark about everything that a killed process worked on. Return whether there was any.

    `marks` are the keys under layout.RUNNING_PREFIX. The caller holds the lease, so that none of them is of a process
    that still runs. A process that worked on one thing has proven it; several are only suspected. What a part of the
    process worked on is suspected before all the rest, unless the process ran out of time. If it worked on no part and
    had time left, the machine may have failed, so that even a single collection is only suspected. A second call does
    the same.
    """
    killed: defaultdict[tuple[str, str], list[RunningMark]] = defaultdict(list)
    for info in marks:
        mark = _read(info.key, objects)
        if mark is not None and not mark.ended:
            killed[mark.execution, mark.task].append(mark)
    for (execution, task), left in killed.items():
        suspects = _suspects(left)
        log.warning("%s of %s was killed; suspected: %s", task, execution, ", ".join(suspects.values()))
        out_of_time = any(mark.out_of_time for mark in left)
        proven = len(suspects) == 1 and (out_of_time or not all(mark.whole for mark in left))
        key_of = layout.failure_key if proven else layout.suspicion_key
        cause = _OUT_OF_TIME if out_of_time else _KILLED
        for folder, name in suspects.items():
            reason = _reason(task, name, len(suspects) - 1, cause)
            content = AttemptMark(delta=name, reason=reason, execution=execution)
            objects.put(key_of(folder, execution), content.model_dump_json().encode())
    objects.delete(info.key for info in marks)
    return bool(killed)


def _suspects(left: Sequence[RunningMark]) -> dict[str, str]:
    """Return the folder of the attempts of each delta and collection, and its name for people."""
    parts = [mark for mark in left if not mark.whole]
    out_of_time = [mark for mark in left if mark.out_of_time]
    suspects: dict[str, str] = {}
    for mark in out_of_time or parts or left:
        suspects |= {layout.attempts_prefix(each.key, each.etag): each.key for each in mark.deltas}
        suspects |= {layout.collection_attempts_prefix(name): f"collection {name}" for name in mark.collections}
    return suspects


def _read(key: str, objects: ObjectStore) -> RunningMark | None:
    try:
        return RunningMark.model_validate_json(objects.get(key).body)
    except ObjectMissingError:
        return None  # its process has ended meanwhile


def _reason(task: str, name: str, others: int, cause: str) -> str:
    together = f" and {others} others" if others else ""
    return f"the process ({task}) that worked on {name}{together} was killed: {cause}; {_NEXT_STEP}"
