"""An execution of the state machine, call by call, in the order in which the steps make them."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.protocol import Program, Rules, acquire, release, renew, with_step
from tests.model.state import (
    DELTAS,
    EMPTY,
    NONE,
    Pointer,
    Snapshot,
    State,
    Transitions,
    bits,
    files_of,
    first,
    fold,
    of_one_collection,
    own_files,
    with_actor,
)

EXECUTION = Program()
ENDED = ("done", "held", "failed", "gone")


class Execution(NamedTuple):
    """One execution, or one attempt of its task.

    From task to task: `base` is the pointer that it started from, `todo` the listed deltas, `got` and `bad` the merged
    and quarantined ones, `parts` the results of other functions (see folds.py), `draft` the snapshot that it publishes.
    Within a task: `done` is the finished part of a list, `finishing` means that ListDeltas cleans up, `old` and `kept`
    belong to the prune. `orphan`: the state machine has abandoned this attempt, and ignores its result. `waiting`: the
    deltas that are not due, for a mistake.
    """

    owner: str
    step: str = "acquire"
    attempt: int = 1
    base: int = NONE
    todo: int = 0
    got: int = 0
    bad: int = 0
    draft: int = NONE
    done: int = 0
    finishing: bool = False
    old: int = 0
    kept: int = 0
    orphan: bool = False
    parts: tuple[int, ...] = ()
    waiting: int = 0

    @property
    def commit(self) -> str:
        """The commit id, which is the same for every attempt of the pass (manifest.commit_id)."""
        return f"{self.owner}/1"


def next_task(state: State, i: int, me: Execution, step: str) -> State:
    """Return the state with the next task, or with an ended attempt if the state machine has abandoned it."""
    return with_actor(
        state, i, gone(me) if me.orphan else me._replace(step=step, done=0, finishing=False, old=0, kept=0)
    )


def gone(me: Execution) -> Execution:
    """Return an ended attempt without data."""
    return Execution(me.owner, "gone", me.attempt)


def fail(rules: Rules, state: State, i: int, me: Execution) -> State:
    """Return the state after an error: Catch leads to ReleaseLock with `$.failure` set."""
    step = "failed" if rules.defects.errors_keep_the_lock else "fail.release"
    return with_actor(state, i, gone(me) if me.orphan else Execution(me.owner, step, me.attempt))


def renewing(task: str, models: str, then: str) -> None:
    """Add the step with which a task renews the lease on entry (Heartbeat.__enter__)."""

    @EXECUTION.step(f"{task}.renew", models=models, call="renew lock")
    def _enter(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
        renewed = renew(rules, s, me.owner)
        if renewed is None:
            yield f"{task}: the lease is lost; the task stops", fail(rules, s, i, me)
        else:
            yield f"{task}: renews the lease", with_step(renewed, i, me, then)


renewing("list", "steps.list_deltas.list_deltas", "list.base")
renewing("download", "steps.download_snapshot.download_snapshot", "download.base")
renewing("merge", "steps.merge_batch.merge_batch", "merge.read")
renewing("upload", "steps.upload_snapshot.upload_snapshot", "upload.own")
renewing("clean", "steps.clean_up.clean_up", "archive.check")


@EXECUTION.step("acquire", models="steps.acquire_lock.acquire_lock", call="acquire lock")
def _acquire(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    taken = acquire(rules, s, me.owner)
    if taken is None:
        yield "AcquireLock: another owner holds the lease; this execution ends", with_step(s, i, me, "held")
    else:
        yield "AcquireLock: takes the lease", with_step(taken, i, me, "list.renew")


@EXECUTION.step("list.base", models="steps.list_deltas._base", call="get pointer")
def _base(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    me = me._replace(base=s.pointer)
    step = "list.list" if s.pointer == NONE else "list.cleaned"
    yield "list: reads the pointer, its base", with_step(s, i, me, step)


@EXECUTION.step("list.cleaned", models="steps.list_deltas._finish_clean_up", call="head cleaned")
def _cleaned(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    snapshot = rules.pointers[me.base].snapshot
    if s.cleaned >> snapshot & 1:
        yield "list: the clean-up of the base is finished", with_step(s, i, me, "list.list")
    else:
        base = rules.snapshots[snapshot]
        me = me._replace(draft=snapshot, got=base.merged, bad=base.quarantined, finishing=True)
        yield "list: the clean-up of the base is unfinished; it starts it", with_step(s, i, me, "archive.check")


@EXECUTION.step("list.list", models="steps.list_deltas.list_deltas", call="list delta/")
def _list(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    me = Execution(me.owner, me.step, me.attempt, me.base, s.pending, orphan=me.orphan)
    if not s.pending:
        yield "list: finds no pending deltas", next_task(s, i, me, "release")
        return
    yield "list: lists the pending deltas", next_task(s, i, me, "download.renew")
    for due in of_one_collection(s.pending) if rules.defers else ():
        me = me._replace(todo=due, waiting=s.pending & ~due if rules.defects.deferred_deltas_archived else 0)
        yield "list: leaves a collection for a later pass", next_task(s, i, me, "download.renew")


def conflict(rules: Rules, s: State, i: int, me: Execution, task: str) -> tuple[str, State]:
    """Return the step of a task that finds another base published."""
    return f"{task}: another snapshot was published: SnapshotConflictError", fail(rules, s, i, me)


@EXECUTION.step("download.base", models="snapshots.base.read_base", call="get pointer")
def _download_base(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if s.pointer != me.base:
        yield conflict(rules, s, i, me, "download")
    elif s.pointer == NONE:
        yield "download: there is no base", next_task(s, i, me, "merge.renew")
    else:
        yield "download: the base is still published", with_step(s, i, me, "download.files")


@EXECUTION.step("download.files", models="snapshots.base.ensure_copies", call="get manifest, get files")
def _download_files(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    number = rules.pointers[me.base].snapshot
    if not s.manifests >> number & 1 or files_of(number, rules.snapshots[number]) & ~s.files:
        yield "download: a file of the base is missing: SnapshotCorruptError", fail(rules, s, i, me)
    else:
        yield "download: copies the base's files", next_task(s, i, me, "merge.renew")


@EXECUTION.step("merge.read", models="pending.listed.fetch_delta", call="get delta")
def _merge(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    left = me.todo & ~(me.got | me.bad | me.done)
    number = first(left)
    last = not left & (left - 1)
    if not s.pending >> number & 1:
        me = me._replace(done=me.done | 1 << number)
        yield f"merge: delta {number} no longer exists", _read(s, i, me, last=last)
    elif DELTAS[number].bad:
        quarantined = s.quarantined if rules.defects.quarantine_without_copy else s.quarantined | 1 << number
        got = 1 << number if rules.defects.bad_delta_merged_in_part else 0
        me = me._replace(bad=me.bad | 1 << number, got=me.got | got)
        yield (
            f"merge: copies bad delta {number} into quarantine",
            _read(s._replace(quarantined=quarantined), i, me, last=last),
        )
    else:
        me = me._replace(got=me.got | 1 << number)
        pending = s.pending & ~(1 << number) if rules.defects.delete_before_swap else s.pending
        yield f"merge: reads delta {number}", _read(s._replace(pending=pending), i, me, last=last)


def _read(s: State, i: int, me: Execution, *, last: bool) -> State:
    return next_task(s, i, me, "upload.renew") if last else with_actor(s, i, me)


@EXECUTION.step("upload.own", models="steps.upload_snapshot.upload_snapshot", call="get pointer")
def _own(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if s.pointer != NONE and rules.pointers[s.pointer].commit == me.commit:
        me = _to_clean(rules, me, rules.pointers[s.pointer].snapshot)
        yield "upload: an earlier attempt has published", next_task(s, i, me, "clean.renew")
    else:
        yield "upload: has not published yet", with_step(s, i, me, "upload.base")


@EXECUTION.step("upload.base", models="snapshots.base.read_base", call="get pointer")
def _fold(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if s.pointer != me.base:
        yield conflict(rules, s, i, me, "upload")
        return
    draft = folded(rules, me)
    if draft is None:
        # As in upload_snapshot._keep_base, the clean-up gets the pass's own list, and the base stays.
        me = me._replace(draft=rules.pointers[me.base].snapshot if me.base != NONE else NONE)
        step = "release" if rules.defects.unchanged_pass_keeps_deltas else "clean.renew"
        yield "upload: the pass changed nothing", next_task(s, i, me, step)
    elif rules.folds_elsewhere:
        step = "upload.collect" if me.parts else "fold.renew"
        text = "other functions have folded" if me.parts else "other functions must fold first"
        yield f"upload: {text}", with_step(s, i, me, step) if me.parts else next_task(s, i, me, step)
    else:
        me = me._replace(draft=rules.snapshots.number(draft))
        yield "upload: folds the runs into the base", with_step(s, i, me, "upload.files")


def _to_clean(rules: Rules, me: Execution, snapshot: int) -> Execution:
    """Return the input of CleanUp: the snapshot that this pass published, in any attempt."""
    published = rules.snapshots[snapshot]
    return me._replace(draft=snapshot, got=published.merged, bad=published.quarantined)


def folded(rules: Rules, me: Execution) -> Snapshot | None:
    """Return the snapshot that this pass would publish, with files under its own key. None: it changes nothing."""
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
def _upload(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    files = s.files | own_files(me.draft, rules.snapshots[me.draft])
    step = "upload.swap" if rules.defects.manifest_after_swap else "upload.manifest"
    yield "upload: writes its files under fresh keys", with_step(s._replace(files=files), i, me, step)


@EXECUTION.step("upload.manifest", models="steps.publication.write_objects", call="put manifest")
def _manifest(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    s = s._replace(manifests=s.manifests | 1 << me.draft)
    if rules.defects.manifest_after_swap:
        yield "upload: writes the manifest last", next_task(s, i, me, "clean.renew")
    else:
        yield "upload: writes the manifest and the list of deltas", with_step(s, i, me, "upload.swap")


@EXECUTION.step("upload.swap", models="snapshots.pointer.publish", call="put pointer if")
def _swap(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    if s.pointer != me.base and not rules.defects.swap_without_if_match:
        yield "upload: the swap fails (412)", with_step(s, i, me, "upload.back")
        return
    pointer = Pointer(me.draft, rules.snapshots[me.draft].sequence, me.commit)
    swapped = s._replace(pointer=rules.pointers.number(pointer))
    yield "upload: swaps the pointer", _published(rules, swapped, i, me)
    if s.faults:
        lost = swapped._replace(faults=s.faults - 1)
        yield "upload: swaps the pointer, but the response is lost", with_step(lost, i, me, "upload.back")


def _published(rules: Rules, s: State, i: int, me: Execution) -> State:
    if rules.defects.manifest_after_swap:
        return with_step(s, i, me, "upload.manifest")
    return next_task(s, i, me, "clean.renew")


@EXECUTION.step("upload.back", models="snapshots.pointer._read_back", call="get pointer")
def _read_back(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    pointer = rules.pointers[s.pointer] if s.pointer != NONE else None
    if pointer is not None and pointer.commit == me.commit and not rules.defects.swap_without_read_back:
        me = _to_clean(rules, me, pointer.snapshot)
        yield "upload: reads back its own commit: published", _published(rules, s, i, me)
    elif s.pointer == me.base:
        yield "upload: the pointer is unchanged: it tries again", with_step(s, i, me, "upload.swap")
    else:
        yield conflict(rules, s, i, me, "upload")


@EXECUTION.step("release", models="steps.release_lock.release_lock", call="release lock")
def _release(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    s = release(rules, s, me.owner)
    yield "ReleaseLock: done", with_actor(s, i, Execution(me.owner, "done", me.attempt))


@EXECUTION.step("fail.release", models="steps.release_lock.release_lock", call="release lock")
def _release_after_error(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    yield "ReleaseLock: after the error", with_step(release(rules, s, me.owner), i, me, "failed")


@EXECUTION.step("dead", models="steps.release_lock.release_lock", call="release lock")
def _rule(rules: Rules, s: State, i: int, me: Execution) -> Transitions:
    # infra.eventbridge_rules.LockReleaseRule calls this function too.
    s = s if rules.defects.no_status_change_rule else release(rules, s, me.owner)
    yield "the status-change rule releases its lease", with_actor(s, i, gone(me))
