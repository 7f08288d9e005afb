"""Deletion of snapshots past their retention, but of no file that a kept snapshot or one about to be published names.

A fold inherits what it does not change from its parent. So if a kept snapshot names an object in an expired folder,
then so do all snapshots on the way from the one that named it first. Either that one is kept, and wrote the description
of the collection; or one kept snapshot on the way has a parent that is not kept. Only these descriptions are read, and
of them only those of collections with objects in the expired folders: an object lies in a folder of its collection.

A rollback may want a snapshot that is about to be deleted, and the lease may have been lost. So each of the two writes
a mark before it looks for the other's. The one that comes second sees the first one's mark, and stops.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.errors import NewerFormatError, NoSnapshotError, SnapshotCorruptError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.planning import ObjectInfo, SnapshotAge, plan_prune
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer, read_stored_manifest
from chromadb_compaction.snapshots.tree import collection_keys

log = logging.getLogger(__name__)

MANIFESTS_AT_ONCE: Final = 4

Listing = Mapping[str, list[ObjectInfo]]
"""The objects of each snapshot, by its id."""


class Pruned(NamedTuple):
    """The number of complete snapshots and of objects that were deleted."""

    snapshots: int
    objects: int


NOTHING = Pruned(0, 0)


def prune(current: str, services: Services) -> Pruned:
    """Delete the snapshots that `plan_prune` returns, except the files that a kept manifest names.

    Nothing is deleted if a kept manifest cannot be read, if `current` is not published, or if a rollback claims one.
    """
    listing = _listing(services)
    complete, orphaned = _snapshots(listing, services)
    expired = _expired(complete, orphaned, current, services)
    if not expired:
        return NOTHING
    named = _needed([s.snapshot_id for s in complete if s.snapshot_id not in expired], expired, listing, services)
    if named is None or not _still_published(current, services):
        return NOTHING
    prefix = services.settings.snapshot_prefix
    marks = _mark(expired, services)
    if is_claimed(expired, services) or not _still_published(current, services):
        services.objects.delete(marks)
        return NOTHING
    manifests = [layout.manifest_key(s.snapshot_id, prefix=prefix) for s in complete if s.snapshot_id in expired]
    keys = [info.key for snapshot_id in sorted(expired) for info in listing[snapshot_id] if info.key not in named]
    # Manifests first: without its manifest a snapshot cannot be rolled back to, even if the other deletes fail.
    services.objects.delete(manifests)
    services.objects.delete(key for key in [*keys, *marks] if key not in manifests)
    if keys:
        log.info("pruned %d snapshots, %d objects", len(manifests), len(keys))
    return Pruned(len(manifests), len(keys))


def is_being_pruned(snapshot_id: str, services: Services) -> bool:
    """Return whether a clean-up may be deleting the snapshot."""
    return _is_marked(layout.pruning_prefix(snapshot_id, prefix=services.settings.snapshot_prefix), services)


def pruned_meanwhile(snapshot_id: str, services: Services) -> NoSnapshotError | None:
    """Return the error for a snapshot that a clean-up deleted, or is deleting, while it was read.

    None if it is still there, or still published: then what is missing from it is damage.
    """
    if _still_published(snapshot_id, services):
        return None
    manifest = layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    if services.objects.head(manifest) is not None and not is_being_pruned(snapshot_id, services):
        return None
    return NoSnapshotError(
        f"snapshot {snapshot_id} was pruned while it was read: it is past its retention",
        next_step="run the command again; for the snapshots that exist: chromadb-compaction snapshots list",
    )


@contextmanager
def noticing_pruning(snapshot_id: str, services: Services) -> Iterator[None]:
    """Raise `pruned_meanwhile` in place of a SnapshotCorruptError in the block, if that is the cause."""
    try:
        yield
    except SnapshotCorruptError as error:
        pruned = pruned_meanwhile(snapshot_id, services)
        if pruned is None:
            raise
        raise pruned from error


def is_claimed(snapshots: Iterable[str], services: Services) -> bool:
    """Return whether a rollback may be publishing one of the snapshots."""
    prefix = services.settings.snapshot_prefix
    claims = [layout.claim_prefix(snapshot_id, prefix=prefix) for snapshot_id in snapshots]
    return any(in_threads(lambda claim: _is_marked(claim, services), claims))


def _is_marked(prefix: str, services: Services) -> bool:
    """Return whether there is a mark younger than a day: no clean-up and no rollback runs that long."""
    return any(
        services.clock() - info.modified <= DAY_SECONDS
        for info in services.objects.list(prefix)
        if layout.is_mark(info.key, prefix)
    )


def _mark(expired: Iterable[str], services: Services) -> list[str]:
    """Mark every expired snapshot under a unique key, which no other clean-up deletes."""
    prefix, token = services.settings.snapshot_prefix, secrets.token_hex(8)
    marks = [layout.mark_key(layout.pruning_prefix(each, prefix=prefix), token) for each in sorted(expired)]
    in_threads(lambda key: services.objects.put(key, b"{}"), marks)
    return marks


def _still_published(current: str, services: Services) -> bool:
    """Return whether `current` is published: a rollback may have published a snapshot that was about to be deleted."""
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
    """Return the complete snapshots, and the orphaned ones, which have no manifest.

    Those are uploads that were given up, and files that were kept when their snapshot was deleted.
    """
    complete: list[SnapshotAge] = []
    orphaned: list[SnapshotAge] = []
    for snapshot_id, objects in listing.items():
        manifest = layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
        written = next((info.modified for info in objects if info.key == manifest), None)
        if written is None:
            orphaned.append(SnapshotAge(snapshot_id, _last_written(snapshot_id, objects, services)))
        else:
            complete.append(SnapshotAge(snapshot_id, written))
    return complete, orphaned


def _last_written(snapshot_id: str, objects: list[ObjectInfo], services: Services) -> float:
    """Return when the newest object was written. The marks of clean-ups that were stopped do not count."""
    marks = layout.pruning_prefix(snapshot_id, prefix=services.settings.snapshot_prefix)
    return max((info.modified for info in objects if not layout.is_mark(info.key, marks)), default=0.0)


def _expired(
    complete: Iterable[SnapshotAge], orphaned: Iterable[SnapshotAge], current: str, services: Services
) -> frozenset[str]:
    settings, now = services.settings, services.clock()
    keep_seconds = settings.snapshot_retention_days * DAY_SECONDS
    old = plan_prune(
        complete, current=current, now=now, keep_count=settings.snapshot_retention_count, keep_seconds=keep_seconds
    )
    # An upload may take hours. After a day it has been given up.
    given_up = plan_prune(orphaned, current=current, now=now, keep_count=0, keep_seconds=max(keep_seconds, DAY_SECONDS))
    return old | given_up


def _needed(
    kept: Sequence[str], expired: Collection[str], listing: Listing, services: Services
) -> frozenset[str] | None:
    """Return every key of an expired snapshot that a kept one needs. None if a kept one cannot be read.

    Few manifests are held at once: one of thousands of collections takes megabytes.
    """
    prefix = services.settings.snapshot_prefix
    keys = (info.key for each in expired for info in listing[each])
    changed = frozenset(layout.collection_of_file(key, prefix=prefix) for key in keys)
    needed: set[str] = set()
    manifests = ahead(
        lambda each: read_stored_manifest(services, each).manifest,
        kept,
        weigh=lambda _: 1,
        most=MANIFESTS_AT_ONCE,
        threads=MANIFESTS_AT_ONCE,
    )
    try:
        with closing(manifests):
            for manifest in manifests:
                needed.update(_keys_of(manifest, changed & _to_be_read(manifest, kept), prefix=prefix))
    except (SnapshotCorruptError, NewerFormatError) as error:
        log.warning("nothing is pruned, since a kept snapshot cannot be read: %s", error)
        return None
    return frozenset(key for key in needed if layout.snapshot_of_key(key, prefix=prefix) in expired)


def _to_be_read(manifest: Manifest, kept: Collection[str]) -> frozenset[str]:
    """Return the collections of a kept snapshot that may need objects which its kept parent does not."""
    parent, entries = manifest.parent, manifest.collections.entries
    # The sequence grows from parent to child. A manifest that says otherwise is damaged.
    if parent is None or parent not in kept or parent >= manifest.snapshot_id:
        return frozenset(entries)
    inherited = {n for n, each in manifest.collections.refs.items() if each.snapshot_id != manifest.snapshot_id}
    return frozenset(entries) - inherited


def _keys_of(manifest: Manifest, names: Collection[str], *, prefix: str) -> Iterator[str]:
    """Yield the keys of the collections `names` of the manifest, and of their files."""
    present = [name for name in manifest.collections if name in names]
    keys = collection_keys(manifest, prefix=prefix)
    for name, described in zip(present, in_threads(manifest.collections.peek, present), strict=True):
        if name in keys:
            yield keys[name]
        yield from (file.key for file in described.all_files.values())
