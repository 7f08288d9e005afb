"""The bucket without the newest pointer: nothing is published yet, or the pointer was lost, or an older restored."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chromadb_compaction import layout
from chromadb_compaction.errors import NoSnapshotError, SnapshotCorruptError
from chromadb_compaction.manifest import Pointer
from chromadb_compaction.ports import Services


def lost_pointer(
    keys: Iterable[str], *, prefix: str, readable: Collection[str] | None = None
) -> SnapshotCorruptError | None:
    """Return the error for a pointer that was lost, None if nothing has been published yet.

    Args:
        keys: All keys under the snapshot prefix.
        prefix: The snapshot prefix.
        readable: The snapshots that can be rolled back to. None: it is not known, and any may be.
    """
    published = _published(keys, prefix)
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
