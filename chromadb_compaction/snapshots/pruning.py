"""Deletion of snapshots past their retention, but of no file that a kept snapshot or one about to be published names.

A fold inherits what it does not change from its parent. So if a kept snapshot names an object in an expired folder,
then so do all snapshots on the way from the one that named it first. Either that one is kept, and wrote the description
of the collection; or one kept snapshot on the way has a parent that is not kept. Only these descriptions are read, and
of them only those of collections with objects in the expired folders: an object lies in a folder of its collection.
The shards that a kept snapshot names are in its manifest.

A rollback may want a snapshot that is about to be deleted, and the lease may have been lost. So each of the two writes
a mark before it looks for the other's. The one that comes second sees the first one's mark, and stops.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import ahead, in_threads
from chromadb_compaction.errors import NewerFormatError, NoSnapshotError, SnapshotCorruptError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.manifest import CollectionRef, Manifest
from chromadb_compaction.planning import ObjectInfo, SnapshotAge, plan_prune
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.kept import KeptSnapshots, list_kept, read_kept, write_kept
from chromadb_compaction.snapshots.pointer import read_pointer, read_stored_manifest
from chromadb_compaction.snapshots.tree.shards import shard_keys

log = logging.getLogger(__name__)

MANIFESTS_AT_ONCE: Final = 4

Listing = dict[str, Sequence[ObjectInfo]]
"""The objects of each snapshot, by its id."""


class Pruned(NamedTuple):
    """The number of complete snapshots and of objects that were deleted."""

    snapshots: int
    objects: int


NOTHING = Pruned(0, 0)


class _Expired(NamedTuple):
    """Snapshots to be deleted.

    Attributes:
        snapshots: Their ids.
        complete: Those of them that have a manifest.
        kept: The snapshots whose manifests name all that kept ones need of them.
        listing: The objects of the snapshots.
    """

    snapshots: frozenset[str]
    complete: frozenset[str]
    kept: Sequence[str]
    listing: Listing


def prune(current: str, services: Services) -> Pruned:
    """Delete the snapshots that `plan_prune` returns, except the files that a kept manifest names.

    Nothing is deleted if a kept manifest cannot be read, if `current` is not published, or if a rollback claims one.
    """
    kept = read_kept(current, services)
    expired = _oldest(kept, current, services) if kept else None
    if kept is not None and expired is not None:
        pruned = _delete(expired, current, services)
        remaining = [each for each in kept.snapshots if pruned is None or each.snapshot_id not in expired.snapshots]
        write_kept(kept.model_copy(update={"snapshots": remaining}), services)
        return pruned or NOTHING
    listing = _listing([services.settings.snapshot_prefix], services)
    complete, orphaned = _snapshots(listing, services)
    found = _plan(complete, current, services) | _given_up(orphaned, current, services)
    remaining_ages = [each for each in complete if each.snapshot_id not in found]
    old = frozenset(each.snapshot_id for each in complete) & found
    pruned = _delete(_Expired(found, old, [s.snapshot_id for s in remaining_ages], listing), current, services)
    if pruned is not None:
        write_kept(list_kept(remaining_ages, current, services), services)
    return pruned or NOTHING


def _oldest(kept: KeptSnapshots, current: str, services: Services) -> _Expired | None:
    """Return the expired snapshots of the list, and what lies beside them. None if everything must be listed.

    Kept snapshots descend from the one after the expired ones, so that it names all that they need. Others that could
    need more have the sequence of one of these: those that were folded from an expired one and never published.
    """
    found = _plan(kept.ages, current, services)
    oldest, following = kept.snapshots[: len(found)], kept.snapshots[len(found)].snapshot_id
    if not found:
        return _Expired(found, found, [following], {})
    if found != {each.snapshot_id for each in oldest}:
        return None
    prefix = services.settings.snapshot_prefix
    own: Listing = {each: [] for each in found}
    own |= _listing([layout.sequence_prefix(each, prefix=prefix) for each in found], services)
    beside = _listing([layout.sequence_prefix(following, prefix=prefix)], services)
    complete, orphaned = _snapshots(own | beside, services)
    with_manifest = frozenset(each.snapshot_id for each in complete)
    if not with_manifest <= {*found, following}:
        return None
    given_up = _given_up((each for each in orphaned if each.snapshot_id in own), current, services)
    # A clean-up that crashed may have deleted the manifest of one.
    return _Expired(found | given_up, with_manifest & found, [following], own)


def _delete(expired: _Expired, current: str, services: Services) -> Pruned | None:
    """Delete expired snapshots. Return None, with nothing deleted, if they may be needed."""
    snapshots = expired.snapshots
    if not snapshots:
        return NOTHING
    named = _needed(expired.kept, snapshots, expired.listing, services)
    if named is None or not _still_published(current, services):
        return None
    prefix = services.settings.snapshot_prefix
    marks = _mark(snapshots, services)
    if is_claimed(snapshots, services) or not _still_published(current, services):
        services.objects.delete(marks)
        return None
    manifests = [layout.manifest_key(each, prefix=prefix) for each in sorted(expired.complete)]
    keys = [info.key for each in sorted(snapshots) for info in expired.listing[each] if info.key not in named]
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


def _listing(prefixes: Iterable[str], services: Services) -> Listing:
    prefix = services.settings.snapshot_prefix
    listing: dict[str, list[ObjectInfo]] = {}
    for infos in in_threads(lambda each: list(services.objects.list(each)), prefixes):
        for info in infos:
            snapshot_id = layout.snapshot_of_key(info.key, prefix=prefix)
            if snapshot_id:
                listing.setdefault(snapshot_id, []).append(info)
    return {**listing}


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


def _last_written(snapshot_id: str, objects: Sequence[ObjectInfo], services: Services) -> float:
    """Return when the newest object was written. The marks of clean-ups that were stopped do not count."""
    marks = layout.pruning_prefix(snapshot_id, prefix=services.settings.snapshot_prefix)
    return max((info.modified for info in objects if not layout.is_mark(info.key, marks)), default=0.0)


def _plan(complete: Iterable[SnapshotAge], current: str, services: Services) -> frozenset[str]:
    settings = services.settings
    return plan_prune(
        complete,
        current=current,
        now=services.clock(),
        keep_count=settings.snapshot_retention_count,
        keep_seconds=settings.snapshot_retention_days * DAY_SECONDS,
    )


def _given_up(orphaned: Iterable[SnapshotAge], current: str, services: Services) -> frozenset[str]:
    # An upload may take hours. After a day it has been given up.
    seconds = max(services.settings.snapshot_retention_days, 1) * DAY_SECONDS
    return plan_prune(orphaned, current=current, now=services.clock(), keep_count=0, keep_seconds=seconds)


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
                needed.update(shard_keys(manifest, prefix=prefix))
                needed.update(_keys_of(manifest, _to_be_read(manifest, changed, kept), prefix=prefix))
    except (SnapshotCorruptError, NewerFormatError) as error:
        log.warning("nothing is pruned, since a kept snapshot cannot be read: %s", error)
        return None
    return frozenset(key for key in needed if layout.snapshot_of_key(key, prefix=prefix) in expired)


def _to_be_read(manifest: Manifest, changed: Iterable[str], kept: Collection[str]) -> list[str]:
    """Return those of the collections `changed` that may need objects which the manifest's kept parent does not."""
    parent = manifest.parent
    # The sequence grows from parent to child. A manifest that says otherwise is damaged.
    if parent is None or parent not in kept or parent >= manifest.snapshot_id:
        return manifest.collections.present(changed)
    return manifest.collections.written_by(manifest.snapshot_id, changed)


def _keys_of(manifest: Manifest, names: Sequence[str], *, prefix: str) -> Iterator[str]:
    """Yield the keys of the collections `names` of the manifest, and of their files."""
    for name, described in zip(names, in_threads(manifest.collections.peek, names), strict=True):
        entry = manifest.collections.entries[name]
        if isinstance(entry, CollectionRef):
            yield layout.collection_key(entry.snapshot_id, name, prefix=prefix)
        yield from (file.key for file in described.all_files.values())
