"""A state of the model: the content of AWS and the knowledge of each actor, in one frozen value.

A delta is a number, which is also its version. Sets are bit masks. Each of the two collections has one id. Snapshots
and pointers are interned, so a state contains only small integers. An object's number is its ETag. Objects that only
one execution reads (batch manifests, runs, reports) are not modelled, because no other actor can interfere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

NONE = -1
COLLECTIONS = ("a", "b")


class Delta(NamedTuple):
    """One row of one collection: an upsert or a delete. A bad delta is quarantined whole."""

    collection: int
    live: bool
    bad: bool = False


DELTAS = (
    Delta(0, live=True),  # 0: an older upsert of a, which may be late
    Delta(0, live=True),  # 1: the upsert of a that the first snapshot holds
    Delta(0, live=False),  # 2: the delete of a
    Delta(1, live=True),  # 3: an upsert of b
    Delta(1, live=True, bad=True),  # 4: a bad delta for b
)
GOOD = sum(1 << number for number, delta in enumerate(DELTAS) if not delta.bad)

Row = tuple[int, bool]
"""An entry of the ledger: the version of an id, and whether it is live."""
Ledger = tuple[Row | None, ...]


class Snapshot(NamedTuple):
    """A manifest. `files[c]` is the snapshot under whose key collection c's file is stored, or NONE.

    `holds` is not part of a manifest: every delta that this pass and the earlier ones folded in.
    """

    sequence: int
    maker: str
    parent: int
    ledger: Ledger
    files: tuple[int, ...]
    merged: int
    quarantined: int
    holds: int


class Pointer(NamedTuple):
    """The content of snapshot/CURRENT."""

    snapshot: int
    sequence: int
    commit: str


Value = TypeVar("Value")


class Interned(Generic[Value]):
    """Numbered values. Equal values have the same number."""

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


class State(NamedTuple):
    """One state. `lock` is the owner and whether the lease is unexpired. The other fields, but the last two, are masks.

    Masks of snapshots: `manifests` exist, `cleaned` have that marker, `pruning_marks` and `claimed` are the marks of
    prunes and rollbacks. Masks of deltas: their location, and all that were ever `written`. `faults` may still happen.
    `parts` is the mask of the stored parts of manifests (see folds.py).
    """

    lock: tuple[str, bool] | None
    pointer: int
    manifests: int
    files: int
    cleaned: int
    pruning_marks: int
    claimed: int
    pending: int
    compacted: int
    quarantined: int
    written: int
    actors: tuple[Any, ...]
    faults: int
    parts: int = 0


Transitions = Iterator[tuple[str, State]]


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


def of_one_collection(deltas: int) -> Iterator[int]:
    """Yield the deltas of each collection, unless there are none of another one."""
    for collection in range(len(COLLECTIONS)):
        own = sum(1 << number for number in bits(deltas) if DELTAS[number].collection == collection)
        if own not in {0, deltas}:
            yield own


def file_bit(snapshot: int, collection: int) -> int:
    """Return the bit of a collection's file under a snapshot's key."""
    return 1 << (snapshot * len(COLLECTIONS) + collection)


def files_of(number: int, snapshot: Snapshot) -> int:
    """Return the mask of every file that the snapshot names."""
    return sum(file_bit(number if owner == NONE else owner, c) for c, owner in named(snapshot))


def own_files(number: int, snapshot: Snapshot) -> int:
    """Return the mask of the snapshot's files that are stored under its own key."""
    return sum(file_bit(number, c) for c, owner in named(snapshot) if owner == NONE)


def named(snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Yield each collection with a file, and the snapshot under whose key it is stored (NONE: its own)."""
    for collection, row in enumerate(snapshot.ledger):
        if row is not None:
            yield collection, snapshot.files[collection]


def fold(ledger: Ledger, deltas: Iterable[int], *, tombstones: bool = True) -> Ledger:
    """Return the ledger with the deltas folded in. Per id the greatest version wins (ledger.plan_fold)."""
    rows = list(ledger)
    for number in deltas:
        delta = DELTAS[number]
        row = rows[delta.collection]
        if row is None or row[0] < number:
            rows[delta.collection] = (number, delta.live) if delta.live or tombstones else None
    return tuple(rows)


EMPTY: Ledger = (None,) * len(COLLECTIONS)


def visible(ledger: Ledger) -> tuple[int, ...]:
    """Return the version of the live row of each collection, as readers see it. NONE if there is none."""
    return tuple(row[0] if row and row[1] else NONE for row in ledger)


def with_actor(state: State, index: int, actor: Any, **changes: Any) -> State:
    """Return the state with one actor and `changes` replaced."""
    actors = state.actors
    return state._replace(actors=(*actors[:index], actor, *actors[index + 1 :]), **changes)
