"""The list of the kept snapshots, with which a clean-up need not list the objects of all snapshots.

It is a line: each snapshot is the parent of the next and has the sequence before it, and the pointer has the sequence
of the last. So no rollback came between. Whenever the bucket has other snapshots too (of a rollback, or of a pass that
was overtaken), the list is empty, and clean-ups list everything until those are pruned. They also do once a day, for
what the list does not have: uploads that were given up, and files that outlived their snapshot. The list is a cache:
without it, or if it is damaged, everything is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import NewerFormatError, ObjectMissingError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.manifest import SnapshotId, Stored, parse_stored
from chromadb_compaction.planning import SnapshotAge
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_pointer

MOST_ADDED: Final = 50
"""The snapshots that may follow, because clean-ups were left out, before everything is listed."""
HEAD_BYTES: Final = 4096
"""The bytes of a manifest that have its parent: it comes before the collections."""


class KeptSnapshot(Stored):
    """A snapshot, and when its manifest was written, in Unix seconds."""

    snapshot_id: SnapshotId
    written: float


class KeptSnapshots(Stored):
    """The content of snapshot/kept.json.

    Attributes:
        format: The version of this format.
        listed_at: When a clean-up last listed everything, in Unix seconds.
        snapshots: All snapshots with a manifest, oldest first. Empty if they are not a line.
    """

    format: Literal[1] = 1
    listed_at: float
    snapshots: list[KeptSnapshot]

    @property
    def ages(self) -> list[SnapshotAge]:
        """The snapshots, oldest first."""
        return [SnapshotAge(each.snapshot_id, each.written) for each in self.snapshots]


def read_kept(current: str, services: Services) -> KeptSnapshots | None:
    """Return the list, to which the snapshots published since have been added: `current` is the last one.

    None if everything must be listed: the list is missing, damaged, empty or a day old, or it would not be a line.
    """
    key = layout.kept_key(prefix=services.settings.snapshot_prefix)
    try:
        kept = parse_stored(KeptSnapshots, services.objects.get(key).body, key)
    except (ObjectMissingError, ValidationError, NewerFormatError):
        return None
    if not kept.snapshots or not 0 <= services.clock() - kept.listed_at < DAY_SECONDS:
        return None
    last = kept.snapshots[-1].snapshot_id
    missing = layout.snapshot_sequence(current) - layout.snapshot_sequence(last)
    if not 0 <= missing <= MOST_ADDED or not _is_at(current, services):
        return None
    added = [current] if missing else []
    while len(added) < missing:
        parent = read_parent(added[-1], services)
        if parent is None:
            return None
        added.append(parent)
    added.reverse()
    infos = in_threads(lambda each: services.objects.head(_manifest_key(each, services)), added)
    new = [
        KeptSnapshot(snapshot_id=each, written=info.modified) for each, info in zip(added, infos, strict=True) if info
    ]
    if len(new) < missing or not _is_line([last, *added], services):
        return None
    return kept.model_copy(update={"snapshots": [*kept.snapshots, *new]})


def list_kept(complete: Iterable[SnapshotAge], current: str, services: Services) -> KeptSnapshots:
    """Return the list, given all snapshots that have a manifest."""
    ordered = sorted(complete, key=lambda each: each.snapshot_id)
    ids = [each.snapshot_id for each in ordered]
    is_line = ids[-1:] == [current] and _is_at(current, services) and _is_line(ids, services)
    snapshots = [KeptSnapshot(snapshot_id=each.snapshot_id, written=each.created_at) for each in ordered]
    # Without a line the time means nothing, and equal content is one object.
    return KeptSnapshots(listed_at=services.clock() if is_line else 0, snapshots=snapshots if is_line else [])


def _is_line(ids: Sequence[str], services: Services) -> bool:
    """Return whether each snapshot is the parent of the next and has the sequence before it."""
    sequences = [layout.snapshot_sequence(each) for each in ids]
    if any(after != before + 1 for before, after in pairwise(sequences)):
        return False
    return in_threads(lambda each: read_parent(each, services), ids[1:]) == list(ids[:-1])


def _is_at(current: str, services: Services) -> bool:
    """Return whether the pointer names `current`, and no rollback has swapped it since `current` was published."""
    found = read_pointer(services)
    if found is None or found.pointer.snapshot_id != current:
        return False
    return found.pointer.sequence == layout.snapshot_sequence(current)


def write_kept(kept: KeptSnapshots, services: Services) -> None:
    """Write the list."""
    services.objects.put(layout.kept_key(prefix=services.settings.snapshot_prefix), kept.model_dump_json().encode())


def read_parent(snapshot_id: str, services: Services) -> str | None:
    """Return the parent from the beginning of a manifest. None if it has none, or if that cannot be read."""
    try:
        head = services.objects.get_range(_manifest_key(snapshot_id, services), 0, HEAD_BYTES)
        found = from_json(head, allow_partial=True)
    except (ObjectMissingError, ValueError):
        return None
    parent = found.get("parent") if isinstance(found, dict) else None
    return parent if isinstance(parent, str) else None


def _manifest_key(snapshot_id: str, services: Services) -> str:
    return layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
