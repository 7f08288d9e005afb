"""The bucket without the newest pointer: nothing is published yet, or the pointer was lost, or an older restored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import has_merged_content
from chromadb_compaction.errors import (
    NoSnapshotError,
    ObjectMissingError,
    SnapshotCorruptError,
    UnreadableObjectError,
)
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.delta_lists import read_list


def lost_pointer(
    keys: Iterable[str], *, prefix: str, readable: Collection[str] | None = None, uncleaned: Collection[str] = ()
) -> SnapshotCorruptError | None:
    """Return the error for a pointer that was lost, None if nothing has been published yet.

    A published snapshot has a clean-up marker, unless its clean-up was never finished.

    Args:
        keys: All keys under the snapshot prefix.
        prefix: The snapshot prefix.
        readable: The snapshots that can be rolled back to. None: it is not known, and any may be.
        uncleaned: The result of `published_uncleaned`. Readers cannot list deltas, and leave it out.
    """
    published = _published(keys, prefix) or set(uncleaned)
    if not published:
        return None
    usable = published if readable is None else published.intersection(readable)
    return SnapshotCorruptError.damaged(
        layout.pointer_key(prefix=prefix),
        f"is missing, though snapshot {max(published)} has been published",
        roll_back_to=max(usable, default=""),
    )


def restored_pointer(pointer: Pointer, keys: Iterable[str], *, prefix: str) -> str | None:
    """Return what is wrong if an older pointer was restored by hand, and the remedy. None if none was.

    `keys` are all keys under the snapshot prefix. Every swap, a rollback too, makes the pointer's sequence greater
    than that of all snapshots published before.
    """
    newer = [each for each in _published(keys, prefix) if layout.snapshot_sequence(each) > pointer.sequence]
    if not newer:
        return None
    return (
        f"snapshot {max(newer)} was published after it, so {layout.pointer_key(prefix=prefix)} is an older version;"
        " the deltas merged since are missing from it; to merge them again: chromadb-compaction snapshots rollback"
        f" {pointer.snapshot_id} --replay"
    )


def _published(keys: Iterable[str], prefix: str) -> set[str]:
    """Return the snapshots with a clean-up marker: an unfinished first upload has none."""
    ids = {key: layout.snapshot_of_key(key, prefix=prefix) for key in keys}
    return {each for key, each in ids.items() if each and key == layout.cleaned_key(each, prefix=prefix)}


def missing_pointer(services: Services) -> SnapshotCorruptError | NoSnapshotError:
    """Return the error for a bucket in which no pointer was found."""
    prefix = services.settings.snapshot_prefix
    lost = lost_pointer((info.key for info in services.objects.list(prefix)), prefix=prefix)
    return lost or NoSnapshotError.nothing_published()


def published_uncleaned(keys: Collection[str], services: Services) -> list[str]:
    """Return the snapshots with a manifest that were published, though none has a clean-up marker.

    An upload that was given up before the swap has a manifest too. All its deltas are still pending, with the content
    that it merged. The result is empty if any snapshot has a marker.
    """
    prefix = services.settings.snapshot_prefix
    ids = sorted({each for key in keys if (each := layout.snapshot_of_key(key, prefix=prefix))})
    complete = [each for each in ids if layout.manifest_key(each, prefix=prefix) in keys]
    if not complete or any(layout.cleaned_key(each, prefix=prefix) in keys for each in ids):
        return []
    pending = {info.key: info for info in services.objects.list(services.settings.delta_prefix)}
    given_up = in_threads(lambda each: _is_given_up(each, pending, services), complete)
    return [each for each, unpublished in zip(complete, given_up, strict=True) if not unpublished]


def _is_given_up(snapshot_id: str, pending: Mapping[str, ObjectInfo], services: Services) -> bool:
    try:
        merged = [outcome for outcome in read_list(services, snapshot_id) if outcome.status == "merged"]
        return all(
            each.key in pending and has_merged_content(each.content, pending[each.key], services.objects)
            for each in merged
        )
    except (SnapshotCorruptError, ObjectMissingError, UnreadableObjectError):
        return False
