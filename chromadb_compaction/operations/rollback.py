"""Rollback: an older snapshot is published again and, with replay, the deltas merged since become pending again.

The order of the effects keeps data safe. First the deltas are copied to delta/. Until the swap they are pending beside
a snapshot that holds them, and merging them again would change nothing. Then the pointer is swapped. In the other
order, a crash in between would leave a snapshot without their rows, and no record that they are missing. After the
swap the deltas are checked again, because a CleanUp may have archived one: a CleanUp that had lost its lease, or one of
a pass that took over the lease of a stalled rollback and found nothing new in the deltas.
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
from chromadb_compaction.errors import (
    InvalidRequestError,
    NewerFormatError,
    SnapshotConflictError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.operations.operator_lease import operator_lease
from chromadb_compaction.operations.replay import (
    DeltaLocations,
    ReplayPlan,
    Sizes,
    carry_out,
    check_possible,
    locate_deltas,
    plan_replay,
    put_into_quarantine,
)
from chromadb_compaction.operations.rollback_target import check_complete
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue, read_list
from chromadb_compaction.snapshots.lineage import Lineage, as_new_as, lineage_of, lineage_since
from chromadb_compaction.snapshots.pointer import StoredManifest, publish
from chromadb_compaction.snapshots.pruning import is_being_pruned


class RollbackRequest(BaseModel):
    """A rollback as the operator asks for it.

    Attributes:
        snapshot_id: The snapshot to publish.
        operator: The owner of the lock while the rollback works, unique to the command.
        replay: Make the deltas that were merged since pending again.
        without: The UUIDs or keys of deltas that go to quarantine instead.
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
    kept_in_quarantine: list[str]


class _Plan(NamedTuple):
    target: StoredManifest
    catalogue: Catalogue
    undone: Lineage
    wanted: Sizes
    without: frozenset[str]
    locations: DeltaLocations
    replay: ReplayPlan


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
    target = catalogue.find(request.snapshot_id)
    check_complete(target, catalogue, services)
    undone = _undone(request.snapshot_id, catalogue)
    if request.replay:
        _check_known(undone)
    locations = locate_deltas(services)
    lists = _read_lists(catalogue, set(undone.snapshots) if request.replay else set(), services)
    known = catalogue.current is None or catalogue.current in catalogue.readable
    wanted = _merged_since(target, undone, lists, locations, lineage_known=known)
    without = _keys_of(request.without, wanted)
    plan = plan_replay(wanted, locations, without=without)
    if request.replay:
        check_possible(plan)
    return _Plan(target, catalogue, undone, wanted, without, locations, plan)


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
    prefix, wanted = services.settings.snapshot_prefix, plan.target.manifest.snapshot_id
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


def _undone(target: str, catalogue: Catalogue) -> Lineage:
    """Return the snapshots with deltas that the target does not hold.

    If the published snapshot cannot be read, or is the target itself, return all snapshots as new as the target. Their
    deltas may include some that the target holds already, which is harmless: none is left out.
    """
    current = catalogue.current
    if current in catalogue.readable and current not in (None, target):
        return lineage_since(target, str(current), catalogue.parents)
    ancestors = lineage_of(target, catalogue.parents).snapshots
    newer = as_new_as(target, catalogue.ever_published)
    return Lineage(tuple(each for each in newer if each not in ancestors), None)


def _check_known(undone: Lineage) -> None:
    if undone.unknown_parent:
        raise SnapshotCorruptError(
            f"snapshot {undone.unknown_parent}, which was published in between, is missing, so the deltas that it"
            " merged are not known",
            next_step="choose a newer snapshot, or roll back without --replay",
        )


def _merged_since(
    target: StoredManifest,
    undone: Lineage,
    lists: Mapping[str, list[DeltaOutcome]],
    locations: DeltaLocations,
    *,
    lineage_known: bool,
) -> Sizes:
    """Return the deltas that were merged since the target.

    Those are the deltas that the undone snapshots merged, and those archived since that no snapshot lists. The latter
    come from passes that changed nothing, because newer rows existed. Without the newer rows they may count.
    """
    merged = {o.key: o.bytes for each in undone.snapshots for o in lists.get(each, []) if o.status == "merged"}
    if not undone.snapshots and lineage_known:
        return merged
    listed = {outcome.key for outcomes in lists.values() for outcome in outcomes}
    since = min(target.written, target.manifest.created_at)
    unlisted = {k: i.bytes for k, i in locations.compacted.items() if i.modified >= since and k not in listed}
    # One that is pending with other content would stop the replay, although the archived one had no effect.
    return merged | {key: size for key, size in unlisted.items() if key not in locations.pending}


def _read_lists(catalogue: Catalogue, needed: set[str], services: Services) -> Mapping[str, list[DeltaOutcome]]:
    """Return the delta lists of all snapshots. One that cannot be read is empty, unless it is needed."""

    def read(snapshot_id: str) -> list[DeltaOutcome]:
        try:
            return read_list(services, snapshot_id)
        except SnapshotCorruptError:
            if snapshot_id in needed:
                raise
            return []

    ids = sorted({*catalogue.listed, *needed})
    return dict(zip(ids, in_threads(read, ids), strict=True))


def _keys_of(without: tuple[str, ...], wanted: Sizes) -> frozenset[str]:
    """Return the keys of the deltas to leave out, each named by its key or its UUID."""
    keys: set[str] = set()
    for name in without:
        found = {key for key in wanted if name in (key, layout.delta_stem(key))}
        if not found:
            raise InvalidRequestError(
                f"--without {name}: no delta of that name has been merged since",
                next_step="for a list of those that have, add --dry-run --json",
            )
        keys |= found
    return frozenset(keys)


def _replay(request: RollbackRequest, plan: _Plan, services: Services, *, check_lease: Callable[[], None]) -> None:
    carry_out(plan.replay, plan.locations, services, check_lease=check_lease)
    check_lease()
    reason = f"left out of the replay when {request.operator} rolled back to snapshot {request.snapshot_id}"
    put_into_quarantine(plan.replay.left_out, plan.locations, services, owner=request.operator, reason=reason)


def _replay_archived_since(plan: _Plan, services: Services) -> None:
    """Replay the deltas that were archived before the swap by an execution that took over an expired lock.

    The lock is not checked: the published snapshot needs those rows even if the lock is lost, and no CleanUp archives
    a delta for a snapshot that is no longer published.
    """
    locations = locate_deltas(services)
    again = plan_replay(plan.wanted, locations, without=plan.without)
    carry_out(again, locations, services, check_lease=lambda: None)


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
        snapshot_id=request.snapshot_id,
        previous=current,
        previous_problem=str(error) if error else None,
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
