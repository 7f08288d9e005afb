"""Marks about deltas that could not be merged: unreadable objects, and deltas that made an execution fail.

MergeBatch writes a mark, ListDeltas plans by them, `status` shows them. They expire with everything in work/. So a
delta that was set aside is tried again after a few days. deaths.py marks what a killed process worked on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.drops import may_drop
from chromadb_compaction.errors import CompactionError, SnapshotTooLargeError, UnreadableObjectError
from chromadb_compaction.planning import ObjectInfo, PassLimits, PassPlan, PassPlanner
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
    """The next pass, and the counts of the listing that it was planned over.

    Attributes:
        plan: The batches. `more`: a pass must follow.
        pending: The number of all pending deltas.
        oldest: When the oldest of them was written, in Unix seconds. None if there are none.
        set_aside: The number of pending deltas that are unreadable or have failed too often, of which none is in the
            plan unless it is all that is left.
    """

    plan: PassPlan
    pending: int
    oldest: float | None
    set_aside: int


class _Rank(NamedTuple):
    """The rank of a delta: those with the least rank have the next turn, and no others are in their pass."""

    unreadable: bool
    troubles: int
    of_collection: int
    proven: bool
    alone: bool


NO_ATTEMPTS = Attempts()

_NO_RANK = _Rank(unreadable=False, troubles=0, of_collection=0, proven=False, alone=False)

DIVISOR = 8
"""A pass over collections that made one fail has at most one eighth of its deltas, bytes and suspected collections.

So three failures, after which a collection is set aside, end at a five-hundredth of a full pass.
"""


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
    pending: Iterable[ObjectInfo],
    attempts: Mapping[str, Attempts],
    limits: PassLimits,
    *,
    max_failures: int,
    prefix: str = layout.DELTA_PREFIX,
) -> Turn:
    """Plan the next pass: first the deltas without marks, so that no other delta keeps them waiting.

    Then come those that failed or are suspected, the fewest failures first, each in a batch of its own. So a batch that
    fails names its delta. A pass over collections whose fold failed is smaller than the one that failed, and smaller
    again after each failure. What failed `max_failures` times is left out. Unreadable deltas come last: reading them
    again is cheap, and finds out that somebody has repaired them. No delta comes before an older one of its collection
    that may be a drop, because the drop may free the shape that the delta contradicts.

    Args:
        pending: The listing, in key order. It is read as a stream: no more deltas are held than a pass has.
        attempts: The marks.
        limits: The limits of a pass whose deltas have no marks.
        max_failures: The number of failed executions after which a delta is set aside.
        prefix: The prefix of pending deltas.
    """
    found = set_aside = 0
    oldest: float | None = None
    first: _Rank | None = None
    planner = PassPlanner(limits, prefix=prefix)
    later = False
    collection, since_drop = "", _NO_RANK
    for delta in pending:
        if layout.is_folder_marker(delta.key):
            continue
        if layout.collection_of_key(delta.key, prefix=prefix) != collection:
            collection, since_drop = layout.collection_of_key(delta.key, prefix=prefix), _NO_RANK
        found += 1
        oldest = delta.modified if oldest is None else min(oldest, delta.modified)
        marks = attempts_of(delta, attempts, prefix=prefix)
        set_aside += is_set_aside(marks, max_failures=max_failures)
        if _has_failed_too_often(marks, max_failures):
            continue
        rank = max(_rank(marks), since_drop)
        if may_drop(delta.key, delta.bytes):
            since_drop = rank
        later = later or (first is not None and rank != first)
        if first is None or rank < first:
            first, planner = rank, PassPlanner(_limits_of(rank, limits, attempts), prefix=prefix)
        if rank == first:
            planner.add(delta)
    plan = planner.plan()
    return Turn(plan._replace(more=plan.more or later), pending=found, oldest=oldest, set_aside=set_aside)


def _rank(marks: Attempts) -> _Rank:
    return _Rank(
        marks.unreadable,
        marks.troubles,
        marks.of_collection,
        proven=marks.failures > 0,
        alone=marks.troubles > marks.of_collection,
    )


def _limits_of(rank: _Rank, limits: PassLimits, attempts: Mapping[str, Attempts]) -> PassLimits:
    """Return the limits of a pass over deltas of this rank. The more often they failed, the smaller it is."""
    if rank.alone:
        limits = limits._replace(size=1)
    if rank.of_collection:
        folders = (each for folder, each in attempts.items() if folder.startswith(layout.COLLECTION_ATTEMPTS_PREFIX))
        together = sum(each.troubles == rank.of_collection for each in folders)
        at_once = 1 if rank.proven else max(1, together // DIVISOR)
        return limits.divided(DIVISOR**rank.of_collection)._replace(max_collections=at_once)
    if rank.troubles > 1 and not rank.proven:
        return limits._replace(max_batches=1)  # suspected again, so only a pass of its own can prove it
    return limits
