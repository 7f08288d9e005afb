"""The compactor's local copies after a pass: those that it has folded, and those that stay as they were."""

from __future__ import annotations

from collections.abc import Sequence

from chromadb_compaction.fold.collections import FoldedDirectory
from chromadb_compaction.fold.joining import PartOfManifest
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.snapshots.cache import DirectoryName, SnapshotCache, partition_entries


def keep_copies(
    cache: SnapshotCache,
    snapshot_id: str,
    base: Manifest | None,
    folded: Sequence[FoldedDirectory],
    parts: Sequence[PartOfManifest],
) -> None:
    """Cache what was folded here, and the copies of what has not changed, as the new snapshot's.

    `parts` are all of the pass, those from other functions too.
    """
    files = {part.unit: part.files for part in parts}
    for each in folded:
        found = files[each.unit]
        if found is not None:
            cache.keep(snapshot_id, each.unit.directory.entry, found, each.directory)
    if base is not None:
        keep_unchanged(cache, snapshot_id, base, folded)
        changed, beginnings = _replaced(parts, base)
        cache.move(
            lambda entry: entry not in changed and not entry.startswith(beginnings),
            old=base.snapshot_id,
            new=snapshot_id,
        )
    cache.evict(keep=snapshot_id)


def keep_unchanged(cache: SnapshotCache, snapshot_id: str, base: Manifest, folded: Sequence[FoldedDirectory]) -> None:
    """Return the copies of directories that their folds have left unchanged to the cache."""
    for each in folded:
        place = each.unit.in_place(base.collections.get(each.unit.collection))
        if not each.result.changed and place is not None:
            cache.keep(snapshot_id, each.unit.directory.entry, place.files, each.directory)


def _replaced(parts: Sequence[PartOfManifest], base: Manifest) -> tuple[set[str], tuple[str, ...]]:
    """Return the entries of the base that are not those of the new snapshot: their names, and beginnings of others.

    The description of a collection that was folded whole is not read for it.
    """
    whole = {part.unit.collection for part in parts if part.unit.is_whole}
    names = {
        DirectoryName(part.unit.collection, source.first).entry
        for part in parts
        if not part.unit.is_whole
        for source in part.unit.sources(base.collections.get(part.unit.collection))
    }
    return names | whole, tuple(partition_entries(name) for name in whole)
