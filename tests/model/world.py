"""What AWS holds and what each actor knows, in one frozen value: a state of the model.

Deltas are numbers, and their numbers are their versions; sets of them are bit masks. Each of the two collections
holds one id. Snapshots and pointers are interned, so that a state holds small integers only; an object's ETag is its
number. What only one execution ever reads (batch manifests, runs, reports) is not modelled: nobody can come between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

NONE = -1
COLLECTIONS = ("a", "b")


class Delta(NamedTuple):
    """One row of one collection: an upsert, or a delete. A bad one is refused whole."""

    collection: int
    live: bool
    bad: bool = False


DELTAS = (
    Delta(0, live=True),  # 0: an older upsert of a, which may come late
    Delta(0, live=True),  # 1: the upsert of a that the first snapshot holds
    Delta(0, live=False),  # 2: the delete of a
    Delta(1, live=True),  # 3: an upsert of b
    Delta(1, live=True, bad=True),  # 4: a bad delta for b
)
GOOD = sum(1 << number for number, delta in enumerate(DELTAS) if not delta.bad)

Row = tuple[int, bool]
"""The version that an id has, and whether it is alive: an entry of the ledger."""
Ledger = tuple[Row | None, ...]


class Snapshot(NamedTuple):
    """What a manifest says. `files[c]` is the snapshot under whose key collection c's file stands (NONE: none).

    `holds` is what no manifest says: every delta that was folded in, by this pass and all before.
    """

    sequence: int
    maker: str
    parent: int
    ledger: Ledger
    files: tuple[int, ...]
    merged: int
    refused: int
    holds: int


class Pointer(NamedTuple):
    """The content of snapshot/CURRENT."""

    snapshot: int
    sequence: int
    commit: str


Value = TypeVar("Value")


class Interned(Generic[Value]):
    """Values by number, one number for equal values."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._numbers: dict[Value, int] = {}

    def number(self, value: Value) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self._values)
            self._values.append(value)
        return self._numbers[value]

    def __getitem__(self, number: int) -> Value:
        return self._values[number]


class World(NamedTuple):
    """One state. `lock` is the owner and whether the lease still runs; all else but the last two fields are masks.

    Of snapshots: `manifests` are there, `cleaned` have that marker, `doomed` are marked by a prune, `claimed` by a
    rollback. Of deltas: where they are, and which were ever `written`. `faults`: how many may yet happen.
    """

    lock: tuple[str, bool] | None
    pointer: int
    manifests: int
    files: int
    cleaned: int
    doomed: int
    claimed: int
    pending: int
    compacted: int
    quarantined: int
    written: int
    actors: tuple[Any, ...]
    faults: int


Moves = Iterator[tuple[str, World]]


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers in a mask, smallest first."""
    number = 0
    while mask:
        if mask & 1:
            yield number
        mask >>= 1
        number += 1


def first(mask: int) -> int:
    """Return the smallest number in a mask that is not empty."""
    return (mask & -mask).bit_length() - 1


def file_bit(snapshot: int, collection: int) -> int:
    """Return the bit of a collection's file under a snapshot's key."""
    return 1 << (snapshot * len(COLLECTIONS) + collection)


def files_of(number: int, snapshot: Snapshot) -> int:
    """Return the mask of every file that the snapshot names."""
    return sum(file_bit(number if owner == NONE else owner, c) for c, owner in named(snapshot))


def named(snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Yield each collection that has a file, and the snapshot it stands under (NONE: its own)."""
    for collection, row in enumerate(snapshot.ledger):
        if row is not None:
            yield collection, snapshot.files[collection]


def fold(ledger: Ledger, deltas: Iterable[int], *, tombstones: bool = True) -> Ledger:
    """Return the ledger with the deltas folded in: per id the greatest version wins (ledger.plan_fold)."""
    rows = list(ledger)
    for number in deltas:
        delta = DELTAS[number]
        row = rows[delta.collection]
        if row is None or row[0] < number:
            rows[delta.collection] = (number, delta.live) if delta.live or tombstones else None
    return tuple(rows)


EMPTY: Ledger = (None,) * len(COLLECTIONS)


def visible(ledger: Ledger) -> tuple[int, ...]:
    """Return what readers see: per collection the version of its live row, NONE if there is none."""
    return tuple(row[0] if row and row[1] else NONE for row in ledger)


def with_actor(world: World, index: int, actor: Any, **changes: Any) -> World:
    """Return the world with one actor, and whatever else, changed."""
    actors = world.actors
    return world._replace(actors=(*actors[:index], actor, *actors[index + 1 :]), **changes)
