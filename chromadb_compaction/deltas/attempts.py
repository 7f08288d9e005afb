"""Marks about deltas that could not be merged: unreadable objects, and deltas that made an execution fail.

MergeBatch writes a mark, ListDeltas plans by them, `status` shows them. They expire with everything in work/. So a
delta that was set aside is tried again after a few days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.errors import CompactionError, UnreadableObjectError
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import ObjectStore


class AttemptMark(BaseModel):
    """The content of a mark, for people.

    Attributes:
        delta: The delta's key.
        reason: The error, with its remedy.
        execution: The execution's ARN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    delta: str
    reason: str
    execution: str


class Attempts(NamedTuple):
    """The marks of one delta.

    Attributes:
        failures: The number of executions that it made fail.
        unreadable: Whether its object could not be read.
        latest: The key of the mark that was written last. None if there is none.
    """

    failures: int = 0
    unreadable: bool = False
    latest: str | None = None


class Turn(NamedTuple):
    """The deltas to plan in the next pass.

    Attributes:
        deltas: The deltas, in key order.
        alone: Whether each of them needs a batch of its own.
        later: Whether other deltas need a pass after this one.
        set_aside: The pending deltas that are unreadable or have failed too often, of which none is in `deltas` unless
            it is all that is left.
    """

    deltas: list[ObjectInfo]
    alone: bool
    later: bool
    set_aside: list[ObjectInfo]


NO_ATTEMPTS = Attempts()


def mark(delta: ObjectInfo, error: CompactionError, execution: str, objects: ObjectStore) -> None:
    """Write the mark that `delta` could not be merged because of `error`. A second call does the same."""
    unreadable = isinstance(error, UnreadableObjectError)
    key = (
        layout.unreadable_key(delta.key, delta.etag)
        if unreadable
        else layout.failure_key(delta.key, delta.etag, execution)
    )
    content = AttemptMark(delta=delta.key, reason=str(error), execution=execution)
    objects.put(key, content.model_dump_json().encode())


def read_attempts(objects: ObjectStore) -> Mapping[str, Attempts]:
    """Return the marks of all deltas, by their folder (layout.attempts_prefix). One request if there are few."""
    return attempts_by_folder(objects.list(layout.ATTEMPTS_PREFIX))


def attempts_by_folder(marks: Iterable[ObjectInfo]) -> Mapping[str, Attempts]:
    """Return the listed marks by folder."""
    found: dict[str, Attempts] = {}
    latest: dict[str, float] = {}
    for each in marks:
        folder, _, name = each.key.rpartition("/")
        folder += "/"
        known = found.get(folder, NO_ATTEMPTS)
        newer = each.modified >= latest.get(folder, 0)
        latest[folder] = max(each.modified, latest.get(folder, 0))
        found[folder] = Attempts(
            failures=known.failures + name.endswith(".failed.json"),
            unreadable=known.unreadable or name == "unreadable.json",
            latest=each.key if newer else known.latest,
        )
    return found


def attempts_of(delta: ObjectInfo, attempts: Mapping[str, Attempts]) -> Attempts:
    """Return the marks of one delta. Content that was written since has none."""
    return attempts.get(layout.attempts_prefix(delta.key, delta.etag), NO_ATTEMPTS) if attempts else NO_ATTEMPTS


def is_set_aside(attempts: Attempts, *, max_failures: int) -> bool:
    """Return whether the delta waits for a person: it is unreadable, or has failed too often."""
    return attempts.unreadable or attempts.failures >= max_failures


def next_turn(pending: Sequence[ObjectInfo], attempts: Mapping[str, Attempts], *, max_failures: int) -> Turn:
    """Return the deltas to plan now: first those without marks, so that no other delta keeps them waiting.

    Then come those that failed, the fewest failures first, each in a batch of its own. So a batch that fails names its
    delta. Those that failed `max_failures` times are left out. Unreadable ones come last: reading them again is cheap,
    and finds out that somebody has repaired them.
    """
    groups: dict[tuple[bool, int], list[ObjectInfo]] = {}
    set_aside: list[ObjectInfo] = []
    for delta in pending:
        found = attempts_of(delta, attempts)
        if is_set_aside(found, max_failures=max_failures):
            set_aside.append(delta)
        if found.failures < max_failures:
            groups.setdefault((found.unreadable, found.failures), []).append(delta)
    if not groups:
        return Turn([], alone=False, later=False, set_aside=set_aside)
    first = min(groups)
    return Turn(groups[first], alone=first[1] > 0, later=len(groups) > 1, set_aside=set_aside)
