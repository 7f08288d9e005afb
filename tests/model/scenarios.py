"""The initial states of the model, with their actors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.model.actors import Operator, Producer, Reader
from tests.model.execution import Execution
from tests.model.fresh_reader import FreshReader
from tests.model.protocol import Rules
from tests.model.state import NONE, Pointer, Snapshot, State, file_bit

InitialState = Callable[[Rules], State]


def a_bucket(*actors: Any, pending: tuple[int, ...] = (3,), faults: int = 0) -> InitialState:
    """Return a bucket with a snapshot of delta 1, whose clean-up is finished, and with `pending` deltas."""

    def build(rules: Rules) -> State:
        first = rules.snapshots.number(Snapshot(1, "before/1.1", NONE, ((1, True), None), (NONE, NONE), 2, 0, 2))
        waiting = sum(1 << number for number in pending)
        return an_empty_bucket(*actors, faults=faults)(rules)._replace(
            pointer=rules.pointers.number(Pointer(first, 1, "before/1")),
            manifests=1 << first,
            files=file_bit(first, 0),
            cleaned=1 << first,
            pending=waiting,
            compacted=2,
            written=waiting | 2,
        )

    return build


def a_bucket_to_roll_back(*actors: Any, faults: int = 0) -> InitialState:
    """Return a bucket with a second snapshot, which adds delta 3. Both clean-ups are finished."""

    def build(rules: Rules) -> State:
        state = a_bucket(*actors, pending=(), faults=faults)(rules)
        second = rules.snapshots.number(Snapshot(2, "before/2.1", 0, ((1, True), (3, True)), (0, NONE), 8, 0, 10))
        return state._replace(
            pointer=rules.pointers.number(Pointer(second, 2, "before/2")),
            manifests=state.manifests | 1 << second,
            files=state.files | file_bit(second, 1),
            cleaned=state.cleaned | 1 << second,
            compacted=10,
            written=10,
        )

    return build


def an_empty_bucket(*actors: Any, pending: tuple[int, ...] = (), faults: int = 0) -> InitialState:
    """Return a bucket without snapshots, with `pending` deltas."""
    waiting = sum(1 << number for number in pending)
    return lambda _rules: State(
        lock=None,
        pointer=NONE,
        manifests=0,
        files=0,
        cleaned=0,
        pruning_marks=0,
        claimed=0,
        pending=waiting,
        compacted=0,
        quarantined=0,
        written=waiting,
        actors=actors,
        faults=faults,
    )


def with_folds_elsewhere(start: InitialState) -> InitialState:
    """Return the same state. Other functions do the folds of every pass."""

    def build(rules: Rules) -> State:
        rules.folds_elsewhere = True
        return start(rules)

    return build


def with_deferral(start: InitialState) -> InitialState:
    """Return the same state. In every pass a collection may wait."""

    def build(rules: Rules) -> State:
        rules.defers = True
        return start(rules)

    return build


def producer(*deltas: int) -> Producer:
    return Producer("producer", "write", deltas)


def operator(*, gives_up: bool = False) -> Operator:
    """Return an operator who rolls back to the first snapshot."""
    return Operator("operator", "acquire", 0, gives_up=gives_up)


FIRST, SECOND, READER, FRESH = Execution("E1"), Execution("E2"), Reader("reader"), FreshReader("fresh reader")
