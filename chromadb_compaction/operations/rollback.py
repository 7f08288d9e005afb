"""Publishing an older snapshot again and, if asked, making what was merged since pending again.

The order of effects is what keeps data safe. The deltas are copied to delta/ first: until the swap they are pending
beside a snapshot that holds them, and merging them again would change nothing. Then the pointer is swapped. The other
way round, a crash in between would leave a snapshot without their rows, and nobody to remember that they were
missing. After the swap they are looked for once more, should a CleanUp have taken one away: one that had lost its
lease, or that of a pass which took over ours while we stood still, and found nothing new in them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import InvalidRequestError, SnapshotConflictError, SnapshotCorruptError
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.replay import (
    DeltaLocations,
    ReplayPlan,
    Sizes,
    carry_out,
    check_possible,
    leave_out,
    locate_deltas,
    plan_replay,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue, Readable, read_catalogue, read_list
from chromadb_compaction.snapshots.lineage import Line, line_of, not_before, undone
from chromadb_compaction.snapshots.pointer import publish
from chromadb_compaction.snapshots.pruning import is_being_pruned


class RollbackRequest(BaseModel):
    """`without` names deltas by UUID or key: they go to quarantine instead of being replayed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_id: str
    operator: str
    replay: bool = False
    without: tuple[str, ...] = ()
    dry_run: bool = False


class RolledBack(BaseModel):
    """What was done, or with `dry_run` would be.

    `undone` names the snapshots whose deltas the target does not hold; `lineage_known` False says that the published
    snapshot could not be read, so that this is every snapshot as new as the target. Of their deltas, `still_pending`
    were never archived. All deltas are keys of delta/.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    previous: str | None
    previous_problem: str | None
    sequence: int
    swapped: bool
    dry_run: bool
    replay: bool
    undone: list[str]
    lineage_known: bool
    deltas_undone: int
    replayed: list[str]
    still_pending: list[str]
    left_out: list[str]
    kept_in_quarantine: list[str]


class _Plan(NamedTuple):
    target: Readable
    catalogue: Catalogue
    undone: Line
    wanted: Sizes
    without: frozenset[str]
    at: DeltaLocations
    replay: ReplayPlan


def rollback(request: RollbackRequest, services: Services) -> RolledBack:
    """Publish the snapshot again, by compare-and-swap and under the lock.

    Refuses a snapshot of which anything is missing (SnapshotCorruptError), and a replay that cannot bring back
    every delta (ObjectMissingError): then nothing has changed. Raises LockHeldError while an execution works. Run
    again after a crash, it does what is left to do.
    """
    if request.dry_run:
        return _answer(request, _plan(request, services))
    with operator_lease(services, request.operator) as heartbeat:
        plan = _plan(request, services)
        with _claimed(plan, services):
            if request.replay:
                _replay(request, plan, services, alive=heartbeat.check)
            if not _is_published(plan):
                _swap(request, plan, services, before_swap=heartbeat.check)
            if request.replay:
                _look_again(plan, services)
    return _answer(request, plan)


def _plan(request: RollbackRequest, services: Services) -> _Plan:
    if request.without and not request.replay:
        raise InvalidRequestError("--without says what not to replay: give --replay too")
    catalogue = read_catalogue(services)
    target = catalogue.find(request.snapshot_id)
    _check_complete(target, catalogue)
    line = _undone(request.snapshot_id, catalogue)
    if request.replay:
        _check_known(line)
    at = locate_deltas(services)
    lists = _lists(catalogue, set(line.snapshots) if request.replay else set(), services)
    wanted = _wanted(target, line, lists, at)
    without = _named(request.without, wanted)
    plan = plan_replay(wanted, at, without=without)
    if request.replay:
        check_possible(plan)
    return _Plan(target, catalogue, line, wanted, without, at, plan)


@contextmanager
def _claimed(plan: _Plan, services: Services) -> Iterator[None]:
    """Keep clean-ups that have lost their lease from pruning the snapshot before it is published."""
    if _is_published(plan):
        yield
        return
    prefix, wanted = services.settings.snapshot_prefix, plan.target.manifest.snapshot_id
    claim = f"{layout.claim_prefix(wanted, prefix=prefix)}{secrets.token_hex(8)}.json"
    services.objects.put(claim, b"{}")
    try:
        # In this order: a prune takes its mark away after the manifest.
        if is_being_pruned(wanted, services) or not services.objects.head(layout.manifest_key(wanted, prefix=prefix)):
            raise SnapshotCorruptError(
                f"snapshot {wanted} is past its retention, and a clean-up is deleting it or has been stopped while it"
                " did; nothing was changed; choose another: chromadb-compaction snapshots list"
            )
        yield
    finally:
        services.objects.delete([claim])


def _check_complete(target: Readable, catalogue: Catalogue) -> None:
    absent = catalogue.absent(target.manifest)
    if absent:
        raise SnapshotCorruptError(
            f"snapshot {target.manifest.snapshot_id} cannot be published: {absent[0].key} and {len(absent) - 1} more of"
            " its files are missing or have another size; restore their previous versions in the bucket, or choose"
            " another: chromadb-compaction snapshots list"
        )


def _undone(target: str, catalogue: Catalogue) -> Line:
    """Return the snapshots that hold deltas which the target does not.

    If what is published cannot be read, or is the target itself, these are all that are as new as the target: a delta
    too many does no harm, for the target already holds it or it was merged after all; one too few would be lost.
    """
    current = catalogue.current
    if current in catalogue.readable and current not in (None, target):
        return undone(str(current), target, catalogue.parents)
    newer = not_before(target, catalogue.ever_published)
    return Line(tuple(each for each in newer if each not in line_of(target, catalogue.parents).snapshots), None)


def _check_known(line: Line) -> None:
    if line.cut:
        raise SnapshotCorruptError(
            f"snapshot {line.cut}, which was published in between, is gone, so nobody knows which deltas it merged;"
            " choose a newer snapshot, or roll back without --replay"
        )


def _wanted(target: Readable, line: Line, lists: Mapping[str, list[DeltaOutcome]], at: DeltaLocations) -> Sizes:
    """Return what was merged since the target, key -> bytes.

    That is what the undone snapshots merged; and what was archived since though no snapshot lists it: passes that
    changed nothing, because newer rows were there already. Without those newer rows they may count.
    """
    wanted = {o.key: o.bytes for each in line.snapshots for o in lists.get(each, []) if o.status == "merged"}
    if not line.snapshots:
        return wanted
    listed = {outcome.key for outcomes in lists.values() for outcome in outcomes}
    since = min(target.written, target.manifest.created_at)
    unlisted = {key: i.bytes for key, i in at.compacted.items() if i.modified >= since and key not in listed}
    # A rewritten one would stop the replay, though what it was had no effect.
    return wanted | {key: size for key, size in unlisted.items() if key not in at.pending}


def _lists(catalogue: Catalogue, needed: set[str], services: Services) -> Mapping[str, list[DeltaOutcome]]:
    """Return the lists of all snapshots; one that cannot be read is left out unless it is needed."""

    def read(snapshot_id: str) -> list[DeltaOutcome]:
        try:
            return read_list(services, snapshot_id)
        except SnapshotCorruptError:
            if snapshot_id in needed:
                raise
            return []

    ids = sorted({*catalogue.listed, *needed})
    return dict(zip(ids, in_threads(read, ids), strict=True))


def _named(without: tuple[str, ...], wanted: Sizes) -> frozenset[str]:
    """Return the keys of the deltas that are to be left out, each given by its key or its UUID."""
    keys: set[str] = set()
    for name in without:
        found = {key for key in wanted if name in (key, layout.delta_stem(key))}
        if not found:
            raise InvalidRequestError(
                f"--without {name}: no delta of that name has been merged since; with --dry-run --json the command"
                " lists those that have"
            )
        keys |= found
    return frozenset(keys)


def _replay(request: RollbackRequest, plan: _Plan, services: Services, *, alive: Callable[[], None]) -> None:
    carry_out(plan.replay, plan.at, services, alive=alive)
    alive()
    reason = f"left out of the replay when {request.operator} rolled back to snapshot {request.snapshot_id}"
    leave_out(plan.replay.left_out, plan.at, services, owner=request.operator, reason=reason)


def _look_again(plan: _Plan, services: Services) -> None:
    """Bring back what has been archived since, above all by whoever took over a lock that ran out before the swap.

    So it is done with or without the lock: the snapshot that now stands lacks those rows, and no CleanUp takes a
    delta away for a snapshot that stands no longer.
    """
    at = locate_deltas(services)
    again = plan_replay(plan.wanted, at, without=plan.without)
    carry_out(again, at, services, alive=lambda: None)


def _is_published(plan: _Plan) -> bool:
    return plan.catalogue.current == plan.target.manifest.snapshot_id


def _swap(request: RollbackRequest, plan: _Plan, services: Services, *, before_swap: Callable[[], None]) -> None:
    pointer = Pointer(
        snapshot_id=request.snapshot_id,
        sequence=_sequence(plan),
        manifest_sha256=plan.target.sha256,
        commit_id=f"{request.operator}/rollback",
        published_at=services.clock(),
    )
    try:
        publish(services, pointer, etag=plan.catalogue.current_pointer.etag, before_swap=before_swap)
    except SnapshotConflictError as error:
        raise SnapshotConflictError(
            "somebody else has published meanwhile, so nothing was rolled back; look at: chromadb-compaction snapshots"
            " list, and type the command again"
        ) from error


def _sequence(plan: _Plan) -> int:
    """Return a number above every one that was used, as far as they are known."""
    pointer = plan.catalogue.current_pointer.pointer
    if pointer:
        return pointer.sequence if _is_published(plan) else pointer.sequence + 1
    known = [*plan.catalogue.readable, *plan.catalogue.damaged, *plan.catalogue.listed]
    return max(layout.snapshot_sequence(snapshot_id) for snapshot_id in known) + 1


def _answer(request: RollbackRequest, plan: _Plan) -> RolledBack:
    catalogue = plan.catalogue
    current = catalogue.current
    return RolledBack(
        snapshot_id=request.snapshot_id,
        previous=current,
        previous_problem=catalogue.current_pointer.problem or catalogue.damaged.get(current or ""),
        sequence=_sequence(plan),
        swapped=not _is_published(plan),
        dry_run=request.dry_run,
        replay=request.replay,
        undone=list(plan.undone.snapshots),
        lineage_known=current in catalogue.readable,
        deltas_undone=len(plan.wanted),
        replayed=list(plan.replay.copies) if request.replay else [],
        still_pending=list(plan.replay.pending),
        left_out=list(plan.replay.left_out),
        kept_in_quarantine=list(plan.replay.kept_out),
    )
