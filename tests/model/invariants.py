"""What must hold: the invariants of the design, each by its name."""

from __future__ import annotations

from tests.model.execution import Execution
from tests.model.people import Operator, Reader
from tests.model.protocol import Rules
from tests.model.world import DELTAS, EMPTY, GOOD, NONE, Snapshot, World, bits, files_of, fold, visible


def broken_in(rules: Rules, world: World) -> str | None:
    """Return the invariant that this state breaks."""
    published = rules.published(world)
    lost = _missing(world, published) & ~world.pending & ~_put_back(world)
    if lost:
        return f"1. Nothing is lost: delta {list(bits(lost))} is neither pending nor in the published snapshot"
    refused = world.written & ~GOOD & ~(world.quarantined | world.pending)
    if refused:
        return f"1. Nothing is lost: bad delta {list(bits(refused))} is neither pending nor in quarantine"
    return None if published is None else _wrong_in(world, rules.pointers[world.pointer].snapshot, published)


def _wrong_in(world: World, number: int, published: Snapshot) -> str | None:
    if published.holds & ~GOOD:
        return "3. A delta is applied whole or not at all: a row of a bad delta is published"
    if visible(published.ledger) != visible(fold(EMPTY, bits(published.holds))):
        return "2. Order does not matter: the snapshot is not what its set of deltas makes"
    if not world.manifests >> number & 1:
        return "4. Readers never see half a snapshot: the published one has no manifest"
    if files_of(number, published) & ~world.files:
        return "4. Readers never see half a snapshot: a file of the published one is missing"
    return None


def _missing(world: World, published: Snapshot | None) -> int:
    """Return the good deltas that the published snapshot does not hold, nor a newer version of their id."""
    ledger = published.ledger if published else EMPTY
    holds = published.holds if published else 0
    superseded = sum(1 << d for d in bits(world.written) if (row := ledger[DELTAS[d].collection]) and row[0] > d)
    return world.written & GOOD & ~(holds | superseded)


def _put_back(world: World) -> int:
    """Return the archived deltas that somebody is about to make pending again.

    That is an operator whose rollback is not finished, or a clean-up that has not looked back yet.
    """
    soon = 0
    for actor in world.actors:
        if isinstance(actor, Operator) and actor.place != "done":
            soon |= world.compacted
        elif isinstance(actor, Execution) and actor.place in ("settle.again", "settle.restore"):
            soon |= world.compacted & actor.got & actor.done
    return soon


def broken_by(rules: Rules, before: World, after: World) -> str | None:
    """Return the invariant that this step breaks."""
    if before.pointer != after.pointer:
        broken = _swap(rules, before, after)
        if broken:
            return broken
    if before.lock != after.lock and after.faults == before.faults:
        broken = _lock(before, after)
        if broken:
            return broken
    for old, new in zip(before.actors, after.actors, strict=False):
        if old is not new:
            broken = _failed(rules, before, old, new) or _read(rules, old, new)
            if broken:
                return broken
    return None


def _swap(rules: Rules, before: World, after: World) -> str | None:
    """Every swap starts from what it replaces."""
    pointer = rules.pointers[after.pointer]
    swapped = next(new for old, new in zip(before.actors, after.actors, strict=True) if old is not new)
    if isinstance(swapped, Operator) or rules.snapshots[pointer.snapshot].parent == _named(rules, before.pointer):
        return None
    return "5. The pointer saves data: a snapshot replaced another that it does not come from"


def _named(rules: Rules, pointer: int) -> int:
    return NONE if pointer == NONE else rules.pointers[pointer].snapshot


def _lock(before: World, after: World) -> str | None:
    """Only its owner changes a lease that still runs."""
    if before.lock is None or not before.lock[1]:
        return None
    changed = next(old for old, new in zip(before.actors, after.actors, strict=True) if old is not new)
    if changed.owner == before.lock[0]:
        return None
    return "8. Only the owner can renew or release: another took or freed a lease that still runs"


def _failed(rules: Rules, before: World, old: object, new: object) -> str | None:
    """A swap of one's own that is read back is a success."""
    if isinstance(old, Execution) and isinstance(new, Execution) and old.place == "upload.back":
        own = before.pointer != NONE and rules.pointers[before.pointer].commit == old.commit
        if own and new.place == "fail.release":
            return "6. Own commits are recognised: it published, read that back, and failed"
    return None


def _read(rules: Rules, old: object, new: object) -> str | None:
    if not isinstance(old, Reader) or not isinstance(new, Reader) or old.seen in (new.seen, NONE) or new.seen == NONE:
        return None
    if rules.pointers[new.seen].sequence < rules.pointers[old.seen].sequence:
        return "4. Readers never go backward unasked: an older pointer replaced a newer one"
    return None


def broken_in_the_end(rules: Rules, world: World) -> str | None:
    """Return what a quiet execution, after everything, has left undone."""
    published = rules.published(world)
    good = world.written & GOOD
    if _missing(world, published):
        return "1. Nothing is lost: a delta is not in the snapshot after a quiet execution"
    if visible(published.ledger if published else EMPTY) != visible(fold(EMPTY, bits(good))):
        return "2. Order does not matter: the last snapshot is not what the set of all deltas makes"
    if world.pending:
        return "7. Every task can run twice: deltas are pending after a quiet execution"
    if world.lock is not None:
        return "8. The lease is always released: it is held after a quiet execution"
    if any(DELTAS[number].bad for number in bits(world.compacted)):
        return "3. A delta is applied whole or not at all: a bad one stands in compacted/"
    return None
