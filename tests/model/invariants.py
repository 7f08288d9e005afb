"""The invariants of the design. A message starts with the invariant's number and name."""

from __future__ import annotations

from tests.model.actors import Operator, Reader
from tests.model.execution import Execution
from tests.model.fresh_reader import FreshReader, broken_by_answer
from tests.model.protocol import Rules
from tests.model.state import DELTAS, EMPTY, GOOD, NONE, Snapshot, State, bits, files_of, fold, visible


def broken_in(rules: Rules, state: State) -> str | None:
    """Return the invariant that this state breaks, or None."""
    published = rules.published(state)
    lost = _missing(state, published) & ~state.pending & ~_to_be_restored(state)
    if lost:
        return f"1. Nothing is lost: delta {list(bits(lost))} is neither pending nor in the published snapshot"
    bad = state.written & ~GOOD & ~(state.quarantined | state.pending)
    if bad:
        return f"1. Nothing is lost: bad delta {list(bits(bad))} is neither pending nor in quarantine"
    return None if published is None else _wrong_in(state, rules.pointers[state.pointer].snapshot, published)


def _wrong_in(state: State, number: int, published: Snapshot) -> str | None:
    if published.holds & ~GOOD:
        return "3. A delta is applied whole or not at all: a row of a bad delta is published"
    if visible(published.ledger) != visible(fold(EMPTY, bits(published.holds))):
        return "2. Order does not matter: the snapshot differs from its set of deltas"
    if not state.manifests >> number & 1:
        return "4. Readers never see half a snapshot: the published one has no manifest"
    if files_of(number, published) & ~state.files:
        return "4. Readers never see half a snapshot: a file of the published one is missing"
    return None


def _missing(state: State, published: Snapshot | None) -> int:
    """Return the good deltas that are neither in the published snapshot nor superseded there."""
    ledger = published.ledger if published else EMPTY
    holds = published.holds if published else 0
    superseded = sum(1 << d for d in bits(state.written) if (row := ledger[DELTAS[d].collection]) and row[0] > d)
    return state.written & GOOD & ~(holds | superseded)


def _to_be_restored(state: State) -> int:
    """Return the archived deltas that an actor will make pending again.

    The actor is an operator with an unfinished rollback, or a clean-up that has not yet checked the pointer again.
    """
    restored = 0
    for actor in state.actors:
        if isinstance(actor, Operator) and actor.step != "done":
            restored |= state.compacted
        elif isinstance(actor, Execution) and actor.step in ("archive.recheck", "archive.restore"):
            restored |= state.compacted & actor.got & actor.done
    return restored


def broken_by(rules: Rules, before: State, after: State) -> str | None:
    """Return the invariant that this step breaks, or None."""
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
            broken = _failed(rules, before, old, new) or _read(rules, old, new) or _read_fresh(new)
            if broken:
                return broken
    return None


def _swap(rules: Rules, before: State, after: State) -> str | None:
    """Return the broken invariant unless the swap replaced the parent of its snapshot."""
    pointer = rules.pointers[after.pointer]
    swapped = next(new for old, new in zip(before.actors, after.actors, strict=True) if old is not new)
    if isinstance(swapped, Operator) or rules.snapshots[pointer.snapshot].parent == _named(rules, before.pointer):
        return None
    return "5. The pointer saves data: a snapshot replaced one that is not its parent"


def _named(rules: Rules, pointer: int) -> int:
    return NONE if pointer == NONE else rules.pointers[pointer].snapshot


def _lock(before: State, after: State) -> str | None:
    """Return the broken invariant if another actor changed an unexpired lease."""
    if before.lock is None or not before.lock[1]:
        return None
    changed = next(old for old, new in zip(before.actors, after.actors, strict=True) if old is not new)
    if changed.owner == before.lock[0]:
        return None
    return "8. Only the owner can renew or release: another actor took or released an unexpired lease"


def _failed(rules: Rules, before: State, old: object, new: object) -> str | None:
    """Return the broken invariant if an execution failed after its own swap."""
    if isinstance(old, Execution) and isinstance(new, Execution) and old.step == "upload.back":
        own = before.pointer != NONE and rules.pointers[before.pointer].commit == old.commit
        if own and new.step == "fail.release":
            return "6. Own commits are recognised: it published, read that back, and failed"
    return None


def _read(rules: Rules, old: object, new: object) -> str | None:
    if not isinstance(old, Reader) or not isinstance(new, Reader) or old.seen in (new.seen, NONE) or new.seen == NONE:
        return None
    if rules.pointers[new.seen].sequence < rules.pointers[old.seen].sequence:
        return "4. Readers never go backward: an older pointer replaced a newer one"
    return None


def _read_fresh(new: object) -> str | None:
    return broken_by_answer(new) if isinstance(new, FreshReader) and new.step == "done" else None


def broken_at_the_end(rules: Rules, state: State) -> str | None:
    """Return the invariant that is broken after an undisturbed execution, or None."""
    published = rules.published(state)
    good = state.written & GOOD
    if _missing(state, published):
        return "1. Nothing is lost: a delta is not in the snapshot after an undisturbed execution"
    if visible(published.ledger if published else EMPTY) != visible(fold(EMPTY, bits(good))):
        return "2. Order does not matter: the last snapshot differs from the set of all deltas"
    if state.pending:
        return "7. Every task can run twice: deltas are pending after an undisturbed execution"
    if state.lock is not None:
        return "8. The lease is always released: it is held after an undisturbed execution"
    if any(DELTAS[number].bad for number in bits(state.compacted)):
        return "3. A delta is applied whole or not at all: a bad one is in compacted/"
    return None
