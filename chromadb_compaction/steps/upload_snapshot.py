"""UploadSnapshot: fold the runs into the base, verify, upload changed files, publish with one conditional write."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.deaths import Process, running_whole_pass
from chromadb_compaction.deltas.outcomes import STAYS_PENDING, DeltaOutcome, decode_outcomes, pack_outcomes
from chromadb_compaction.errors import ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.fold.collections import FOLDS, FoldedCollection, fold_pass
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.manifest import Manifest, commit_id
from chromadb_compaction.messages import (
    LISTED_COLLECTIONS,
    MOST_TOO_LARGE,
    CollectionCounts,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.base import cache_of, read_base
from chromadb_compaction.snapshots.files import Wanted
from chromadb_compaction.snapshots.pointer import publish, read_pointer
from chromadb_compaction.steps.publication import Draft, check_kept_files, write_objects
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)


class _Start(NamedTuple):
    """The state that the fold starts from.

    Attributes:
        base: The base's manifest. None: nothing is published yet.
        base_sha256: The SHA-256 of the base's manifest.
        outcomes: The outcome of each delta of the pass, but for those that stay pending.
    """

    base: Manifest | None
    base_sha256: str | None
    outcomes: list[DeltaOutcome]


def upload_snapshot(request: UploadSnapshotRequest, services: Services) -> PublishedSnapshot:
    """Publish the next snapshot, unless the pass changed nothing.

    A second run of the same pass returns the first run's result. Raises SnapshotConflictError if another execution
    has published since the pass began, VerificationError if the folded collection differs from its ledger. In both
    cases nothing is published and the deltas stay pending. A collection whose fold does not fit, or for which no time
    is left, is left out; raises SnapshotTooLargeError if it is the only one.
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
        )
        process = Process(request.execution, request.pass_number, FOLDS)
        collections = _collections(started.outcomes, services)
        with (
            cache_of(services).scratch() as scratch,
            running_whole_pass(process, services.objects, collections, seconds_left=services.seconds_left),
        ):
            return _fold_and_publish(request, services, scratch, heartbeat, started)


def _fold_and_publish(
    request: UploadSnapshotRequest,
    services: Services,
    scratch: Path,
    heartbeat: Heartbeat,
    started: _Start,
) -> PublishedSnapshot:
    base, base_sha256, outcomes = started
    phases = Phases()
    folded, too_large, late = fold_pass(
        request, services, base=base, scratch=scratch, phases=phases, heartbeat=heartbeat
    )
    listed = len(outcomes)
    outcomes = _without(outcomes, [*too_large, *late], services)
    pending = _pending_counts(request, left=listed - len(outcomes), too_large=too_large)
    changed = [collection for collection in folded if collection.result.changed]
    if not changed:
        kept = _keep_base(request, services, base=base, outcomes=outcomes, folded=folded, phases=phases)
        return kept.model_copy(update=pending)
    draft = Draft(request, base, base_sha256=base_sha256)
    heartbeat.check()
    with phases("upload"):
        wanted = draft.upload(changed, services)
        uploaded = draft.bytes_of(wanted, prefix=services.settings.snapshot_prefix)
        manifest = draft.manifest(outcomes, now=services.clock(), seconds=phases.total)
        check_kept_files(services, manifest)
        result = PublishedSnapshot(
            published=True,
            snapshot_id=draft.snapshot_id,
            outcome=layout.merged_deltas_key(draft.snapshot_id, prefix=services.settings.snapshot_prefix),
            collections=_counts(folded),
            deltas_merged=manifest.deltas_merged,
            deltas_quarantined=manifest.deltas_quarantined,
            records=manifest.records,
            bytes=manifest.bytes,
            bytes_uploaded=uploaded,
            seconds=phases.seconds,
        ).model_copy(update=pending)
        pointer = write_objects(services, manifest, outcomes, result)
    with phases("publish"):
        current = publish(services, pointer, etag=request.base.etag, before_swap=heartbeat.check)
    if current.snapshot_id != draft.snapshot_id:
        log.info("this pass published snapshot %s in an earlier run", current.snapshot_id)
        return _read_result(current.snapshot_id, services)
    log.info("published snapshot %s: %d bytes uploaded", draft.snapshot_id, uploaded)
    _cache_copies(services, base, folded, wanted, draft.snapshot_id)
    return result.model_copy(update={"seconds": phases.seconds})


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
    folded: list[FoldedCollection],
    phases: Phases,
) -> PublishedSnapshot:
    """Leave the base published. Return its copies to the cache: no fold has changed them."""
    key = layout.outcome_key(request.execution, request.pass_number)
    services.objects.put(key, pack_outcomes(outcomes))
    if base is not None:
        _cache_unchanged(services, base.snapshot_id, base, folded)
    log.info("the pass changed nothing; it reports %d deltas", len(outcomes))
    return PublishedSnapshot(
        published=False,
        snapshot_id=base.snapshot_id if base else None,
        outcome=key,
        collections=_counts(folded),
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


def _cache_copies(
    services: Services, base: Manifest | None, folded: list[FoldedCollection], wanted: list[Wanted], snapshot_id: str
) -> None:
    """Cache the folded directories and the copies of unchanged collections as the new snapshot's."""
    cache = cache_of(services)
    for collection, files, directory in wanted:
        cache.keep(snapshot_id, collection, files, directory)
    if base is not None:
        _cache_unchanged(services, snapshot_id, base, folded)
        for name in base.collections.keys() - {collection.result.collection for collection in folded}:
            cache.move(name, base.collections[name].files, old=base.snapshot_id, new=snapshot_id)
    cache.evict(keep=snapshot_id)


def _cache_unchanged(services: Services, snapshot_id: str, base: Manifest, folded: list[FoldedCollection]) -> None:
    """Return the copies of collections that the fold left unchanged to the cache."""
    cache = cache_of(services)
    for collection in folded:
        name = collection.result.collection
        if not collection.result.changed and name in base.collections:
            cache.keep(snapshot_id, name, base.collections[name].files, collection.directory)


def _counts(folded: list[FoldedCollection]) -> list[CollectionCounts]:
    """Return the counts of the collections that changed most, and of all others together as the last entry."""
    counts = sorted((_count(each) for each in folded), key=lambda count: -count.added - count.replaced - count.deleted)
    if len(counts) <= LISTED_COLLECTIONS:
        return sorted(counts, key=lambda count: count.collection)
    listed, others = counts[: LISTED_COLLECTIONS - 1], counts[LISTED_COLLECTIONS - 1 :]
    return [*sorted(listed, key=lambda count: count.collection), _sum(others)]


def _count(collection: FoldedCollection) -> CollectionCounts:
    counts = collection.result.counts
    return CollectionCounts(
        collection=collection.result.collection,
        added=counts.added,
        replaced=counts.replaced,
        deleted=counts.deleted,
        unchanged=counts.unchanged,
        older=counts.stale,
        records=counts.records,
        loader=collection.result.loader,
    )


def _sum(others: list[CollectionCounts]) -> CollectionCounts:
    loaders = {count.loader for count in others if count.loader}
    return CollectionCounts(
        collection=f"({len(others)} other collections)",
        collections=len(others),
        added=sum(count.added for count in others),
        replaced=sum(count.replaced for count in others),
        deleted=sum(count.deleted for count in others),
        unchanged=sum(count.unchanged for count in others),
        older=sum(count.older for count in others),
        records=sum(count.records for count in others),
        # The least name, because ChromaDB's own API is what an operator should hear of: "api" comes before "bulk".
        loader=min(loaders, default=None),
    )
