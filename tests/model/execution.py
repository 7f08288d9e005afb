"""An execution of the state machine, call by call, in the order in which the steps make them."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.protocol import Program, Rules, acquire, moved, release, renew
from tests.model.world import (
    DELTAS,
    EMPTY,
    NONE,
    Moves,
    Pointer,
    Snapshot,
    World,
    bits,
    files_of,
    first,
    fold,
    with_actor,
)

EXECUTION = Program()
ENDED = ("done", "held", "failed", "gone")
TASKS = ("list", "download", "merge", "upload", "clean")


class Execution(NamedTuple):
    """One execution, or one attempt of its task. Registers hold what one task hands to the next.

    `base`: the pointer it started from; `todo`: the deltas listed; `got`, `bad`: those merged and refused, to clean up
    after if `draft` is published. `done` and `back` are a task's own: what it has done of a list, and whether it is
    ListDeltas that cleans up; `old` and `kept` are the prune's. `orphan`: the state machine has given this attempt up,
    and takes nothing from it.
    """

    owner: str
    place: str = "acquire"
    attempt: int = 1
    base: int = NONE
    todo: int = 0
    got: int = 0
    bad: int = 0
    draft: int = NONE
    done: int = 0
    back: bool = False
    old: int = 0
    kept: int = 0
    orphan: bool = False

    @property
    def commit(self) -> str:
        """manifest.commit_id: the execution and its pass, whichever attempt."""
        return f"{self.owner}/1"


def next_task(world: World, i: int, me: Execution, place: str) -> World:
    """Let the state machine go on, unless it waits no longer for this attempt."""
    return with_actor(world, i, gone(me) if me.orphan else me._replace(place=place, done=0, back=False, old=0, kept=0))


def gone(me: Execution) -> Execution:
    """Return an attempt that has ended, and remembers nothing."""
    return Execution(me.owner, "gone", me.attempt)


def fail(rules: Rules, world: World, i: int, me: Execution) -> World:
    """Catch: every error leads to ReleaseLock, with `$.failure` set."""
    place = "failed" if rules.defects.errors_keep_the_lock else "fail.release"
    return with_actor(world, i, gone(me) if me.orphan else Execution(me.owner, place, me.attempt))


def renewing(task: str, models: str, then: str) -> None:
    """Every task renews the lease on entry (Heartbeat.__enter__)."""

    @EXECUTION.step(f"{task}.renew", models=models, call="renew lock")
    def _enter(rules: Rules, w: World, i: int, me: Execution) -> Moves:
        renewed = renew(rules, w, me.owner)
        if renewed is None:
            yield f"{task}: the lease is lost, so the task stops", fail(rules, w, i, me)
        else:
            yield f"{task}: renews the lease", moved(renewed, i, me, then)


renewing("list", "steps.list_deltas.list_deltas", "list.base")
renewing("download", "steps.download_snapshot.download_snapshot", "download.base")
renewing("merge", "steps.merge_batch.merge_batch", "merge.read")
renewing("upload", "steps.upload_snapshot.upload_snapshot", "upload.own")
renewing("clean", "steps.clean_up.clean_up", "settle.look")


@EXECUTION.step("acquire", models="steps.acquire_lock.acquire_lock", call="acquire lock")
def _acquire(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    taken = acquire(rules, w, me.owner)
    if taken is None:
        yield "AcquireLock: somebody holds the lease, so this execution ends", moved(w, i, me, "held")
    else:
        yield "AcquireLock: takes the lease", moved(taken, i, me, "list.renew")


@EXECUTION.step("list.base", models="steps.list_deltas._base", call="get pointer")
def _base(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    me = me._replace(base=w.pointer)
    place = "list.list" if w.pointer == NONE else "list.cleaned"
    yield "list: reads the pointer, which is its base from now on", moved(w, i, me, place)


@EXECUTION.step("list.cleaned", models="steps.list_deltas._finish_clean_up", call="head cleaned")
def _cleaned(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    snapshot = rules.pointers[me.base].snapshot
    if w.cleaned >> snapshot & 1:
        yield "list: the base's clean-up was finished", moved(w, i, me, "list.list")
    else:
        base = rules.snapshots[snapshot]
        me = me._replace(draft=snapshot, got=base.merged, bad=base.refused, back=True)
        yield "list: the base's clean-up was not finished, so it begins it", moved(w, i, me, "settle.look")


@EXECUTION.step("list.list", models="steps.list_deltas.list_deltas", call="list delta/")
def _list(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    me = Execution(me.owner, me.place, me.attempt, me.base, w.pending, orphan=me.orphan)
    if not w.pending:
        yield "list: finds no delta pending", next_task(w, i, me, "release")
    else:
        yield "list: takes what is pending", next_task(w, i, me, "download.renew")


def _conflict(rules: Rules, w: World, i: int, me: Execution, task: str) -> tuple[str, World]:
    return f"{task}: somebody has published since, SnapshotConflictError", fail(rules, w, i, me)


@EXECUTION.step("download.base", models="snapshots.base.read_base", call="get pointer")
def _download_base(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if w.pointer != me.base:
        yield _conflict(rules, w, i, me, "download")
    elif w.pointer == NONE:
        yield "download: there is no base", next_task(w, i, me, "merge.renew")
    else:
        yield "download: the base is still published", moved(w, i, me, "download.files")


@EXECUTION.step("download.files", models="snapshots.base.ensure_copies", call="get manifest, get files")
def _download_files(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    number = rules.pointers[me.base].snapshot
    if not w.manifests >> number & 1 or files_of(number, rules.snapshots[number]) & ~w.files:
        yield "download: a file of the base is missing, SnapshotCorruptError", fail(rules, w, i, me)
    else:
        yield "download: copies the base's files", next_task(w, i, me, "merge.renew")


@EXECUTION.step("merge.read", models="steps.listed_deltas.fetch_delta", call="get delta")
def _merge(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    left = me.todo & ~(me.got | me.bad | me.done)
    number = first(left)
    last = not left & (left - 1)
    if not w.pending >> number & 1:
        me = me._replace(done=me.done | 1 << number)
        yield f"merge: delta {number} has gone since it was listed", _read(w, i, me, last=last)
    elif DELTAS[number].bad:
        quarantined = w.quarantined if rules.defects.refused_without_copy else w.quarantined | 1 << number
        got = 1 << number if rules.defects.bad_delta_merged_in_part else 0
        me = me._replace(bad=me.bad | 1 << number, got=me.got | got)
        yield (
            f"merge: copies bad delta {number} into quarantine",
            _read(w._replace(quarantined=quarantined), i, me, last=last),
        )
    else:
        me = me._replace(got=me.got | 1 << number)
        pending = w.pending & ~(1 << number) if rules.defects.delete_before_swap else w.pending
        yield f"merge: reads delta {number}", _read(w._replace(pending=pending), i, me, last=last)


def _read(w: World, i: int, me: Execution, *, last: bool) -> World:
    return next_task(w, i, me, "upload.renew") if last else with_actor(w, i, me)


@EXECUTION.step("upload.own", models="steps.upload_snapshot.upload_snapshot", call="get pointer")
def _own(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if w.pointer != NONE and rules.pointers[w.pointer].commit == me.commit:
        me = _to_clean(rules, me, rules.pointers[w.pointer].snapshot)
        yield "upload: an earlier attempt has published, so it is done", next_task(w, i, me, "clean.renew")
    else:
        yield "upload: has not published yet", moved(w, i, me, "upload.base")


@EXECUTION.step("upload.base", models="snapshots.base.read_base", call="get pointer")
def _fold(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if w.pointer != me.base:
        yield _conflict(rules, w, i, me, "upload")
        return
    draft = _folded(rules, me)
    if draft is None:
        # upload_snapshot._nothing_new: the clean-up takes the pass's own list, and the base stays.
        me = me._replace(draft=rules.pointers[me.base].snapshot if me.base != NONE else NONE)
        place = "release" if rules.defects.unchanged_pass_keeps_deltas else "clean.renew"
        yield "upload: the pass changed nothing", next_task(w, i, me, place)
    else:
        me = me._replace(draft=rules.snapshots.number(draft))
        yield "upload: folds the runs into the base", moved(w, i, me, "upload.files")


def _to_clean(rules: Rules, me: Execution, snapshot: int) -> Execution:
    """Return what CleanUp is given: the snapshot that this pass has published, whichever attempt it was."""
    published = rules.snapshots[snapshot]
    return me._replace(draft=snapshot, got=published.merged, bad=published.refused)


def _folded(rules: Rules, me: Execution) -> Snapshot | None:
    number = rules.pointers[me.base].snapshot if me.base != NONE else NONE
    base = rules.snapshots[number] if number != NONE else None
    before = base.ledger if base else EMPTY
    ledger = fold(before, bits(me.got), tombstones=not rules.defects.no_tombstones)
    if ledger == before:
        return None
    kept = base.files if base else (NONE,) * len(EMPTY)
    owners = (number if owner == NONE else owner for owner in kept)
    files = tuple(old if ledger[c] == before[c] else NONE for c, old in enumerate(owners))
    sequence = (rules.pointers[me.base].sequence if base else 0) + 1
    holds = (base.holds if base else 0) | me.got
    return Snapshot(sequence, f"{me.commit}.{me.attempt}", number, ledger, files, me.got, me.bad, holds)


@EXECUTION.step("upload.files", models="snapshots.files.upload", call="put files")
def _upload(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    files = w.files | files_of(me.draft, rules.snapshots[me.draft])
    place = "upload.swap" if rules.defects.manifest_after_swap else "upload.manifest"
    yield "upload: writes its files under fresh keys", moved(w._replace(files=files), i, me, place)


@EXECUTION.step("upload.manifest", models="steps.publication.write_objects", call="put manifest")
def _manifest(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    w = w._replace(manifests=w.manifests | 1 << me.draft)
    if rules.defects.manifest_after_swap:
        yield "upload: writes the manifest at last", next_task(w, i, me, "clean.renew")
    else:
        yield "upload: writes the manifest and the list of deltas", moved(w, i, me, "upload.swap")


@EXECUTION.step("upload.swap", models="snapshots.pointer.publish", call="put pointer if")
def _swap(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    if w.pointer != me.base and not rules.defects.swap_without_if_match:
        yield "upload: the swap fails (412)", moved(w, i, me, "upload.back")
        return
    pointer = Pointer(me.draft, rules.snapshots[me.draft].sequence, me.commit)
    swapped = w._replace(pointer=rules.pointers.number(pointer))
    yield "upload: swaps the pointer", _published(rules, swapped, i, me)
    if w.faults:
        lost = swapped._replace(faults=w.faults - 1)
        yield "upload: swaps the pointer, but the answer is lost", moved(lost, i, me, "upload.back")


def _published(rules: Rules, w: World, i: int, me: Execution) -> World:
    if rules.defects.manifest_after_swap:
        return moved(w, i, me, "upload.manifest")
    return next_task(w, i, me, "clean.renew")


@EXECUTION.step("upload.back", models="snapshots.pointer._read_back", call="get pointer")
def _read_back(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    pointer = rules.pointers[w.pointer] if w.pointer != NONE else None
    if pointer is not None and pointer.commit == me.commit and not rules.defects.swap_without_read_back:
        me = _to_clean(rules, me, pointer.snapshot)
        yield "upload: reads back its own commit: published", _published(rules, w, i, me)
    elif w.pointer == me.base:
        yield "upload: the pointer is as it was: tries again", moved(w, i, me, "upload.swap")
    else:
        yield _conflict(rules, w, i, me, "upload")


@EXECUTION.step("release", models="steps.release_lock.release_lock", call="release lock")
def _release(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    w = release(rules, w, me.owner)
    yield "ReleaseLock: done", with_actor(w, i, Execution(me.owner, "done", me.attempt))


@EXECUTION.step("fail.release", models="steps.release_lock.release_lock", call="release lock")
def _release_after_error(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    yield "ReleaseLock: after the error", moved(release(rules, w, me.owner), i, me, "failed")


@EXECUTION.step("dead", models="steps.release_lock.release_lock", call="release lock")
def _rule(rules: Rules, w: World, i: int, me: Execution) -> Moves:
    # infra.eventbridge_rules.LockReleaseRule calls the same function.
    w = w if rules.defects.no_status_change_rule else release(rules, w, me.owner)
    yield "the status-change rule releases its lease", with_actor(w, i, gone(me))
