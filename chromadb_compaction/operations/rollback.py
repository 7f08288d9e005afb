"""Rollback: an older snapshot is published again and, with replay, the deltas merged since become pending again.

The order of the effects keeps data safe. First the deltas are copied to delta/. Until the swap they are pending beside
a snapshot that holds them, and merging them again would change nothing. Then the pointer is swapped. In the other
order, a crash in between would leave a snapshot without their rows, and no record that they are missing. After the
swap the deltas are checked again, because a CleanUp may have archived one: a CleanUp that had lost its lease, or one of
a pass that took over the lease of a stalled rollback and found nothing new in the deltas.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.deltas.identity import Content, has_merged_content
from chromadb_compaction.errors import (
    InvalidRequestError,
    NewerFormatError,
    SnapshotConflictError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.operations.merged_since import MergedSince, find_merged_since
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.replay import (
    DeltaLocations,
    ReplayPlan,
    Wanted,
    carry_out,
    check_possible,
    locate_deltas,
    plan_replay,
    put_into_quarantine,
)
from chromadb_compaction.operations.rollback_target import check_complete
from chromadb_compaction.operations.typed_ids import find_deltas, find_snapshot
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue
from chromadb_compaction.snapshots.pointer import StoredManifest, publish
from chromadb_compaction.snapshots.pruning import is_being_pruned


class RollbackRequest(BaseModel):
    """A rollback as the operator asks for it.

    Attributes:
        snapshot_id: The snapshot to publish, as `find_snapshot` takes it.
        operator: The owner of the lock while the rollback works, unique to the command.
        replay: Make the deltas that were merged since pending again.
        without: The deltas that go to quarantine instead, by UUID, key or beginning. One that is gone is given up.
        dry_run: Change nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_id: str
    operator: str
    replay: bool = False
    without: tuple[str, ...] = ()
    dry_run: bool = False


class RolledBack(BaseModel):
    """The result of a rollback. All deltas are pending keys.

    Attributes:
        snapshot_id: The target, which is published now.
        previous: The snapshot that was published before. None if the pointer could not be read.
        previous_problem: What is wrong with the pointer or the manifest of `previous`.
        sequence: The sequence of the pointer.
        swapped: Whether the pointer was swapped. It is not if the target was published already.
        dry_run: Whether nothing was changed.
        replay: Whether a replay was asked for.
        undone: The snapshots whose deltas the target does not hold.
        lineage_known: Whether the published snapshot could be read. If not, `undone` is every snapshot as new as the
            target.
        deltas_undone: The number of deltas that those snapshots merged.
        replayed: The deltas that are pending again.
        still_pending: The deltas that were never archived.
        left_out: The deltas that went to quarantine instead.
        given_up: The deltas that were to go to quarantine, and are gone.
        kept_in_quarantine: The deltas that were in quarantine, and stay there.
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
    given_up: list[str]
    kept_in_quarantine: list[str]


class _Plan(NamedTuple):
    target: StoredManifest
    catalogue: Catalogue
    since: MergedSince
    without: frozenset[str]
    replay: ReplayPlan

    @property
    def target_id(self) -> str:
        return self.target.manifest.snapshot_id


def rollback(request: RollbackRequest, services: Services) -> RolledBack:
    """Publish the snapshot again, by compare-and-swap and under the lock.

    Raises SnapshotCorruptError if anything of the snapshot is missing, ObjectMissingError if the replay cannot find
    every delta, NewerFormatError if a newer version published, and LockHeldError while an execution works. Nothing
    has changed then. If it crashes, a second run does the rest.
    """
    if request.dry_run:
        return _result(request, _plan(request, services))
    with operator_lease(services, request.operator) as lease:
        plan = _plan(request, services)
        with _claimed(plan, services):
            if request.replay:
                _replay(request, plan, services, check_lease=lease.check)
            if not _is_published(plan):
                _swap(request, plan, services, before_swap=lease.check)
            if request.replay:
                _replay_archived_since(plan, services)
    return _result(request, plan)


def _plan(request: RollbackRequest, services: Services) -> _Plan:
    if request.without and not request.replay:
        raise InvalidRequestError("--without names deltas not to replay", next_step="give --replay too")
    catalogue = read_catalogue(services)
    _check_not_newer(catalogue)
    target = find_snapshot(request.snapshot_id, catalogue)
    check_complete(target, catalogue, services)
    locations = locate_deltas(services)
    since = find_merged_since(target, catalogue, locations.compacted, services, for_replay=request.replay)
    without = _keys_of(request.without, since.deltas)
    replay = _plan_replay(since.deltas, locations, without, services)
    if request.replay:
        check_possible(replay)
    return _Plan(target, catalogue, since, without, replay)


def _plan_replay(wanted: Wanted, locations: DeltaLocations, without: frozenset[str], services: Services) -> ReplayPlan:
    def has_content(merged: Content, stored: ObjectInfo) -> bool:
        return has_merged_content(merged, stored, services.objects)

    return plan_replay(wanted, locations, has_content=has_content, without=without)


def _check_not_newer(catalogue: Catalogue) -> None:
    """Raise NewerFormatError if a newer version published: its pointer must not be replaced by one of an older."""
    for error in (catalogue.current_pointer.error, catalogue.damaged.get(catalogue.current or "")):
        if isinstance(error, NewerFormatError):
            raise error


@contextmanager
def _claimed(plan: _Plan, services: Services) -> Iterator[None]:
    """Claim the snapshot, so that no clean-up without its lease prunes it before it is published."""
    if _is_published(plan):
        yield
        return
    prefix, wanted = services.settings.snapshot_prefix, plan.target_id
    claim = layout.mark_key(layout.claim_prefix(wanted, prefix=prefix), secrets.token_hex(8))
    services.objects.put(claim, b"{}")
    try:
        # The mark is checked first, because a prune deletes its mark after the manifest.
        if is_being_pruned(wanted, services) or not services.objects.head(layout.manifest_key(wanted, prefix=prefix)):
            raise SnapshotCorruptError(
                f"snapshot {wanted} is past its retention, and a clean-up is deleting it or was stopped while deleting"
                " it; nothing was changed",
                next_step="choose another: chromadb-compaction snapshots list",
            )
        yield
    finally:
        services.objects.delete([claim])


def _keys_of(without: tuple[str, ...], wanted: Wanted) -> frozenset[str]:
    """Return the keys of the deltas to leave out, each named by its key or its UUID."""
    keys: set[str] = set()
    for name in without:
        found = find_deltas(name, wanted)
        if not found:
            raise InvalidRequestError(
                f"--without {name}: no delta of that name has been merged since",
                next_step="for a list of those that have, add --dry-run --json",
            )
        keys.update(found)
    return frozenset(keys)


def _replay(request: RollbackRequest, plan: _Plan, services: Services, *, check_lease: Callable[[], None]) -> None:
    carry_out(plan.replay, services, check_lease=check_lease)
    check_lease()
    reason = f"left out of the replay when {request.operator} rolled back to snapshot {plan.target_id}"
    sources = {key: plan.replay.sources[key] for key in plan.replay.left_out if key in plan.replay.sources}
    put_into_quarantine(sources, services, owner=request.operator, reason=reason)


def _replay_archived_since(plan: _Plan, services: Services) -> None:
    """Replay the deltas that were archived before the swap by an execution that took over an expired lock.

    They are found again, because a pass that changed nothing may have archived more since the plan was made. The lock
    is not checked: the published snapshot needs those rows even if the lock is lost, and no CleanUp archives a delta
    for a snapshot that is no longer published.
    """
    locations = locate_deltas(services)
    since = find_merged_since(plan.target, plan.catalogue, locations.compacted, services, for_replay=False)
    again = _plan_replay({**since.deltas, **plan.since.deltas}, locations, plan.without, services)
    carry_out(again, services, check_lease=lambda: None)


def _is_published(plan: _Plan) -> bool:
    return plan.catalogue.current == plan.target_id


def _swap(request: RollbackRequest, plan: _Plan, services: Services, *, before_swap: Callable[[], None]) -> None:
    pointer = Pointer(
        snapshot_id=plan.target_id,
        sequence=_sequence(plan),
        manifest_sha256=plan.target.sha256,
        commit_id=f"{request.operator}/rollback",
        published_at=services.clock(),
    )
    try:
        publish(services, pointer, etag=plan.catalogue.current_pointer.etag, before_swap=before_swap)
    except SnapshotConflictError as error:
        raise SnapshotConflictError(
            "another snapshot has been published meanwhile, so nothing was rolled back",
            next_step="look at: chromadb-compaction snapshots list, and run the command again",
        ) from error


def _sequence(plan: _Plan) -> int:
    """Return a sequence above every known one. If the target is published already, return the pointer's."""
    pointer = plan.catalogue.current_pointer.pointer
    if pointer:
        return pointer.sequence if _is_published(plan) else pointer.sequence + 1
    known = [*plan.catalogue.readable, *plan.catalogue.damaged, *plan.catalogue.listed]
    return max(layout.snapshot_sequence(snapshot_id) for snapshot_id in known) + 1


def _result(request: RollbackRequest, plan: _Plan) -> RolledBack:
    catalogue = plan.catalogue
    current = catalogue.current
    error = catalogue.current_pointer.error or catalogue.damaged.get(current or "")
    return RolledBack(
        snapshot_id=plan.target_id,
        previous=current,
        previous_problem=str(error) if error else None,
        sequence=_sequence(plan),
        swapped=not _is_published(plan),
        dry_run=request.dry_run,
        replay=request.replay,
        undone=list(plan.since.undone),
        lineage_known=current in catalogue.readable,
        deltas_undone=len(plan.since.deltas),
        replayed=list(plan.replay.copies) if request.replay else [],
        still_pending=list(plan.replay.pending),
        left_out=list(plan.replay.left_out),
        given_up=list(plan.replay.given_up),
        kept_in_quarantine=list(plan.replay.kept_out),
    )
