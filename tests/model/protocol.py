"""What every actor of the model shares: the rules it plays by, and how its steps are found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tests.model.world import Interned, Moves, Pointer, Snapshot, World, with_actor


class Defects(NamedTuple):
    """What the real code does not do: each field, if true, is a mistake that the checker must find."""

    acquire_without_condition: bool = False
    bad_delta_merged_in_part: bool = False
    clean_up_never_looks_back: bool = False
    clean_up_without_pointer_check: bool = False
    delete_before_swap: bool = False
    errors_keep_the_lock: bool = False
    manifest_after_swap: bool = False
    no_status_change_rule: bool = False
    no_tombstones: bool = False
    prune_by_age_alone: bool = False
    prune_without_mark: bool = False
    refused_without_copy: bool = False
    release_without_owner: bool = False
    renew_without_owner: bool = False
    rollback_keeps_sequence: bool = False
    rollback_swaps_first: bool = False
    swap_without_if_match: bool = False
    swap_without_read_back: bool = False
    unchanged_pass_keeps_deltas: bool = False


class Rules:
    """The defects that a run has, and the snapshots and pointers that it has come across."""

    def __init__(self, defects: Defects | None = None) -> None:
        self.defects = defects or Defects()
        self.snapshots: Interned[Snapshot] = Interned()
        self.pointers: Interned[Pointer] = Interned()

    def published(self, world: World) -> Snapshot | None:
        """Return what the pointer names."""
        return None if world.pointer < 0 else self.snapshots[self.pointers[world.pointer].snapshot]


Step = Callable[[Rules, World, int, Any], Moves]


class Described(NamedTuple):
    """A step: what it does, the function of the product that it models, and the call that AWS sees."""

    take: Step
    models: str
    call: str


class Program:
    """One kind of actor: its steps by the name of the place where it stands."""

    def __init__(self) -> None:
        self.steps: dict[str, Described] = {}

    def step(self, place: str, *, models: str, call: str) -> Callable[[Step], Step]:
        """Register a step. `models` is a dotted name below chromadb_compaction."""

        def register(take: Step) -> Step:
            self.steps[place] = Described(take, models, call)
            return take

        return register


FREE: Final = None


def acquire(rules: Rules, world: World, owner: str) -> World | None:
    """DynamoDBLeaseStore.acquire: the world in which `owner` has the lease; None: it is held."""
    lock = world.lock
    if lock is None or not lock[1] or lock[0] == owner or rules.defects.acquire_without_condition:
        return world._replace(lock=(owner, True))
    return None


def renew(rules: Rules, world: World, owner: str) -> World | None:
    """DynamoDBLeaseStore.renew: the world in which the lease runs anew; None: it is lost."""
    if (world.lock is not None and world.lock[0] == owner) or rules.defects.renew_without_owner:
        return world._replace(lock=(owner, True))
    return None


def release(rules: Rules, world: World, owner: str) -> World:
    """DynamoDBLeaseStore.release: free if it was ours, else as it was."""
    if world.lock is not None and (world.lock[0] == owner or rules.defects.release_without_owner):
        return world._replace(lock=FREE)
    return world


def moved(world: World, index: int, actor: Any, place: str) -> World:
    """Return the world with the actor at another place."""
    return with_actor(world, index, actor._replace(place=place))
