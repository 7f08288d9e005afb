"""CleanUp, call by call: settling what a pass merged, and pruning. ListDeltas settles too, after an unfinished one."""

from __future__ import annotations

from tests.model.execution import EXECUTION, Execution, next_task
from tests.model.protocol import Rules, moved
from tests.model.world import NONE, Moves, World, bits, file_bit, files_of, first, with_actor

COPY_THERE = 8
"""Bits of `done` above these say whose copy in quarantine was found."""


MARKS_OF_ONE = 8
"""Bits of `doomed` for each pruner."""


def _published_is(rules: Rules, w: World, snapshot: int) -> bool:
    return (rules.pointers[w.pointer].snapshot if w.pointer != NONE else NONE) == snapshot


def _skip(w: World, i: int, me: Execution) -> tuple[str, World]:
    if me.back:
        return "clean-up: another snapshot is published: nothing is moved", moved(w, i, _relisting(me), "list.list")
    return "clean-up: another snapshot is published: nothing is moved", next_task(w, i, me, "release")


def _relisting(me: Execution) -> Execution:
    return me._replace(done=0, back=False)


@EXECUTION.step("settle.look", models="steps.clean_up.archive_published", call="get pointer")
def _look(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if not _published_is(rules, w, me.draft) and not rules.defects.clean_up_without_pointer_check:
        yield _skip(w, i, me)
    else:
        place = "settle.copy" if me.got | me.bad else "settle.confirm"
        yield "clean-up: its snapshot is published", moved(w, i, me, place)


@EXECUTION.step("settle.copy", models="steps.archiving._copy_to_compacted", call="copy delta")
def _copy(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    left = (me.got | me.bad) & ~me.done
    number = first(left)
    place = "settle.copy" if left & (left - 1) else "settle.confirm"
    me = me._replace(done=me.done | 1 << number, place=place)
    if me.bad >> number & 1:
        there = w.quarantined >> number & 1 or rules.defects.refused_without_copy
        me = me._replace(done=me.done | (1 << number + COPY_THERE if there else 0))
        yield f"clean-up: looks for the copy of bad delta {number} in quarantine", with_actor(w, i, me)
    elif w.pending >> number & 1:
        compacted = w.compacted | 1 << number
        yield f"clean-up: copies delta {number} to compacted/", with_actor(w, i, me, compacted=compacted)
    else:
        yield f"clean-up: delta {number} was moved before", with_actor(w, i, me)


@EXECUTION.step("settle.confirm", models="steps.clean_up.archive_published", call="get pointer")
def _confirm(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if not _published_is(rules, w, me.draft) and not rules.defects.clean_up_without_pointer_check:
        yield _skip(w, i, me)
    else:
        yield "clean-up: its snapshot is published still", moved(w, i, me, "settle.delete")


@EXECUTION.step("settle.delete", models="steps.archiving.archive", call="delete deltas")
def _delete(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    moved_out = me.got | (me.bad & me.done >> COPY_THERE)
    looks_back = not (rules.defects.clean_up_never_looks_back or rules.defects.clean_up_without_pointer_check)
    place = "settle.again" if looks_back else "settle.mark"
    taken = moved_out & w.pending
    me = me._replace(done=taken)
    yield "clean-up: takes the deltas out of delta/", moved(w._replace(pending=w.pending & ~moved_out), i, me, place)


@EXECUTION.step("settle.again", models="steps.archiving.archive", call="get pointer")
def _again(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if _published_is(rules, w, me.draft):
        yield "clean-up: its snapshot is published after all that", moved(w, i, me, "settle.mark")
    else:
        me = me._replace(done=me.got & me.done)
        text = "clean-up: its snapshot was replaced meanwhile"
        yield text, moved(w, i, me, "settle.restore") if me.done else _skip(w, i, me)[1]


@EXECUTION.step("settle.restore", models="steps.archiving._restore_to_pending", call="copy delta")
def _restore(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    number = first(me.done)
    me = me._replace(done=me.done & (me.done - 1))
    restored = w._replace(pending=w.pending | 1 << number)
    after = with_actor(restored, i, me) if me.done else _skip(restored, i, me)[1]
    yield f"clean-up: puts delta {number} back", after


@EXECUTION.step("settle.mark", models="steps.clean_up.archive_published", call="put cleaned")
def _mark(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    own = me.back or me.base == NONE or rules.pointers[me.base].snapshot != me.draft
    cleaned = w.cleaned | 1 << me.draft if own and me.draft != NONE else w.cleaned
    w = w._replace(cleaned=cleaned)
    if me.back:
        yield "clean-up: is marked as finished", moved(w, i, _relisting(me), "list.list")
    elif me.draft == NONE:
        yield "clean-up: is finished", next_task(w, i, me, "release")
    else:
        yield "clean-up: is marked as finished", moved(w, i, me._replace(done=0), "prune.list")


@EXECUTION.step("prune.list", models="snapshots.pruning._snapshots", call="list snapshot/")
def _prune_list(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    yield "prune: every snapshot is young", next_task(w, i, me, "release")
    latest = rules.snapshots[me.draft].sequence
    complete = sorted(bits(w.manifests), key=lambda number: rules.snapshots[number].sequence)
    old = [n for n in complete[:-1] if n != me.draft and rules.snapshots[n].sequence <= latest]
    if old:
        old_ones = sum(1 << number for number in old)
        me = me._replace(old=old_ones, kept=w.manifests & ~old_ones)
        yield f"prune: snapshots {old} are old", moved(w, i, me, "prune.read")


@EXECUTION.step("prune.read", models="snapshots.pruning._named_files", call="get manifests")
def _prune_read(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if me.kept & ~w.manifests:
        yield "prune: a kept snapshot's manifest has gone: nothing goes", next_task(w, i, me, "release")
        return
    files = 0
    for number in bits(me.kept):
        files |= files_of(number, rules.snapshots[number])
    me = me._replace(kept=0 if rules.defects.prune_by_age_alone else files)
    yield "prune: reads which files the others name", moved(w, i, me, "prune.look")


@EXECUTION.step("prune.look", models="snapshots.pruning._still_published", call="get pointer")
def _prune_look(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if not _published_is(rules, w, me.draft):
        yield "prune: another snapshot is published: nothing goes", next_task(w, i, me, "release")
    else:
        place = "prune.manifests" if rules.defects.prune_without_mark else "prune.mark"
        yield "prune: its snapshot is published", moved(w, i, me, place)


@EXECUTION.step("prune.mark", models="snapshots.pruning._mark", call="put pruning")
def _prune_mark(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    yield "prune: marks what will go", moved(w._replace(doomed=w.doomed | _marks(me, i)), i, me, "prune.claims")


@EXECUTION.step("prune.claims", models="snapshots.pruning.is_claimed", call="list claims")
def _prune_claims(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    claimed = me.old & w.claimed
    if claimed:
        yield "prune: an operator wants one of them", moved(w, i, me, "prune.unmark")
    else:
        yield "prune: nobody wants them", moved(w, i, me, "prune.pointer")


@EXECUTION.step("prune.pointer", models="snapshots.pruning._still_published", call="get pointer")
def _prune_pointer(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if _published_is(rules, w, me.draft):
        yield "prune: its snapshot is published still", moved(w, i, me, "prune.manifests")
    else:
        yield "prune: another snapshot is published", moved(w, i, me, "prune.unmark")


@EXECUTION.step("prune.unmark", models="snapshots.pruning.prune", call="delete pruning")
def _prune_unmark(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    yield (
        "prune: takes its marks away, nothing goes",
        next_task(w._replace(doomed=w.doomed & ~_marks(me, i)), i, me, "release"),
    )


@EXECUTION.step("prune.manifests", models="snapshots.pruning.prune", call="delete manifests")
def _prune_manifests(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    yield "prune: deletes their manifests", moved(w._replace(manifests=w.manifests & ~me.old), i, me, "prune.files")


@EXECUTION.step("prune.files", models="snapshots.pruning.prune", call="delete files")
def _prune_files(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    below = 0
    for number in bits(me.old):
        below |= file_bit(number, 0) | file_bit(number, 1)
    w = w._replace(files=w.files & ~(below & ~me.kept), doomed=w.doomed & ~_marks(me, i))
    yield "prune: deletes their files that no kept snapshot names", next_task(w, i, me, "release")


def _marks(me: Execution, i: int) -> int:
    """Return the marks of this pruner, which no other takes away."""
    return me.old << i * MARKS_OF_ONE
