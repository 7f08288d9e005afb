"""Which snapshots a rollback undoes: the chain of parents, followed as far as it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import NamedTuple

from chromadb_compaction.layout import snapshot_sequence

Parents = Mapping[str, str | None]
"""The parent of every snapshot whose manifest can be read; None for the first."""


class Line(NamedTuple):
    """Snapshots, each followed by its parent. `cut` is the parent that is no longer known; None: the line is whole."""

    snapshots: tuple[str, ...]
    cut: str | None


def line_of(snapshot_id: str, parents: Parents) -> Line:
    """Return a snapshot and all its ancestors, newest first."""
    found: list[str] = []
    following: str | None = snapshot_id
    # A manifest that names a descendant as its parent is damaged; the line ends there.
    while following is not None and following in parents and following not in found:
        found.append(following)
        following = parents[following]
    return Line(tuple(found), following)


def undone(current: str, target: str, parents: Parents) -> Line:
    """Return what `current` holds and `target` does not: the current line down to where the two meet.

    It is cut when they do not meet in what is known. A target that is not an ancestor (one that was rolled back
    from) undoes only what has been published beside it.
    """
    theirs = line_of(target, parents)
    shared = {target, *theirs.snapshots, theirs.cut}
    mine = line_of(current, parents)
    own = tuple(takewhile(lambda snapshot: snapshot not in shared, mine.snapshots))
    met = len(own) < len(mine.snapshots) or mine.cut in shared
    return Line(own, None if met else mine.cut)


def not_before(target: str, snapshots: Iterable[str]) -> tuple[str, ...]:
    """Return the others of `snapshots` that are as new as `target` or newer, newest first.

    Where nobody knows what was published, that is all which may have been merged since.
    """
    oldest = snapshot_sequence(target)
    newer = (each for each in snapshots if each != target and snapshot_sequence(each) >= oldest)
    return tuple(sorted(newer, reverse=True))
