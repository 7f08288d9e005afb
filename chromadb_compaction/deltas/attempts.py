"""Marks about deltas that could not be merged: unreadable objects, and deltas that made an execution fail.

MergeBatch writes a mark, ListDeltas plans by them, `status` shows them. They expire with everything in work/. So a
delta that was set aside is tried again after a few days. deaths.py marks what a killed process worked on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError, UnreadableObjectError
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
        failures: The number of executions that it, or the fold of its collection, made fail.
        unreadable: Whether its object could not be read.
        latest: The key of the mark that was written last. None if there is none.
        suspected: The number of executions that it or something else made fail.
        of_collection: The number of these executions that the fold of its collection made fail, or perhaps did.
    """

    failures: int = 0
    unreadable: bool = False
    latest: str | None = None
    suspected: int = 0
    of_collection: int = 0

    @property
    def troubles(self) -> int:
        """The executions that failed, because of it or perhaps because of it."""
        return self.failures + self.suspected


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
        else layout.failure_key(layout.attempts_prefix(delta.key, delta.etag), execution)
    )
    content = AttemptMark(delta=delta.key, reason=str(error), execution=execution)
    objects.put(key, content.model_dump_json().encode())


def mark_collections(names: Collection[str], error: CompactionError, execution: str, objects: ObjectStore) -> None:
    """Write the mark that these collections could not be folded because of `error`. Several are only suspected."""
    key_of = layout.failure_key if len(names) == 1 else layout.suspicion_key
    for name in names:
        content = AttemptMark(delta=f"collection {name}", reason=str(error), execution=execution)
        objects.put(key_of(layout.collection_attempts_prefix(name), execution), content.model_dump_json().encode())


@contextmanager
def blaming_collections(names: Collection[str], execution: str, objects: ObjectStore) -> Iterator[None]:
    """Mark the collections if the block fails because memory or disk cannot hold them, so that others come first."""
    try:
        yield
    except SnapshotTooLargeError as error:
        mark_collections(names, error, execution, objects)
        raise


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
            suspected=known.suspected + name.endswith(".suspected.json"),
        )
    return found


def attempts_of(delta: ObjectInfo, attempts: Mapping[str, Attempts], *, prefix: str = layout.DELTA_PREFIX) -> Attempts:
    """Return the marks of one delta and of its collection. Content that was written since has none of its own."""
    if not attempts:
        return NO_ATTEMPTS
    own = attempts.get(layout.attempts_prefix(delta.key, delta.etag), NO_ATTEMPTS)
    collection = layout.collection_of_key(delta.key, prefix=prefix)
    common = attempts.get(layout.collection_attempts_prefix(collection))
    if common is None:
        return own
    return Attempts(
        failures=own.failures + common.failures,
        unreadable=own.unreadable,
        latest=own.latest or common.latest,
        suspected=own.suspected + common.suspected,
        of_collection=common.troubles,
    )


def is_set_aside(attempts: Attempts, *, max_failures: int) -> bool:
    """Return whether the delta waits for a person: it is unreadable, or has failed too often.

    A mere suspicion is not enough: the delta was never tried alone.
    """
    return attempts.unreadable or _has_failed_too_often(attempts, max_failures)


def _has_failed_too_often(attempts: Attempts, max_failures: int) -> bool:
    return attempts.failures > 0 and attempts.troubles >= max_failures


def next_turn(
    pending: Sequence[ObjectInfo],
    attempts: Mapping[str, Attempts],
    *,
    max_failures: int,
    prefix: str = layout.DELTA_PREFIX,
) -> Turn:
    """Return the deltas to plan now: first those without marks, so that no other delta keeps them waiting.

    Then come those that failed or are suspected, the fewest failures first, each in a batch of its own. So a batch that
    fails names its delta. Collections whose fold failed take a pass each. What failed `max_failures` times is left out.
    Unreadable deltas come last: reading them again is cheap, and finds out that somebody has repaired them.
    """
    groups: dict[tuple[bool, int], list[tuple[ObjectInfo, Attempts]]] = {}
    set_aside: list[ObjectInfo] = []
    for delta in pending:
        found = attempts_of(delta, attempts, prefix=prefix)
        if is_set_aside(found, max_failures=max_failures):
            set_aside.append(delta)
        if not _has_failed_too_often(found, max_failures):
            groups.setdefault((found.unreadable, found.troubles), []).append((delta, found))
    if not groups:
        return Turn([], alone=False, later=False, set_aside=set_aside)
    group = groups[min(groups)]
    chosen = group
    if any(found.of_collection for _, found in group):
        chosen = _of_one_collection(group, prefix)
    elif not group[0][1].failures and min(groups)[1] > 1:
        chosen = group[:1]  # suspected again, so only a pass of its own can prove it
    return Turn(
        [delta for delta, _ in chosen],
        alone=any(found.troubles > found.of_collection for _, found in chosen),
        later=len(groups) > 1 or len(chosen) < len(group),
        set_aside=set_aside,
    )


def _of_one_collection(group: list[tuple[ObjectInfo, Attempts]], prefix: str) -> list[tuple[ObjectInfo, Attempts]]:
    first = layout.collection_of_key(group[0][0].key, prefix=prefix)
    return [each for each in group if layout.collection_of_key(each[0].key, prefix=prefix) == first]
