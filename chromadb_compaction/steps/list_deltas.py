"""ListDeltas: plan the batches of the next pass, and name the snapshot it starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.attempts import Attempts, attempts_by_folder, next_turn, read_attempts
from chromadb_compaction.deltas.deaths import blame_for_deaths
from chromadb_compaction.deltas.deferral.listing import DEFERRED_COLLECTIONS, Deferral, Deferred
from chromadb_compaction.deltas.deferral.row_counts import count_rows
from chromadb_compaction.deltas.deferral.rule import PendingSize, rule_of
from chromadb_compaction.errors import ObjectMissingError
from chromadb_compaction.heartbeat import Heartbeat, heartbeat_for
from chromadb_compaction.messages import BATCH_MANIFEST, BaseRef, BatchRef, DeltaListing, ListDeltasRequest
from chromadb_compaction.planning import ObjectInfo, PassLimits, PassPlan, PlannedBatch
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import Settings
from chromadb_compaction.snapshots.missing_pointer import lost_pointer, published_uncleaned
from chromadb_compaction.snapshots.pointer import read_pointer
from chromadb_compaction.steps.archiving import ArchivedDeltas
from chromadb_compaction.steps.clean_up import archive_published
from chromadb_compaction.steps.notifications import Notifications

NOTHING_PUBLISHED = BaseRef(snapshot_id=None, etag=None, sequence=0)

MAX_COLLECTIONS = 2500
"""The most collections of a pass, so that UploadSnapshot folds and uploads them well within its time.

Measured on 2 cores: a new collection of five rows takes 0.1 s, of which the fold takes 0.05 s.
"""

LISTED_AT_ONCE = 10_000
"""The deltas listed between two checks of the lease."""

log = logging.getLogger(__name__)


def list_deltas(request: ListDeltasRequest, services: Services) -> DeltaListing:
    """Finish any clean-up that an earlier execution left undone, then plan the next pass over the deltas that are due.

    Write the batch manifests to S3. If there are none, delete the notifications that are left. In the last pass that an
    execution may make, `more` is False, so that no backlog keeps one execution running forever.
    """
    number = request.previous_pass + 1
    large = request.large_passes + bool(request.folded)
    settings = services.settings
    with heartbeat_for(services, request.execution) as heartbeat:
        base = _base(services)
        finished = _finish_clean_up(base, services, request.execution, heartbeat)
        attempts = _attempts(services)
        deferral = _deferral(request, attempts, services)
        turn = next_turn(
            deferral.due(_pending(services, heartbeat)),
            attempts,
            _limits(settings),
            max_failures=settings.max_delta_failures,
            prefix=settings.delta_prefix,
        )
        batches = _write_manifests(request.execution, number, turn.plan, services)
        deferred = _keep_deferred(request.execution, number, deferral, services)
        notifications = Notifications(services, outlasts_outage=True, deferred=deferred.collections)
        if not batches:
            notifications.delete_leftovers()
    now, written = services.clock(), [each for each in (turn.oldest, deferred.oldest) if each is not None]
    return DeltaListing(
        pass_number=number,
        batches=batches,
        deltas=sum(batch.deltas for batch in batches),
        more=turn.plan.more and number + large < settings.max_passes,
        base=base,
        pending=turn.pending + deferred.deltas,
        oldest_seconds=max(0.0, now - min(written)) if written else None,
        set_aside=turn.set_aside,
        finished_clean_up_of=base.snapshot_id if finished else None,
        queue_error=(finished.queue_error if finished else None) or notifications.error,
        large_passes=large,
        deferred=deferred.deltas,
        deferred_until=deferred.until,
    )


def _limits(settings: Settings) -> PassLimits:
    return PassLimits(
        size=settings.compaction_batch_size,
        max_batches=settings.max_batches_per_pass,
        max_bytes=settings.max_pass_bytes,
        max_batch_bytes=settings.max_batch_bytes,
        max_collections=MAX_COLLECTIONS,
    )


def _pending(services: Services, heartbeat: Heartbeat) -> Iterator[ObjectInfo]:
    """Yield the listing of delta/. A million deltas take minutes, so the lease is checked meanwhile."""
    for number, delta in enumerate(services.objects.list(services.settings.delta_prefix)):
        if number % LISTED_AT_ONCE == 0:
            heartbeat.check()
        yield delta


def _deferral(request: ListDeltasRequest, attempts: Mapping[str, Attempts], services: Services) -> Deferral:
    """Return what separates the deltas that wait. With the input {"all": true} none does."""
    settings = services.settings
    rule = rule_of(settings)

    def count(deltas: Sequence[ObjectInfo]) -> list[PendingSize | None]:
        return in_threads(lambda each: count_rows(each, services.objects, most_bytes=settings.pending_bytes), deltas)

    return Deferral(
        rule._replace(max_age_seconds=0) if request.merges_all else rule,
        attempts,
        now=services.clock(),
        count_rows=count,
        prefix=settings.delta_prefix,
    )


def _keep_deferred(execution: str, number: int, deferral: Deferral, services: Services) -> Deferred:
    """Store the collections that wait for CleanUp, which deletes their notifications."""
    deferred = deferral.deferred
    if rule_of(services.settings).defers:
        body = DEFERRED_COLLECTIONS.dump_json(dict(deferred.collections))
        services.objects.put(layout.deferred_key(execution, number), body)
    return deferred


def _attempts(services: Services) -> Mapping[str, Attempts]:
    """Return the marks of all deltas, also about what killed processes worked on. One request if none was killed."""
    marks = list(services.objects.list(layout.ATTEMPTS_PREFIX))
    running = [info for info in marks if info.key.startswith(layout.RUNNING_PREFIX)]
    return read_attempts(services.objects) if blame_for_deaths(running, services.objects) else attempts_by_folder(marks)


def _base(services: Services) -> BaseRef:
    found = read_pointer(services)
    if found is None:
        _check_never_published(services)
        return NOTHING_PUBLISHED
    return BaseRef(snapshot_id=found.pointer.snapshot_id, etag=found.etag, sequence=found.pointer.sequence)


def _check_never_published(services: Services) -> None:
    """Raise SnapshotCorruptError if a snapshot was published before: then its pointer was lost.

    Starting without a base would publish a snapshot without any record merged before.
    """
    prefix = services.settings.snapshot_prefix
    keys = {info.key for info in services.objects.list(prefix)}
    error = lost_pointer(keys, prefix=prefix, uncleaned=published_uncleaned(keys, services))
    if error is not None:
        raise error


def _finish_clean_up(base: BaseRef, services: Services, execution: str, heartbeat: Heartbeat) -> ArchivedDeltas | None:
    """Archive the deltas of the published snapshot if no run has yet. Return None if this call did not do it."""
    prefix = services.settings.snapshot_prefix
    if base.snapshot_id is None or services.objects.head(layout.cleaned_key(base.snapshot_id, prefix=prefix)):
        return None
    merged = layout.merged_deltas_key(base.snapshot_id, prefix=prefix)
    try:
        return archive_published(
            base.snapshot_id,
            merged,
            services,
            execution=execution,
            check_lease=heartbeat.check,
            outlasts_outage=True,  # CleanUp has retried
        )
    except ObjectMissingError as error:
        # The next pass merges the pending deltas again, which changes nothing, and archives them.
        log.warning("the clean-up of snapshot %s cannot be finished: %s", base.snapshot_id, error)
        return None


def _write_manifests(execution: str, number: int, plan: PassPlan, services: Services) -> list[BatchRef]:
    def write(numbered: tuple[int, PlannedBatch]) -> BatchRef:
        batch_number, batch = numbered
        key = layout.batch_key(execution, number, batch_number)
        services.objects.put(key, BATCH_MANIFEST.dump_json(list(batch.deltas)))
        return BatchRef(
            key=key,
            collection=batch.collections[0],
            collections=len(batch.collections),
            deltas=len(batch.deltas),
            bytes=batch.bytes,
        )

    return in_threads(write, enumerate(plan.batches))
