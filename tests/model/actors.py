"""The producer, the reader, and the operator who rolls back with a replay, call by call."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.clean_up import MARKS_OF_ONE
from tests.model.protocol import Program, Rules, acquire, release, with_step
from tests.model.state import NONE, Pointer, State, Transitions, bits, files_of, first, with_actor

PRODUCER, READER, OPERATOR = Program(), Program(), Program()


class Producer(NamedTuple):
    """Writes the deltas `left` in this order, which may differ from the order of their versions."""

    owner: str
    step: str
    left: tuple[int, ...]


class Reader(NamedTuple):
    """Reads the pointer and opens its snapshot `reads` times.

    `seen` is the pointer whose snapshot it serves, `pointer` the one that it is fetching. `tries` allows one retry.
    """

    owner: str
    step: str = "pointer"
    reads: int = 2
    seen: int = NONE
    pointer: int = NONE
    tries: int = 2


class Operator(NamedTuple):
    """Rolls back to `target`. `base` is the pointer that it found, `wanted` are the deltas to replay.

    After its command is killed, an operator runs it again, unless `gives_up`.
    """

    owner: str
    step: str
    target: int
    base: int = NONE
    wanted: int = 0
    left: int = 0
    swapped: bool = False
    is_rerun: bool = False
    gives_up: bool = False


@PRODUCER.step("write", models="client.writer.DeltaWriter._send", call="put delta")
def _write(rules: Rules, s: State, i: int, me: Producer) -> Transitions:
    number, *rest = me.left
    bit = 1 << number
    me = me._replace(left=tuple(rest), step="write" if rest else "done")
    written = s._replace(pending=s.pending | bit, written=s.written | bit)
    yield f"producer: writes delta {number}", with_actor(written, i, me)


def _served(me: Reader, pointer: int) -> Reader:
    reads = me.reads - 1
    return Reader(me.owner, "pointer" if reads else "done", reads, pointer)


@READER.step("pointer", models="snapshots.pointer.read_pointer_if_changed", call="get pointer")
def _read_pointer(rules: Rules, s: State, i: int, me: Reader) -> Transitions:
    if s.pointer in (NONE, me.seen):
        yield "reader: nothing has changed", with_actor(s, i, _served(me, me.seen))
    else:
        yield "reader: reads the pointer", with_actor(s, i, me._replace(pointer=s.pointer, step="manifest"))


def _missing(s: State, i: int, me: Reader, what: str) -> tuple[str, State]:
    if me.tries > 1:
        me = me._replace(tries=1, pointer=NONE, step="pointer")
        return f"reader: {what} is missing; it reads the pointer again", with_actor(s, i, me)
    return f"reader: {what} is missing again: SnapshotCorruptError", with_actor(s, i, Reader(me.owner, "done", 0))


@READER.step("manifest", models="snapshots.pointer.read_manifest", call="get manifest")
def _manifest(rules: Rules, s: State, i: int, me: Reader) -> Transitions:
    if not s.manifests >> rules.pointers[me.pointer].snapshot & 1:
        yield _missing(s, i, me, "the manifest")
    else:
        yield "reader: reads the manifest", with_step(s, i, me, "files")


@READER.step("files", models="snapshots.files.download", call="get files")
def _files(rules: Rules, s: State, i: int, me: Reader) -> Transitions:
    number = rules.pointers[me.pointer].snapshot
    if files_of(number, rules.snapshots[number]) & ~s.files:
        yield _missing(s, i, me, "a file")
    else:
        yield "reader: opens its copy of the snapshot", with_actor(s, i, _served(me, me.pointer))


def _end(rules: Rules, s: State, i: int, me: Operator, text: str) -> tuple[str, State]:
    return f"rollback: {text}", with_actor(s, i, Operator(me.owner, "release", me.target))


@OPERATOR.step("acquire", models="operations.operator_lease.operator_lease", call="acquire lock")
def _acquire(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    taken = acquire(rules, s, me.owner)
    if taken is None and not me.is_rerun:
        yield "rollback: another owner holds the lease: LockHeldError", with_step(s, i, me, "done")
    elif taken is not None:
        yield "rollback: takes the lease", with_step(taken, i, me, "pointer")


@OPERATOR.step("pointer", models="snapshots.pointer.read_current_pointer", call="get pointer")
def _pointer(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    yield "rollback: reads the pointer", with_step(s, i, me._replace(base=s.pointer), "catalogue")


@OPERATOR.step("catalogue", models="snapshots.catalogue.read_catalogue", call="list snapshot/, get manifests")
def _catalogue(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    current = rules.pointers[me.base].snapshot
    line = _newer(rules, s, me.target) if current == me.target else _undone(rules, current, me.target)
    needed = sum(1 << number for number in {me.target, *line})
    if needed & ~s.manifests or files_of(me.target, rules.snapshots[me.target]) & ~s.files:
        yield _end(rules, s, i, me, "a file or manifest is missing: refused")
    else:
        wanted = 0
        for number in line:
            wanted |= rules.snapshots[number].merged
        for number in bits(s.manifests):
            me = me._replace(left=me.left | rules.snapshots[number].merged)
        yield "rollback: reads the lists of merged deltas", with_step(s, i, me._replace(wanted=wanted), "locate")


def _undone(rules: Rules, current: int, target: int) -> list[int]:
    """Return the current snapshot and its parents up to the common ancestor of the target (lineage.lineage_since)."""
    ancestors: list[int] = []
    while target != NONE:
        ancestors.append(target)
        target = rules.snapshots[target].parent
    undone: list[int] = []
    while current != NONE and current not in ancestors:
        undone.append(current)
        current = rules.snapshots[current].parent
    return undone


def _newer(rules: Rules, s: State, target: int) -> list[int]:
    """Return every other snapshot that is not older than the target (lineage.as_new_as), for a repeated rollback."""
    return [
        n for n in bits(s.manifests) if n != target and rules.snapshots[n].sequence >= rules.snapshots[target].sequence
    ]


@OPERATOR.step("locate", models="operations.replay.locate_deltas", call="list delta/, list compacted/")
def _locate(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    unlisted = s.compacted & ~me.left
    wanted = me.wanted | unlisted
    if wanted & ~(s.pending | s.compacted):
        yield _end(rules, s, i, me, "a delta is neither pending nor archived: refused")
        return
    left = 0 if rules.defects.rollback_swaps_first else wanted & ~s.pending
    me = me._replace(wanted=wanted, left=left)
    step = "copy" if left else _next_step(rules, me)
    if rules.pointers[me.base].snapshot != me.target and not rules.defects.prune_without_mark:
        step = "claim"
    yield "rollback: locates the deltas merged since then", with_step(s, i, me, step)


@OPERATOR.step("claim", models="operations.rollback._claimed", call="put claim")
def _claim(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    yield (
        "rollback: claims the snapshot",
        with_step(s._replace(claimed=s.claimed | 1 << me.target), i, me, "claim.mark"),
    )


@OPERATOR.step("claim.mark", models="snapshots.pruning.is_being_pruned", call="list pruning")
def _claim_mark(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    if any(s.pruning_marks >> pruner * MARKS_OF_ONE + me.target & 1 for pruner in range(len(s.actors))):
        yield "rollback: the snapshot is being pruned: refused", with_step(s, i, me, "unclaim")
    else:
        yield "rollback: the snapshot is not being pruned", with_step(s, i, me, "claim.manifest")


@OPERATOR.step("claim.manifest", models="operations.rollback._claimed", call="head manifest")
def _claim_manifest(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    if not s.manifests >> me.target & 1:
        yield "rollback: the snapshot has been pruned: refused", with_step(s, i, me, "unclaim")
    else:
        yield "rollback: the snapshot exists", with_step(s, i, me, "copy" if me.left else _next_step(rules, me))


@OPERATOR.step("unclaim", models="operations.rollback._claimed", call="delete claim")
def _unclaim(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    s = s._replace(claimed=s.claimed & ~(1 << me.target))
    yield "rollback: removes its claim", with_step(s, i, Operator(me.owner, me.step, me.target), "release")


def _next_step(rules: Rules, me: Operator) -> str:
    if me.swapped:
        return "release" if rules.pointers[me.base].snapshot == me.target else "unclaim"
    return "recheck" if rules.pointers[me.base].snapshot == me.target else "swap"


@OPERATOR.step("copy", models="operations.replay.carry_out", call="copy delta")
def _copy(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    number = first(me.left)
    me = me._replace(left=me.left & (me.left - 1))
    s = s._replace(pending=s.pending | 1 << number)
    yield (
        f"rollback: makes delta {number} pending again",
        with_step(s, i, me, "copy" if me.left else _next_step(rules, me)),
    )


@OPERATOR.step("swap", models="operations.rollback._swap", call="put pointer if")
def _swap(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    if s.pointer != me.base and not rules.defects.swap_without_if_match:
        yield "rollback: another snapshot was published: refused", with_step(s, i, me, "unclaim")
        return
    before = rules.snapshots[me.target] if rules.defects.rollback_keeps_sequence else rules.pointers[me.base]
    sequence = before.sequence + (not rules.defects.rollback_keeps_sequence)
    pointer = Pointer(me.target, sequence, f"{me.owner}/rollback")
    swapped = s._replace(pointer=rules.pointers.number(pointer))
    yield "rollback: swaps the pointer", with_step(swapped, i, me._replace(swapped=True), "recheck")


@OPERATOR.step("recheck", models="operations.rollback._replay_archived_since", call="list delta/, list compacted/")
def _recheck(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    left = me.wanted & ~s.pending & s.compacted
    me = me._replace(left=left, swapped=True)
    yield "rollback: looks for the deltas once more", with_step(s, i, me, "copy" if left else _next_step(rules, me))


@OPERATOR.step("release", models="operations.operator_lease.operator_lease", call="release lock")
def _release(rules: Rules, s: State, i: int, me: Operator) -> Transitions:
    done = Operator(me.owner, "done", me.target)
    yield "rollback: releases the lease", with_actor(release(rules, s, me.owner), i, done)
