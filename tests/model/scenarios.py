"""Where the model starts, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.model.execution import Execution
from tests.model.people import Operator, Producer, Reader
from tests.model.protocol import Rules
from tests.model.world import NONE, Pointer, Snapshot, World, file_bit

Scenario = Callable[[Rules], World]


def a_world(*actors: Any, pending: tuple[int, ...] = (3,), faults: int = 0) -> Scenario:
    """Return a bucket whose first snapshot holds delta 1, cleaned up, and `pending` more."""

    def build(rules: Rules) -> World:
        first = rules.snapshots.number(Snapshot(1, "before/1.1", NONE, ((1, True), None), (NONE, NONE), 2, 0, 2))
        waiting = sum(1 << number for number in pending)
        return an_empty_world(*actors, faults=faults)(rules)._replace(
            pointer=rules.pointers.number(Pointer(first, 1, "before/1")),
            manifests=1 << first,
            files=file_bit(first, 0),
            cleaned=1 << first,
            pending=waiting,
            compacted=2,
            written=waiting | 2,
        )

    return build


def a_world_to_roll_back(*actors: Any, faults: int = 0) -> Scenario:
    """Return a bucket whose second snapshot holds delta 3 too; both are cleaned up."""

    def build(rules: Rules) -> World:
        world = a_world(*actors, pending=(), faults=faults)(rules)
        second = rules.snapshots.number(Snapshot(2, "before/2.1", 0, ((1, True), (3, True)), (0, NONE), 8, 0, 10))
        return world._replace(
            pointer=rules.pointers.number(Pointer(second, 2, "before/2")),
            manifests=world.manifests | 1 << second,
            files=world.files | file_bit(second, 1),
            cleaned=world.cleaned | 1 << second,
            compacted=10,
            written=10,
        )

    return build


def an_empty_world(*actors: Any, pending: tuple[int, ...] = (), faults: int = 0) -> Scenario:
    """Return a bucket in which nothing has been published, and `pending` waits."""
    waiting = sum(1 << number for number in pending)
    return lambda _rules: World(
        lock=None,
        pointer=NONE,
        manifests=0,
        files=0,
        cleaned=0,
        doomed=0,
        claimed=0,
        pending=waiting,
        compacted=0,
        quarantined=0,
        written=waiting,
        actors=actors,
        faults=faults,
    )


def producer(*deltas: int) -> Producer:
    return Producer("producer", "write", deltas)


def operator(*, gives_up: bool = False) -> Operator:
    """Return the one who rolls back to the first snapshot."""
    return Operator("operator", "acquire", 0, gives_up=gives_up)


FIRST, SECOND, READER = Execution("E1"), Execution("E2"), Reader("reader")
