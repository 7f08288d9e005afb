"""UploadSnapshot: fold the runs into the base, verify, upload changed files, publish with one conditional write."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.deaths import Process, running_whole_pass
from chromadb_compaction.deltas.outcomes import STAYS_PENDING, DeltaOutcome, decode_outcomes, pack_outcomes
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.fold.collections import FoldedDirectory, fold_pass
from chromadb_compaction.fold.cost import FoldCost, limits_of
from chromadb_compaction.fold.distribution import FOLDS, FoldInput, FoldPlan, plan_folds
from chromadb_compaction.fold.fold import FoldResult
from chromadb_compaction.fold.joining import PartOfManifest
from chromadb_compaction.fold.kept_copies import keep_copies, keep_unchanged
from chromadb_compaction.fold.partitioning import fold_costs
from chromadb_compaction.fold.row_counts import counts_of, untouched_records
from chromadb_compaction.fold.run_files import read_parts
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.manifest import Manifest, commit_id
from chromadb_compaction.messages import (
    MOST_TOO_LARGE,
    CollectionCounts,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.snapshots.base import cache_of, read_base
from chromadb_compaction.snapshots.pointer import publish, read_pointer
from chromadb_compaction.steps.fold_partitions import StoredParts, collect, read_plan, store_plan
from chromadb_compaction.steps.publication import Draft, write_objects
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)


class _Start(NamedTuple):
    """The state that the fold starts from.

    Attributes:
        base: The base's manifest. None: nothing is published yet.
        base_sha256: The SHA-256 of the base's manifest.
        outcomes: The outcome of each delta of the pass, but for those that stay pending.
        parts: The parts of each of the pass's runs.
        units: The folds of the pass. None: other functions have done some, and the stored plan names the others.
    """

    base: Manifest | None
    base_sha256: str | None
    outcomes: list[DeltaOutcome]
    parts: list[list[RunPart]]
    units: tuple[FoldUnit, ...] | None = None


class _Folded(NamedTuple):
    """The folds of the whole pass, in this function and in others.

    Attributes:
        here: The directories that this function has folded.
        elsewhere: Those that others have.
        too_large: The collections of which memory or disk could not hold a fold.
        left: Those that stay pending: these, and those that time did not suffice for.
        uploaded: The bytes that others have uploaded.
    """

    here: list[FoldedDirectory]
    elsewhere: list[PartOfManifest]
    too_large: list[str]
    left: list[str]
    uploaded: int

    @property
    def results(self) -> list[FoldResult]:
        """The results of all folds."""
        return [*(each.result for each in self.here), *(each.result for each in self.elsewhere)]

    def counts(self, base: Manifest | None) -> list[CollectionCounts]:
        """Return the counts of the collections, with the directories that no fold has touched."""
        units = [*(each.unit for each in self.here), *(each.unit for each in self.elsewhere)]
        return counts_of(self.results, untouched_records(units, base))


def upload_snapshot(request: UploadSnapshotRequest, services: Services) -> PublishedSnapshot:
    """Publish the next snapshot, unless the pass changed nothing.

    A second run of the same pass returns the first run's result. Raises SnapshotConflictError if another execution
    has published since the pass began, VerificationError if the folded collection differs from its ledger. In both
    cases nothing is published and the deltas stay pending. A collection whose fold does not fit, or for which no time
    is left, is left out; raises SnapshotTooLargeError if it is the only one.

    If this function cannot do all folds soon enough, the first call only plans them: its result names those that other
    functions must do. The call with their results does the rest, and publishes all together.
    """
    with heartbeat_for(services, request.execution) as heartbeat:
        current = read_pointer(services)
        if current is not None and current.pointer.commit_id == commit_id(request.execution, request.pass_number):
            log.info("this pass published snapshot %s in an earlier run", current.pointer.snapshot_id)
            return _read_result(current.pointer.snapshot_id, services)
        started = _Start(
            read_base(services, request.base),
            current.pointer.manifest_sha256 if current else None,
            _read_outcomes(request, services),
            read_parts(request.runs, services),
        )
        units: tuple[FoldUnit, ...] | None = None
        if not request.folded:
            costs = fold_costs(started.parts, started.base, services)
            plan = plan_folds(costs, limits_of(services))
            if plan.items:
                return _fold_elsewhere_first(request, plan, costs, started.base, services)
            units = plan.here
        process = Process(request.execution, request.pass_number, FOLDS)
        collections = _collections(started.outcomes, services)
        with (
            cache_of(services).scratch() as scratch,
            running_whole_pass(process, services.objects, collections, seconds_left=services.seconds_left),
        ):
            return _fold_and_publish(request, services, scratch, heartbeat, started._replace(units=units))


def _fold_and_publish(
    request: UploadSnapshotRequest,
    services: Services,
    scratch: Path,
    heartbeat: Heartbeat,
    started: _Start,
) -> PublishedSnapshot:
    base, base_sha256, outcomes = started.base, started.base_sha256, started.outcomes
    phases = Phases()
    done = _fold(request, services, started, scratch=scratch, phases=phases, heartbeat=heartbeat)
    listed = len(outcomes)
    outcomes = _without(outcomes, done.left, services)
    pending = _pending_counts(request, left=listed - len(outcomes), too_large=done.too_large)
    if not any(result.changed for result in done.results):
        kept = _keep_base(request, services, base=base, outcomes=outcomes, done=done, phases=phases)
        return kept.model_copy(update=pending)
    draft = Draft(request, base, base_sha256=base_sha256, prefix=services.settings.snapshot_prefix)
    heartbeat.check()
    with phases("upload"):
        parts = draft.upload(done.here, services)
        draft.adopt([*parts, *done.elsewhere])
        uploaded = done.uploaded + draft.bytes_of(parts)
        manifest = draft.manifest(outcomes, now=services.clock(), seconds=phases.total)
        draft.check_kept_files(services)
        result = PublishedSnapshot(
            published=True,
            snapshot_id=draft.snapshot_id,
            outcome=layout.merged_deltas_key(draft.snapshot_id, prefix=services.settings.snapshot_prefix),
            collections=done.counts(base),
            deltas_merged=manifest.deltas_merged,
            deltas_quarantined=manifest.deltas_quarantined,
            records=manifest.records,
            bytes=manifest.bytes,
            bytes_uploaded=uploaded,
            seconds=phases.seconds,
        ).model_copy(update=pending)
        pointer = write_objects(services, manifest, outcomes, result, draft.described)
    with phases("publish"):
        current = publish(services, pointer, etag=request.base.etag, before_swap=heartbeat.check)
    if current.snapshot_id != draft.snapshot_id:
        log.info("this pass published snapshot %s in an earlier run", current.snapshot_id)
        return _read_result(current.snapshot_id, services)
    log.info("published snapshot %s: %d bytes uploaded", draft.snapshot_id, uploaded)
    keep_copies(cache_of(services), draft.snapshot_id, base, done.here, [*parts, *done.elsewhere])
    return result.model_copy(update={"seconds": phases.seconds})


def _fold_elsewhere_first(
    request: UploadSnapshotRequest,
    plan: FoldPlan,
    costs: Sequence[FoldCost],
    base: Manifest | None,
    services: Services,
) -> PublishedSnapshot:
    """Store the plan, and return the folds that other functions must do. Nothing is folded yet."""
    items = store_plan(request, plan, costs, services)
    log.info("%d of %d folds are left to %d other functions", len(costs) - len(plan.here), len(costs), len(items))
    return PublishedSnapshot(
        published=False,
        snapshot_id=base.snapshot_id if base else None,
        outcome="",
        collections=[],
        deltas_merged=0,
        deltas_quarantined=0,
        records=base.records if base else 0,
        bytes=base.bytes if base else 0,
        bytes_uploaded=0,
        seconds={},
        folds=items,
        folds_left=len(items),
    )


def _fold(
    request: UploadSnapshotRequest,
    services: Services,
    started: _Start,
    *,
    scratch: Path,
    phases: Phases,
    heartbeat: Heartbeat,
) -> _Folded:
    """Do the folds that are left to this function, and collect those of others.

    Raises SnapshotTooLargeError if none fitted.
    """
    others = StoredParts(parts=[], too_large=[], late=[])
    units: Sequence[FoldUnit] = started.units or ()
    unplanned: set[str] = set()
    if started.units is None:
        plan = read_plan(request, services)
        others = collect(request, plan, services)
        units = plan.here
        unplanned = {part.collection for of_run in started.parts for part in of_run}
        unplanned -= {unit.collection for unit in (*plan.here, *plan.elsewhere)}
    inputs = FoldInput(request.execution, request.pass_number, request.runs, started.parts, units)
    done = fold_pass(inputs, services, base=started.base, scratch=scratch, phases=phases, heartbeat=heartbeat)
    if done.error is not None and not done.folded and not others.parts:
        raise done.error
    too_large = dict.fromkeys([*done.too_large, *others.too_large])
    left = dict.fromkeys([*too_large, *done.late, *others.late, *sorted(unplanned)])
    return _Folded(
        [each for each in done.folded if each.unit.collection not in left],
        others.without(left).parts,
        too_large=list(too_large),
        left=list(left),
        uploaded=sum(item.bytes_uploaded for item in request.folded),
    )


def _read_result(snapshot_id: str, services: Services) -> PublishedSnapshot:
    """Return the first run's result, which was written before the pointer was swapped."""
    key = layout.result_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    try:
        return PublishedSnapshot.model_validate_json(services.objects.get(key).body)
    except ObjectMissingError as error:
        next_step = "restore its previous version, or run again"
        raise SnapshotCorruptError(f"{key} is missing", next_step=next_step, key=key) from error


def _read_outcomes(request: UploadSnapshotRequest, services: Services) -> list[DeltaOutcome]:
    reports = in_threads(lambda run: decode_outcomes(services.objects.get(run.report).body, run.report), request.runs)
    return [outcome for report in reports for outcome in report if outcome.status not in STAYS_PENDING]


def _keep_base(
    request: UploadSnapshotRequest,
    services: Services,
    *,
    base: Manifest | None,
    outcomes: list[DeltaOutcome],
    done: _Folded,
    phases: Phases,
) -> PublishedSnapshot:
    """Leave the base published. Return its copies to the cache: no fold has changed them."""
    key = layout.outcome_key(request.execution, request.pass_number)
    services.objects.put(key, pack_outcomes(outcomes))
    if base is not None:
        keep_unchanged(cache_of(services), base.snapshot_id, base, done.here)
    log.info("the pass changed nothing; it reports %d deltas", len(outcomes))
    return PublishedSnapshot(
        published=False,
        snapshot_id=base.snapshot_id if base else None,
        outcome=key,
        collections=done.counts(base),
        deltas_merged=sum(outcome.status == "merged" for outcome in outcomes),
        deltas_quarantined=sum(outcome.status == "quarantined" for outcome in outcomes),
        records=base.records if base else 0,
        bytes=base.bytes if base else 0,
        bytes_uploaded=0,
        seconds=phases.seconds,
    )


def _collections(outcomes: list[DeltaOutcome], services: Services) -> list[str]:
    prefix = services.settings.delta_prefix
    return sorted({layout.collection_of_key(o.key, prefix=prefix) for o in outcomes if o.status != "quarantined"})


def _without(outcomes: list[DeltaOutcome], collections: Collection[str], services: Services) -> list[DeltaOutcome]:
    """Return the outcomes without those of deltas of `collections` that stay pending, because they were not folded."""
    prefix = services.settings.delta_prefix
    return [
        outcome
        for outcome in outcomes
        if outcome.status == "quarantined" or layout.collection_of_key(outcome.key, prefix=prefix) not in collections
    ]


def _pending_counts(request: UploadSnapshotRequest, *, left: int, too_large: Collection[str]) -> dict[str, object]:
    return {
        "deltas_unreadable": sum(run.unreadable for run in request.runs),
        "deltas_left": left + sum(run.left for run in request.runs),
        "too_large": sorted(too_large)[:MOST_TOO_LARGE],
    }
