"""The reader that joins the snapshot with pending deltas, call by call."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.protocol import Program, Rules, with_step
from tests.model.state import DELTAS, EMPTY, GOOD, NONE, Ledger, State, Transitions, bits, first, fold, with_actor

FRESH_READER = Program()


class FreshReader(NamedTuple):
    """Reads once.

    `due` are the deltas that were written before it began, and `excused` those of them that were nowhere when it
    listed: an overtaken clean-up or a rollback makes them pending again. `pointer` is the one read last. `answer` is
    the result.
    """

    owner: str
    step: str = "before"
    due: int = 0
    excused: int = 0
    pointer: int = NONE
    listed: int = 0
    fetched: int = 0
    answer: Ledger | None = None


@FRESH_READER.step("before", models="pending.views.list_pending", call="get pointer")
def _before(rules: Rules, s: State, i: int, me: FreshReader) -> Transitions:
    me = me._replace(due=s.written & GOOD, pointer=s.pointer)
    yield "fresh reader: reads the pointer", with_step(s, i, me, "list")


@FRESH_READER.step("list", models="pending.views.list_pending", call="list delta/")
def _list(rules: Rules, s: State, i: int, me: FreshReader) -> Transitions:
    me = me._replace(listed=s.pending, fetched=0, excused=me.excused | me.due & ~s.pending & ~_published(rules, s))
    if rules.defects.fresh_pointer_before_list:
        yield "fresh reader: lists the deltas", _after_pointer(rules, s, i, me)
    else:
        yield "fresh reader: lists the deltas", with_step(s, i, me, "after")


@FRESH_READER.step("after", models="pending.views.list_pending", call="get pointer")
def _after(rules: Rules, s: State, i: int, me: FreshReader) -> Transitions:
    if s.pointer != me.pointer and not rules.defects.fresh_pointer_not_compared:
        again = with_step(s, i, me._replace(pointer=s.pointer), "list")
        yield "fresh reader: the pointer has changed; it lists again", again
    else:
        yield "fresh reader: reads the pointer again", _after_pointer(rules, s, i, me._replace(pointer=s.pointer))


@FRESH_READER.step("fetch", models="pending.known.KnownDeltas", call="get delta")
def _fetch(rules: Rules, s: State, i: int, me: FreshReader) -> Transitions:
    number = first(me.listed)
    left = me._replace(listed=me.listed & (me.listed - 1))
    if s.pending >> number & 1:
        fetched = left._replace(fetched=me.fetched | 1 << number)
        yield f"fresh reader: reads delta {number}", _after_pointer(rules, s, i, fetched)
    elif rules.defects.fresh_missing_delta_is_empty:
        yield f"fresh reader: takes delta {number} for empty", _after_pointer(rules, s, i, left)
    else:
        yield f"fresh reader: delta {number} has moved; it begins again", with_step(s, i, me, "list")


def _after_pointer(rules: Rules, s: State, i: int, me: FreshReader) -> State:
    if me.listed:
        return with_step(s, i, me, "fetch")
    return with_actor(s, i, FreshReader(me.owner, "done", me.due, me.excused, answer=_joined(rules, me)))


def _joined(rules: Rules, me: FreshReader) -> Ledger:
    """Return the snapshot joined with the deltas that were read (pending.overlay.Overlay)."""
    ledger = EMPTY if me.pointer == NONE else rules.snapshots[rules.pointers[me.pointer].snapshot].ledger
    read = list(bits(me.fetched & GOOD))
    if rules.defects.fresh_deletes_hide_nothing:
        read = [number for number in read if DELTAS[number].live]
    if rules.defects.fresh_late_rows_win:
        pending = fold(EMPTY, read)
        return tuple(new or old for new, old in zip(pending, ledger, strict=True))
    return fold(ledger, read)


def _published(rules: Rules, s: State) -> int:
    """Return the deltas that the published snapshot holds, or that a newer row of it supersedes."""
    published = rules.published(s)
    if published is None:
        return 0
    newest = [row[0] if row else NONE for row in published.ledger]
    return sum(1 << number for number, delta in enumerate(DELTAS) if number <= newest[delta.collection])


def broken_by_answer(reader: FreshReader) -> str | None:
    """Return the broken invariant unless the answer has every due delta, or a newer row of its id."""
    for number in bits(reader.due & ~reader.excused):
        row = (reader.answer or EMPTY)[DELTAS[number].collection]
        if row is None or row[0] < number:
            return f"9. A fresh read sees what was written: it does not see delta {number}"
    return None
