"""CleanUp: archive the deltas that were merged and published, and prune old snapshots."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from chromadb_compaction import layout
from chromadb_compaction.deltas.deferral.listing import DEFERRED_COLLECTIONS
from chromadb_compaction.deltas.deferral.rule import rule_of
from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.heartbeat import heartbeat_for
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer
from chromadb_compaction.snapshots.pruning import NOTHING, prune
from chromadb_compaction.steps.archiving import ArchivedDeltas, archive

log = logging.getLogger(__name__)


def clean_up(request: CleanUpRequest, services: Services) -> CleanedUp:
    """Archive the deltas of the pass and prune old snapshots, if the pass's snapshot is still published.

    Otherwise leave every delta in delta/: a later pass merges it again, which changes nothing. Do nothing for a pass
    that is not over, because other functions fold first.
    """
    if not request.outcome:
        return _skipped("other functions fold first")
    with heartbeat_for(services, request.execution) as heartbeat:
        archived = archive_published(
            request.snapshot_id,
            request.outcome,
            services,
            execution=request.execution,
            check_lease=heartbeat.check,
            deferred=_deferred(request, services),
        )
        if archived is None:
            return _skipped("another snapshot has been published since; nothing was moved")
        heartbeat.check()
        pruned = prune(request.snapshot_id, services) if request.snapshot_id else NOTHING
    return CleanedUp(**archived._asdict(), snapshots_pruned=pruned.snapshots, objects_pruned=pruned.objects)


def _skipped(why: str) -> CleanedUp:
    return CleanedUp(archived=0, quarantined=0, messages_deleted=0, snapshots_pruned=0, objects_pruned=0, skipped=why)


def _deferred(request: CleanUpRequest, services: Services) -> Mapping[str, str]:
    """Return the collections that wait, as ListDeltas has listed them."""
    if not rule_of(services.settings).defers:
        return {}
    key = layout.deferred_key(request.execution, request.pass_number)
    return DEFERRED_COLLECTIONS.validate_json(services.objects.get(key).body)


def archive_published(
    snapshot_id: str | None,
    outcome: str,
    services: Services,
    *,
    execution: str,
    check_lease: Callable[[], None],
    outlasts_outage: bool = False,
    deferred: Mapping[str, str] | None = None,
) -> ArchivedDeltas | None:
    """Archive the deltas listed under the key `outcome`, and mark the snapshot that merged them as cleaned.

    `snapshot_id` None: nothing has been published yet. Return None, with every merged delta in delta/, if
    `snapshot_id` is not published: a snapshot that was rolled back may not hold the pending deltas.
    `check_lease` raises LockLostError if the lease is lost. `outlasts_outage` and `deferred` as for `archive`.
    """

    def still_published() -> bool:
        found = read_pointer(services)
        return (found.pointer.snapshot_id if found else None) == snapshot_id

    def confirm() -> bool:
        check_lease()
        return still_published()

    if not confirm():
        log.warning("%s is not published: its deltas stay pending", snapshot_id)
        return None
    outcomes = unpack_outcomes(services.objects.get(outcome).body, outcome)
    archived = archive(
        outcomes,
        services,
        execution=execution,
        confirm=confirm,
        still_published=still_published,
        outlasts_outage=outlasts_outage,
        deferred=deferred,
    )
    if archived is None:
        log.warning("%s was replaced or rolled back during clean-up: its deltas stay pending", snapshot_id)
        return None
    log.info("archived %d deltas, quarantined %d, deleted %d messages", *archived[:3])
    prefix = services.settings.snapshot_prefix
    if snapshot_id and outcome == layout.merged_deltas_key(snapshot_id, prefix=prefix):
        counts = {name: value for name, value in archived._asdict().items() if name != "queue_error"}
        marker = {"format": 1, "cleaned_at": services.clock(), **counts}
        services.objects.put(layout.cleaned_key(snapshot_id, prefix=prefix), json.dumps(marker).encode())
    return archived
