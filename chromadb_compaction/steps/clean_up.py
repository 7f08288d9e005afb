"""CleanUp: what was merged and published leaves delta/, and old snapshots go."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from chromadb_compaction import layout
from chromadb_compaction.deltas.outcomes import unpack_outcomes
from chromadb_compaction.heartbeat import heartbeat_for
from chromadb_compaction.messages import CleanedUp, CleanUpRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer
from chromadb_compaction.snapshots.pruning import NOTHING, prune
from chromadb_compaction.steps.archiving import ArchivedDeltas, archive

log = logging.getLogger(__name__)


def clean_up(request: CleanUpRequest, services: Services) -> CleanedUp:
    """Settle the deltas of the pass and prune, if the pass's snapshot is still the published one.

    Otherwise nothing leaves delta/, and a later pass merges what is pending again: that changes nothing.
    """
    with heartbeat_for(services, request.execution) as heartbeat:
        settled = archive_published(request.snapshot_id, request.outcome, services, alive=heartbeat.check)
        if settled is None:
            return CleanedUp(
                archived=0,
                quarantined=0,
                messages_deleted=0,
                snapshots_pruned=0,
                objects_pruned=0,
                skipped=f"{request.snapshot_id or 'no snapshot'} is no longer what is published; nothing was moved",
            )
        heartbeat.check()
        pruned = prune(request.snapshot_id, services) if request.snapshot_id else NOTHING
    return CleanedUp(**settled._asdict(), snapshots_pruned=pruned.snapshots, objects_pruned=pruned.objects)


def archive_published(
    snapshot_id: str | None, outcome: str, services: Services, *, alive: Callable[[], None]
) -> ArchivedDeltas | None:
    """Carry out the outcomes listed under `outcome`, and mark the snapshot that merged them as cleaned.

    Returns None, with no merged delta gone from delta/, when `snapshot_id` is not or no longer published: a snapshot
    that was rolled back may not hold what is pending.
    """

    def still_published() -> bool:
        found = read_pointer(services)
        return (found.pointer.snapshot_id if found else None) == snapshot_id

    def confirm() -> bool:
        alive()
        return still_published()

    if not confirm():
        log.warning("%s is not published: its deltas stay where they are", snapshot_id)
        return None
    outcomes = unpack_outcomes(services.objects.get(outcome).body)
    settled = archive(outcomes, services, confirm=confirm, still_published=still_published)
    if settled is None:
        log.warning("%s was replaced or rolled back meanwhile: its deltas stay where they are", snapshot_id)
        return None
    log.info("archived %d deltas, quarantined %d, deleted %d messages", *settled)
    prefix = services.settings.snapshot_prefix
    if snapshot_id and outcome == layout.merged_deltas_key(snapshot_id, prefix=prefix):
        marker = {"format": 1, "cleaned_at": services.clock(), **settled._asdict()}
        services.objects.put(layout.cleaned_key(snapshot_id, prefix=prefix), json.dumps(marker).encode())
    return settled
