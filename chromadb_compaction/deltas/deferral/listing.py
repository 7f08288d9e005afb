"""Divide the listing of pending deltas, as a stream, into those of collections that are due and those that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import groupby
from operator import or_
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from chromadb_compaction import layout
from chromadb_compaction.deltas.attempts import NO_ATTEMPTS, Attempts, attempts_of
from chromadb_compaction.deltas.deferral.rule import DeferralRule, PendingSize
from chromadb_compaction.planning import ObjectInfo

COUNTED_AT_ONCE: Final = 1000
"""The deltas whose rows are counted together. So many are held, beside those of one collection."""
MOST_COUNTED: Final = 20_000
"""The deltas of a listing whose rows are counted. It takes a minute or two, and costs a cent."""

DEFERRED_COLLECTIONS = TypeAdapter(dict[str, str])
"""The stored list of the collections that wait: Deferred.collections."""

RowCounter = Callable[[Sequence[ObjectInfo]], Sequence[PendingSize | None]]
"""Returns the size of each delta, with its rows. None: they cannot be counted."""


def without_rows(deltas: Sequence[ObjectInfo]) -> list[PendingSize]:
    """Return the sizes that the listing shows: a RowCounter that reads nothing."""
    return [PendingSize(1, each.bytes, each.modified) for each in deltas]


class Deferred(NamedTuple):
    """The deltas that wait.

    Attributes:
        deltas: Their number.
        collections: Their collections, each with the greatest key among its deltas.
        oldest: When the oldest of them was written, in Unix seconds. None if there are none.
        until: When the first of the collections is due, whatever is written until then, in Unix seconds.
    """

    deltas: int = 0
    collections: Mapping[str, str] = {}
    oldest: float | None = None
    until: float | None = None


class Deferral:
    """Passes on the deltas of collections that are due, and counts the others.

    A collection is due at once if a delta of it has marks of failed executions, so that those are reported and tried
    as without deferral, or if its rows cannot be counted, so that it does not wait unknown.

    Args:
        rule: The rule.
        attempts: The marks of all deltas.
        now: The time, in Unix seconds.
        count_rows: Counts the rows of collections that are not due without it.
        prefix: The prefix of pending deltas.
    """

    def __init__(
        self,
        rule: DeferralRule,
        attempts: Mapping[str, Attempts],
        *,
        now: float,
        count_rows: RowCounter,
        prefix: str = layout.DELTA_PREFIX,
    ) -> None:
        self._rule = rule
        self._attempts = attempts
        self._now = now
        self._count_rows = count_rows
        self._prefix = prefix
        self._counted = self._deltas = 0
        self._collections: dict[str, str] = {}
        self._oldest: float | None = None

    @property
    def deferred(self) -> Deferred:
        """The deltas that wait, of those read so far."""
        until = None if self._oldest is None else self._oldest + self._rule.max_age_seconds
        return Deferred(self._deltas, self._collections, self._oldest, until)

    def due(self, pending: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Yield the deltas of the collections that are due, those of a collection together, in key order.

        Args:
            pending: The listing, in key order. No more of it is held than COUNTED_AT_ONCE and one collection's bound.
        """
        if not self._rule.defers:
            yield from pending
            return
        undecided: list[list[ObjectInfo]] = []
        for _, deltas in groupby(pending, key=lambda each: layout.collection_of_key(each.key, prefix=self._prefix)):
            held = self._hold_until_due(deltas)
            if held and self._is_due(held):
                yield from held
                yield from deltas  # noqa: B031 - the rest of the collection
            elif held:
                undecided.append(held)
            if sum(map(len, undecided)) >= COUNTED_AT_ONCE:
                yield from self._decide(undecided)
                undecided = []
        yield from self._decide(undecided)

    def _hold_until_due(self, deltas: Iterator[ObjectInfo]) -> list[ObjectInfo]:
        """Return the first deltas of a collection: so many that it is due, or all."""
        held: list[ObjectInfo] = []
        size = PendingSize()
        for delta in deltas:
            if layout.is_folder_marker(delta.key):
                continue
            held.append(delta)
            size |= PendingSize(1, delta.bytes, delta.modified)
            if self._rule.is_due(size, self._now) or self._is_due_now(delta):
                break
        return held

    def _is_due(self, held: Sequence[ObjectInfo]) -> bool:
        size = reduce(or_, without_rows(held))
        return self._rule.is_due(size, self._now) or self._is_due_now(held[-1])

    def _is_due_now(self, delta: ObjectInfo) -> bool:
        """Return whether the delta makes its collection due: it has marks, or is not in a collection's folder."""
        in_no_collection = layout.collection_of_key(delta.key, prefix=self._prefix) == layout.NO_COLLECTION
        return in_no_collection or attempts_of(delta, self._attempts, prefix=self._prefix) != NO_ATTEMPTS

    def _decide(self, undecided: Sequence[Sequence[ObjectInfo]]) -> Iterator[ObjectInfo]:
        """Count the rows of these collections, and yield the deltas of those that are due."""
        deltas = [each for held in undecided for each in held]
        can_count = self._counted + len(deltas) <= MOST_COUNTED
        self._counted += len(deltas)
        sizes = iter(self._count_rows(deltas) if deltas and can_count else [None] * len(deltas))
        for held in undecided:
            counted = [next(sizes) for _ in held]
            known = [each for each in counted if each is not None]
            if len(known) < len(held) or self._rule.is_due(reduce(or_, known), self._now):
                yield from held
            else:
                self._defer(held)

    def _defer(self, held: Sequence[ObjectInfo]) -> None:
        self._deltas += len(held)
        self._collections[layout.collection_of_key(held[0].key, prefix=self._prefix)] = held[-1].key
        oldest = min(each.modified for each in held)
        self._oldest = oldest if self._oldest is None else min(oldest, self._oldest)
