"""The bucket without a pointer: nothing has been published yet, or the pointer was lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chromadb_compaction import layout
from chromadb_compaction.errors import NoSnapshotError, SnapshotCorruptError
from chromadb_compaction.ports import Services


def lost_pointer(
    keys: Iterable[str], *, prefix: str, readable: Collection[str] | None = None
) -> SnapshotCorruptError | None:
    """Return the error for a pointer that was lost, None if nothing has been published yet.

    A published snapshot has a clean-up marker; an unfinished first upload has none.

    Args:
        keys: All keys under the snapshot prefix.
        prefix: The snapshot prefix.
        readable: The snapshots that can be rolled back to. None: it is not known, and any may be.
    """
    ids = {key: layout.snapshot_of_key(key, prefix=prefix) for key in keys}
    published = {each for key, each in ids.items() if each and key == layout.cleaned_key(each, prefix=prefix)}
    if not published:
        return None
    usable = published if readable is None else published.intersection(readable)
    return SnapshotCorruptError.damaged(
        layout.pointer_key(prefix=prefix),
        f"is missing, though snapshot {max(published)} has been published",
        roll_back_to=max(usable, default=""),
    )


def missing_pointer(services: Services) -> SnapshotCorruptError | NoSnapshotError:
    """Return the error for a bucket in which no pointer was found."""
    prefix = services.settings.snapshot_prefix
    lost = lost_pointer((info.key for info in services.objects.list(prefix)), prefix=prefix)
    return lost or NoSnapshotError.nothing_published()
