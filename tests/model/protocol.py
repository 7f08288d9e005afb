"""The parts that all actors of the model share: the rules, the lease, and the registry of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.model.state import Interned, Pointer, Snapshot, State, Transitions, with_actor


class Defects(NamedTuple):
    """Deliberate mistakes. Each field that is true is one that the checker must find."""

    acquire_without_condition: bool = False
    bad_delta_merged_in_part: bool = False
    clean_up_without_second_pointer_check: bool = False
    clean_up_without_pointer_check: bool = False
    deferred_deltas_archived: bool = False
    delete_before_swap: bool = False
    errors_keep_the_lock: bool = False
    fresh_deletes_hide_nothing: bool = False
    fresh_late_rows_win: bool = False
    fresh_missing_delta_is_empty: bool = False
    fresh_pointer_before_list: bool = False
    fresh_pointer_not_compared: bool = False
    manifest_after_swap: bool = False
    no_status_change_rule: bool = False
    no_tombstones: bool = False
    part_of_another_attempt_taken: bool = False
    prune_by_age_alone: bool = False
    prune_without_mark: bool = False
    quarantine_without_copy: bool = False
    release_without_owner: bool = False
    renew_without_owner: bool = False
    rollback_keeps_sequence: bool = False
    rollback_swaps_first: bool = False
    swap_without_if_match: bool = False
    swap_without_read_back: bool = False
    unchanged_pass_keeps_deltas: bool = False


class Rules:
    """The defects of a run, and the snapshots and pointers that it has reached.

    Attributes:
        folds_elsewhere: Whether other functions do the folds of a pass.
        defers: Whether a collection may wait for a later pass.
    """

    def __init__(self, defects: Defects | None = None) -> None:
        self.defects = defects or Defects()
        self.folds_elsewhere = False
        self.defers = False
        self.snapshots: Interned[Snapshot] = Interned()
        self.pointers: Interned[Pointer] = Interned()

    def published(self, state: State) -> Snapshot | None:
        """Return the snapshot that the pointer names, or None."""
        return None if state.pointer < 0 else self.snapshots[self.pointers[state.pointer].snapshot]


StepFunction = Callable[[Rules, State, int, Any], Transitions]


class StepInfo(NamedTuple):
    """A step, the function of the product that it models, and its call to AWS."""

    take: StepFunction
    models: str
    call: str


class Program:
    """The steps of one kind of actor, by name."""

    def __init__(self) -> None:
        self.steps: dict[str, StepInfo] = {}

    def step(self, name: str, *, models: str, call: str) -> Callable[[StepFunction], StepFunction]:
        """Register a step. `models` is a dotted name below chromadb_compaction."""

        def register(take: StepFunction) -> StepFunction:
            self.steps[name] = StepInfo(take, models, call)
            return take

        return register


FREE: Final = None


def acquire(rules: Rules, state: State, owner: str) -> State | None:
    """Return the state in which `owner` has the lease, or None if it is held (DynamoDBLeaseStore.acquire)."""
    lock = state.lock
    if lock is None or not lock[1] or lock[0] == owner or rules.defects.acquire_without_condition:
        return state._replace(lock=(owner, True))
    return None


def renew(rules: Rules, state: State, owner: str) -> State | None:
    """Return the state with the renewed lease, or None if it is lost (DynamoDBLeaseStore.renew)."""
    if (state.lock is not None and state.lock[0] == owner) or rules.defects.renew_without_owner:
        return state._replace(lock=(owner, True))
    return None


def release(rules: Rules, state: State, owner: str) -> State:
    """Return the state without the lease if `owner` held it (DynamoDBLeaseStore.release)."""
    if state.lock is not None and (state.lock[0] == owner or rules.defects.release_without_owner):
        return state._replace(lock=FREE)
    return state


def with_step(state: State, index: int, actor: Any, step: str) -> State:
    """Return the state with another next step for the actor."""
    return with_actor(state, index, actor._replace(step=step))
