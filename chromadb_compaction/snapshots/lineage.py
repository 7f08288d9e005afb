"""The lineage of snapshots, and the part of it that a rollback leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import NamedTuple

from chromadb_compaction.layout import snapshot_sequence

Parents = Mapping[str, str | None]
"""The parent of every snapshot whose manifest can be read; None for the first."""


class Lineage(NamedTuple):
    """Snapshots, newest first, each followed by its parent.

    Attributes:
        snapshots: The snapshots whose manifests can be read.
        unknown_parent: The parent of the last one if its manifest cannot be read. None if the lineage is complete.
    """

    snapshots: tuple[str, ...]
    unknown_parent: str | None


def lineage_of(snapshot_id: str, parents: Parents) -> Lineage:
    """Return a snapshot and all its ancestors."""
    found: list[str] = []
    ancestor: str | None = snapshot_id
    # A manifest that names a descendant as its parent is damaged, so the lineage ends there.
    while ancestor is not None and ancestor in parents and ancestor not in found:
        found.append(ancestor)
        ancestor = parents[ancestor]
    return Lineage(tuple(found), ancestor)


def lineage_since(target: str, current: str, parents: Parents) -> Lineage:
    """Return the part of the lineage of `current` that the lineage of `target` does not share.

    `target` need not be an ancestor: it may be a snapshot that was rolled back from. `unknown_parent` is set if no
    common ancestor is known.
    """
    of_target = lineage_of(target, parents)
    shared = {target, *of_target.snapshots, of_target.unknown_parent}
    of_current = lineage_of(current, parents)
    not_shared = tuple(takewhile(lambda snapshot: snapshot not in shared, of_current.snapshots))
    if len(not_shared) < len(of_current.snapshots) or of_current.unknown_parent in shared:
        return Lineage(not_shared, None)
    return Lineage(not_shared, of_current.unknown_parent)


def as_new_as(target: str, snapshots: Iterable[str]) -> tuple[str, ...]:
    """Return the other `snapshots` whose sequence is at least that of `target`, newest first.

    If the published lineage cannot be read, only these may hold deltas that `target` does not hold.
    """
    sequence = snapshot_sequence(target)
    found = (each for each in snapshots if each != target and snapshot_sequence(each) >= sequence)
    return tuple(sorted(found, reverse=True))
