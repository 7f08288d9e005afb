"""Deleting snapshots past their retention, and never a file that a kept snapshot names, nor one about to be published.

A rollback may want what is about to go, and the lease may have been lost. So each leaves a mark before it looks for
the other's: whichever comes second sees the first's, and stops.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import ObjectMissingError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.planning import ObjectInfo, SnapshotAge, plan_prune
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer

log = logging.getLogger(__name__)

Listing = Mapping[str, list[ObjectInfo]]
"""The objects that stand under each snapshot's id."""


class Pruned(NamedTuple):
    """How many snapshots can no longer be rolled back to, and how many objects that freed."""

    snapshots: int
    objects: int


NOTHING = Pruned(0, 0)


def prune(current: str, services: Services) -> Pruned:
    """Delete what `plan_prune` lets go and no kept manifest names; nothing at all if one cannot be read."""
    listing = _listing(services)
    complete, remains = _snapshots(listing, services)
    doomed = _doomed(complete, remains, current, services)
    if not doomed:
        return NOTHING
    named = _named_files([s.snapshot_id for s in complete if s.snapshot_id not in doomed], services)
    if named is None or not _still_published(current, services):
        return NOTHING
    prefix = services.settings.snapshot_prefix
    marks = _mark(doomed, services)
    if is_claimed(doomed, services) or not _still_published(current, services):
        services.objects.delete(marks)
        return NOTHING
    manifests = [layout.manifest_key(s.snapshot_id, prefix=prefix) for s in complete if s.snapshot_id in doomed]
    keys = [info.key for snapshot_id in sorted(doomed) for info in listing[snapshot_id] if info.key not in named]
    # Manifests first: a snapshot without one is no candidate for a rollback, should the rest be left for later.
    services.objects.delete(manifests)
    services.objects.delete(key for key in [*keys, *marks] if key not in manifests)
    if keys:
        log.info("pruned %d snapshots, %d objects", len(manifests), len(keys))
    return Pruned(len(manifests), len(keys))


def is_being_pruned(snapshot_id: str, services: Services) -> bool:
    """Say whether a clean-up may be deleting the snapshot."""
    return _is_marked(layout.pruning_prefix(snapshot_id, prefix=services.settings.snapshot_prefix), services)


def is_claimed(snapshots: Iterable[str], services: Services) -> bool:
    """Say whether a rollback may be publishing one of them."""
    prefix = services.settings.snapshot_prefix
    claims = [layout.claim_prefix(snapshot_id, prefix=prefix) for snapshot_id in snapshots]
    return any(in_threads(lambda claim: _is_marked(claim, services), claims))


def _is_marked(prefix: str, services: Services) -> bool:
    """Say whether anybody has left a mark who may still live: no clean-up and no rollback works for a day."""
    return any(services.clock() - info.modified <= DAY_SECONDS for info in services.objects.list(prefix))


def _mark(doomed: Iterable[str], services: Services) -> list[str]:
    """Mark every doomed snapshot under a key of our own, which no other clean-up takes away."""
    prefix, token = services.settings.snapshot_prefix, secrets.token_hex(8)
    marks = [f"{layout.pruning_prefix(snapshot_id, prefix=prefix)}{token}.json" for snapshot_id in sorted(doomed)]
    in_threads(lambda key: services.objects.put(key, b"{}"), marks)
    return marks


def _still_published(current: str, services: Services) -> bool:
    """Say whether nobody has rolled back meanwhile, perhaps to what was about to go."""
    found = read_pointer(services)
    return found is not None and found.pointer.snapshot_id == current


def _listing(services: Services) -> Listing:
    prefix = services.settings.snapshot_prefix
    listing: dict[str, list[ObjectInfo]] = {}
    for info in services.objects.list(prefix):
        snapshot_id = layout.snapshot_of_key(info.key, prefix=prefix)
        if snapshot_id:
            listing.setdefault(snapshot_id, []).append(info)
    return listing


def _snapshots(listing: Listing, services: Services) -> tuple[list[SnapshotAge], list[SnapshotAge]]:
    """Return the complete snapshots, and the remains: uploads given up, and files that outlived their snapshot."""
    complete: list[SnapshotAge] = []
    remains: list[SnapshotAge] = []
    for snapshot_id, objects in listing.items():
        manifest = layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
        written = next((info.modified for info in objects if info.key == manifest), None)
        if written is None:
            remains.append(SnapshotAge(snapshot_id, _age_of_remains(snapshot_id, objects, services)))
        else:
            complete.append(SnapshotAge(snapshot_id, written))
    return complete, remains


def _age_of_remains(snapshot_id: str, objects: list[ObjectInfo], services: Services) -> float:
    """Return when the newest was written. The mark of a clean-up that was stopped makes nothing young again."""
    mark = layout.pruning_prefix(snapshot_id, prefix=services.settings.snapshot_prefix)
    return max((info.modified for info in objects if not info.key.startswith(mark)), default=0.0)


def _doomed(
    complete: Iterable[SnapshotAge], remains: Iterable[SnapshotAge], current: str, services: Services
) -> frozenset[str]:
    settings, now = services.settings, services.clock()
    keep_seconds = settings.snapshot_retention_days * DAY_SECONDS
    old = plan_prune(
        complete, current=current, now=now, keep_count=settings.snapshot_retention_count, keep_seconds=keep_seconds
    )
    # An upload may be under way for hours; a day old, it has been given up.
    left = plan_prune(remains, current=current, now=now, keep_count=0, keep_seconds=max(keep_seconds, DAY_SECONDS))
    return old | left


def _named_files(kept: Iterable[str], services: Services) -> frozenset[str] | None:
    """Return every key that the kept snapshots' manifests name, or None if one of them cannot be read."""
    prefix = services.settings.snapshot_prefix
    keys = [layout.manifest_key(snapshot_id, prefix=prefix) for snapshot_id in kept]
    try:
        manifests = in_threads(lambda key: Manifest.model_validate_json(services.objects.get(key).body), keys)
    except (ObjectMissingError, ValidationError) as error:
        log.warning("nothing is pruned, since the manifest of a kept snapshot cannot be read: %s", error)
        return None
    files = (
        f for manifest in manifests for collection in manifest.collections.values() for f in collection.files.values()
    )
    return frozenset(file.key for file in files)
