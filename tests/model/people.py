"""The other actors, call by call: a producer, a reader, and an operator who rolls back with a replay."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.clean_up import MARKS_OF_ONE
from tests.model.protocol import Program, Rules, acquire, moved, release
from tests.model.world import NONE, Moves, Pointer, World, bits, files_of, first, with_actor

PRODUCER, READER, OPERATOR = Program(), Program(), Program()


class Producer(NamedTuple):
    """Writes deltas in this order, which need not be that of their versions."""

    owner: str
    place: str
    left: tuple[int, ...]


class Reader(NamedTuple):
    """`seen`: the pointer that it serves; `pointer`: the one that it is fetching; `tries`: once more after a miss."""

    owner: str
    place: str = "look"
    looks: int = 2
    seen: int = NONE
    pointer: int = NONE
    tries: int = 2


class Operator(NamedTuple):
    """Rolls back to `target`. `base`: the pointer that was found; `wanted`: the deltas to replay.

    Whose command is killed types it again, or `gives_up`.
    """

    owner: str
    place: str
    target: int
    base: int = NONE
    wanted: int = 0
    left: int = 0
    swapped: bool = False
    typed_again: bool = False
    gives_up: bool = False


@PRODUCER.step("write", models="client.writer.DeltaWriter._send", call="put delta")
def _write(rules: Rules, w: World, i: int, me: Producer) -> Moves:
    number, *rest = me.left
    bit = 1 << number
    me = me._replace(left=tuple(rest), place="write" if rest else "done")
    written = w._replace(pending=w.pending | bit, written=w.written | bit)
    yield f"producer: writes delta {number}", with_actor(written, i, me)


def _served(me: Reader, pointer: int) -> Reader:
    looks = me.looks - 1
    return Reader(me.owner, "look" if looks else "done", looks, pointer)


@READER.step("look", models="snapshots.pointer.read_pointer_if_changed", call="get pointer")
def _look(rules: Rules, w: World, i: int, me: Reader) -> Moves:
    if w.pointer in (NONE, me.seen):
        yield "reader: nothing has changed", with_actor(w, i, _served(me, me.seen))
    else:
        yield "reader: reads the pointer", with_actor(w, i, me._replace(pointer=w.pointer, place="manifest"))


def _missed(w: World, i: int, me: Reader, what: str) -> tuple[str, World]:
    if me.tries > 1:
        me = me._replace(tries=1, pointer=NONE, place="look")
        return f"reader: {what} is missing, so it reads the pointer again", with_actor(w, i, me)
    return f"reader: {what} is missing again: SnapshotCorruptError", with_actor(w, i, Reader(me.owner, "done", 0))


@READER.step("manifest", models="snapshots.pointer.read_manifest", call="get manifest")
def _manifest(rules: Rules, w: World, i: int, me: Reader) -> Moves:
    if not w.manifests >> rules.pointers[me.pointer].snapshot & 1:
        yield _missed(w, i, me, "the manifest")
    else:
        yield "reader: reads the manifest", moved(w, i, me, "files")


@READER.step("files", models="snapshots.files.download", call="get files")
def _files(rules: Rules, w: World, i: int, me: Reader) -> Moves:
    number = rules.pointers[me.pointer].snapshot
    if files_of(number, rules.snapshots[number]) & ~w.files:
        yield _missed(w, i, me, "a file")
    else:
        yield "reader: opens its copy", with_actor(w, i, _served(me, me.pointer))


def _end(rules: Rules, w: World, i: int, me: Operator, text: str) -> tuple[str, World]:
    return f"rollback: {text}", with_actor(w, i, Operator(me.owner, "release", me.target))


@OPERATOR.step("acquire", models="operations.operator_lease.operator_lease", call="acquire lock")
def _acquire(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    taken = acquire(rules, w, me.owner)
    if taken is None and not me.typed_again:
        yield "rollback: somebody holds the lease: LockHeldError", moved(w, i, me, "done")
    elif taken is not None:
        yield "rollback: takes the lease", moved(taken, i, me, "pointer")


@OPERATOR.step("pointer", models="snapshots.pointer.read_current_pointer", call="get pointer")
def _pointer(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    yield "rollback: reads the pointer", moved(w, i, me._replace(base=w.pointer), "catalogue")


@OPERATOR.step("catalogue", models="snapshots.catalogue.read_catalogue", call="list snapshot/, get manifests")
def _catalogue(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    current = rules.pointers[me.base].snapshot
    line = _newer(rules, w, me.target) if current == me.target else _undone(rules, current, me.target)
    needed = sum(1 << number for number in {me.target, *line})
    if needed & ~w.manifests or files_of(me.target, rules.snapshots[me.target]) & ~w.files:
        yield _end(rules, w, i, me, "something of it is missing: refused")
    else:
        wanted = 0
        for number in line:
            wanted |= rules.snapshots[number].merged
        for number in bits(w.manifests):
            me = me._replace(left=me.left | rules.snapshots[number].merged)
        yield "rollback: reads what the snapshots merged", moved(w, i, me._replace(wanted=wanted), "where")


def _undone(rules: Rules, current: int, target: int) -> list[int]:
    """Compute lineage.lineage_since: the current lineage down to its common ancestor with the target."""
    theirs: list[int] = []
    while target != NONE:
        theirs.append(target)
        target = rules.snapshots[target].parent
    mine: list[int] = []
    while current != NONE and current not in theirs:
        mine.append(current)
        current = rules.snapshots[current].parent
    return mine


def _newer(rules: Rules, w: World, target: int) -> list[int]:
    """Compute lineage.as_new_as: every other snapshot as new as the target, for a rollback that runs again."""
    return [
        n for n in bits(w.manifests) if n != target and rules.snapshots[n].sequence >= rules.snapshots[target].sequence
    ]


@OPERATOR.step("where", models="operations.replay.locate_deltas", call="list delta/, list compacted/")
def _where(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    unlisted = w.compacted & ~me.left
    wanted = me.wanted | unlisted
    if wanted & ~(w.pending | w.compacted):
        yield _end(rules, w, i, me, "a delta is neither pending nor archived: refused")
        return
    left = 0 if rules.defects.rollback_swaps_first else wanted & ~w.pending
    me = me._replace(wanted=wanted, left=left)
    place = "copy" if left else _then(rules, me)
    if rules.pointers[me.base].snapshot != me.target and not rules.defects.prune_without_mark:
        place = "claim"
    yield "rollback: finds the deltas merged since", moved(w, i, me, place)


@OPERATOR.step("claim", models="operations.rollback._claimed", call="put claim")
def _claim(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    yield "rollback: claims the snapshot", moved(w._replace(claimed=w.claimed | 1 << me.target), i, me, "claim.mark")


@OPERATOR.step("claim.mark", models="snapshots.pruning.is_being_pruned", call="list pruning")
def _claim_mark(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    if any(w.doomed >> pruner * MARKS_OF_ONE + me.target & 1 for pruner in range(len(w.actors))):
        yield "rollback: the snapshot is being pruned: refused", moved(w, i, me, "unclaim")
    else:
        yield "rollback: nobody is pruning the snapshot", moved(w, i, me, "claim.manifest")


@OPERATOR.step("claim.manifest", models="operations.rollback._claimed", call="head manifest")
def _claim_manifest(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    if not w.manifests >> me.target & 1:
        yield "rollback: the snapshot has been pruned: refused", moved(w, i, me, "unclaim")
    else:
        yield "rollback: the snapshot is there", moved(w, i, me, "copy" if me.left else _then(rules, me))


@OPERATOR.step("unclaim", models="operations.rollback._claimed", call="delete claim")
def _unclaim(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    w = w._replace(claimed=w.claimed & ~(1 << me.target))
    yield "rollback: gives up its claim", moved(w, i, Operator(me.owner, me.place, me.target), "release")


def _then(rules: Rules, me: Operator) -> str:
    if me.swapped:
        return "release" if rules.pointers[me.base].snapshot == me.target else "unclaim"
    return "again" if rules.pointers[me.base].snapshot == me.target else "swap"


@OPERATOR.step("copy", models="operations.replay.carry_out", call="copy delta")
def _copy(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    number = first(me.left)
    me = me._replace(left=me.left & (me.left - 1))
    w = w._replace(pending=w.pending | 1 << number)
    yield f"rollback: makes delta {number} pending again", moved(w, i, me, "copy" if me.left else _then(rules, me))


@OPERATOR.step("swap", models="operations.rollback._swap", call="put pointer if")
def _swap(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    if w.pointer != me.base and not rules.defects.swap_without_if_match:
        yield "rollback: somebody has published meanwhile: refused", moved(w, i, me, "unclaim")
        return
    before = rules.snapshots[me.target] if rules.defects.rollback_keeps_sequence else rules.pointers[me.base]
    sequence = before.sequence + (not rules.defects.rollback_keeps_sequence)
    pointer = Pointer(me.target, sequence, f"{me.owner}/rollback")
    swapped = w._replace(pointer=rules.pointers.number(pointer))
    yield "rollback: swaps the pointer", moved(swapped, i, me._replace(swapped=True), "again")


@OPERATOR.step("again", models="operations.rollback._replay_archived_since", call="list delta/, list compacted/")
def _again(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    left = me.wanted & ~w.pending & w.compacted
    me = me._replace(left=left, swapped=True)
    yield "rollback: looks for the deltas once more", moved(w, i, me, "copy" if left else _then(rules, me))


@OPERATOR.step("release", models="operations.operator_lease.operator_lease", call="release lock")
def _release(rules: Rules, w: World, i: int, me: Operator) -> Moves:
    done = Operator(me.owner, "done", me.target)
    yield "rollback: gives the lease back", with_actor(release(rules, w, me.owner), i, done)
