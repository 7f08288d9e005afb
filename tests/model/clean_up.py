"""CleanUp, call by call: archiving the merged deltas, and pruning. ListDeltas archives after an unfinished clean-up."""

from __future__ import annotations

from tests.model.execution import EXECUTION, Execution, next_task
from tests.model.protocol import Rules, with_step
from tests.model.state import NONE, State, Transitions, bits, file_bit, files_of, first, with_actor

COPY_FOUND = 8
"""Bits of `done` from here on: the bad deltas whose copy in quarantine was found."""
MARKS_OF_ONE = 8
"""Bits of `pruning_marks` per pruner."""


def _published_is(rules: Rules, s: State, snapshot: int) -> bool:
    return (rules.pointers[s.pointer].snapshot if s.pointer != NONE else NONE) == snapshot


def _skip(s: State, i: int, me: Execution) -> tuple[str, State]:
    if me.finishing:
        return "clean-up: another snapshot is published: nothing is moved", with_step(
            s, i, _list_again(me), "list.list"
        )
    return "clean-up: another snapshot is published: nothing is moved", next_task(s, i, me, "release")


def _list_again(me: Execution) -> Execution:
    return me._replace(done=0, finishing=False)


@EXECUTION.step("archive.check", models="steps.clean_up.archive_published", call="get pointer")
def _check(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if not _published_is(rules, s, me.draft) and not rules.defects.clean_up_without_pointer_check:
        yield _skip(s, i, me)
    else:
        step = "archive.copy" if me.got | me.bad else "archive.confirm"
        yield "clean-up: its snapshot is published", with_step(s, i, me, step)


@EXECUTION.step("archive.copy", models="steps.archiving._copy_to_compacted", call="copy delta")
def _copy(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    left = (me.got | me.bad) & ~me.done
    number = first(left)
    step = "archive.copy" if left & (left - 1) else "archive.confirm"
    me = me._replace(done=me.done | 1 << number, step=step)
    if me.bad >> number & 1:
        exists = s.quarantined >> number & 1 or rules.defects.quarantine_without_copy
        me = me._replace(done=me.done | (1 << number + COPY_FOUND if exists else 0))
        yield f"clean-up: checks the copy of bad delta {number} in quarantine", with_actor(s, i, me)
    elif s.pending >> number & 1:
        compacted = s.compacted | 1 << number
        yield f"clean-up: copies delta {number} to compacted/", with_actor(s, i, me, compacted=compacted)
    else:
        yield f"clean-up: delta {number} was moved already", with_actor(s, i, me)


@EXECUTION.step("archive.confirm", models="steps.clean_up.archive_published", call="get pointer")
def _confirm(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if not _published_is(rules, s, me.draft) and not rules.defects.clean_up_without_pointer_check:
        yield _skip(s, i, me)
    else:
        yield "clean-up: its snapshot is still published", with_step(s, i, me, "archive.delete")


@EXECUTION.step("archive.delete", models="steps.archiving.archive", call="delete deltas")
def _delete(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    moved_out = me.got | (me.bad & me.done >> COPY_FOUND) | me.waiting
    rechecks = not (rules.defects.clean_up_without_second_pointer_check or rules.defects.clean_up_without_pointer_check)
    step = "archive.recheck" if rechecks else "archive.mark"
    taken = moved_out & s.pending
    me = me._replace(done=taken)
    yield "clean-up: deletes the deltas from delta/", with_step(s._replace(pending=s.pending & ~moved_out), i, me, step)


@EXECUTION.step("archive.recheck", models="steps.archiving.archive", call="get pointer")
def _again(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if _published_is(rules, s, me.draft):
        yield "clean-up: its snapshot is still published after the deletes", with_step(s, i, me, "archive.mark")
    else:
        me = me._replace(done=me.got & me.done)
        text = "clean-up: its snapshot was replaced meanwhile"
        yield text, with_step(s, i, me, "archive.restore") if me.done else _skip(s, i, me)[1]


@EXECUTION.step("archive.restore", models="steps.archiving._restore_to_pending", call="copy delta")
def _restore(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    number = first(me.done)
    me = me._replace(done=me.done & (me.done - 1))
    restored = s._replace(pending=s.pending | 1 << number)
    after = with_actor(restored, i, me) if me.done else _skip(restored, i, me)[1]
    yield f"clean-up: puts delta {number} back", after


@EXECUTION.step("archive.mark", models="steps.clean_up.archive_published", call="put cleaned")
def _mark(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    own = me.finishing or me.base == NONE or rules.pointers[me.base].snapshot != me.draft
    cleaned = s.cleaned | 1 << me.draft if own and me.draft != NONE else s.cleaned
    s = s._replace(cleaned=cleaned)
    if me.finishing:
        yield "clean-up: is marked as finished", with_step(s, i, _list_again(me), "list.list")
    elif me.draft == NONE:
        yield "clean-up: is finished", next_task(s, i, me, "release")
    else:
        yield "clean-up: is marked as finished", with_step(s, i, me._replace(done=0), "prune.list")


@EXECUTION.step("prune.list", models="snapshots.pruning._snapshots", call="list snapshot/")
def _prune_list(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    yield "prune: no snapshot is old enough", next_task(s, i, me, "release")
    latest = rules.snapshots[me.draft].sequence
    complete = sorted(bits(s.manifests), key=lambda number: rules.snapshots[number].sequence)
    old = [n for n in complete[:-1] if n != me.draft and rules.snapshots[n].sequence <= latest]
    if old:
        old_ones = sum(1 << number for number in old)
        me = me._replace(old=old_ones, kept=s.manifests & ~old_ones)
        yield f"prune: snapshots {old} are old", with_step(s, i, me, "prune.read")


@EXECUTION.step("prune.read", models="snapshots.pruning._needed", call="get manifests")
def _prune_read(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if me.kept & ~s.manifests:
        yield "prune: a kept snapshot's manifest is missing: nothing is pruned", next_task(s, i, me, "release")
        return
    files = 0
    for number in bits(me.kept):
        files |= files_of(number, rules.snapshots[number])
    me = me._replace(kept=0 if rules.defects.prune_by_age_alone else files)
    yield "prune: reads the files of the kept snapshots", with_step(s, i, me, "prune.check")


@EXECUTION.step("prune.check", models="snapshots.pruning._still_published", call="get pointer")
def _prune_check(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if not _published_is(rules, s, me.draft):
        yield "prune: another snapshot is published: nothing is pruned", next_task(s, i, me, "release")
    else:
        step = "prune.manifests" if rules.defects.prune_without_mark else "prune.mark"
        yield "prune: its snapshot is published", with_step(s, i, me, step)


@EXECUTION.step("prune.mark", models="snapshots.pruning._mark", call="put pruning")
def _prune_mark(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    yield (
        "prune: marks the old snapshots",
        with_step(s._replace(pruning_marks=s.pruning_marks | _marks(me, i)), i, me, "prune.claims"),
    )


@EXECUTION.step("prune.claims", models="snapshots.pruning.is_claimed", call="list claims")
def _prune_claims(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    claimed = me.old & s.claimed
    if claimed:
        yield "prune: an operator has claimed one of them", with_step(s, i, me, "prune.unmark")
    else:
        yield "prune: none of them is claimed", with_step(s, i, me, "prune.pointer")


@EXECUTION.step("prune.pointer", models="snapshots.pruning._still_published", call="get pointer")
def _prune_pointer(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if _published_is(rules, s, me.draft):
        yield "prune: its snapshot is still published", with_step(s, i, me, "prune.manifests")
    else:
        yield "prune: another snapshot is published", with_step(s, i, me, "prune.unmark")


@EXECUTION.step("prune.unmark", models="snapshots.pruning.prune", call="delete pruning")
def _prune_unmark(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    yield (
        "prune: removes its marks; nothing is pruned",
        next_task(s._replace(pruning_marks=s.pruning_marks & ~_marks(me, i)), i, me, "release"),
    )


@EXECUTION.step("prune.manifests", models="snapshots.pruning.prune", call="delete manifests")
def _prune_manifests(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    yield "prune: deletes their manifests", with_step(s._replace(manifests=s.manifests & ~me.old), i, me, "prune.files")


@EXECUTION.step("prune.files", models="snapshots.pruning.prune", call="delete files")
def _prune_files(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    below = 0
    for number in bits(me.old):
        below |= file_bit(number, 0) | file_bit(number, 1)
    s = s._replace(files=s.files & ~(below & ~me.kept), pruning_marks=s.pruning_marks & ~_marks(me, i))
    yield "prune: deletes the files that no kept snapshot names", next_task(s, i, me, "release")


def _marks(me: Execution, i: int) -> int:
    """Return the marks of this pruner. No other pruner removes them."""
    return me.old << i * MARKS_OF_ONE
